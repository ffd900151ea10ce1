//! Events that wait on this machine's disk while the brokers are away, in the order in which they came; and who this
//! gateway is to the topics.
//!
//! * `waiting`: number → record. Numbers only grow.
//! * `meta`: [`v1::LogState`], the last stamp, and whether the log was closed.
//!
//! Not here: when to spill (`shipper`). Invariant: what was pushed survives this process and the machine's next start.

use std::fmt;
use std::path::{Path, PathBuf};

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use prost::Message as _;
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1;

use super::super::journal;
use super::KafkaLogError;

const STATE: &[u8] = b"state";
const STAMP: &[u8] = b"stamp";
const CLEAN: &[u8] = b"clean";

pub(super) struct Spill {
    path: PathBuf,
    db: Database,
    waiting: Keyspace,
    meta: Keyspace,
    /// The number of the next event.
    next: u64,
    events: u64,
    bytes: u64,
}

/// What a spill says of the life before.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) state: Option<v1::LogState>,
    pub(super) stamp: Micros,
    pub(super) clean: bool,
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill").field("path", &self.path).field("events", &self.events).finish_non_exhaustive()
    }
}

impl Spill {
    pub(super) fn open(path: &Path) -> Result<Self, KafkaLogError> {
        journal::open_begun(path, Self::try_open)
            .map_err(|source| KafkaLogError::OpenSpill { path: path.to_owned(), source })
    }

    fn try_open(path: &Path) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .journal_compression(CompressionType::None)
            .max_journaling_size(128 << 20)
            .cache_size(8 << 20)
            .worker_threads(1)
            .open()?;
        let waiting = db.keyspace("waiting", || KeyspaceCreateOptions::default().max_memtable_size(16 << 20))?;
        let meta = db.keyspace("meta", || KeyspaceCreateOptions::default().max_memtable_size(1 << 20))?;
        let (mut events, mut bytes, mut next) = (0, 0, 0);
        for guard in waiting.iter() {
            let (key, value) = guard.into_inner()?;
            (events, bytes, next) = (events + 1, bytes + value.len() as u64, number(&key) + 1);
        }
        Ok(Self { path: path.to_owned(), db, waiting, meta, next, events, bytes })
    }

    /// What is known of the life before.
    pub(super) fn before(&self) -> Result<Before, KafkaLogError> {
        let read = || {
            let stamp = self.meta.get(STAMP)?.and_then(|value| Some(i64::from_be_bytes(value[..].try_into().ok()?)));
            let state = self.meta.get(STATE)?.and_then(|value| v1::LogState::decode(&value[..]).ok());
            Ok(Before { state, stamp: Micros(stamp.unwrap_or(0)), clean: self.meta.get(CLEAN)?.is_some() })
        };
        read().map_err(|source| self.broken(source))
    }

    /// Starts another life: from here on it is not closed.
    pub(super) fn begin(&self, state: v1::LogState) -> Result<(), KafkaLogError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.meta, STATE, state.encode_to_vec());
        batch.remove(&self.meta, CLEAN);
        batch.commit().map_err(|source| self.broken(source))
    }

    /// Remembers how far the clock has come. A stamp that a power failure takes is no loss: the clock goes on.
    pub(super) fn stamp(&self, stamp: Micros) -> Result<(), KafkaLogError> {
        self.meta.insert(STAMP, stamp.0.to_be_bytes()).map_err(|source| self.broken(source))
    }

    pub(super) fn mark_clean(&self) -> Result<(), KafkaLogError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.meta, CLEAN, b"");
        batch.commit().map_err(|source| self.broken(source))
    }

    /// Keeps records, all or none; returns the number of the first.
    pub(super) fn push<'a>(&mut self, records: impl Iterator<Item = &'a [u8]>) -> Result<u64, KafkaLogError> {
        let first = self.next;
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        let (mut next, mut bytes) = (first, 0);
        for record in records {
            batch.insert(&self.waiting, next.to_be_bytes(), record);
            (next, bytes) = (next + 1, bytes + record.len() as u64);
        }
        batch.commit().map_err(|source| self.broken(source))?;
        self.events += next - first;
        self.bytes += bytes;
        self.next = next;
        Ok(first)
    }

    /// Up to so many records from `from` on, with their numbers.
    pub(super) fn read(&self, from: u64, events_max: usize) -> Result<Vec<(u64, Vec<u8>)>, KafkaLogError> {
        let read = || {
            let range = self.waiting.range(from.to_be_bytes()..).take(events_max);
            range.map(|guard| guard.into_inner().map(|(key, value)| (number(&key), value.to_vec()))).collect()
        };
        let read: fjall::Result<_> = read();
        read.map_err(|source| self.broken(source))
    }

    /// Lets delivered records go. Should that be lost they are sent twice, and dropped by their ids.
    pub(super) fn remove(&mut self, delivered: &[(u64, usize)]) -> Result<(), KafkaLogError> {
        let mut batch = self.db.batch();
        for (number, _) in delivered {
            batch.remove(&self.waiting, number.to_be_bytes());
        }
        batch.commit().map_err(|source| self.broken(source))?;
        self.events = self.events.saturating_sub(delivered.len() as u64);
        self.bytes = self.bytes.saturating_sub(delivered.iter().map(|(_, bytes)| *bytes as u64).sum());
        if self.events == 0 {
            // What was removed would else be stepped over for ever.
            self.waiting.clear().map_err(|source| self.broken(source))?;
            self.bytes = 0;
        }
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.events == 0
    }

    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn broken(&self, source: fjall::Error) -> KafkaLogError {
        KafkaLogError::Spill { path: self.path.clone(), source }
    }
}

