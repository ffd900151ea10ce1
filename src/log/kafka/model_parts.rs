//! Whole models in parts, and changes in whatever order two topics give them: put together to what a gateway takes.
//!
//! Not here: topics. Invariant: what comes out can be taken as it comes: a whole model, or the change of the version
//! that came out before.

use std::collections::{BTreeMap, VecDeque};

use undercurrent_schemas::v1;

/// Sums and names in one part.
const PART_ENTRIES: usize = 8_192;
/// Changes that wait for the model that they change; the oldest goes first.
const WAITING_MAX: usize = 4_096;

/// Cuts a whole model.
pub(super) fn parts_of(whole: &v1::ModelUpdate, updates_from: i64) -> Vec<v1::ModelPart> {
    let count = whole.sums.len().div_ceil(PART_ENTRIES).max(whole.names.len().div_ceil(PART_ENTRIES)).max(1);
    let cut = |part: usize| v1::ModelUpdate {
        version: whole.version,
        base: true,
        sums: chunk(&whole.sums, part),
        names: chunk(&whole.names, part),
        previous: 0,
    };
    let part = |part: usize| v1::ModelPart {
        version: whole.version,
        part: part as u32,
        parts: count as u32,
        content: Some(cut(part)),
        updates_from,
    };
    (0..count).map(part).collect()
}

fn chunk<T: Clone>(of: &[T], part: usize) -> Vec<T> {
    of.chunks(PART_ENTRIES).nth(part).unwrap_or_default().to_vec()
}

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The version that came out last.
    live: u64,
    /// Parts of the newest model of which any has come.
    parts: BTreeMap<u32, v1::ModelPart>,
    waiting: VecDeque<v1::ModelUpdate>,
}

impl Assembly {
    /// One that has a model already.
    pub(super) fn starting_at(version: u64) -> Self {
        Self { live: version, ..Self::default() }
    }

    /// Takes a part; what can be taken now.
    pub(super) fn part(&mut self, part: v1::ModelPart) -> Vec<v1::ModelUpdate> {
        if self.parts.values().next().is_some_and(|known| known.version != part.version) {
            self.parts.clear();
        }
        let (version, count) = (part.version, part.parts as usize);
        self.parts.insert(part.part, part);
        if self.parts.len() < count || version <= self.live {
            return Vec::new();
        }
        let mut whole = v1::ModelUpdate { version, base: true, ..v1::ModelUpdate::default() };
        for content in std::mem::take(&mut self.parts).into_values().filter_map(|part| part.content) {
            whole.sums.extend(content.sums);
            whole.names.extend(content.names);
        }
        self.live = version;
        let mut taken = vec![whole];
        self.follow(&mut taken);
        taken
    }

    /// Takes a change; what can be taken now.
    pub(super) fn change(&mut self, change: v1::ModelUpdate) -> Vec<v1::ModelUpdate> {
        if change.version > self.live {
            if self.waiting.len() == WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(change);
        }
        let mut taken = Vec::new();
        self.follow(&mut taken);
        taken
    }

    fn follow(&mut self, taken: &mut Vec<v1::ModelUpdate>) {
        self.waiting.retain(|change| change.version > self.live);
        while let Some(at) = self.waiting.iter().position(|change| change.previous == self.live) {
            let Some(change) = self.waiting.remove(at) else { return };
            self.live = change.version;
            taken.push(change);
            self.waiting.retain(|change| change.version > self.live);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(version: u64, entries: usize) -> v1::ModelUpdate {
        let sums = (0..entries as u64).map(|key| v1::Sum { key, total: 1, ..v1::Sum::default() }).collect();
        v1::ModelUpdate { version, base: true, sums, ..v1::ModelUpdate::default() }
    }

    fn change(previous: u64, version: u64) -> v1::ModelUpdate {
        v1::ModelUpdate { version, previous, ..v1::ModelUpdate::default() }
    }

    fn versions(taken: Vec<v1::ModelUpdate>) -> Vec<(u64, bool)> {
        taken.into_iter().map(|update| (update.version, update.base)).collect()
    }

    #[test]
    fn a_model_comes_out_whole_whatever_its_size() {
        for entries in [0, 1, PART_ENTRIES, PART_ENTRIES * 2 + 1] {
            let mut assembly = Assembly::default();
            let mut parts = parts_of(&whole(7, entries), 0);
            parts.reverse();
            let (last, first) = parts.split_last().unwrap();
            assert!(first.iter().all(|part| assembly.part(part.clone()).is_empty()));
            let mut taken = assembly.part(last.clone());
            assert_eq!(taken.len(), 1);
            taken[0].sums.sort_by_key(|sum| sum.key);
            assert_eq!(taken[0], whole(7, entries));
        }
    }

    #[test]
    fn changes_wait_for_the_model_that_they_change() {
        let mut assembly = Assembly::default();
        assert_eq!(versions(assembly.change(change(7, 9))), []);
        assert_eq!(versions(assembly.change(change(3, 7))), []);
        let part = |version| parts_of(&whole(version, 1), 0).remove(0);
        assert_eq!(versions(assembly.part(part(7))), [(7, true), (9, false)]);
        assert_eq!(versions(assembly.part(part(8))), [], "an older one is left");
        assert_eq!(versions(assembly.change(change(9, 12))), [(12, false)]);
        assert_eq!(versions(assembly.change(change(9, 12))), [], "what comes twice is nothing new");
        assert_eq!(versions(assembly.change(change(13, 14))), [], "one is missing");
        assert_eq!(versions(assembly.part(part(14))), [(14, true)]);
    }

    #[test]
    fn a_model_that_was_begun_and_not_ended_is_dropped() {
        let mut assembly = Assembly::starting_at(1);
        let parts = parts_of(&whole(5, PART_ENTRIES + 1), 0);
        assert_eq!(versions(assembly.part(parts[0].clone())), []);
        assert_eq!(versions(assembly.part(parts_of(&whole(6, 1), 0).remove(0))), [(6, true)]);
    }
}
