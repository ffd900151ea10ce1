//! Reading the log: every tick in order, exactly once, wherever it is.
//!
//! At the head of the log the ticks come from memory; further back they are read from disk, some at a time, and
//! checked against their bindings. Tails are independent of each other and of the writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::v1;

use super::head::{After, Head, tick_bytes};
use super::store::{Store, Tables, record_key};
use super::writer::{block_hash, decode_block};
use super::{LogError, Ticks};

/// Bytes that one read from disk takes, unless told otherwise.
const READ_BYTES_MAX: usize = 4 << 20;
const READ_TICKS_MAX: usize = 1_024;

/// A reader of the log; blocks, so it belongs on a thread of its own.
#[derive(Debug)]
pub struct Tail {
    store: Arc<Store>,
    head: Arc<Head>,
    /// The last tick that was handed out.
    after: Option<Tick>,
    ready: VecDeque<Arc<CommittedTick>>,
    read_bytes_max: usize,
}

impl Tail {
    pub(super) fn new(store: Arc<Store>, head: Arc<Head>, after: Option<Tick>) -> Self {
        Self { store, head, after, ready: VecDeque::new(), read_bytes_max: READ_BYTES_MAX }
    }

    /// Reads about this many bytes ahead, at least one tick.
    #[must_use]
    pub const fn read_bytes_max(mut self, bytes: usize) -> Self {
        self.read_bytes_max = bytes;
        self
    }

    /// The next tick, or `None` if none is committed within `wait`; at once where none will ever come.
    ///
    /// # Errors
    /// A tick that cannot be read or is not what was bound; the tail stays before it.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Arc<CommittedTick>>, LogError> {
        let deadline = Instant::now().checked_add(wait);
        loop {
            if let Some(tick) = self.ready.pop_front() {
                self.after = Some(tick.tick);
                return Ok(Some(tick));
            }
            let rest = deadline.map_or(wait, |deadline| deadline.saturating_duration_since(Instant::now()));
            match self.head.wait(self.after, rest) {
                After::Nothing => return Ok(None),
                After::Recent(ticks) => self.ready.extend(ticks),
                After::Older => match self.store.tables() {
                    Some(tables) => self.read(&tables)?,
                    None => {
                        // The writer is busy reopening the database after an I/O error.
                        std::thread::sleep(rest.min(Duration::from_millis(20)));
                        if rest.is_zero() {
                            return Ok(None);
                        }
                    }
                },
            }
        }
    }

    /// All was handed out, and nothing more will come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ready.is_empty() && self.head.is_ended(self.after)
    }

    fn read(&mut self, tables: &Tables) -> Result<(), LogError> {
        let mut ends = self.ends(tables)?;
        let from = self.after.map_or(0, |tick| tick.0.saturating_add(1));
        let from = self.store.floor().map_or(from, |floor| from.max(floor.0));
        // The bindings' view comes first: whatever it shows, the records' view has too.
        let mut bindings = tables.bindings.range(from.to_be_bytes()..);
        let mut records = tables.records.range(record_key(Tick(from), 0)..);
        let mut bytes = 0;
        while bytes < self.read_bytes_max && self.ready.len() < READ_TICKS_MAX {
            let Some(guard) = bindings.next() else { break };
            let binding = self.binding(guard)?;
            match self.tick(&binding, &mut ends, &mut records) {
                Ok(tick) => {
                    bytes += tick_bytes(&tick);
                    self.ready.push_back(Arc::new(tick));
                }
                Err(error) if self.ready.is_empty() => return Err(error),
                // First what is good; the next read starts with the bad one.
                Err(_) => break,
            }
        }
        if self.ready.is_empty() {
            let tick = Tick(from);
            return Err(LogError::Binding { path: self.store.path().to_owned(), tick, what: "none at or after it" });
        }
        Ok(())
    }

    /// Where each partition ended with the last tick that was handed out; empty where that is not known.
    fn ends(&self, tables: &Tables) -> Result<Vec<u64>, LogError> {
        let Some(after) = self.after else { return Ok(Vec::new()) };
        let Some(guard) = tables.bindings.range(..=after.0.to_be_bytes()).next_back() else { return Ok(Vec::new()) };
        Ok(self.binding(guard)?.partitions.iter().map(|partition| partition.end_offset).collect())
    }

    fn binding(&self, guard: fjall::Guard) -> Result<v1::Binding, LogError> {
        let (key, value) = guard.into_inner().map_err(|source| self.store.read_error(source))?;
        let tick = Tick(u64::from_be_bytes(key[..].try_into().unwrap_or_default()));
        let binding = v1::Binding::decode(&value[..]).ok().filter(|binding| binding.tick == tick.0);
        binding.ok_or_else(|| LogError::Binding {
            path: self.store.path().to_owned(),
            tick,
            what: "it cannot be decoded",
        })
    }

    /// The tick that a binding describes, its records checked against it.
    fn tick(
        &self,
        binding: &v1::Binding,
        ends: &mut Vec<u64>,
        records: &mut fjall::Iter,
    ) -> Result<CommittedTick, LogError> {
        ends.resize(binding.partitions.len().max(ends.len()), 0);
        let tick = Tick(binding.tick);
        let mut batches = Vec::new();
        for bound in &binding.partitions {
            let end = &mut ends[bound.partition as usize];
            if bound.hash != 0 {
                let corrupt = |what| LogError::Corrupt {
                    path: self.store.path().to_owned(),
                    partition: Partition(bound.partition),
                    offset: Offset(*end),
                    tick,
                    what,
                };
                let guard = records.next().ok_or_else(|| corrupt("the block is missing"))?;
                let (key, block) = guard.into_inner().map_err(|source| self.store.read_error(source))?;
                if key[..] != record_key(tick, bound.partition) {
                    return Err(corrupt("the block is missing"));
                }
                if block_hash(&block) != bound.hash {
                    return Err(corrupt("the bytes are not those that were bound"));
                }
                let records = decode_block(&block).ok_or_else(|| corrupt("the block cannot be decoded"))?;
                let first_offset = bound.end_offset.checked_sub(records.len() as u64);
                let first_offset = first_offset.ok_or_else(|| corrupt("more records than offsets"))?;
                if *end != 0 && first_offset != *end {
                    return Err(corrupt("the records before it are missing"));
                }
                let (partition, first_offset) = (Partition(bound.partition), Offset(first_offset));
                batches.push(LogBatch { partition, first_offset, records });
            }
            *end = bound.end_offset;
        }
        Ok(CommittedTick { tick, watermark: Micros(binding.watermark_us), batches })
    }
}

impl Ticks for Tail {
    fn next(&mut self, wait: Duration) -> Result<Option<Arc<CommittedTick>>, LogError> {
        Self::next(self, wait)
    }

    fn is_ended(&self) -> bool {
        Self::is_ended(self)
    }
}
