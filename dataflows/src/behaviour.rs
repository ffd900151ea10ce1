//! Tools that behave otherwise than they did while their definition says the same: slower, failing, or with results of
//! other sizes; and tools that a server was never asked for.
//!
//! The last calls of each tool, a block at a time, against its profile in the model: the reference is sums and forgets
//! exactly, a block leaves by itself. Two tests must agree: KS says that the difference is no chance, PSI that it is
//! large. On worker 0 alone, in the order of rows. Not here: what a tool's definition says (`catalogue`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use undercurrent_schemas::rows::{AlertKind, CallOutcome, CallRow};
use undercurrent_schemas::text::Text;

use crate::alerts::Signal;
use crate::model::{Model, Part, in_full, name_hash, term_bin, term_value};
use crate::predict::median;
use crate::teach::outcome_bin;

/// Calls of a block.
const BLOCK: u32 = 64;

/// Calls that a tool's profile needs before blocks are held against it.
const REFERENCE_CALLS: f64 = 200.0;

/// Sessions that a server needs before a tool can be new to it.
const KNOWN_SESSIONS: f64 = 50.0;

/// KS distance below which nothing is said, however certain.
const DISTANCE: f64 = 0.4;

/// Kolmogorov's quantile for one false alarm in ten thousand blocks.
const KS_QUANTILE: f64 = 2.2;

/// Population stability: above .25 a distribution is said to have shifted.
const PSI: f64 = 0.25;

/// A failure rate has risen when it did by this much, and to twice what it was.
const FAILURES_MORE: f64 = 0.25;

/// Tools that are watched; further ones are not.
const TOOLS_MAX: usize = 10_000;

/// The blocks that are not full.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Behaviours {
    tools: BTreeMap<(Text, Text), Block>,
}

/// The last calls of one tool, as profiles.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Block {
    calls: u32,
    failures: u32,
    latencies: BTreeMap<u32, u64>,
    sizes: BTreeMap<u32, u64>,
    degraded: bool,
    changed: bool,
}

impl Behaviours {
    /// Takes the calls of one tick; `model` is the one of the tick before.
    pub(crate) fn take(&mut self, calls: &[CallRow], model: &Model, signals: &mut Vec<Signal>) {
        for call in calls {
            let (scope, tool) = (name_hash(&[&call.server]), name_hash(&[&call.tool]));
            if is_first_seen(model, scope, tool) {
                let text = format!("`{}` was called, which no session of this server did before", call.tool);
                signals.push(raised(call, AlertKind::ToolFirstSeen, text));
            }
            let key = (call.server.clone(), call.tool.clone());
            if self.tools.len() >= TOOLS_MAX && !self.tools.contains_key(&key) {
                continue;
            }
            let block = self.tools.entry(key).or_default();
            block.add(call);
            if block.calls == BLOCK {
                block.judge(call, scope, tool, model, signals);
            }
        }
    }
}

/// Nobody called it, where others were called by many: not at the beginning, when everything is new.
fn is_first_seen(model: &Model, scope: u64, tool: u64) -> bool {
    model.seen(Part::Sessions, scope, 0, 0) >= KNOWN_SESSIONS && model.count(Part::Tool, scope, tool, 0) == 0
}

fn subject(call: &CallRow) -> String {
    format!("{}/{}", call.server, call.tool)
}

fn raised(call: &CallRow, kind: AlertKind, text: String) -> Signal {
    Signal::raised(call.ts, kind, &call.server, &subject(call), text)
}

impl Block {
    fn add(&mut self, call: &CallRow) {
        self.calls += 1;
        self.failures += u32::from(call.outcome != CallOutcome::Result);
        if let Some(latency_us) = call.latency_us {
            *self.latencies.entry(term_bin(latency_us as f64)).or_default() += 1;
            *self.sizes.entry(term_bin(call.response_bytes as f64)).or_default() += 1;
        }
    }

    /// Holds a full block against the tool's profile, and begins the next.
    fn judge(&mut self, call: &CallRow, scope: u64, tool: u64, model: &Model, signals: &mut Vec<Signal>) {
        let (failures, latencies, sizes) =
            (self.failures, std::mem::take(&mut self.latencies), std::mem::take(&mut self.sizes));
        (self.calls, self.failures) = (0, 0);
        let name = &call.tool;
        let of = |part| model.profile(part, scope, tool);
        let slower = shift(&latencies, of(Part::Latency)).filter(|shift| shift.now > shift.usual).map(|shift| {
            format!("`{name}` takes {:.0} ms, where it took {:.0} ms", shift.now / 1e3, shift.usual / 1e3)
        });
        let failing = more_failures(failures, of(Part::Outcome)).map(|usual| {
            let share = 100.0 * f64::from(failures) / f64::from(BLOCK);
            format!("{share:.0} % of the calls of `{name}` fail, where {:.0} % did", 100.0 * usual)
        });
        let words: Vec<String> = slower.into_iter().chain(failing).collect();
        tell(&mut self.degraded, call, AlertKind::Degraded, &words, signals);
        let resized = shift(&sizes, of(Part::ResponseBytes)).map(|shift| {
            let (now, usual) = (shift.now, shift.usual);
            format!("results of `{name}` have {now:.0} bytes, where they had {usual:.0}; its definition is the same")
        });
        let words: Vec<String> = resized.into_iter().collect();
        tell(&mut self.changed, call, AlertKind::ToolBehaviour, &words, signals);
    }
}

