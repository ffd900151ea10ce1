//! Surprise, in bits: -log2 of a smoothed probability that the model's counts give.

use super::terms::{transition_key, transition2_key};
use crate::model::{Flow, Marginal, Model, Part, in_full};
use crate::session::{LeafFact, PLACES, Past, none};

/// Weight of the back-off, in observations.
const BACK_OFF: f64 = 1.0;

fn bits(probability: f64) -> f64 {
    -probability.clamp(f64::MIN_POSITIVE, 1.0).log2()
}

/// What the model counts of a tool that is called after another, with arguments of some shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToolCounts {
    pub(super) all: Marginal,
    pub(super) tool: u64,
    /// Of the tool before.
    pub(super) departures: u64,
    pub(super) transition: u64,
    /// Of the two tools before, in a row.
    pub(super) both: u64,
    pub(super) transition2: u64,
    /// 0: of no shape.
    pub(super) shape: u64,
}

impl ToolCounts {
    pub(super) fn of(model: &Model, scope: u64, [previous, before]: [u64; 2], tool: u64, shape: u64) -> Self {
        Self {
            all: model.marginal(Part::Tool, scope),
            tool: model.count(Part::Tool, scope, tool, 0),
            departures: model.count(Part::Departures, scope, previous, 0),
            transition: model.count(Part::Transition, scope, transition_key(previous, tool), 0),
            both: model.count(Part::Transition, scope, transition_key(before, previous), 0),
            transition2: model.count(Part::Transition2, scope, transition2_key(before, previous, tool), 0),
            shape: if shape == 0 { 0 } else { model.count(Part::Shape, scope, shape, 0) },
        }
    }

    /// Of calling this tool at all, on this server.
    pub(super) fn tool_bits(&self) -> f64 {
        bits(self.tool_probability())
    }

    /// Of calling this tool right after two others, nearest first: order 2 that backs off to 1, and that to 0.
    pub(super) fn transition_bits(&self) -> f64 {
        bits(self.transition_probability())
    }

    /// Of calling this tool with arguments of this shape.
    pub(super) fn shape_bits(&self) -> f64 {
        bits((in_full(self.shape) + 0.5) / (in_full(self.tool) + 1.0))
    }

    fn tool_probability(&self) -> f64 {
        order0(self.all, self.tool)
    }

    fn transition_probability(&self) -> f64 {
        let one = order1(self.tool_probability(), self.transition, self.departures);
        order2(one, self.transition2, self.both)
    }
}

/// Of a tool, whatever came before it.
fn order0(all: Marginal, tool: u64) -> f64 {
    (in_full(tool) + 0.5) / (in_full(all.total) + 0.5 * (all.distinct as f64 + 1.0))
}

/// Of a tool after another one, given what it is whatever came before.
fn order1(tool: f64, transition: u64, departures: u64) -> f64 {
    (in_full(transition) + BACK_OFF * tool) / (in_full(departures) + BACK_OFF)
}

/// Of a tool after two others, given what it is after the last of them. How often two tools came in a row counts whatever
/// followed, the end of the session included: an end is one more thing that may come next.
fn order2(one: f64, transition2: u64, both: u64) -> f64 {
    (in_full(transition2) + BACK_OFF * one) / (in_full(both) + BACK_OFF)
}

/// Of one tool alone, by what a decision about a call of it looks up.
pub(super) fn transition2_probability(model: &Model, scope: u64, last: [u64; 2], next: u64) -> f64 {
    ToolCounts::of(model, scope, last, next, 0).transition_probability()
}

/// The tools that may come after another, each with its probability by that one alone: what may come after two tools, the
/// last of which is this one, begins with it.
pub(crate) fn after(model: &Model, scope: u64, previous: u64, tools_max: usize) -> Vec<(u64, f64)> {
    let all = model.marginal(Part::Tool, scope);
    let departures = model.count(Part::Departures, scope, previous, 0);
    let tools = model.tools(scope).iter().take(tools_max);
    let one = |tool: u64| {
        let transition = model.count(Part::Transition, scope, transition_key(previous, tool), 0);
        order1(order0(all, model.count(Part::Tool, scope, tool, 0)), transition, departures)
    };
    tools.map(|tool| (*tool, one(*tool))).collect()
}

/// The same after two tools, nearest first, given what may come after the nearest.
pub(crate) fn after_both<'a>(
    model: &'a Model,
    scope: u64,
    [previous, before]: [u64; 2],
    after: &'a [(u64, f64)],
) -> impl Iterator<Item = (u64, f64)> + 'a {
    let both = model.count(Part::Transition, scope, transition_key(before, previous), 0);
    let counted = move |tool| model.count(Part::Transition2, scope, transition2_key(before, previous, tool), 0);
    after.iter().map(move |(tool, one)| (*tool, order2(*one, counted(*tool), both)))
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
    /// What this rests on: counts of the parameter, of those from this source, and of those at this place.
    pub(super) seen: u64,
    pub(super) from_source: u64,
    pub(super) at_place: u64,
}

/// `flow`: the key of (parameter, source).
pub(super) fn leaf(model: &Model, scope: u64, leaf: &LeafFact, flow: u64) -> LeafSurprise {
    let of_parameter = model.count(Part::Parameter, scope, leaf.parameter, 0);
    let of_flow = model.flow(scope, flow);
    let from_source = of_flow.map_or(0, |flow| flow.seen);
    let (seen, seen_from_source) = (in_full(of_parameter), in_full(from_source));
    let source = bits((seen_from_source + 0.5) / (seen + 1.0));
    let at_place = |bin: u32| of_flow.and_then(|flow| flow.places.get(bin as usize)).copied().unwrap_or(0);
    let place = leaf.place_bin().map_or(0.0, |bin| {
        let at_place = in_full(at_place(bin));
        bits((at_place + BACK_OFF * place_probability(model, scope, bin)) / (seen_from_source + BACK_OFF))
    });
    let distinct = of_flow.map_or(0, Flow::distinct) as f64;
    let is_known = of_flow.is_some_and(|flow| flow.has_value(leaf.value_bin()));
    let alike = if is_known { (seen_from_source - distinct).max(0.0) } else { distinct };
    LeafSurprise {
        place,
        origin: source + place,
        fresh: bits((alike + 0.5) / (seen + 1.0)),
        is_new: !is_known,
        seen: of_parameter,
        from_source,
        at_place: leaf.place_bin().map_or(0, at_place),
    }
}

/// Of a place, whatever the parameter and the source.
fn place_probability(model: &Model, scope: u64, bin: u32) -> f64 {
    let all = in_full(model.marginal(Part::Places, scope).total);
    (model.seen(Part::Places, scope, 0, bin) + 0.5) / (all + 0.5 * PLACES as f64)
}
