//! The counts of a model, but those of flow edges: in shards, so that they can be looked through one at a time.

use super::{Entry, Map};
use crate::shards::SHARDS;

#[derive(Clone, Debug)]
pub(super) struct Sums(Vec<Map<Entry, u64>>);

impl Default for Sums {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Map::default()).collect())
    }
}

impl Sums {
    pub(super) fn count(&self, entry: &Entry) -> u64 {
        self.0[sum_shard(entry)].get(entry).copied().unwrap_or(0)
    }

    /// The total before; one of 0 is not kept.
    pub(super) fn replace(&mut self, entry: Entry, total: u64) -> u64 {
        let shard = &mut self.0[sum_shard(&entry)];
        if total == 0 { shard.remove(&entry) } else { shard.insert(entry, total) }.unwrap_or(0)
    }

    pub(super) fn shard(&self, shard: usize) -> impl Iterator<Item = (Entry, u64)> {
        self.0[shard].iter().map(|(entry, total)| (*entry, *total))
    }
}

/// Scopes and keys are hashes, mostly.
pub(super) const fn sum_shard(entry: &Entry) -> usize {
    let mixed = entry.scope ^ entry.key.rotate_left(17) ^ ((entry.bin as u64) << 40) ^ ((entry.part as u64) << 48);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % SHARDS
}