/// Raises what is to be said, or says that it is over.
fn tell(told: &mut bool, call: &CallRow, kind: AlertKind, words: &[String], signals: &mut Vec<Signal>) {
    if !words.is_empty() {
        signals.push(raised(call, kind, words.join("; ")));
    } else if *told {
        signals.push(Signal::over(call.ts, kind, &call.server, &subject(call)));
    }
    *told = !words.is_empty();
}

/// Medians of a distribution that has shifted, and of what it was.
struct Shift {
    now: f64,
    usual: f64,
}

fn shift(block: &BTreeMap<u32, u64>, reference: &[(u32, u64)]) -> Option<Shift> {
    let block: Vec<(u32, u64)> = block.iter().map(|(bin, count)| (*bin, *count)).collect();
    let calls = in_full(reference.iter().map(|(_, count)| count).sum());
    let answered = block.iter().map(|(_, count)| *count).sum::<u64>() as f64;
    if calls < REFERENCE_CALLS || answered < f64::from(BLOCK) / 2.0 {
        return None;
    }
    let certain = KS_QUANTILE * ((answered + calls) / (answered * calls)).sqrt();
    let is_shifted = ks(&block, reference) > certain.max(DISTANCE) && psi(&block, reference) > PSI;
    is_shifted.then_some(())?;
    Some(Shift { now: term_value(median(&block)?), usual: term_value(median(reference)?) })
}

/// Kolmogorov and Smirnov: the largest distance between two distribution functions.
fn ks(a: &[(u32, u64)], b: &[(u32, u64)]) -> f64 {
    let total = |of: &[(u32, u64)]| of.iter().map(|(_, count)| *count).sum::<u64>().max(1) as f64;
    let (all_a, all_b) = (total(a), total(b));
    let below = |of: &[(u32, u64)], bin: u32| {
        of.iter().take_while(|(at, _)| *at <= bin).map(|(_, count)| *count).sum::<u64>() as f64
    };
    let bins = a.iter().chain(b).map(|(bin, _)| *bin);
    bins.map(|bin| (below(a, bin) / all_a - below(b, bin) / all_b).abs()).fold(0.0, f64::max)
}

/// Population stability index over the reference's tenths: half a call stands where there is none.
fn psi(now: &[(u32, u64)], reference: &[(u32, u64)]) -> f64 {
    const PARTS: u64 = 10;
    let all: u64 = reference.iter().map(|(_, count)| *count).sum::<u64>().max(1);
    let mut edges = Vec::new();
    let mut below = 0;
    for (bin, count) in reference {
        let before = below * PARTS / all;
        below += count;
        if below * PARTS / all > before {
            edges.push(*bin);
        }
    }
    let share = |of: &[(u32, u64)], scale: f64| {
        let mut parts = vec![0.5; edges.len() + 1];
        for (bin, count) in of {
            parts[edges.partition_point(|edge| edge < bin)] += *count as f64 * scale;
        }
        let sum: f64 = parts.iter().sum();
        parts.into_iter().map(move |part| part / sum).collect::<Vec<f64>>()
    };
    let (now, usual) = (share(now, 1.0), share(reference, in_full(1)));
    now.iter().zip(&usual).map(|(now, usual)| (now - usual) * (now / usual).ln()).sum()
}

/// The usual share of failures, if there are many more now than chance allows.
fn more_failures(failures: u32, reference: &[(u32, u64)]) -> Option<f64> {
    let all: u64 = reference.iter().map(|(_, count)| *count).sum();
    if in_full(all) < REFERENCE_CALLS {
        return None;
    }
    let fine = reference.iter().find(|(bin, _)| *bin == outcome_bin(CallOutcome::Result)).map_or(0, |(_, n)| *n);
    let usual = (all - fine) as f64 / all as f64;
    let now = f64::from(failures) / f64::from(BLOCK);
    let deviation = (usual.max(0.01) * (1.0 - usual) / f64::from(BLOCK)).sqrt();
    (now > usual + FAILURES_MORE && now > 2.0 * usual && now > usual + 4.0 * deviation).then_some(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(bins: impl IntoIterator<Item = u32>) -> Vec<(u32, u64)> {
        let mut counts = BTreeMap::new();
        bins.into_iter().for_each(|bin| *counts.entry(bin).or_insert(0) += 1);
        counts.into_iter().collect()
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        let (a, b) = (profile([1, 2, 3, 4]), profile([3, 4, 5, 6]));
        assert!((ks(&a, &b) - 0.5).abs() < 1e-12);
        assert_eq!(ks(&a, &a), 0.0);
        let many = profile((0..1_000).map(|n| n % 100));
        assert!(psi(&many, &many) < 0.05, "{}", psi(&many, &many));
        assert!(psi(&profile([200; 64]), &many) > 1.0);
    }

    #[test]
    fn a_few_more_failures_are_chance() {
        let outcomes = [(0, 8 * 900), (1, 8 * 100)];
        assert_eq!(more_failures(12, &outcomes), None);
        assert_eq!(more_failures(40, &outcomes), Some(0.1));
        assert_eq!(more_failures(40, &[(0, 8 * 50)]), None, "nothing to hold it against");
    }
}
