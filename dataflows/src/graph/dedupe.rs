//! Drops events that came twice, by their id alone (JSON-RPC ids are reused by honest clients).

use std::collections::{BTreeMap, VecDeque};

use undercurrent_schemas::v1::EventId;

/// Sequences remembered of each gateway epoch.
const REMEMBERED: usize = 4096;

/// The ids seen lately in one partition.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seen(BTreeMap<(u64, u64), Sequences>);

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Sequences {
    /// Sorted. Nearly all come in order, so a queue is a sorted set that costs next to nothing.
    recent: VecDeque<u64>,
    /// Everything up to here counts as seen: its ids were let go.
    forgotten: u64,
}

impl Seen {
    /// Notes an id; `false` = it was seen before. An event without an id is always new.
    pub(crate) fn is_new(&mut self, id: Option<&EventId>) -> bool {
        let Some(id) = id else { return true };
        let sequences = self.0.entry((id.gateway, id.epoch)).or_default();
        if id.sequence <= sequences.forgotten || !sequences.insert(id.sequence) {
            return false;
        }
        if sequences.recent.len() > REMEMBERED {
            sequences.forgotten = sequences.recent.pop_front().unwrap_or_default();
        }
        true
    }
}

impl Sequences {
    /// `false` = it is there.
    fn insert(&mut self, sequence: u64) -> bool {
        if self.recent.back().is_none_or(|last| *last < sequence) {
            self.recent.push_back(sequence);
            return true;
        }
        let Err(at) = self.recent.binary_search(&sequence) else { return false };
        self.recent.insert(at, sequence);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once() {
        let mut seen = Seen::default();
        let id = |sequence| EventId { gateway: 1, epoch: 1, sequence };
        assert!(seen.is_new(Some(&id(2))));
        assert!(seen.is_new(Some(&id(1))), "out of order is not twice");
        assert!(!seen.is_new(Some(&id(2))));
        assert!(seen.is_new(Some(&EventId { gateway: 1, epoch: 2, sequence: 2 })), "another life");
        assert!((3..10_000).all(|sequence| seen.is_new(Some(&id(sequence)))));
        assert!(!seen.is_new(Some(&id(1))), "long ago is still seen");
    }
}
