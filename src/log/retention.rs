//! What of the log may go, and how it goes.
//!
//! The log first says where it begins, then loses what is before that: bytes that a crash leaves behind are of no tick.
//! Not here: what is still needed; that is for whoever keeps checkpoints.
//! Invariant: the floor only grows, and its own binding is kept, so offsets go on without holes.

use fjall::{AbstractTree as _, Keyspace};
use undercurrent_schemas::ids::{Micros, Offset, Tick};
use undercurrent_schemas::v1;

use super::LogError;
use super::store::{Store, decode, record_key};
use crate::config::Retention;
use crate::faults;

/// How thoroughly something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// As far as it fills files of its own: cheap. The rest goes with what comes after it.
    WholeFiles,
    /// Every byte of it and of the first tick itself, of which only the binding stays, before this returns: whole files
    /// are written anew.
    EveryByte,
}

/// Where each partition ended with this tick.
pub(super) fn ends_at(store: &Store, tick: Tick) -> Result<Option<Vec<Offset>>, LogError> {
    let read = || store.open_tables()?.bindings.get(tick.0.to_be_bytes())?.map(|bytes| decode(&bytes)).transpose();
    let binding: Option<v1::Binding> = read().map_err(|source| store.read_error(source))?;
    let binding = binding.filter(|_| store.floor() <= Some(tick));
    Ok(binding.map(|binding| binding.partitions.iter().map(|bound| Offset(bound.end_offset)).collect()))
}

/// What the log takes on its disk.
pub(super) fn bytes(store: &Store) -> Result<u64, LogError> {
    let read = || store.open_tables()?.db.disk_space();
    read().map_err(|source| store.read_error(source))
}

/// The first tick that is neither too old nor too much; `None` = all may stay.
pub(super) fn first_kept(store: &Store, retention: &Retention, watermark: Micros) -> Result<Option<Tick>, LogError> {
    let aged = match retention.age {
        Some(age) => {
            let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            first_since(store, watermark.plus(-age_us)).map_err(|source| store.read_error(source))?
        }
        None => None,
    };
    let excess = match retention.bytes {
        Some(most) => bytes(store)?.saturating_sub(most),
        None => 0,
    };
    let large = if excess > 0 { first_after(store, excess).map_err(|source| store.read_error(source))? } else { None };
    Ok(aged.max(large))
}

/// The first tick whose watermark is at least `at`: watermarks grow with ticks, so halving finds it.
fn first_since(store: &Store, at: Micros) -> fjall::Result<Option<Tick>> {
    let tables = store.open_tables()?;
    let binding = |guard: fjall::Guard| -> fjall::Result<v1::Binding> { decode(&guard.value()?) };
    let Some(last) = tables.bindings.last_key_value().map(binding).transpose()? else { return Ok(None) };
    let (mut low, mut high) = (store.floor().map_or(0, |floor| floor.0), last.tick);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(guard) = tables.bindings.range(middle.to_be_bytes()..).next() else { break };
        let found = binding(guard)?;
        if found.watermark_us >= at.0 { high = middle } else { low = found.tick.saturating_add(1) }
    }
    Ok(Some(Tick(low.min(last.tick))))
}

/// The tick before which there are so many bytes of records, unpacked: what they take on disk is less, so that too much
/// never goes; what is left over goes the next time.
fn first_after(store: &Store, bytes: u64) -> fjall::Result<Option<Tick>> {
    let tables = store.open_tables()?;
    let from = store.floor().unwrap_or_default();
    let mut sum = 0;
    for guard in tables.records.range(record_key(from, 0)..) {
        let (key, block) = guard.into_inner()?;
        sum += block.len() as u64;
        if sum >= bytes {
            return Ok(key[..8].try_into().ok().map(|tick| Tick(u64::from_be_bytes(tick))));
        }
    }
    Ok(None)
}

/// Removes every tick before this one.
pub(super) fn remove_before(store: &Store, tick: Tick, removal: Removal) -> Result<(), LogError> {
    let point = |name| faults::point(name).map_err(|error| store.read_error(error.into()));
    point("retention-begun")?;
    store.raise_floor(tick)?;
    point("retention-half")?;
    let remove = || {
        let tables = store.open_tables()?;
        // Whoever goes on after the first tick needs where it ended, not what was in it.
        let records_of = if removal == Removal::EveryByte { Tick(tick.0.saturating_add(1)) } else { tick };
        let bound =
            [(&tables.records, record_key(records_of, 0).to_vec()), (&tables.bindings, tick.0.to_be_bytes().to_vec())];
        for (keyspace, before) in &bound {
            // Nothing before the floor is read any more, so no snapshot can miss it.
            keyspace.tree.drop_range(..before.as_slice())?;
            if removal == Removal::EveryByte {
                remove_every_byte(keyspace, before)?;
            }
        }
        Ok(())
    };
    remove().map_err(|source| store.read_error(source))?;
    if removal == Removal::EveryByte {
        store.renew_journals()?;
    }
    point("retention-done")
}

fn remove_every_byte(keyspace: &Keyspace, before: &[u8]) -> fjall::Result<()> {
    keyspace.rotate_memtable_and_wait()?;
    let keys: Vec<_> = keyspace.range(..before).map(fjall::Guard::key).collect::<Result<_, _>>()?;
    for key in keys {
        keyspace.remove(key)?;
    }
    keyspace.rotate_memtable_and_wait()?;
    keyspace.major_compact()
}

#[cfg(test)]
mod tests;
