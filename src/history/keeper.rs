//! What happens to files after they were written: merged, kept for a while, let go. A thread of its own.
//!
//! Every step is one line of the manifest: new files are in place before it, old ones leave after it. A kill before the
//! line leaves files that do not count, one after it leaves files that no longer count; the next start clears both.
//!
//! Invariant: a failure costs time only. A file that cannot be read is left as it is, and said once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::aside::Aside;
use super::ledger::Ledger;
use super::manifest::{Change, EditEntry, Reason};
use super::options::Compaction;
use super::{History, HistoryError, HistoryOptions, compaction, retention};
use crate::faults;

/// How often it looks for files whose time is over, when nothing is written.
const LOOK: Duration = Duration::from_secs(5);

/// What the keeper has done, for metrics.
#[derive(Debug, Default)]
pub struct Kept {
    pub merged_files: AtomicU64,
    pub expired_files: AtomicU64,
    /// Replaced files that their readers may still open.
    pub aside_files: AtomicU64,
    pub failures: AtomicU64,
}

/// Looks after the files of one history.
#[derive(Debug)]
pub(super) struct Keeper {
    dir: PathBuf,
    options: HistoryOptions,
    ledger: Arc<Ledger>,
    aside: Aside,
    /// Files that could not be read.
    unreadable: BTreeSet<String>,
    kept: Arc<Kept>,
    stopping: Arc<AtomicBool>,
}

impl Keeper {
    pub(super) fn new(history: &History, kept: Arc<Kept>) -> Result<Self, HistoryError> {
        let aside = Aside::open(&history.dir, history.ledger.version())?;
        let (dir, options, ledger) = (history.dir.clone(), history.options, Arc::clone(&history.ledger));
        let (unreadable, stopping) = (BTreeSet::new(), Arc::default());
        Ok(Self { dir, options, ledger, aside, unreadable, kept, stopping })
    }

    /// Does all that is due.
    pub(super) fn round(&mut self) -> Result<(), HistoryError> {
        self.expire()?;
        if let Some(compaction) = self.options.compaction {
            while !self.stopping.load(Ordering::Acquire) && self.merge_one(&compaction)? {}
        }
        self.aside.purge(self.options.keep_replaced)?;
        self.kept.aside_files.store(self.aside.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn expire(&mut self) -> Result<(), HistoryError> {
        let retention = &self.options.retention;
        let removes = self.ledger.look(|live, watermark| retention::expired(live, watermark, retention));
        if removes.is_empty() {
            return Ok(());
        }
        tracing::info!(files = removes.len(), "history older, or more, than is kept: removed");
        self.kept.expired_files.fetch_add(removes.len() as u64, Ordering::Relaxed);
        self.edit(EditEntry { reason: Reason::Retention, removes, adds: Vec::new() })
    }

    fn merge_one(&mut self, settings: &Compaction) -> Result<bool, HistoryError> {
        let except = &self.unreadable;
        let Some(merge) = self.ledger.look(|live, watermark| compaction::due(live, watermark, settings, except)) else {
            return Ok(false);
        };
        let merged = match merge.write(&self.dir, &self.options) {
            Ok(merged) => merged,
            Err(error) if error.is_transient() && !self.is_missing(&merge) => return Err(error),
            Err(error) => {
                tracing::error!(%error, "files that cannot be merged stay as they are");
                self.kept.failures.fetch_add(1, Ordering::Relaxed);
                self.unreadable.extend(merge.sources.into_iter().map(|file| file.path));
                return Ok(true);
            }
        };
        let removes: Vec<_> = merge.sources.into_iter().map(|file| file.path).collect();
        tracing::debug!(files = removes.len(), into = %merged.path, "history files merged");
        self.kept.merged_files.fetch_add(removes.len() as u64, Ordering::Relaxed);
        self.edit(EditEntry { reason: Reason::Compaction, removes, adds: vec![merged] })?;
        Ok(true)
    }

    /// Files that left for another store are not merged here.
    fn is_missing(&self, merge: &compaction::Merge) -> bool {
        merge.sources.iter().any(|file| !self.dir.join(&file.path).exists())
    }

    /// One line of the manifest, then the files that it took away.
    fn edit(&mut self, edit: EditEntry) -> Result<(), HistoryError> {
        let removes = edit.removes.clone();
        let merges = edit.reason == Reason::Compaction;
        let version = self.ledger.append(Change::Edit(edit))?;
        if merges {
            faults::passed("compaction-listed");
        }
        removes.into_iter().try_for_each(|path| self.aside.take(path, version))
    }

    /// Starts the thread.
    pub(super) fn spawn(mut self) -> Result<KeeperThread, HistoryError> {
        let (ledger, stopping, dir) = (Arc::clone(&self.ledger), Arc::clone(&self.stopping), self.dir.clone());
        let thread = thread::Builder::new()
            .name("history keeper".to_owned())
            .spawn(move || self.run())
            .map_err(HistoryError::io("start the thread that keeps", &dir))?;
        Ok(KeeperThread { stopping, ledger, thread })
    }

    fn run(&mut self) {
        let mut well = true;
        while !self.stopping.load(Ordering::Acquire) {
            match self.round() {
                Ok(()) => well = true,
                Err(error) => {
                    if well {
                        tracing::error!(%error, "history files cannot be looked after; trying again");
                    }
                    well = false;
                    self.kept.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.ledger.wait(self.ledger.version(), &self.stopping, LOOK);
        }
    }
}

/// Owner of the thread.
#[derive(Debug)]
pub(super) struct KeeperThread {
    stopping: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
    thread: JoinHandle<()>,
}

impl KeeperThread {
    /// Ends it after the step that it is at.
    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.ledger.wake();
        if self.thread.join().is_err() {
            tracing::error!("the keeper of the history has died; the next start finishes what it was at");
        }
    }
}
