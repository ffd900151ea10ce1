//! A map made of many small ones. It can be written as it was at one moment, one of them at a time, while it goes on to
//! change; and as it grows, only one of them is moved at a time.
//!
//! From [`Shards::begin`] on, whatever is about to change is written first, unless its shard has been.
//! Invariant: what [`Shards::finish`] gives is what was in the map at `begin`, each entry once, however the writing was cut.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash};
use std::marker::PhantomData;
use std::ops::Range;

use foldhash::fast::RandomState;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::image::{Sorted, put};

/// How many: with a million entries, writing one takes a few milliseconds.
pub(crate) const SHARDS: usize = 256;

/// How an entry stands in an image.
pub(crate) trait Written<K> {
    fn write(&self, key: &K, to: &mut Vec<u8>);
}

/// Looked up; what is read of it in any order must not reach a result.
#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    /// None before the first entry: many of these stay empty. What is written of them is put in order first.
    shards: Vec<HashMap<K, V, RandomState>>,
    /// Says which shard, not in which order.
    hasher: RandomState,
    writing: Option<Box<Writing<K>>>,
}

/// An image under way. Entries are sorted when it is put together.
#[derive(Debug)]
struct Writing<K> {
    /// The first shard that is not written.
    next: usize,
    /// Of the others: what has changed, or came; only looked up, so in any order.
    changed: HashSet<K, RandomState>,
    pieces: Pieces<K>,
}

/// Entries as they stand in an image, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct Pieces<K>(Vec<Chunk<K>>);

/// Some of them. What grew in one place would have to be moved now and then, all of it at once.
#[derive(Debug)]
struct Chunk<K> {
    bytes: Vec<u8>,
    entries: Vec<(K, Range<usize>)>,
}

/// A chunk that has so many is full.
const CHUNK_BYTES: usize = 256 << 10;

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { shards: Vec::new(), hasher: Default::default(), writing: None }
    }
}

impl<K> Default for Pieces<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Hash + Eq + Clone, V: Written<K>> Shards<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(self.shard_of(key))?.get(key)
    }

    pub(crate) fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard_of(key);
        self.keep(shard, key);
        self.shards.get_mut(shard)?.get_mut(key)
    }

    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let shard = self.shard_of(&key);
        self.grow();
        self.keep(shard, &key);
        if let Some(writing) = self.writing.as_mut().filter(|writing| shard >= writing.next) {
            writing.changed.insert(key.clone());
        }
        self.shards[shard].entry(key).or_insert_with(make)
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard_of(key);
        self.keep(shard, key);
        self.shards.get_mut(shard)?.remove(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        self.shards.into_iter().flatten()
    }

    /// From now on, what is in the map at this moment is to be written.
    pub(crate) fn begin(&mut self) {
        let (changed, pieces) = Default::default();
        self.writing = Some(Box::new(Writing { next: 0, changed, pieces }));
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(crate) fn go_on(&mut self, bytes: &mut usize) -> bool {
        let Self { shards, writing: Some(writing), .. } = self else { return true };
        while let Some(shard) = shards.get(writing.next) {
            if *bytes == 0 {
                return false;
            }
            for (key, value) in shard {
                if !writing.changed.contains(key) {
                    *bytes = bytes.saturating_sub(writing.pieces.push(key, value));
                }
            }
            writing.next += 1;
        }
        true
    }

    /// What was in the map when writing began.
    pub(crate) fn finish(&mut self) -> Pieces<K> {
        let mut all = usize::MAX;
        self.go_on(&mut all);
        self.writing.take().map(|writing| writing.pieces).unwrap_or_default()
    }

    fn shard_of<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // Of the hash, not the bits that the maps themselves go by.
        (self.hasher.hash_one(key) >> 24) as usize % SHARDS
    }

    fn grow(&mut self) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Default::default);
            // What comes from now on was not there when an image began.
            if let Some(writing) = &mut self.writing {
                writing.next = SHARDS;
            }
        }
    }

    /// Writes an entry that is about to change.
    fn keep<Q: Hash + Eq + ?Sized>(&mut self, shard: usize, key: &Q)
    where
        K: Borrow<Q>,
    {
        let Some(writing) = self.writing.as_mut().filter(|writing| shard >= writing.next) else { return };
        if !writing.changed.contains(key)
            && let Some((key, value)) = self.shards.get(shard).and_then(|shard| shard.get_key_value(key))
        {
            writing.changed.insert(key.clone());
            writing.pieces.push(key, value);
        }
    }
}

