//! What a session teaches: its contribution to the model's sums.
//!
//! A pure function of the session's facts and of the terms with which it was scored; adding and later subtracting the
//! same contribution leaves no trace.

use undercurrent_schemas::rows::CallOutcome;

use crate::assess::{flow_key, shape_key, transition_key, transition2_key};
use crate::model::{Entry, Part, term_bin};
use crate::session::{CallFact, LeafFact, SessionFact};

/// The counts that the facts of a taught session add, each the session's weight (equal entries may repeat).
pub fn taught_facts(scope: u64, session: &SessionFact, mut add: impl FnMut(Entry)) {
    let mut count = |part, key, bin| add(Entry { part, scope, key, bin });
    session.with_past(|past, call, answer| {
        count(Part::Tool, call.tool, 0);
        count(Part::Departures, past.previous, 0);
        count(Part::Transition, transition_key(past.previous, call.tool), 0);
        count(Part::Transition2, transition2_key(past.before, past.previous, call.tool), 0);
        count(Part::Shape, shape_key(call.tool, call.shape), 0);
        for leaf in &call.leaves {
            let flow = flow_key(leaf.parameter, leaf.source);
            count(Part::Parameter, leaf.parameter, 0);
            count(Part::Flow, flow, 0);
            count(Part::Value, flow, leaf.value_bin());
            if let Some(place) = leaf.place_bin() {
                count(Part::Place, flow, place);
                count(Part::Places, 0, place);
            }
        }
        count(Part::RequestBytes, call.tool, term_bin(call.arguments_bytes as f64));
        count(Part::Outcome, call.tool, outcome_bin(answer.outcome));
        if let Some(latency_us) = answer.latency_us {
            count(Part::ResponseBytes, call.tool, term_bin(answer.response_bytes as f64));
            count(Part::Latency, call.tool, term_bin(latency_us as f64));
            if answer.outcome == CallOutcome::Result {
                count(Part::ResultShape, call.tool, u32::from(answer.shape_bin));
            }
        }
    });
    let tools = session.tools();
    for (index, tool) in tools.iter().enumerate() {
        count(Part::ToolSessions, *tool, 0);
        for earlier in &tools[..index] {
            count(Part::Before, transition_key(*earlier, *tool), 0);
        }
    }
    count(Part::Sessions, 0, 0);
}

/// An argument's value, with the tool that was given it, and what its flow and place are called in the model.
#[derive(Clone, Copy, Debug)]
pub struct PlaceOf<'a> {
    pub tool: u64,
    pub leaf: &'a LeafFact,
    pub flow: u64,
    pub bin: u32,
}

impl PlaceOf<'_> {
    /// Its bin among those of labelled sessions. The numbers are kept in files: never renumber.
    #[must_use]
    pub const fn labelled_bin(&self, is_malicious: bool) -> u32 {
        2 * self.bin + is_malicious_bin(is_malicious)
    }
}

/// The bin of what was said about a session. The numbers are kept in files: never renumber.
#[must_use]
pub const fn is_malicious_bin(is_malicious: bool) -> u32 {
    is_malicious as u32
}

/// Where the arguments of some calls took their values, each flow and place once, in the order of the calls.
#[must_use]
pub fn places_of<'a>(calls: impl IntoIterator<Item = &'a CallFact>) -> Vec<PlaceOf<'a>> {
    let mut seen = std::collections::BTreeSet::new();
    let leaves = calls.into_iter().flat_map(|call| call.leaves.iter().map(move |leaf| (call.tool, leaf)));
    let places = leaves.filter_map(|(tool, leaf)| {
        let place = PlaceOf { tool, leaf, flow: flow_key(leaf.parameter, leaf.source), bin: leaf.place_bin()? };
        seen.insert((place.flow, place.bin)).then_some(place)
    });
    places.collect()
}

/// The counts that a label of a session adds, each one.
pub fn labelled_facts(scope: u64, session: &SessionFact, is_malicious: bool, mut add: impl FnMut(Entry)) {
    add(Entry { part: Part::LabelledSessions, scope, key: 0, bin: is_malicious_bin(is_malicious) });
    for place in places_of(session.calls.iter().map(|(call, _)| call)) {
        add(Entry { part: Part::LabelledPlace, scope, key: place.flow, bin: place.labelled_bin(is_malicious) });
    }
}

/// The bin of an outcome. The numbers are kept in files: never renumber.
#[must_use]
pub const fn outcome_bin(outcome: CallOutcome) -> u32 {
    match outcome {
        CallOutcome::Result => 0,
        CallOutcome::ToolError => 1,
        CallOutcome::RpcError => 2,
        CallOutcome::Unanswered => 3,
    }
}
