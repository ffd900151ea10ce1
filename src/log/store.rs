//! The log on disk: three fjall keyspaces, written together or not at all.
//!
//! * `records`: (tick, partition) → the block of that partition's records in that tick. Keys only grow, so compaction
//!   moves files instead of rewriting them, and a tail reads one range.
//! * `bindings`: tick → [`v1::Binding`].
//! * `meta`: [`v1::LogState`], the marks of the gateways, where the log begins, and whether it was closed.
//!
//! Not here: what a tick is made of (`writer`). After an I/O error fjall accepts nothing more until it is reopened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fjall::config::BlockSizePolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use prost::Message;
use undercurrent_schemas::ids::Tick;
use undercurrent_schemas::v1;

use super::LogError;
use super::error::newest_journal;
use super::journal::{self, Verdict};
use super::queue::GatewayLife;
use super::writer::Prepared;

const STATE: &[u8] = b"state";
const CLEAN: &[u8] = b"clean";
/// The first tick that is kept, big endian; absent while the log is whole.
const FLOOR: &[u8] = b"floor";
const MARK: &[u8] = b"mark/";

/// Whether a write has to survive a power failure before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Now,
    Later,
}

/// The open database. Readers hold it only while they read, so that it can be reopened.
pub(super) struct Tables {
    pub(super) db: Database,
    pub(super) records: Keyspace,
    pub(super) bindings: Keyspace,
    pub(super) meta: Keyspace,
}

/// The database, which is absent while an I/O error keeps it from being reopened.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    tables: Mutex<Option<Arc<Tables>>>,
    /// Ticks before this are gone, even where bytes of them are left; 0 = the log is whole.
    floor: AtomicU64,
    /// Commits that are still to fail.
    #[cfg(test)]
    pub(super) faults: std::sync::atomic::AtomicU32,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, LogError> {
        let tables = open_whole(path)?;
        let floor = tables.floor().map_err(|source| LogError::opening(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            floor: AtomicU64::new(floor.map_or(0, |tick| tick.0)),
            tables: Mutex::new(Some(Arc::new(tables))),
            #[cfg(test)]
            faults: Default::default(),
        })
    }

    /// The first tick that is kept; `None` = the log is whole.
    pub(super) fn floor(&self) -> Option<Tick> {
        Some(Tick(self.floor.load(Ordering::Acquire))).filter(|floor| floor.0 > 0)
    }

    /// From here on the log begins at `floor`, whatever becomes of the bytes before it.
    pub(super) fn raise_floor(&self, floor: Tick) -> Result<(), LogError> {
        let raise = || {
            let tables = self.open_tables()?;
            let mut batch = tables.db.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&tables.meta, FLOOR, floor.0.to_be_bytes());
            batch.commit()
        };
        raise().map_err(|source| self.read_error(source))?;
        self.floor.fetch_max(floor.0, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open database; `None` while it could not be reopened.
    pub(super) fn tables(&self) -> Option<Arc<Tables>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a tick; the same tick may be written again after a failure.
    pub(super) fn write(&self, prepared: &Prepared, sync: Sync) -> Result<(), LogError> {
        let write = || {
            #[cfg(test)]
            self.fail_if_told()?;
            crate::faults::point("log-begun")?;
            self.open_tables()?.write(prepared, sync)
        };
        write().map_err(|source| LogError::Write { path: self.path.clone(), tick: prepared.tick.tick, source })
    }

    /// Closes the database and opens it again, which recovers it to its last whole commit.
    ///
    /// `durable` is the last tick whose commit succeeded: a database that has lost it is refused.
    pub(super) fn reopen(&self, durable: Option<Tick>) -> Result<(), LogError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        *tables = None;
        let fresh = open_whole(&self.path)?;
        let last = fresh.last_binding().map_err(|source| self.read_error(source))?.map(|binding| Tick(binding.tick));
        if let Some(tick) = durable.filter(|_| last < durable) {
            return Err(LogError::Binding { path: self.path.clone(), tick, what: "it was durable and is gone" });
        }
        *tables = Some(Arc::new(fresh));
        Ok(())
    }

    /// Begins a new journal, so that what was removed from the tables is not left in an old one. Commits and readers wait.
    pub(super) fn renew_journals(&self) -> Result<(), LogError> {
        let mut held = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut tables) = held.take() else { return Err(self.read_error(fjall::Error::Poisoned)) };
        // Whoever still holds it is in the middle of a commit or a read.
        let tables = loop {
            match Arc::try_unwrap(tables) {
                Ok(alone) => break alone,
                Err(shared) => tables = shared,
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let flushed = [&tables.records, &tables.bindings, &tables.meta]
            .into_iter()
            .try_for_each(|keyspace| keyspace.rotate_memtable_and_wait().map(drop));
        drop(tables);
        if flushed.is_ok() {
            // Everything is in tables now.
            let io = |source| LogError::Journal { path: self.path.clone(), source };
            journal::journals(&self.path).into_iter().try_for_each(std::fs::remove_file).map_err(io)?;
        }
        *held = Some(Arc::new(open_whole(&self.path)?));
        flushed.map_err(|source| self.read_error(source))
    }

    pub(super) fn sync(&self) -> Result<(), LogError> {
        let sync = || self.open_tables()?.db.persist(PersistMode::SyncAll);
        sync().map_err(|source| self.read_error(source))
    }

    /// State and marks, and whether the log was closed when it was last written.
    pub(super) fn meta(&self) -> Result<Meta, LogError> {
        let read = || self.open_tables()?.meta();
        read().map_err(|source| self.read_error(source))
    }

    /// Starts another life of the log's gateway: from here on it is not closed.
    pub(super) fn begin(&self, state: v1::LogState) -> Result<(), LogError> {
        let begin = || {
            let tables = self.open_tables()?;
            let mut batch = tables.db.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&tables.meta, STATE, state.encode_to_vec());
            batch.remove(&tables.meta, CLEAN);
            batch.commit()
        };
        begin().map_err(|source| self.read_error(source))
    }

    /// Marks the log as closed, with everything before that on disk.
    pub(super) fn mark_clean(&self) -> Result<(), LogError> {
        let mark = || {
            let tables = self.open_tables()?;
            let mut batch = tables.db.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&tables.meta, CLEAN, b"");
            batch.commit()
        };
        mark().map_err(|source| self.read_error(source))
    }

    pub(super) fn read_error(&self, source: fjall::Error) -> LogError {
        LogError::Read { path: newest_journal(&self.path), source }
    }

    pub(super) fn open_tables(&self) -> fjall::Result<Arc<Tables>> {
        self.tables().ok_or(fjall::Error::Poisoned)
    }

    #[cfg(test)]
    fn fail_if_told(&self) -> fjall::Result<()> {
        let told = self.faults.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |faults| faults.checked_sub(1)).is_ok();
        if told { Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into()) } else { Ok(()) }
    }
}

