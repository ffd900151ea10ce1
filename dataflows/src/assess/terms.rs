//! The terms of a call and of a session: named numbers that grow with strangeness.

use undercurrent_schemas::ids::{stable_hash, stable_hash_pair};
use undercurrent_schemas::v1::{self, TermKind};

use super::{Labelled, surprise};
use crate::model::{FULL_WEIGHT, Model, Part};
use crate::session::{CallFact, Past, SessionFact};

/// The terms of a call, in the order of their histograms.
pub const CALL_TERMS: [TermKind; 11] = [
    TermKind::TransitionBits,
    TermKind::ToolBits,
    TermKind::SkipBits,
    TermKind::PlaceBits,
    TermKind::OriginBits,
    TermKind::FreshBits,
    TermKind::ShapeBits,
    TermKind::ArgumentsBytes,
    TermKind::LargestResultBytes,
    TermKind::NewHosts,
    TermKind::Repeats,
];

/// The terms of a session.
pub const SESSION_TERMS: [TermKind; 10] = [
    TermKind::TransitionBitsMax,
    TermKind::ToolBitsMax,
    TermKind::SkipBitsSum,
    TermKind::PlaceBitsMax,
    TermKind::OriginBitsMax,
    TermKind::FreshBitsMax,
    TermKind::ShapeBitsMax,
    TermKind::ArgumentsBytesMax,
    TermKind::LargestResultBytes,
    TermKind::RepeatsMax,
];

/// What made a term as large as it is: enough to say it in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Name hash of the tool called.
    pub tool: u64,
    /// Name hash of the tool called before it: right before, of a transition; at any time, of a skip.
    pub previous: u64,
    /// Of a transition: name hash of the tool called before that one, if it counts.
    pub before: Option<u64>,
    /// Name hash of (tool, key path), of an argument.
    pub parameter: u64,
    /// Name hash of the tool whose result held the argument's value.
    pub source: u64,
    /// Where in that result the value stood.
    pub place: v1::Place,
    /// The parameter never took this value from there.
    pub is_new: bool,
    /// Earlier occasions, and of those the ones that were like this.
    pub occasions: u64,
    pub alike: u64,
}

/// A call's terms and their witnesses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallTerms {
    pub values: [f64; CALL_TERMS.len()],
    pub witnesses: [Witness; CALL_TERMS.len()],
}

/// A session's terms and their witnesses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionTerms {
    pub values: [f64; SESSION_TERMS.len()],
    pub witnesses: [Witness; SESSION_TERMS.len()],
    /// Beside the terms of all sessions: what labels say.
    pub labelled: Option<Labelled>,
}

/// Key of a transition in the model.
#[must_use]
pub fn transition_key(previous: u64, tool: u64) -> u64 {
    stable_hash_pair(previous, tool)
}

/// Key of three tools in a row in the model.
#[must_use]
pub fn transition2_key(before: u64, previous: u64, tool: u64) -> u64 {
    stable_hash(&[&before.to_le_bytes(), &previous.to_le_bytes(), &tool.to_le_bytes()])
}

/// Key of a flow edge in the model.
#[must_use]
pub fn flow_key(parameter: u64, source: u64) -> u64 {
    stable_hash_pair(parameter, source)
}

/// Key of a tool's argument shape in the model.
#[must_use]
pub fn shape_key(tool: u64, shape: u64) -> u64 {
    stable_hash_pair(tool, shape)
}

