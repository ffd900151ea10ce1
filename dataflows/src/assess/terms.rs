//! The terms of a call and of a session: named numbers that grow with strangeness.

use undercurrent_schemas::ids::stable_hash;
use undercurrent_schemas::v1::TermKind;

use super::surprise;
use crate::model::Model;
use crate::session::{CallFact, LeafFact, SessionFact, none};

/// The terms of a call, in the order of their columns and histograms. Never reorder; append.
pub const CALL_TERMS: [TermKind; 12] = [
    TermKind::TransitionBits,
    TermKind::ToolBits,
    TermKind::FlowBitsMax,
    TermKind::FlowBitsSum,
    TermKind::TaintBitsMax,
    TermKind::NoveltyBitsSum,
    TermKind::ShapeBits,
    TermKind::SourcedArguments,
    TermKind::ArgumentsBytes,
    TermKind::LargestResultBytes,
    TermKind::NewHosts,
    TermKind::Repeats,
];

/// The terms of a session.
pub const SESSION_TERMS: [TermKind; 11] = [
    TermKind::TransitionBitsSum,
    TermKind::TransitionBitsMax,
    TermKind::ToolBitsMax,
    TermKind::FlowBitsMax,
    TermKind::FlowBitsSum,
    TermKind::TaintBitsMax,
    TermKind::NoveltyBitsSum,
    TermKind::SourcedArguments,
    TermKind::LargestResultBytes,
    TermKind::ArgumentsBytesMax,
    TermKind::RepeatsMax,
];

/// What made a term as large as it is: enough to say it in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Name hash of the tool called.
    pub tool: u64,
    /// Name hash of the tool called before it, of a transition.
    pub previous: u64,
    /// Name hash of (tool, key path), of an argument.
    pub parameter: u64,
    /// Name hash of the tool whose result held the argument's value.
    pub source: u64,
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
}

/// Key of a transition in the model.
#[must_use]
pub fn transition_key(previous: u64, tool: u64) -> u64 {
    stable_hash(&[&previous.to_le_bytes(), &tool.to_le_bytes()])
}

/// Key of a flow edge in the model.
#[must_use]
pub fn flow_key(parameter: u64, source: u64) -> u64 {
    stable_hash(&[&parameter.to_le_bytes(), &source.to_le_bytes()])
}

/// Key of a tool's argument shape in the model.
#[must_use]
pub fn shape_key(tool: u64, shape: u64) -> u64 {
    stable_hash(&[&tool.to_le_bytes(), &shape.to_le_bytes()])
}

/// A call's terms by this model: a pure function of what is known before the call is forwarded.
#[must_use]
pub fn call_terms(model: &Model, scope: u64, previous: u64, call: &CallFact) -> CallTerms {
    use crate::model::Part;
    let mut flow = Strongest::default();
    let mut taint = Strongest::default();
    let mut novelty = Strongest::default();
    let (mut sourced, mut new_hosts) = (0_u32, 0_u32);
    for leaf in &call.leaves {
        let of_leaf = leaf_surprise(model, scope, leaf);
        let witness = Witness {
            tool: call.tool,
            parameter: leaf.parameter,
            source: leaf.source,
            occasions: of_leaf.seen,
            alike: of_leaf.seen_from_source,
            ..Witness::default()
        };
        flow.add(of_leaf.flow, witness);
        taint.add(of_leaf.taint, witness);
        novelty.add(of_leaf.novelty, witness);
        sourced += u32::from(leaf.has_source());
        new_hosts += u32::from(leaf.new_host);
    }
    let transition = transition_key(previous, call.tool);
    let of_tool = Witness {
        tool: call.tool,
        previous,
        occasions: model.marginal(Part::Tool, scope).total,
        alike: model.count(Part::Tool, scope, call.tool, 0),
        ..Witness::default()
    };
    let of_transition = Witness {
        occasions: model.count(Part::Departures, scope, previous, 0),
        alike: model.count(Part::Transition, scope, transition, 0),
        ..of_tool
    };
    let shape = shape_key(call.tool, call.shape);
    let of_shape = Witness { occasions: of_tool.alike, alike: model.count(Part::Shape, scope, shape, 0), ..of_tool };
    CallTerms {
        values: [
            surprise::transition(model, scope, previous, call.tool, transition),
            surprise::tool(model, scope, call.tool),
            flow.max,
            flow.sum,
            taint.max,
            novelty.sum,
            surprise::shape(model, scope, call.tool, shape),
            f64::from(sourced),
            call.arguments_bytes as f64,
            call.largest_result_bytes as f64,
            f64::from(new_hosts),
            f64::from(call.repeats),
        ],
        witnesses: [
            of_transition,
            of_tool,
            flow.witness,
            flow.witness,
            taint.witness,
            novelty.witness,
            of_shape,
            taint.witness,
            of_tool,
            of_tool,
            novelty.witness,
            of_tool,
        ],
    }
}

fn leaf_surprise(model: &Model, scope: u64, leaf: &LeafFact) -> surprise::LeafSurprise {
    let flow = flow_key(leaf.parameter, leaf.source);
    let flow_none = if leaf.has_source() { flow_key(leaf.parameter, none()) } else { flow };
    surprise::leaf(model, scope, leaf, flow, flow_none)
}

/// A session's terms: sums and maxima over its calls' terms.
#[must_use]
pub fn session_terms(session: &SessionFact, calls: &[CallTerms]) -> SessionTerms {
    let of = |term: usize| {
        let mut strongest = Strongest::default();
        for call in calls {
            strongest.add(call.values[term], call.witnesses[term]);
        }
        strongest
    };
    let [transition, tool, flow_max, flow_sum, taint, novelty, _shape, sourced, arguments, result, _hosts, repeats] =
        std::array::from_fn(of);
    let last_result = session.calls.iter().map(|(_, answer)| answer.response_bytes).max().unwrap_or(0) as f64;
    SessionTerms {
        values: [
            transition.sum,
            transition.max,
            tool.max,
            flow_max.max,
            flow_sum.sum,
            taint.max,
            novelty.sum,
            sourced.sum,
            result.max.max(last_result),
            arguments.max,
            repeats.max,
        ],
        witnesses: [
            transition.witness,
            transition.witness,
            tool.witness,
            flow_max.witness,
            flow_sum.witness,
            taint.witness,
            novelty.witness,
            sourced.witness,
            result.witness,
            arguments.witness,
            repeats.witness,
        ],
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
