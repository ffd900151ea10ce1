//! The history: what came through the log and what was derived from it, as Parquet for analysts.
//!
//! `DIR/TABLE/date=YYYY-MM-DD/hour=HH/t=FIRST-LAST.parquet`, where FIRST and LAST are the ticks of a *roll*: a run of
//! ticks whose rows go to files together, over all tables. Rolls end at points that depend on ticks, watermarks and row
//! counts alone, so whoever reads the same log again writes the same bytes under the same names.
//!
//! Afterwards a `keeper` merges the small files of closed hours and lets old ones go, and an `uploader` brings every
//! step to another store, if there is one.
//!
//! It is not: a database (no index, no update), a reader of the log (its caller tails it).
//!
//! Invariant: a file counts once the manifest names it, and no longer once it does not; what else lies there is of an
//! interrupted step and is cleared at the next start. So no row is lost and none is there twice, wherever a run was
//! killed.
//!
//! Upstream: whoever tails the log (`app`, `replay`). Downstream: DuckDB, Polars, pandas, the console.

mod aside;
mod compaction;
mod disk;
mod erasure;
mod error;
mod hour;
mod keeper;
mod ledger;
mod manifest;
mod options;
mod parquet_file;
mod recovery;
mod remote;
mod repair;
mod retention;
mod roll;
mod rows;
#[cfg(test)]
mod tests;
mod thread;
mod uploader;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use undercurrent_schemas::ids::Tick;

pub use erasure::Erased;
pub use error::HistoryError;
pub use keeper::Kept;
pub use manifest::{EditEntry, FileEntry, Reason, RollEntry};
pub use options::{Compaction, HistoryOptions, Limits, Retention};
pub use recovery::{DirState, replay_dir_state};
pub use remote::{Store, StoreSettings};
pub use repair::{DAMAGED, Damage, Rebuilding};
pub use rows::{TickRows, messages_of};
pub use thread::{HistoryQueue, HistoryWriter, Retries, Stopped};
pub use uploader::Sent;

use crate::faults;
use ledger::Ledger;
use manifest::Manifest;
use roll::{OpenRoll, SealedRoll};

/// The writer of one history directory.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    options: HistoryOptions,
    ledger: Arc<Ledger>,
    /// Where every step is brought, and how much may wait for it.
    store: Option<Store>,
    /// The last tick that was taken, or that an earlier life had covered.
    taken: Option<Tick>,
    open: Option<OpenRoll>,
    /// Rolls that ended and are not in the manifest yet: more than one only after an error.
    sealed: VecDeque<SealedRoll>,
}

impl History {
    /// Opens the history in `dir`, or claims `dir` for one if it is empty or missing; removes what an interrupted roll
    /// left. A directory that holds anything else is refused: claim it before putting other things beside the tables.
    pub fn open(dir: &Path, options: HistoryOptions) -> Result<Self, HistoryError> {
        let manifest = match replay_dir_state(dir)? {
            DirState::Foreign => return Err(HistoryError::Foreign { dir: dir.to_owned() }),
            DirState::Empty => Manifest::create(dir)?,
            DirState::Ours => Manifest::open(dir)?,
        };
        recovery::remove_unfinished(dir, &manifest)?;
        let taken = manifest.covered();
        let ledger = Arc::new(Ledger::new(manifest));
        Ok(Self { dir: dir.to_owned(), options, ledger, store: None, taken, open: None, sealed: VecDeque::new() })
    }

    /// The same, with every step brought to `store` too. What it does not have yet is brought first.
    #[must_use]
    pub fn mirrored(mut self, store: Store) -> Self {
        self.ledger.follow_from(uploader::sent_before(&self.dir, &store));
        self.store = Some(store);
        self
    }

    /// Files of the manifest that are missing, or are not what was written, below `dir`.
    pub fn damaged(dir: &Path) -> Result<Vec<String>, HistoryError> {
        manifest::damaged(dir)
    }

    /// The last tick whose rows are all in files, and safe there.
    #[must_use]
    pub fn covered(&self) -> Option<Tick> {
        self.ledger.covered()
    }

    /// Takes the rows of a tick, and writes the roll if it ends here. Ticks come in growing order; one that was taken or
    /// covered before is skipped, so a log may be read again from anywhere.
    ///
    /// On an error the rows are kept: nothing is lost if the caller goes on to [`History::settle`] until it succeeds.
    /// Further writes only add to what is held in memory.
    pub fn write(&mut self, rows: TickRows) -> Result<(), HistoryError> {
        if self.taken < Some(rows.tick) {
            self.taken = Some(rows.tick);
            let open = self.open.get_or_insert_with(|| OpenRoll::starting(rows.tick, rows.watermark));
            open.add(rows);
            if open.is_full(&self.options) {
                self.seal();
            }
        }
        self.settle()
    }

    /// Ends the roll here, where it would not end by itself: at a clean stop or at the end of a replay.
    pub fn flush(&mut self) -> Result<(), HistoryError> {
        self.seal();
        self.settle()
    }

    /// Writes the rolls that ended and could not be written; nothing to do unless an earlier call failed.
    pub fn settle(&mut self) -> Result<(), HistoryError> {
        while let Some(roll) = self.sealed.front() {
            let waiting = self.ledger.unsent_bytes();
            if self.store.as_ref().is_some_and(|store| waiting > store.staging_bytes_max()) {
                return Err(HistoryError::StagingFull { bytes: waiting });
            }
            let entry = roll.write(&self.dir, &self.options)?;
            tracing::debug!(first_tick = %entry.first_tick, last_tick = %entry.last_tick, files = entry.files.len(), "history roll written");
            self.ledger.roll(entry)?;
            faults::passed("history-listed");
            self.sealed.pop_front();
        }
        Ok(())
    }

    /// Writes what is left and ends.
    pub fn close(mut self) -> Result<(), HistoryError> {
        self.flush()
    }

    fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.sealed.push_back(open.seal());
        }
    }
}
