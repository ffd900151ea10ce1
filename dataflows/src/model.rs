//! The model: what was learned, as sums, and what follows from them.
//!
//! Upstream: the differential collection of sums, whose changes `apply` takes. Downstream: `assess`.
//! Invariant: two models that were given the same totals, in any order and batching, answer every question alike.

mod bins;
mod entry;
mod flows;
mod histogram;
mod publish;
mod sums;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use undercurrent_schemas::ids::ModelVersion;
use undercurrent_schemas::text::Text;
use undercurrent_schemas::v1::TermKind;

pub use bins::{REPORTED_BINS, SCORE_BINS, TERM_BINS, reported_bin, reported_value, score_bin, term_bin, term_value};
pub use entry::{Entry, FULL_WEIGHT, GLOBAL, NONE, Part, name_hash, name_text};
pub use histogram::Tail;
pub use publish::{Follower, ModelSlot, Publisher};

pub(crate) use flows::Flow;
pub(crate) use histogram::Histograms;

use flows::{Flows, flow_shard};
use sums::{Sums, sum_shard};

use crate::assess::{CALL_TERMS, SESSION_TERMS};
use crate::shards::SHARDS;

/// Looked up, never iterated: iteration order must not reach a result.
type Map<K, V> = HashMap<K, V, RandomState>;

/// An immutable, versioned model. Readers share it; only its publisher makes the next.
#[derive(Clone, Debug, Default)]
pub struct Model {
    version: ModelVersion,
    sums: Sums,
    /// Of the sums, those of flow edges.
    flows: Flows,
    names: Map<u64, Arc<str>>,
    marginals: Map<(Part, u64), Marginal>,
    histograms: Map<(Part, u64), Histograms>,
    /// By server: the tools that were called, sorted.
    tools: Map<u64, Vec<u64>>,
    /// Of a tool's latencies, sizes, outcomes and shapes: counts by bin, sorted.
    profiles: Map<(Part, u64, u64), Vec<(u32, u64)>>,
}

/// The names of terms, in the order of their histograms: rows share them.
static CALL_TERM_NAMES: LazyLock<Vec<Text>> = LazyLock::new(|| names_of(&CALL_TERMS));
static SESSION_TERM_NAMES: LazyLock<Vec<Text>> = LazyLock::new(|| names_of(&SESSION_TERMS));

fn names_of(terms: &[TermKind]) -> Vec<Text> {
    terms.iter().map(|term| term.name().into()).collect()
}

/// What a part of a scope adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marginal {
    pub(crate) total: u64,
    pub(crate) distinct: u64,
}

/// A count of facts in whole sessions' worth.
pub fn in_full(count: u64) -> f64 {
    count as f64 / f64::from(FULL_WEIGHT)
}

impl Marginal {
    fn change(&mut self, before: u64, after: u64) {
        self.total = self.total + after - before;
        self.distinct = self.distinct + u64::from(after > 0) - u64::from(before > 0);
    }
}

/// What changed since the model before: new totals (0 = gone), new names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelChange {
    pub version: ModelVersion,
    /// Sorted by entry.
    pub totals: Vec<(Entry, u64)>,
    /// Sorted by hash.
    pub names: Vec<(u64, Arc<str>)>,
}

impl ModelChange {
    /// Nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.totals.is_empty() && self.names.is_empty()
    }
}

impl Model {
    /// The tick whose results this model holds.
    #[must_use]
    pub fn version(&self) -> ModelVersion {
        self.version
    }

    /// An entry's count.
    #[must_use]
    pub fn count(&self, part: Part, scope: u64, key: u64, bin: u32) -> u64 {
        if Flows::has(part) {
            return self.flows.count(part, scope, key, bin);
        }
        self.sums.count(&Entry { part, scope, key, bin })
    }

    /// What an entry counts once this much has come, or gone. Only what was counted is ever taken away; imported sums that
    /// no count can hold wrap around, so that they can be taken back like any other.
    pub(crate) fn total_after(&self, entry: &Entry, diff: isize) -> u64 {
        let before = self.count(entry.part, entry.scope, entry.key, entry.bin);
        before.wrapping_add_signed(diff as i64)
    }

    /// How often something was seen: an entry's count in whole sessions' worth.
    pub(crate) fn seen(&self, part: Part, scope: u64, key: u64, bin: u32) -> f64 {
        in_full(self.count(part, scope, key, bin))
    }

    /// The text of a name hash.
    #[must_use]
    pub fn name(&self, hash: u64) -> Option<&Arc<str>> {
        self.names.get(&hash)
    }

    /// The scope and the key of an entry as people read them; a hash whose name is not known is written as one.
    #[must_use]
    pub fn words(&self, entry: &Entry) -> (Text, Text) {
        let name = |hash: u64| self.name(hash).map_or_else(|| format!("{hash:016x}").into(), Text::from);
        let term = |terms: &[Text]| terms.get(entry.key as usize).cloned().unwrap_or_default();
        let key = match entry.part {
            Part::CallTerm => term(&CALL_TERM_NAMES),
            Part::SessionTerm => term(&SESSION_TERM_NAMES),
            Part::Cell => format!("{:016x}", entry.key).into(),
            Part::Sessions | Part::LabelledSessions | Part::Places | Part::CallScore | Part::SessionScore => {
                Text::default()
            }
            Part::Tool
            | Part::Departures
            | Part::Transition
            | Part::Parameter
            | Part::Flow
            | Part::Value
            | Part::Shape
            | Part::RequestBytes
            | Part::ResponseBytes
            | Part::Latency
            | Part::Outcome
            | Part::Place
            | Part::ToolSessions
            | Part::Before
            | Part::LabelledPlace
            | Part::ResultShape
            | Part::Transition2
            | Part::Reported => name(entry.key),
        };
        (name(entry.scope), key)
    }

