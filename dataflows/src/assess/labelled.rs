//! What labels add: how much a session, or one call, looks like those sessions that somebody called malicious.
//!
//! Naive Bayes over one kind of fact, from which source and place each argument took its value: how often the labelled
//! malicious sessions have it, against how often sessions here do. Counts of labels are sums, so a label that is taken
//! back leaves no trace. Where nobody called a session malicious there is no such term, and the score is what it was.
//! Invariant: never negative; few labels say little, since what is usual stands in for the ones that are missing.

use undercurrent_schemas::v1::TermKind;

use crate::model::{Model, Part};
use crate::session::{CallFact, SessionFact};
use crate::teach::{is_malicious_bin, places_of};

use super::Witness;

/// The term of what labels say: beside those of all sessions.
pub const LABEL_TERM: TermKind = TermKind::LabelledBits;

/// A label counts as much as so many sessions of which nobody said anything.
const LABEL_WEIGHT: f64 = 10.0;

/// Facts of a session or a call that count: those that tell most.
const STRONGEST: usize = 3;

/// Facts of one session are not independent: three count as one and a half.
const DEPENDENCE: f64 = 0.5;

/// A session's or a call's likeness to labelled sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labelled {
    /// Summed over the strongest facts.
    pub bits: f64,
    /// Of the strongest of them: of so many labelled malicious sessions, so many have it.
    pub witness: Witness,
}

impl Labelled {
    /// What it adds to the score, in nats.
    pub(super) fn weight(&self) -> f64 {
        DEPENDENCE * std::f64::consts::LN_2 * self.bits
    }
}

/// `None` = nobody has called a session of this server malicious, or this one has nothing in common with those.
#[must_use]
pub fn labelled(model: &Model, scope: u64, session: &SessionFact) -> Option<Labelled> {
    likeness(model, scope, session.calls.iter().map(|(call, _)| call))
}

/// Of one call, before it is forwarded.
#[must_use]
pub fn labelled_call(model: &Model, scope: u64, call: &CallFact) -> Option<Labelled> {
    likeness(model, scope, [call])
}

fn likeness<'a>(model: &Model, scope: u64, calls: impl IntoIterator<Item = &'a CallFact>) -> Option<Labelled> {
    let malicious = model.count(Part::LabelledSessions, scope, 0, is_malicious_bin(true));
    if malicious == 0 {
        return None;
    }
    let benign = model.count(Part::LabelledSessions, scope, 0, is_malicious_bin(false)) as f64;
    let sessions = model.seen(Part::Sessions, scope, 0, 0) + LABEL_WEIGHT * benign + 1.0;
    let mut facts: Vec<Labelled> = Vec::new();
    for place in places_of(calls) {
        let of = |is_malicious| model.count(Part::LabelledPlace, scope, place.flow, place.labelled_bin(is_malicious));
        let alike = of(true);
        if alike == 0 {
            continue;
        }
        let usual = model.seen(Part::Place, scope, place.flow, place.bin) + LABEL_WEIGHT * of(false) as f64 + 0.5;
        let usual = (usual / sessions).min(1.0);
        let among = (alike as f64 + usual) / (malicious as f64 + 1.0);
        let bits = (among / usual).log2();
        if bits > 0.0 {
            let leaf = place.leaf;
            let witness = Witness {
                tool: place.tool,
                parameter: leaf.parameter,
                source: leaf.source,
                place: leaf.place,
                occasions: malicious,
                alike,
                ..Witness::default()
            };
            facts.push(Labelled { bits, witness });
        }
    }
    // Stable: of equals the first in the session.
    facts.sort_by(|a, b| b.bits.total_cmp(&a.bits));
    let witness = facts.first()?.witness;
    Some(Labelled { bits: facts.iter().take(STRONGEST).map(|fact| fact.bits).sum(), witness })
}