fn number(key: &[u8]) -> u64 {
    u64::from_be_bytes(key.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(spill: &mut Spill, records: &[&str]) -> u64 {
        spill.push(records.iter().map(|record| record.as_bytes())).unwrap()
    }

    #[test]
    fn what_was_pushed_is_there_in_order_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(dir.path()).unwrap();
        assert_eq!((push(&mut spill, &["a", "b"]), push(&mut spill, &["cc"])), (0, 2));
        drop(spill);
        let mut spill = Spill::open(dir.path()).unwrap();
        assert_eq!((spill.events(), spill.bytes()), (3, 4));
        let read: Vec<_> =
            spill.read(1, 10).unwrap().into_iter().map(|(number, record)| (number, record.len())).collect();
        assert_eq!(read, [(1, 1), (2, 2)]);
        spill.remove(&[(0, 1), (1, 1), (2, 2)]).unwrap();
        assert!(spill.is_empty() && spill.read(0, 10).unwrap().is_empty());
        assert_eq!(push(&mut spill, &["d"]), 3, "numbers only grow");
        assert_eq!(spill.read(0, 10).unwrap(), [(3, b"d".to_vec())]);
    }

    #[test]
    fn a_life_that_was_not_closed_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let spill = Spill::open(dir.path()).unwrap();
        assert!(spill.before().unwrap().state.is_none());
        spill.begin(v1::LogState { partitions: 8, gateway: 7, epoch: 1 }).unwrap();
        spill.stamp(Micros(9)).unwrap();
        let before = spill.before().unwrap();
        assert_eq!((before.state.unwrap().gateway, before.stamp, before.clean), (7, Micros(9), false));
        spill.mark_clean().unwrap();
        assert!(spill.before().unwrap().clean);
    }

    #[test]
    fn one_whose_maker_was_stopped_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("0.jnl"), [0; 64]).unwrap();
        let mut spill = Spill::open(dir.path()).unwrap();
        assert_eq!(push(&mut spill, &["a"]), 0);
        drop(spill);
        assert_eq!(Spill::open(dir.path()).unwrap().events(), 1);
    }
}