/// What `meta` and the end of `bindings` say.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) state: Option<v1::LogState>,
    pub(super) clean: bool,
    pub(super) marks: Vec<v1::GatewayMark>,
    pub(super) binding: Option<v1::Binding>,
}

impl Tables {
    fn open(path: &Path) -> fjall::Result<Self> {
        // Journal values stay uncompressed: fjall checks a journal by compressing again, and another version of the
        // compressor need not give the same bytes.
        let db = Database::builder(path)
            .journal_compression(CompressionType::None)
            .max_journaling_size(128 << 20)
            .cache_size(16 << 20)
            .worker_threads(2)
            .open()?;
        let options = |memtable: u64, block: u32| {
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable)
                .data_block_size_policy(BlockSizePolicy::all(block))
        };
        Ok(Self {
            records: db.keyspace("records", || options(16 << 20, 32 << 10))?,
            bindings: db.keyspace("bindings", || options(4 << 20, 16 << 10))?,
            meta: db.keyspace("meta", || options(1 << 20, 4 << 10))?,
            db,
        })
    }

    fn write(&self, prepared: &Prepared, sync: Sync) -> fjall::Result<()> {
        let tick = prepared.tick.tick;
        let mut batch = self.db.batch().durability((sync == Sync::Now).then_some(PersistMode::SyncAll));
        for (part, block) in prepared.tick.batches.iter().zip(&prepared.blocks) {
            batch.insert(&self.records, record_key(tick, part.partition.0), block.as_slice());
        }
        batch.insert(&self.bindings, tick.0.to_be_bytes(), prepared.binding.encode_to_vec());
        for mark in &prepared.marks {
            let life = GatewayLife { gateway: mark.gateway, epoch: mark.epoch };
            batch.insert(&self.meta, mark_key(life), mark.encode_to_vec());
        }
        for life in &prepared.forgotten {
            batch.remove(&self.meta, mark_key(*life));
        }
        batch.commit()
    }

    fn meta(&self) -> fjall::Result<Meta> {
        let mut marks = Vec::new();
        for guard in self.meta.prefix(MARK) {
            marks.push(decode(&guard.value()?)?);
        }
        Ok(Meta {
            state: self.meta.get(STATE)?.map(|value| decode(&value)).transpose()?,
            clean: self.meta.get(CLEAN)?.is_some(),
            marks,
            binding: self.last_binding()?,
        })
    }

    fn floor(&self) -> fjall::Result<Option<Tick>> {
        let floor = self.meta.get(FLOOR)?;
        Ok(floor.and_then(|bytes| Some(Tick(u64::from_be_bytes(bytes[..].try_into().ok()?)))))
    }

    fn last_binding(&self) -> fjall::Result<Option<v1::Binding>> {
        self.bindings.last_key_value().map(|guard| decode(&guard.value()?)).transpose()
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

/// Opens the database as of its last whole commit; one that is damaged before that is refused untouched.
fn open_whole(path: &Path) -> Result<Tables, LogError> {
    let journal = |source| LogError::Journal { path: path.to_owned(), source };
    let verdict = journal::inspect(path).map_err(journal)?;
    if let Verdict::Damaged { file } = verdict {
        return Err(LogError::Damaged { file, path: path.to_owned(), source: None });
    }
    match (journal::open_begun(path, Tables::open), verdict) {
        // Fjall holds the lock while it looks, so nobody else is writing that commit.
        (Err(fjall::Error::JournalRecovery(_)), Verdict::Torn { file, at }) => {
            tracing::warn!(file = %file.display(), at, "journal ends with a part of a commit, which was never durable");
            journal::cut(&file, at).map_err(journal)?;
            Tables::open(path)
        }
        (opened, _) => opened,
    }
    .map_err(|source| LogError::opening(path, source))
}

/// Key of the block of one partition in one tick.
pub(super) fn record_key(tick: Tick, partition: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&tick.0.to_be_bytes());
    key[8..].copy_from_slice(&partition.to_be_bytes());
    key
}

fn mark_key(life: GatewayLife) -> Vec<u8> {
    [MARK, &life.gateway.to_be_bytes(), &life.epoch.to_be_bytes()].concat()
}

pub(super) fn decode<M: Message + Default>(value: &[u8]) -> fjall::Result<M> {
    M::decode(value).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error).into())
}
