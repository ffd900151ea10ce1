//! How the history is cut into files, compressed, merged and kept.

use std::time::Duration;

use undercurrent_schemas::tables::Table;

const TABLES: usize = Table::ALL.len();
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings of a [`super::History`]. Two runs over one log cut the same files if theirs are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// Event time (of watermarks) after which a roll ends: how stale the files of a live system may be.
    pub roll_after: Duration,
    /// Rows of one table at which a roll ends at the next tick's end: bounds memory.
    pub roll_rows: usize,
    /// Rows of a Parquet row group, at most.
    pub row_group_rows: usize,
    /// From 1 (fast) to 22 (small).
    pub zstd_level: i32,
    /// `None`: files stay as they were written.
    pub compaction: Option<Compaction>,
    pub retention: Retention,
    /// How long a file that was replaced stays aside, for those who read a version.
    pub keep_replaced: Duration,
}

/// When small files become large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// How long after its end an hour is closed, by the watermark. Rows are filed by times that lie in the past.
    pub settle: Duration,
    /// Files smaller than this are merged, up to this size.
    pub file_bytes: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { settle: Duration::from_secs(15 * 60), file_bytes: 64 << 20 }
    }
}

/// How much of a table is kept; `None` = without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub age: Option<Duration>,
    pub bytes: Option<u64>,
}

/// How much is kept, by table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention([Limits; TABLES]);

impl Retention {
    /// The same for every table.
    #[must_use]
    pub const fn all(limits: Limits) -> Self {
        Self([limits; TABLES])
    }

    /// Another one for `table`.
    #[must_use]
    pub const fn with(mut self, table: Table, limits: Limits) -> Self {
        self.0[table as usize] = limits;
        self
    }

    #[must_use]
    pub const fn of(&self, table: Table) -> Limits {
        self.0[table as usize]
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::all(Limits { age: Some(90 * DAY), bytes: Some(64 << 30) })
    }
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            roll_after: Duration::from_secs(60),
            roll_rows: 131_072,
            row_group_rows: 131_072,
            zstd_level: 3,
            compaction: Some(Compaction::default()),
            retention: Retention::default(),
            keep_replaced: Duration::from_secs(15 * 60),
        }
    }
}

impl HistoryOptions {
    /// For recorded traffic, where nobody waits for the last minute's file: a roll ends by its rows, so that days of
    /// sparse traffic do not become thousands of small files. All of it is kept, as it was written.
    #[must_use]
    pub fn replay() -> Self {
        Self {
            roll_after: 366 * DAY,
            compaction: None,
            retention: Retention::all(Limits { age: None, bytes: None }),
            ..Self::default()
        }
    }
}
