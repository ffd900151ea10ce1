//! Surprise, in bits: -log2 of a smoothed probability that the model's counts give.

use super::terms::{transition_key, transition2_key};
use crate::model::{Model, Part, in_full};
use crate::session::{LeafFact, PLACES, Past, none};

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
    (model.seen(Part::Tool, scope, tool, 0) + 0.5) / (in_full(all.total) + 0.5 * (all.distinct as f64 + 1.0))
}

/// Of calling this tool right after two others, nearest first: order 2 that backs off to 1, and that to 0.
pub(super) fn transition(model: &Model, scope: u64, last: [u64; 2], next: u64) -> f64 {
    bits(transition2_probability(model, scope, last, next))
}

fn transition_probability(model: &Model, scope: u64, previous: u64, next: u64) -> f64 {
    let departures = model.seen(Part::Departures, scope, previous, 0);
    let seen = model.seen(Part::Transition, scope, transition_key(previous, next), 0);
    (seen + BACK_OFF * tool_probability(model, scope, next)) / (departures + BACK_OFF)
}

/// Order 2 that backs off to order 1. How often two tools came in a row counts whatever followed, the end of the session
/// included: an end is one more thing that may come next.
pub(super) fn transition2_probability(model: &Model, scope: u64, [previous, before]: [u64; 2], next: u64) -> f64 {
    let one = transition_probability(model, scope, previous, next);
    let both = model.seen(Part::Transition, scope, transition_key(before, previous), 0);
    let seen = model.seen(Part::Transition2, scope, transition2_key(before, previous, next), 0);
    (seen + BACK_OFF * one) / (both + BACK_OFF)
}

/// Of calling this tool with arguments of this shape.
pub(super) fn shape(model: &Model, scope: u64, tool: u64, shape: u64) -> f64 {
    let calls = model.seen(Part::Tool, scope, tool, 0);
    bits((model.seen(Part::Shape, scope, shape, 0) + 0.5) / (calls + 1.0))
}

/// What the model knows of a tool that joins a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip {
    /// Of this tool in a session that had called `earlier`: the earlier tool with which it goes least.
    pub(super) bits: f64,
    /// [`none`] = it begins the session.
    pub(super) earlier: u64,
}

/// Of a session that calls this tool for the first time, given each of the tools that it called before. Interleaved
/// work hides from transitions: this does not ask what came in between.
pub(super) fn skip(model: &Model, scope: u64, past: Past<'_>, tool: u64) -> Skip {
    if past.earlier.contains(&tool) {
        return Skip { bits: 0.0, earlier: past.previous };
    }
    let sessions = model.seen(Part::Sessions, scope, 0, 0);
    let alone = (model.seen(Part::ToolSessions, scope, tool, 0) + 0.5) / (sessions + 1.0);
    let given = |part: Part, earlier: u64, occasions: f64| Skip {
        bits: bits(
            (model.seen(part, scope, transition_key(earlier, tool), 0) + BACK_OFF * alone) / (occasions + BACK_OFF),
        ),
        earlier,
    };
    let earlier = past.earlier.iter();
    earlier
        .map(|earlier| given(Part::Before, *earlier, model.seen(Part::ToolSessions, scope, *earlier, 0)))
        .max_by(|a, b| a.bits.total_cmp(&b.bits))
        .unwrap_or_else(|| given(Part::Transition, none(), sessions))
}

/// What the model knows of one argument. All of it in bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafSurprise {
    /// Of the place where the value stood in its source's result; 0 where it has no source.
    pub(super) place: f64,
    /// Of the value's source and its place there, together.
    pub(super) origin: f64,
    /// Of the value's source and of its being new, or known, from there.
    pub(super) fresh: f64,
    pub(super) is_new: bool,
}

/// `flow`: the key of (parameter, source).
pub(super) fn leaf(model: &Model, scope: u64, leaf: &LeafFact, flow: u64) -> LeafSurprise {
    let seen = model.seen(Part::Parameter, scope, leaf.parameter, 0);
    let seen_from_source = model.seen(Part::Flow, scope, flow, 0);
    let source = bits((seen_from_source + 0.5) / (seen + 1.0));
    let place = leaf.place_bin().map_or(0.0, |bin| {
        let at_place = model.seen(Part::Place, scope, flow, bin);
        bits((at_place + BACK_OFF * place_probability(model, scope, bin)) / (seen_from_source + BACK_OFF))
    });
    let distinct = model.distinct_values(scope, flow) as f64;
    let is_known = model.count(Part::Value, scope, flow, leaf.value_bin()) > 0;
    let alike = if is_known { (seen_from_source - distinct).max(0.0) } else { distinct };
    LeafSurprise { place, origin: source + place, fresh: bits((alike + 0.5) / (seen + 1.0)), is_new: !is_known }
}

/// Of a place, whatever the parameter and the source.
fn place_probability(model: &Model, scope: u64, bin: u32) -> f64 {
    let all = in_full(model.marginal(Part::Places, scope).total);
    (model.seen(Part::Places, scope, 0, bin) + 0.5) / (all + 0.5 * PLACES as f64)
}
