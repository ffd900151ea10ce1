//! The counts of flow edges: how often a parameter's value came from a source, from where in it, and which values.
//!
//! All of one edge is in one place: a call asks for all of it, for each argument, and values are most of a model.
//! Invariant: an edge without a count is not kept.

use super::{Entry, Map, Part};
use crate::session::PLACES;
use crate::shards::SHARDS;

/// What is counted of one edge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    /// Arguments that came this way.
    pub(crate) seen: u64,
    /// Of those, by the kind of place.
    pub(crate) places: [u64; PLACES],
    /// Of those, by the bin of the value.
    values: Map<u32, u64>,
}

impl Flow {
    /// Values that differ from each other.
    pub(crate) fn distinct(&self) -> u64 {
        self.values.len() as u64
    }

    pub(crate) fn has_value(&self, bin: u32) -> bool {
        self.values.contains_key(&bin)
    }

    fn count(&self, part: Part, bin: u32) -> u64 {
        match part {
            Part::Flow => self.seen,
            Part::Place => self.places.get(bin as usize).copied().unwrap_or(0),
            Part::Value => self.values.get(&bin).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// The total before; one of 0 is not kept.
    fn replace(&mut self, part: Part, bin: u32, total: u64) -> u64 {
        match part {
            Part::Flow => std::mem::replace(&mut self.seen, total),
            Part::Place => self.places.get_mut(bin as usize).map_or(0, |place| std::mem::replace(place, total)),
            Part::Value if total == 0 => self.values.remove(&bin).unwrap_or(0),
            Part::Value => self.values.insert(bin, total).unwrap_or(0),
            _ => 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.seen == 0 && self.values.is_empty() && self.places.iter().all(|place| *place == 0)
    }
}

/// The edges of all servers, by scope and key.
#[derive(Clone, Debug)]
pub(super) struct Flows(Vec<Map<(u64, u64), Flow>>);

impl Default for Flows {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Map::default()).collect())
    }
}

pub(super) const fn flow_shard(scope: u64, key: u64) -> usize {
    ((scope ^ key.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % SHARDS
}

impl Flows {
    /// Whether counts of this part are here.
    pub(super) const fn has(part: Part) -> bool {
        matches!(part, Part::Flow | Part::Place | Part::Value)
    }

    pub(super) fn get(&self, scope: u64, key: u64) -> Option<&Flow> {
        self.0[flow_shard(scope, key)].get(&(scope, key))
    }

    pub(super) fn count(&self, part: Part, scope: u64, key: u64, bin: u32) -> u64 {
        self.get(scope, key).map_or(0, |flow| flow.count(part, bin))
    }

    pub(super) fn set(&mut self, entry: Entry, total: u64) {
        let shard = &mut self.0[flow_shard(entry.scope, entry.key)];
        let flow = shard.entry((entry.scope, entry.key)).or_default();
        flow.replace(entry.part, entry.bin, total);
        if total == 0 && flow.is_empty() {
            shard.remove(&(entry.scope, entry.key));
        }
    }

    /// Entries of a shard with a count, in any order.
    pub(super) fn shard(&self, shard: usize) -> impl Iterator<Item = (Entry, u64)> {
        self.0[shard].iter().flat_map(|(&(scope, key), flow)| {
            let of = move |part, bin| Entry { part, scope, key, bin };
            let places = (0..).zip(flow.places).map(move |(bin, total)| (of(Part::Place, bin), total));
            let values = flow.values.iter().map(move |(bin, total)| (of(Part::Value, *bin), *total));
            let all = std::iter::once((of(Part::Flow, 0), flow.seen)).chain(places).chain(values);
            all.filter(|(_, total)| *total > 0)
        })
    }
}
