//! What the model expects of a call before it is made: which tool, how long, and whether it fails.
//!
//! Derived from sums, never a sum itself. Judged by what then happens (prequential): rows carry both, metrics count how
//! often it was right. Not here: whether what happened instead is suspicious; `assess` says that in its own terms.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use undercurrent_schemas::ids::ModelVersion;
use undercurrent_schemas::rows::{CallOutcome, Expected};
use undercurrent_schemas::text::Text;

use crate::assess::{after, after_both};
use crate::model::{Model, Part, in_full, term_value};
use crate::sessions::Counters;
use crate::teach::outcome_bin;

/// Tools that are named as what may come next.
const NEXT: usize = 3;

/// Tools of a server that are asked about; of more, those with the smallest hashes.
const TOOLS_MAX: usize = 256;

/// An expected latency is close within this factor.
const CLOSE: f64 = 2.0;

/// Only looked up: no order of it reaches a result.
type Map<K, V> = HashMap<K, V, RandomState>;

/// Answers of one model, kept while it is live: many calls of a tick ask the same.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    version: ModelVersion,
    /// By server and the two tools before, nearest first.
    next: Map<(u64, [u64; 2]), [Option<u64>; NEXT]>,
    /// By server and the one tool before.
    after: Map<(u64, u64), Vec<(u64, f64)>>,
    of_tool: Map<(u64, u64), OfTool>,
}

/// What is expected of any call of a tool.
#[derive(Clone, Copy, Debug)]
struct OfTool {
    latency_us: Option<i64>,
    failure_p: Option<f64>,
}

impl Expectations {
    /// Of a call of `tool` after two others, nearest first, by this model. Without a model nothing is expected.
    pub(crate) fn of(&mut self, model: Option<&Model>, scope: u64, last: [u64; 2], tool: u64) -> Expected {
        let Some(model) = model else { return Expected::default() };
        if self.version != model.version() {
            *self = Self { version: model.version(), ..Self::default() };
        }
        let next = self.next.entry((scope, last)).or_insert_with(|| {
            let after = self.after.entry((scope, last[0])).or_insert_with(|| after(model, scope, last[0], TOOLS_MAX));
            likeliest(after_both(model, scope, last, after))
        });
        let of_tool = self.of_tool.entry((scope, tool));
        let OfTool { latency_us, failure_p } = *of_tool.or_insert_with(|| OfTool {
            latency_us: latency_us(model, scope, tool),
            failure_p: failure_p(model, scope, tool),
        });
        let name = next[0].and_then(|tool| model.name(tool));
        Expected {
            tool: name.map(Text::from).unwrap_or_default(),
            tool_rank: (1..).zip(next.iter()).find(|(_, of)| **of == Some(tool)).map(|(rank, _)| rank),
            latency_us,
            failure_p,
        }
    }
}

/// The tools that most often come after two others: order 2 that backs off to order 1, and that to order 0. Equals are in
/// order of their hashes.
fn likeliest(tools: impl Iterator<Item = (u64, f64)>) -> [Option<u64>; NEXT] {
    let mut likeliest: [Option<(f64, u64)>; NEXT] = [None; NEXT];
    for (tool, probability) in tools {
        // Sorted by their hashes: of equals the first stays in front.
        let at = likeliest.iter().position(|other| other.is_none_or(|(other, _)| other < probability));
        if let Some(at) = at {
            likeliest[at..].rotate_right(1);
            likeliest[at] = Some((probability, tool));
        }
    }
    likeliest.map(|of| of.map(|(_, tool)| tool))
}

/// The median of a tool's latencies.
fn latency_us(model: &Model, scope: u64, tool: u64) -> Option<i64> {
    median(model.profile(Part::Latency, scope, tool)).map(|bin| term_value(bin).round() as i64)
}

/// The bin that half of a profile is not above; `None` of an empty one.
pub(crate) fn median(profile: &[(u32, u64)]) -> Option<u32> {
    let all: u64 = profile.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    profile.iter().find_map(|(bin, count)| {
        below += count;
        (2 * below >= all).then_some(*bin)
    })
}

/// Probability that a call of a tool fails, or is not answered.
fn failure_p(model: &Model, scope: u64, tool: u64) -> Option<f64> {
    let profile = model.profile(Part::Outcome, scope, tool);
    let all: u64 = profile.iter().map(|(_, count)| count).sum();
    let fine = profile.iter().find(|(bin, _)| *bin == outcome_bin(CallOutcome::Result)).map_or(0, |(_, count)| *count);
    (all > 0).then(|| (in_full(all - fine) + 0.5) / (in_full(all) + 1.0))
}

/// How right it was.
pub(crate) fn judged(expected: &Expected, outcome: CallOutcome, latency_us: Option<i64>, counters: &mut Counters) {
    if !expected.tool.is_empty() {
        *match expected.tool_rank {
            Some(1) => &mut counters.next_tool_first,
            Some(_) => &mut counters.next_tool_third,
            None => &mut counters.next_tool_missed,
        } += 1;
    }
    if let (Some(expected), Some(latency)) = (expected.latency_us, latency_us) {
        let ratio = (latency as f64 + 1.0) / (expected as f64 + 1.0);
        let is_close = (1.0 / CLOSE..=CLOSE).contains(&ratio);
        *if is_close { &mut counters.latency_close } else { &mut counters.latency_off } += 1;
    }
    if let Some(failure_p) = expected.failure_p {
        let is_right = (failure_p >= 0.5) == (outcome != CallOutcome::Result);
        *if is_right { &mut counters.failure_right } else { &mut counters.failure_wrong } += 1;
    }
}
