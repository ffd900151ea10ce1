//! Brings every version of the history to another store, in order, for as long as it takes. A thread of its own.
//!
//! A version is there once its line is: its files before, what it replaced after. If the steps in between are no longer
//! at hand (the store was away longer than replaced files are kept), it is given all files of the present version as one
//! base. While the store is away files stay here, up to a bound; see [`super::History::write`] for what happens then.
//!
//! Invariant: `UPLOADED` never names a version that the store does not have; it may be behind by the last one, which is
//! then sent again, and the store takes the same bytes twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use undercurrent_schemas::tables::Table;

use super::aside::REPLACED;
use super::hour::Hour;
use super::ledger::{Ledger, Unsent};
use super::manifest::{Base, Change, FileEntry, line_of};
use super::remote::Store;
use super::thread::Retries;
use super::{History, HistoryError, HistoryOptions, disk};

const UPLOADED: &str = "UPLOADED";
/// How often it looks at what may leave here or there, when nothing is to be sent.
const LOOK: Duration = Duration::from_secs(30);

/// How far the store is.
#[derive(Debug, Serialize, Deserialize)]
struct Uploaded {
    url: String,
    version: u64,
}

/// The version that `store` has, as far as is known here.
pub(super) fn sent_before(dir: &Path, store: &Store) -> u64 {
    let known = fs::read(dir.join(UPLOADED)).ok().and_then(|bytes| serde_json::from_slice::<Uploaded>(&bytes).ok());
    known.filter(|known| known.url == store.url()).map_or(0, |known| known.version)
}

/// What the uploader has done, for metrics.
#[derive(Debug, Default)]
pub struct Sent {
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    pub failures: AtomicU64,
    pub failing: AtomicBool,
    /// Bytes that wait.
    pub waiting_bytes: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Uploader {
    dir: PathBuf,
    options: HistoryOptions,
    ledger: Arc<Ledger>,
    store: Store,
    runtime: Runtime,
    retries: Retries,
    sent: Arc<Sent>,
    stopping: Arc<AtomicBool>,
}

impl Uploader {
    /// `None` = the history has no other store.
    pub(super) fn new(history: &History, retries: Retries, sent: Arc<Sent>) -> Result<Option<Self>, HistoryError> {
        let Some(store) = history.store.clone() else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(HistoryError::io("start the runtime of the store of", &history.dir))?;
        let (dir, options, ledger) = (history.dir.clone(), history.options, Arc::clone(&history.ledger));
        Ok(Some(Self { dir, options, ledger, store, runtime, retries, sent, stopping: Arc::default() }))
    }

    /// Sends what is next; `false` = there is nothing.
    pub(super) fn send_next(&self) -> Result<bool, HistoryError> {
        self.sent.waiting_bytes.store(self.ledger.unsent_bytes(), Ordering::Relaxed);
        let Some(next) = self.ledger.unsent() else { return Ok(false) };
        let (version, bytes) = match next {
            Unsent::Change(version, change) if self.has(&change) => {
                self.runtime.block_on(self.send_change(version, &change))?;
                (version, change.adds().iter().map(|file| file.bytes).sum())
            }
            Unsent::Change(..) => {
                let (version, base) = self.ledger.base();
                self.runtime.block_on(self.send_base(version, &base))?;
                (version, u64::MAX)
            }
            Unsent::Base(version, base) => {
                self.runtime.block_on(self.send_base(version, &base))?;
                (version, u64::MAX)
            }
        };
        let known = line_of(&Uploaded { url: self.store.url().to_owned(), version });
        disk::write_whole(&self.dir.join(UPLOADED), &known)?;
        self.ledger.sent(version, bytes);
        self.sent.waiting_bytes.store(self.ledger.unsent_bytes(), Ordering::Relaxed);
        Ok(true)
    }

    /// All files of a change are still here, in one place or the other.
    fn has(&self, change: &Change) -> bool {
        change.adds().iter().all(|file| self.here(file).is_some())
    }

    fn here(&self, file: &FileEntry) -> Option<PathBuf> {
        let places = [self.dir.join(&file.path), self.dir.join(REPLACED).join(&file.path)];
        places.into_iter().find(|place| place.exists())
    }

    async fn send_change(&self, version: u64, change: &Change) -> Result<(), HistoryError> {
        for file in change.adds() {
            // It may have moved aside since it was looked for.
            let from = self.here(file).unwrap_or_else(|| self.dir.join(&file.path));
            self.send_file(file, &from).await?;
        }
        self.store.make(&format!("MANIFEST/{version:020}.json"), line_of(change)).await?;
        for path in change.removes() {
            self.store.move_to(path, &format!("{REPLACED}/{path}")).await?;
        }
        Ok(())
    }

