//! How the history is cut into files and compressed.

use std::time::Duration;

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
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self { roll_after: Duration::from_secs(60), roll_rows: 131_072, row_group_rows: 131_072, zstd_level: 3 }
    }
}

impl HistoryOptions {
    /// For recorded traffic, where nobody waits for the last minute's file: a roll ends by its rows, so that days of
    /// sparse traffic do not become thousands of small files.
    #[must_use]
    pub fn replay() -> Self {
        Self { roll_after: Duration::from_secs(366 * 24 * 3600), ..Self::default() }
    }
}
