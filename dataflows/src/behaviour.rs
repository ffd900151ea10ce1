//! Tools that behave otherwise than they did while their definition says the same: slower, failing, or with results of
//! other sizes or shapes; and tools that a server was never asked for.
//!
//! The last calls of each tool, a block at a time, against its profile in the model: the reference is sums and forgets
//! exactly, and a block that is not full is its calls, of which any can leave. What sessions taught is judged by the
//! tests of `distance`. On worker 0 alone, in the order of rows. Not here: what a tool's definition says (`catalogue`).

mod distance;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use undercurrent_schemas::ids::{Micros, stable_hash};
use undercurrent_schemas::rows::{AlertKind, CallOutcome, CallRow};
use undercurrent_schemas::text::Text;

use crate::alerts::Signal;
use crate::model::{Model, Part, name_hash, term_bin};
use crate::sessions::Measure;
use distance::{more_failures, other_shapes, shift};

/// Calls of a block.
const BLOCK: u32 = 64;

/// Sessions that a server needs before a tool can be new to it.
const KNOWN_SESSIONS: f64 = 50.0;

/// Tools that are watched; further ones are not.
const TOOLS_MAX: usize = 10_000;

/// The blocks that are not full.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Behaviours {
    tools: BTreeMap<(Text, Text), Block>,
}

/// The last calls of one tool.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Block {
    calls: Vec<Called>,
    degraded: bool,
    changed: bool,
}

/// One call of a block: whose it is, and what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Called {
    /// Stable hash of the session's id.
    session: u64,
    ts: Micros,
    failed: bool,
    /// `None` = it was not answered.
    answer: Option<AnswerBins>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AnswerBins {
    latency: u32,
    size: u32,
    /// Of a result that is no error: those have shapes of their own.
    shape: Option<u8>,
}

/// Counts by bin, sorted.
type Profile = Vec<(u32, u64)>;

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
            block.calls.push(Called::of(call));
            if block.calls.len() == BLOCK as usize {
                block.judge(call, scope, tool, model, signals);
            }
        }
    }

    /// Takes the calls of forgotten sessions out of the blocks that are not full. What full ones led to was said.
    pub(crate) fn withdraw(&mut self, calls: &[Measure]) {
        for call in calls {
            let key = (Text::from(&call.server), call.tool.clone());
            let Some(block) = self.tools.get_mut(&key) else { continue };
            let session = session_hash(&call.session_id);
            let is_it = |of: &Called| (of.session, of.ts) == (session, call.ts);
            if let Some(at) = block.calls.iter().position(is_it) {
                block.calls.remove(at);
            }
            if block.is_as_new() {
                self.tools.remove(&key);
            }
        }
    }
}

/// Nobody called it, where others were called by many: not at the beginning, when everything is new.
fn is_first_seen(model: &Model, scope: u64, tool: u64) -> bool {
    model.seen(Part::Sessions, scope, 0, 0) >= KNOWN_SESSIONS && model.count(Part::Tool, scope, tool, 0) == 0
}

fn session_hash(id: &str) -> u64 {
    stable_hash(&[id.as_bytes()])
}

fn subject(call: &CallRow) -> String {
    format!("{}/{}", call.server, call.tool)
}

fn raised(call: &CallRow, kind: AlertKind, text: String) -> Signal {
    Signal::raised(call.ts, kind, &call.server, &subject(call), text)
}

impl Called {
    fn of(call: &CallRow) -> Self {
        let answer = call.latency_us.map(|latency_us| AnswerBins {
            latency: term_bin(latency_us as f64),
            size: term_bin(call.response_bytes as f64),
            shape: call.result_shape.filter(|_| call.outcome == CallOutcome::Result),
        });
        let failed = call.outcome != CallOutcome::Result;
        Self { session: session_hash(&call.session_id), ts: call.ts, failed, answer }
    }
}

impl Block {
    /// Nothing is in it, and nothing was said of its tool that is not over.
    fn is_as_new(&self) -> bool {
        self.calls.is_empty() && !self.degraded && !self.changed
    }

    /// Holds a full block against the tool's profile, and begins the next.
    fn judge(&mut self, call: &CallRow, scope: u64, tool: u64, model: &Model, signals: &mut Vec<Signal>) {
        let calls = std::mem::take(&mut self.calls);
        let failures = calls.iter().filter(|call| call.failed).count();
        let profile = |bin: fn(AnswerBins) -> Option<u32>| -> Profile {
            let mut counts = BTreeMap::new();
            let bins = calls.iter().filter_map(|call| call.answer).filter_map(bin);
            bins.for_each(|bin| *counts.entry(bin).or_insert(0) += 1);
            counts.into_iter().collect()
        };
        let name = &call.tool;
        let of = |part| model.profile(part, scope, tool);
        let slower = shift(&profile(|of| Some(of.latency)), of(Part::Latency), BLOCK);
        let slower = slower.filter(|shift| shift.now > shift.usual).map(|shift| {
            format!("`{name}` takes {:.0} ms, where it took {:.0} ms", shift.now / 1e3, shift.usual / 1e3)
        });
        let failing = more_failures(failures as u32, of(Part::Outcome), BLOCK).map(|usual| {
            let share = 100.0 * failures as f64 / f64::from(BLOCK);
            format!("{share:.0} % of the calls of `{name}` fail, where {:.0} % did", 100.0 * usual)
        });
        let words: Vec<String> = slower.into_iter().chain(failing).collect();
        tell(&mut self.degraded, call, AlertKind::Degraded, &words, signals);
        let resized = shift(&profile(|of| Some(of.size)), of(Part::ResponseBytes), BLOCK).map(|shift| {
            let (now, usual) = (shift.now, shift.usual);
            format!("results of `{name}` have {now:.0} bytes, where they had {usual:.0}; its definition is the same")
        });
        let reshaped = other_shapes(&profile(|of| of.shape.map(u32::from)), of(Part::ResultShape), BLOCK).map(|share| {
            let share = 100.0 * share;
            format!("{share:.0} % of the results of `{name}` have other fields than they had; its definition is the same")
        });
        let words: Vec<String> = resized.into_iter().chain(reshaped).collect();
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

#[cfg(test)]
mod tests;