    async fn send_base(&self, version: u64, base: &Base) -> Result<(), HistoryError> {
        let there: BTreeSet<_> = self.tables_there().await?.into_iter().collect();
        for file in base.base.iter().filter(|file| !there.contains(&file.path)) {
            let from = self.here(file).unwrap_or_else(|| self.dir.join(&file.path));
            self.send_file(file, &from).await?;
        }
        self.store.make(&format!("MANIFEST/{version:020}.base.json"), line_of(base)).await?;
        let named: BTreeSet<_> = base.base.iter().map(|file| &file.path).collect();
        for path in there.iter().filter(|path| !named.contains(path)) {
            self.store.move_to(path, &format!("{REPLACED}/{path}")).await?;
        }
        Ok(())
    }

    async fn tables_there(&self) -> Result<Vec<String>, HistoryError> {
        let mut paths = Vec::new();
        for table in Table::ALL {
            paths.extend(self.store.list(table.name()).await?.into_iter().map(|(path, _)| path));
        }
        Ok(paths)
    }

    async fn send_file(&self, file: &FileEntry, from: &Path) -> Result<(), HistoryError> {
        self.store.put_file(&file.path, from).await?;
        self.sent.files.fetch_add(1, Ordering::Relaxed);
        self.sent.bytes.fetch_add(file.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of what is kept twice, here, and of what was replaced long enough ago, there.
    pub(super) fn tidy(&self) -> Result<(), HistoryError> {
        if let Some(leaving) = self.leaving_here() {
            for path in leaving {
                match fs::remove_file(self.dir.join(&path)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(HistoryError::io("remove", &self.dir.join(&path))(error));
                    }
                    _ => {}
                }
            }
        }
        self.runtime.block_on(self.purge())
    }

    /// Files that the store has and that nothing here will need: their hour is long over. `None` = it has not everything.
    fn leaving_here(&self) -> Option<Vec<String>> {
        let settle = self.options.compaction.map_or(Duration::ZERO, |compaction| compaction.settle);
        let after = settle.max(self.store.keep_local());
        let after_us = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
        self.ledger.look_if_sent(|live, watermark| {
            let over = |path: &&String| Hour::of_dir(path).is_some_and(|hour| hour.end().plus(after_us) <= watermark);
            live.keys().filter(over).filter(|path| self.dir.join(path).exists()).cloned().collect()
        })
    }

    async fn purge(&self) -> Result<(), HistoryError> {
        // A pin there is one for all: which version it holds is not looked at.
        if !self.store.list("pins").await?.is_empty() {
            return Ok(());
        }
        let now_s = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let keep_s = self.options.keep_replaced.as_secs();
        for (path, meta) in self.store.list(REPLACED).await? {
            if u64::try_from(meta.last_modified.timestamp()).unwrap_or(0) + keep_s <= now_s {
                self.store.remove(&path).await?;
            }
        }
        Ok(())
    }

    /// Starts the thread.
    pub(super) fn spawn(self) -> Result<UploaderThread, HistoryError> {
        let (ledger, stopping, dir) = (Arc::clone(&self.ledger), Arc::clone(&self.stopping), self.dir.clone());
        let thread = thread::Builder::new()
            .name("history uploader".to_owned())
            .spawn(move || self.run())
            .map_err(HistoryError::io("start the thread that uploads", &dir))?;
        Ok(UploaderThread { stopping, ledger, thread })
    }

    fn run(&self) {
        let mut failures = 0;
        loop {
            let (stopping, seen) = (self.stopping.load(Ordering::Acquire), self.ledger.version());
            let outcome = self.send_next().and_then(|more| if more { Ok(true) } else { self.tidy().map(|()| false) });
            match outcome {
                Ok(more) => {
                    if failures > 0 {
                        tracing::info!(failures, "the history's store answers again");
                    }
                    failures = 0;
                    self.sent.failing.store(false, Ordering::Relaxed);
                    if stopping && !more {
                        return;
                    }
                    if !more {
                        self.ledger.wait(seen, &self.stopping, LOOK);
                    }
                }
                // What waits is sent by the next start.
                Err(_) if stopping => return,
                Err(error) => {
                    if failures == 0 {
                        tracing::error!(%error, "history cannot be brought to its store; files wait here");
                    }
                    failures += 1;
                    self.sent.failing.store(true, Ordering::Relaxed);
                    self.sent.failures.fetch_add(1, Ordering::Relaxed);
                    thread::park_timeout(self.retries.pause(failures));
                }
            }
        }
    }
}

/// Owner of the thread.
#[derive(Debug)]
pub(super) struct UploaderThread {
    stopping: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
    thread: JoinHandle<()>,
}

impl UploaderThread {
    /// Sends what waits if the store answers, and ends.
    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.ledger.wake();
        if self.thread.join().is_err() {
            tracing::error!("the uploader of the history has died; the next start sends what waits");
        }
    }
}