impl<K: Clone> Pieces<K> {
    /// Its length.
    fn push<V: Written<K>>(&mut self, key: &K, value: &V) -> usize {
        if self.0.last().is_none_or(|last| last.bytes.len() >= CHUNK_BYTES) {
            // The first one of many maps stays small.
            let room = if self.0.is_empty() { 0 } else { CHUNK_BYTES + CHUNK_BYTES / 8 };
            self.0.push(Chunk { bytes: Vec::with_capacity(room), entries: Vec::new() });
        }
        let Some(chunk) = self.0.last_mut() else { return 0 };
        let from = chunk.bytes.len();
        value.write(key, &mut chunk.bytes);
        chunk.entries.push((key.clone(), from..chunk.bytes.len()));
        chunk.bytes.len() - from
    }
}

impl<K: Ord + Send> Sorted for Pieces<K> {
    fn write(self: Box<Self>, to: &mut Vec<u8>) {
        let entries = |chunk: &'_ Chunk<K>| chunk.entries.len();
        let mut sorted: Vec<(&K, &[u8])> = Vec::with_capacity(self.0.iter().map(entries).sum());
        for Chunk { bytes, entries } in &self.0 {
            sorted.extend(entries.iter().map(|(key, range)| (key, &bytes[range.clone()])));
        }
        sorted.sort_unstable_by_key(|(key, _)| *key);
        put(&(sorted.len() as u64), to);
        to.reserve(self.0.iter().map(|chunk| chunk.bytes.len()).sum());
        sorted.into_iter().for_each(|(_, bytes)| to.extend_from_slice(bytes));
    }
}

impl<'de, K, V> Deserialize<'de> for Shards<K, V>
where
    K: Hash + Eq + Clone + Deserialize<'de>,
    V: Written<K> + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from, |entry| entry)
    }
}

/// Reads what [`Pieces`] wrote, entry by entry: `entry` says what is under which key.
pub(crate) fn read<'de, K, V, T, D>(from: D, entry: impl Fn(T) -> (K, V)) -> Result<Shards<K, V>, D::Error>
where
    K: Hash + Eq + Clone,
    V: Written<K>,
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_seq(Entries { entry, of: PhantomData })
}

struct Entries<T, K, V, F> {
    entry: F,
    of: PhantomData<(T, K, V)>,
}

impl<'de, T, K, V, F> Visitor<'de> for Entries<T, K, V, F>
where
    K: Hash + Eq + Clone,
    V: Written<K>,
    T: Deserialize<'de>,
    F: Fn(T) -> (K, V),
{
    type Value = Shards<K, V>;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("the entries of a map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut shards = Shards::default();
        while let Some(next) = from.next_element()? {
            let (key, value) = (self.entry)(next);
            shards.get_or_insert_with(key, || value);
        }
        Ok(shards)
    }
}

#[cfg(test)]
mod tests {
    use bincode::Options as _;
    use proptest::prelude::*;

    use super::*;
    use crate::image::form;

    impl Written<u16> for u32 {
        fn write(&self, key: &u16, to: &mut Vec<u8>) {
            put(&(key, self), to);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u16, u32),
        Change(u16, u32),
        Remove(u16),
        Write(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = || 0..40_u16;
        let step = prop_oneof![
            (key(), any::<u32>()).prop_map(|(key, value)| Step::Set(key, value)),
            (key(), any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
            key().prop_map(Step::Remove),
            (1..200_usize).prop_map(Step::Write),
        ];
        prop::collection::vec(step, 0..120)
    }

    fn take(map: &mut Shards<u16, u32>, step: &Step) {
        match *step {
            Step::Set(key, value) => *map.get_or_insert_with(key, || value) = value,
            Step::Change(key, value) => map.get_mut(&key).into_iter().for_each(|old| *old = value),
            Step::Remove(key) => _ = map.remove(&key),
            Step::Write(bytes) => _ = map.go_on(&mut bytes.clone()),
        }
    }

    fn written(pieces: Pieces<u16>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Box::new(pieces).write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_was_there_when_it_began(before in steps(), after in steps()) {
            let mut map = Shards::default();
            before.iter().for_each(|step| take(&mut map, step));
            map.begin();
            let mut there: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
            there.sort_unstable();
            after.iter().for_each(|step| take(&mut map, step));
            let bytes = written(map.finish());
            prop_assert_eq!(&bytes, &form().serialize(&there).expect("bytes"));
            let again: Shards<u16, u32> = form().deserialize(&bytes).expect("they are read again");
            prop_assert_eq!(again.iter().count(), there.len());
            prop_assert!(there.iter().all(|(key, value)| again.get(key) == Some(value)));
        }
    }
}