    /// A session has taught this scope, or the back-off.
    #[must_use]
    pub fn is_live(&self, scope: u64) -> bool {
        self.count(Part::Sessions, scope, 0, 0) > 0 || self.marginal(Part::Sessions, GLOBAL).total > 0
    }

    /// Entries with a count, sorted: the whole model as one change on nothing.
    #[must_use]
    pub fn as_change(&self) -> ModelChange {
        let mut totals: Vec<_> = (0..SHARDS).flat_map(|shard| self.shard(shard)).collect();
        totals.sort_unstable();
        ModelChange { version: self.version, totals, names: self.names() }
    }

    /// All names, sorted by hash.
    pub(crate) fn names(&self) -> Vec<(u64, Arc<str>)> {
        let mut names: Vec<_> = self.names.iter().map(|(hash, name)| (*hash, Arc::clone(name))).collect();
        names.sort_unstable();
        names
    }

    /// The entries of one shard, in any order.
    pub(crate) fn shard(&self, shard: usize) -> impl Iterator<Item = (Entry, u64)> {
        self.flows.shard(shard).chain(self.sums.shard(shard))
    }

    /// The shard that an entry is in.
    pub(crate) fn shard_of(entry: &Entry) -> usize {
        if Flows::has(entry.part) { flow_shard(entry.scope, entry.key) } else { sum_shard(entry) }
    }

    /// The tools that sessions of a server called, sorted by their hashes.
    pub fn tools(&self, scope: u64) -> &[u64] {
        self.tools.get(&scope).map_or(&[], Vec::as_slice)
    }

    /// A tool's latencies, response sizes, outcomes or shapes: counts by bin, sorted; empty of any other part.
    pub fn profile(&self, part: Part, scope: u64, tool: u64) -> &[(u32, u64)] {
        self.profiles.get(&(part, scope, tool)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn marginal(&self, part: Part, scope: u64) -> Marginal {
        self.marginals.get(&(part, scope)).copied().unwrap_or_default()
    }

    /// What is known of a flow edge.
    pub(crate) fn flow(&self, scope: u64, flow: u64) -> Option<&Flow> {
        self.flows.get(scope, flow)
    }

    pub(crate) fn histograms(&self, part: Part, scope: u64) -> Option<&Histograms> {
        self.histograms.get(&(part, scope))
    }

    pub(crate) fn tail(&self, part: Part, scope: u64, term: usize, bin: u32) -> Tail {
        self.histograms(part, scope).map_or_else(Tail::default, |histograms| histograms.tail(term, bin))
    }

    /// Takes the totals of a change. Versions only grow.
    pub fn apply(&mut self, change: &ModelChange) {
        assert!(change.version >= self.version, "a model's version only grows");
        self.version = change.version;
        for (hash, name) in &change.names {
            self.names.insert(*hash, Arc::clone(name));
        }
        for (entry, total) in &change.totals {
            self.set(*entry, *total);
        }
    }

    fn marginal_mut(&mut self, part: Part, scope: u64) -> &mut Marginal {
        self.marginals.entry((part, scope)).or_default()
    }

    fn set(&mut self, entry: Entry, total: u64) {
        if Flows::has(entry.part) {
            return self.flows.set(entry, total);
        }
        let before = self.sums.replace(entry, total);
        match entry.part {
            Part::Tool => {
                self.marginal_mut(entry.part, entry.scope).change(before, total);
                let tools = self.tools.entry(entry.scope).or_default();
                match (tools.binary_search(&entry.key), total) {
                    (Err(at), 1..) => tools.insert(at, entry.key),
                    (Ok(at), 0) => _ = tools.remove(at),
                    (Ok(_), 1..) | (Err(_), 0) => {}
                }
            }
            Part::Places => self.marginal_mut(entry.part, entry.scope).change(before, total),
            Part::ResponseBytes | Part::Latency | Part::Outcome | Part::ResultShape => {
                let profile = self.profiles.entry((entry.part, entry.scope, entry.key)).or_default();
                match (profile.binary_search_by_key(&entry.bin, |(bin, _)| *bin), total) {
                    (Err(at), 1..) => profile.insert(at, (entry.bin, total)),
                    (Ok(at), 0) => _ = profile.remove(at),
                    (Ok(at), 1..) => profile[at].1 = total,
                    (Err(_), 0) => {}
                }
            }
            Part::Sessions => self.marginal_mut(Part::Sessions, GLOBAL).change(before, total),
            Part::CallTerm | Part::SessionTerm | Part::CallScore | Part::SessionScore => {
                let (terms, bins) = match entry.part {
                    Part::CallTerm => (CALL_TERMS.len(), TERM_BINS),
                    Part::SessionTerm => (SESSION_TERMS.len(), TERM_BINS),
                    _ => (1, SCORE_BINS),
                };
                for scope in [entry.scope, GLOBAL] {
                    self.histograms.entry((entry.part, scope)).or_insert_with(|| Histograms::new(terms, bins)).change(
                        entry.key as usize,
                        entry.bin,
                        before,
                        total,
                    );
                }
            }
            Part::Shape
            | Part::Departures
            | Part::Transition
            | Part::Parameter
            | Part::Flow
            | Part::Value
            | Part::RequestBytes
            | Part::Place
            | Part::ToolSessions
            | Part::Before
            | Part::Cell
            | Part::LabelledSessions
            | Part::LabelledPlace
            | Part::Transition2
            | Part::Reported => {}
        }
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.as_change() == other.as_change()
    }
}
