//! The manifest as several threads share it: the writer adds rolls, the keeper edits, the uploader follows.
//!
//! Invariant: the lock is held for one synced line at most, never while a data file is read or written; a version is
//! told to waiters after it is synced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use undercurrent_schemas::ids::{Micros, Tick};

use super::manifest::{Base, Change, FileEntry, Manifest};
use super::{HistoryError, RollEntry};

#[derive(Debug)]
pub(super) struct Ledger {
    manifest: Mutex<Manifest>,
    changed: Condvar,
    /// The version up to which another store has everything; `u64::MAX` = there is no other store.
    sent: AtomicU64,
    /// Bytes of files that it does not have yet.
    unsent_bytes: AtomicU64,
}

/// What the next upload is.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The steps are no longer known one by one: all files of a version at once.
    Base(u64, Base),
    Change(u64, Change),
}

impl Ledger {
    pub(super) fn new(manifest: Manifest) -> Self {
        Self {
            manifest: Mutex::new(manifest),
            changed: Condvar::new(),
            sent: AtomicU64::new(u64::MAX),
            unsent_bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Manifest> {
        // A manifest is changed after its line is synced, in one step: whoever panicked left it whole.
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn covered(&self) -> Option<Tick> {
        self.lock().covered()
    }

    pub(super) fn version(&self) -> u64 {
        self.lock().version()
    }

    /// A look at the files of the present version and the event time that they reach.
    pub(super) fn look<R>(&self, look: impl FnOnce(&BTreeMap<String, FileEntry>, Micros) -> R) -> R {
        let manifest = self.lock();
        look(manifest.live(), manifest.watermark())
    }

    /// The same, if the other store has this version; a version that comes meanwhile waits.
    pub(super) fn look_if_sent<R>(&self, look: impl FnOnce(&BTreeMap<String, FileEntry>, Micros) -> R) -> Option<R> {
        let manifest = self.lock();
        let is_sent = self.sent.load(Ordering::Relaxed) >= manifest.version();
        is_sent.then(|| look(manifest.live(), manifest.watermark()))
    }

    pub(super) fn roll(&self, roll: RollEntry) -> Result<(), HistoryError> {
        self.append(Change::Roll(roll)).map(|_| ())
    }

    /// Makes the next version, and says which it is.
    pub(super) fn append(&self, change: Change) -> Result<u64, HistoryError> {
        let bytes: u64 = change.adds().iter().map(|file| file.bytes).sum();
        let mut manifest = self.lock();
        manifest.append(change)?;
        self.unsent_bytes.fetch_add(bytes, Ordering::Relaxed);
        // What another store has not seen yet must stay as steps, or it would have to take all files again.
        if manifest.is_long() && self.sent.load(Ordering::Relaxed) >= manifest.version() {
            manifest.rewrite()?;
        }
        let version = manifest.version();
        drop(manifest);
        self.changed.notify_all();
        Ok(version)
    }

    /// Waits for a version after `seen`, for a stop, or until `longest` has passed.
    pub(super) fn wait(&self, seen: u64, stopping: &AtomicBool, longest: Duration) {
        let manifest = self.lock();
        if manifest.version() <= seen && !stopping.load(Ordering::Acquire) {
            // Woken early, late or to stop: the caller looks again.
            drop(self.changed.wait_timeout(manifest, longest));
        }
    }

    /// Wakes those who wait: there may be a reason to stop.
    pub(super) fn wake(&self) {
        // With the lock taken once, nobody is between looking and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// There is another store, and it has everything up to version `sent`.
    pub(super) fn follow_from(&self, sent: u64) {
        let manifest = self.lock();
        self.sent.store(sent, Ordering::Relaxed);
        let unsent = (sent..manifest.version()).filter_map(|before| manifest.change(before + 1));
        let bytes = unsent.flat_map(Change::adds).map(|file| file.bytes).sum();
        self.unsent_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What the other store must be given next; `None` = it has everything.
    pub(super) fn unsent(&self) -> Option<Unsent> {
        let manifest = self.lock();
        let next = self.sent.load(Ordering::Relaxed).checked_add(1)?;
        if next > manifest.version() {
            return None;
        }
        Some(match manifest.change(next) {
            Some(change) => Unsent::Change(next, change.clone()),
            None => Unsent::Base(manifest.version(), manifest.base()),
        })
    }

    /// All files of the present version.
    pub(super) fn base(&self) -> (u64, Base) {
        let manifest = self.lock();
        (manifest.version(), manifest.base())
    }

    /// The other store has everything up to `version`, the last step being of `bytes`.
    pub(super) fn sent(&self, version: u64, bytes: u64) {
        self.sent.store(version, Ordering::Relaxed);
        let less = |unsent: u64| Some(unsent.saturating_sub(bytes));
        // The closure always gives a value.
        let _ = self.unsent_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// The version up to which the other store has everything; `None` = there is none.
    pub(super) fn sent_version(&self) -> Option<u64> {
        Some(self.sent.load(Ordering::Relaxed)).filter(|sent| *sent != u64::MAX)
    }

    /// Bytes that wait for the other store; 0 where there is none.
    pub(super) fn unsent_bytes(&self) -> u64 {
        self.sent_version().map_or(0, |_| self.unsent_bytes.load(Ordering::Relaxed))
    }
}