/// A call's terms by this model: a pure function of what is known before the call is forwarded.
#[must_use]
pub fn call_terms(model: &Model, scope: u64, past: Past<'_>, call: &CallFact) -> CallTerms {
    let of_leaves = LeafTerms::of(model, scope, call);
    let shape = shape_key(call.tool, call.shape);
    let skip = surprise::skip(model, scope, past, call.tool);
    let counts = surprise::ToolCounts::of(model, scope, [past.previous, past.before], call.tool, shape);
    let of_tool = Witness {
        tool: call.tool,
        previous: past.previous,
        occasions: occasions(counts.all.total),
        alike: occasions(counts.tool),
        ..Witness::default()
    };
    let of_transition = if counts.both > 0 {
        let before = Some(past.before);
        Witness { before, occasions: occasions(counts.both), alike: occasions(counts.transition2), ..of_tool }
    } else {
        Witness { occasions: occasions(counts.departures), alike: occasions(counts.transition), ..of_tool }
    };
    let of_skip = Witness {
        previous: skip.earlier,
        occasions: occasions(model.count(Part::ToolSessions, scope, skip.earlier, 0)),
        alike: occasions(model.count(Part::Before, scope, transition_key(skip.earlier, call.tool), 0)),
        ..of_tool
    };
    let of_shape = Witness { occasions: of_tool.alike, alike: occasions(counts.shape), ..of_tool };
    let LeafTerms { place, origin, fresh, new_hosts, new_host } = of_leaves;
    CallTerms {
        values: [
            counts.transition_bits(),
            counts.tool_bits(),
            skip.bits,
            place.sum,
            origin.sum,
            fresh.sum,
            counts.shape_bits(),
            call.arguments_bytes as f64,
            call.largest_result_bytes as f64,
            f64::from(new_hosts),
            f64::from(call.repeats),
        ],
        witnesses: [
            of_transition,
            of_tool,
            of_skip,
            place.witness,
            origin.witness,
            fresh.witness,
            of_shape,
            of_tool,
            of_tool,
            new_host,
            of_tool,
        ],
    }
}

/// How often something was seen, in whole sessions' worth, as people are told: what was seen at all was seen once.
fn occasions(count: u64) -> u64 {
    count.div_ceil(u64::from(FULL_WEIGHT))
}

/// What the arguments of a call add to its terms.
#[derive(Clone, Copy, Debug, Default)]
struct LeafTerms {
    place: Strongest,
    origin: Strongest,
    fresh: Strongest,
    new_hosts: u32,
    /// The last argument that points to a new host.
    new_host: Witness,
}

impl LeafTerms {
    fn of(model: &Model, scope: u64, call: &CallFact) -> Self {
        let mut terms = Self::default();
        for leaf in &call.leaves {
            let flow = flow_key(leaf.parameter, leaf.source);
            let surprise = surprise::leaf(model, scope, leaf, flow);
            let from_source = occasions(surprise.from_source);
            let witness = Witness {
                tool: call.tool,
                parameter: leaf.parameter,
                source: leaf.source,
                place: leaf.place,
                occasions: occasions(surprise.seen),
                alike: from_source,
                ..Witness::default()
            };
            let at_place = occasions(surprise.at_place);
            terms.place.add(surprise.place, Witness { occasions: from_source, alike: at_place, ..witness });
            terms.origin.add(surprise.origin, witness);
            terms.fresh.add(surprise.fresh, Witness { is_new: surprise.is_new, ..witness });
            terms.new_hosts += u32::from(leaf.new_host);
            if leaf.new_host {
                terms.new_host = witness;
            }
        }
        terms
    }
}

/// A session's terms: sums and maxima over its calls' terms. What labels say comes from [`super::labelled`].
#[must_use]
pub fn session_terms(session: &SessionFact, calls: &[CallTerms]) -> SessionTerms {
    let of = |term: usize| {
        let mut strongest = Strongest::default();
        for call in calls {
            strongest.add(call.values[term], call.witnesses[term]);
        }
        strongest
    };
    let [transition, tool, skip, place, origin, fresh, shape, arguments, result, _hosts, repeats] =
        std::array::from_fn(of);
    let last_result = session.calls.iter().map(|(_, answer)| answer.response_bytes).max().unwrap_or(0) as f64;
    SessionTerms {
        values: [
            transition.max,
            tool.max,
            skip.sum,
            place.max,
            origin.max,
            fresh.max,
            shape.max,
            arguments.max,
            result.max.max(last_result),
            repeats.max,
        ],
        witnesses: [
            transition.witness,
            tool.witness,
            skip.witness,
            place.witness,
            origin.witness,
            fresh.witness,
            shape.witness,
            arguments.witness,
            result.witness,
            repeats.witness,
        ],
        labelled: None,
    }
}

/// Sum and maximum of values, with what made the maximum.
#[derive(Clone, Copy, Debug, Default)]
struct Strongest {
    sum: f64,
    max: f64,
    witness: Witness,
}

impl Strongest {
    fn add(&mut self, value: f64, witness: Witness) {
        self.sum += value;
        if value > self.max || self.witness.tool == 0 {
            self.witness = witness;
        }
        self.max = self.max.max(value);
    }
}
