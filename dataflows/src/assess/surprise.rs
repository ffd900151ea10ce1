//! Surprise, in bits: -log2 of a smoothed probability that the model's counts give.

use crate::model::{Model, Part};
use crate::session::LeafFact;

/// Weight of the back-off, in observations.
const BACK_OFF: f64 = 1.0;

fn bits(probability: f64) -> f64 {
    -probability.clamp(f64::MIN_POSITIVE, 1.0).log2()
}

/// Of calling this tool at all, on this server.
pub(super) fn tool(model: &Model, scope: u64, tool: u64) -> f64 {
    bits(tool_probability(model, scope, tool))
}

fn tool_probability(model: &Model, scope: u64, tool: u64) -> f64 {
    let all = model.marginal(Part::Tool, scope);
    let seen = model.count(Part::Tool, scope, tool, 0) as f64;
    (seen + 0.5) / (all.total as f64 + 0.5 * (all.distinct as f64 + 1.0))
}

/// Of calling this tool right after another: order 1 that backs off to order 0.
pub(super) fn transition(model: &Model, scope: u64, previous: u64, next: u64, transition: u64) -> f64 {
    let departures = model.count(Part::Departures, scope, previous, 0) as f64;
    let seen = model.count(Part::Transition, scope, transition, 0) as f64;
    bits((seen + BACK_OFF * tool_probability(model, scope, next)) / (departures + BACK_OFF))
}

/// Of calling this tool with arguments of this shape.
pub(super) fn shape(model: &Model, scope: u64, tool: u64, shape: u64) -> f64 {
    let calls = model.count(Part::Tool, scope, tool, 0) as f64;
    let seen = model.count(Part::Shape, scope, shape, 0) as f64;
    bits((seen + 0.5) / (calls + 1.0))
}

/// What the model knows of one argument.
pub(super) struct LeafSurprise {
    /// Of the value's source: which earlier tool's result held it, or none.
    pub(super) flow: f64,
    /// Of the value having any source; 0 where it has none.
    pub(super) taint: f64,
    /// Of the value being new to the parameter; 0 where it is not.
    pub(super) novelty: f64,
    /// How often this parameter was seen, and of those from this source.
    pub(super) seen: u64,
    pub(super) seen_from_source: u64,
}

pub(super) fn leaf(model: &Model, scope: u64, leaf: &LeafFact, flow: u64, flow_none: u64) -> LeafSurprise {
    let seen = model.count(Part::Parameter, scope, leaf.parameter, 0);
    let seen_from_source = model.count(Part::Flow, scope, flow, 0);
    let known_value = model.count(Part::Value, scope, leaf.parameter, leaf.value_bin()) > 0;
    let n = seen as f64;
    let taint = if leaf.has_source() {
        let tainted = seen.saturating_sub(model.count(Part::Flow, scope, flow_none, 0)) as f64;
        bits((tainted + 0.5) / (n + 1.0))
    } else {
        0.0
    };
    let novelty =
        if known_value { 0.0 } else { bits((model.distinct_values(scope, leaf.parameter) as f64 + 0.5) / (n + 1.0)) };
    LeafSurprise { flow: bits((seen_from_source as f64 + 0.5) / (n + 1.0)), taint, novelty, seen, seen_from_source }
}
