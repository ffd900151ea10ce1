//! Which definitions of other servers one is like, under whatever name: an index by some of their smallest hashes.
//!
//! Invariant: it follows from the definitions, whatever the order in which they came; so no image has it. A definition that
//! is like another may be missed (two in a hundred at 80 %); what is found was compared in full.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::similarity::{BANDS, Shingles};

/// Definitions this similar are called alike, in percent.
pub(super) const ALIKE: u32 = 80;

/// What has fewer shingles says too little: `Lists all items.` is like any other list.
const SHINGLES_MIN: usize = 64;

/// Servers that are looked at in one place, of each one tool: the first by name.
const PLACE_MAX: usize = 8;

/// Definitions that one is compared with: those that share most places.
pub(super) const COMPARED_MAX: usize = 8;

/// Server and tool.
type Key = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Alike {
    /// Which tools of which servers are in a place.
    places: BTreeMap<u64, BTreeMap<Arc<str>, BTreeSet<Arc<str>>>>,
}

impl Alike {
    pub(super) fn insert(&mut self, key: &Key, shingles: &Shingles) {
        for place in places(shingles) {
            let there = self.places.entry(place).or_default();
            there.entry(Arc::clone(&key.0)).or_default().insert(Arc::clone(&key.1));
        }
    }

    pub(super) fn remove(&mut self, key: &Key, shingles: &Shingles) {
        for place in places(shingles) {
            let Some(there) = self.places.get_mut(&place) else { continue };
            let of_server = there.get_mut(&key.0);
            if of_server.is_some_and(|tools| tools.remove(&key.1) && tools.is_empty()) {
                there.remove(&key.0);
            }
            if there.is_empty() {
                self.places.remove(&place);
            }
        }
    }

    /// Tools of other servers, under other names, that might be like this one: the likeliest first.
    pub(super) fn candidates(&self, key: &Key, shingles: &Shingles) -> Vec<Key> {
        let mut shared: BTreeMap<(&Arc<str>, &Arc<str>), usize> = BTreeMap::new();
        for there in places(shingles).filter_map(|place| self.places.get(&place)) {
            let others = there.iter().filter(|(server, _)| **server != key.0);
            let others =
                others.filter_map(|(server, tools)| Some((server, tools.iter().find(|tool| **tool != key.1)?)));
            others.take(PLACE_MAX).for_each(|other| *shared.entry(other).or_default() += 1);
        }
        let mut candidates: Vec<_> = shared.into_iter().collect();
        candidates.sort_by_key(|(other, places)| (BANDS - places, *other));
        candidates
            .into_iter()
            .take(COMPARED_MAX)
            .map(|((server, tool), _)| (Arc::clone(server), Arc::clone(tool)))
            .collect()
    }
}

fn places(shingles: &Shingles) -> impl Iterator<Item = u64> {
    let bands = (shingles.len() >= SHINGLES_MIN).then(|| shingles.bands());
    bands.into_iter().flatten()
}
