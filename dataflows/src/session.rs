//! A call and a session as learning sees them: names as hashes, values as digests, no text.
//!
//! Upstream: the facts of `v1::Message`. Downstream: `assess` (what is unusual), `teach` (what is learned).

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::CallOutcome;
use undercurrent_schemas::v1;

use crate::model::{NONE, name_hash};

/// One argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeafFact {
    /// Name hash of (tool, key path).
    pub parameter: u64,
    /// Name hash of the tool whose earlier result held the value; [`NONE`]'s where none did.
    pub source: u64,
    /// Keyed digest of the value.
    pub value: u64,
    /// Where in that result the value stood.
    pub place: v1::Place,
    /// Only an identifying part of the value stood there.
    pub place_of_part: bool,
    /// The value is a URL on a host that this session had not seen.
    pub new_host: bool,
    /// The value is a URL.
    pub host: bool,
}

impl LeafFact {
    /// An earlier result of this session held the value.
    #[must_use]
    pub fn has_source(&self) -> bool {
        self.source != none()
    }

    /// The bin of the place among the places of values; `None` of a value without a source. The numbers are kept in
    /// files: never renumber.
    #[must_use]
    pub fn place_bin(&self) -> Option<u32> {
        if !self.has_source() {
            return None;
        }
        let kind = match self.place {
            v1::Place::Unspecified => return None,
            v1::Place::Field => 0,
            v1::Place::Item => 1,
            v1::Place::Text => 2,
        };
        Some(if self.place_of_part { kind + 3 } else { kind })
    }

    /// The bin of the value among the values that its parameter took from its source.
    #[must_use]
    pub const fn value_bin(&self) -> u32 {
        (self.value >> 48) as u32
    }
}

/// Kinds of places: a field, an item or running text, each for a whole value or a part of one.
pub const PLACES: usize = 6;

/// Tools of a session that count as called earlier: the first so many.
pub const EARLIER_TOOLS_MAX: usize = 16;

/// The name hash of "no tool".
#[must_use]
pub fn none() -> u64 {
    static NONE_HASH: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| name_hash(&[NONE]));
    *NONE_HASH
}

/// One `tools/call` before its answer: what the request path knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct CallFact {
    pub ts: Micros,
    /// Tells calls of one microsecond apart: their order in the log.
    pub order: u64,
    pub tool: u64,
    pub shape: u64,
    pub arguments_bytes: u64,
    /// Bytes of the whole request.
    pub request_bytes: u32,
    pub largest_result_bytes: u64,
    pub repeats: u32,
    /// Entropies of the arguments that are texts, in thousandths of a bit per byte, added up.
    pub entropy_millibits: u32,
    /// How many are texts.
    pub texts: u16,
    /// It is the first call of its tool in its session.
    pub first_of_tool: bool,
    pub novelty: Novelty,
    pub leaves: Box<[LeafFact]>,
}

/// How new a call was when it was asked for, as the request path said: recorded with the call, so it stays what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Novelty {
    /// Of the shape of its arguments, thousandths of a bit.
    pub shape_millibits: u32,
    /// Of their values, added up.
    pub fresh_millibits: u32,
}

impl Novelty {
    fn of(message: &v1::Message) -> Self {
        let assessment = message.verdict.as_ref().and_then(|verdict| verdict.assessment.as_ref());
        let said = |kind| {
            let term = assessment.and_then(|assessment| assessment.terms.iter().find(|term| term.kind() == kind));
            // What an event claims beyond what fits is cut off.
            term.map_or(0, |term| (term.value * 1_000.0).round() as u32)
        };
        Self { shape_millibits: said(v1::TermKind::ShapeBits), fresh_millibits: said(v1::TermKind::FreshBits) }
    }
}

/// What of a session's past a call is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// Name hash of the tool called last; [`NONE`]'s before the first call.
    pub previous: u64,
    /// Of the tool called before that one.
    pub before: u64,
    /// Name hashes of the tools called before, each once, in the order of their first calls.
    pub earlier: &'a [u64],
}

impl Past<'static> {
    /// Of a session's first call.
    #[must_use]
    pub fn none() -> Self {
        Self { previous: none(), before: none(), earlier: &[] }
    }
}

impl<'a> Past<'a> {
    /// What the edge noted of the session when it saw the call.
    #[must_use]
    pub fn of(call: &'a v1::CallFacts) -> Self {
        let mut last = call.previous_tools.iter().map(|tool| name_hash(&[tool]));
        let mut next = || last.next().unwrap_or_else(none);
        Self { previous: next(), before: next(), earlier: &call.earlier_tools }
    }
}

/// Whether the session had not called this tool before, by what the edge noted with the call: whatever arrives before or
/// after it, the answer is the same. The edge notes [`EARLIER_TOOLS_MAX`] tools, and none where it looks into nothing;
/// what it cannot know is no first call.
fn is_first_of_tool(call: &v1::CallFacts, tool: u64) -> bool {
    let earlier = &call.earlier_tools;
    call.shape != 0 && earlier.len() < EARLIER_TOOLS_MAX && !earlier.contains(&tool)
}

/// How a call ended, as far as learning cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    pub outcome: CallOutcome,
    pub latency_us: Option<i64>,
    pub response_bytes: u64,
    /// Of an answer: the bin of its result's shape.
    pub shape_bin: u8,
    /// The watermark when that was known: which windows the call could still be in follows from it.
    pub settled_at: Micros,
}

impl Answer {
    /// Of a call that was not answered.
    #[must_use]
    pub const fn none(settled_at: Micros) -> Self {
        Self { outcome: CallOutcome::Unanswered, latency_us: None, response_bytes: 0, shape_bin: 0, settled_at }
    }
}

/// The bin of the shape of a result: 8 bits of its digest, so that a tool's shapes take a bounded place. The numbers are
/// kept in files: never renumber.
#[must_use]
pub const fn shape_bin(shape: u64) -> u8 {
    (shape >> 56) as u8
}

/// The calls of one part of a session, in order of (time, order).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionFact {
    pub calls: Vec<(CallFact, Answer)>,
}

impl CallFact {
    /// The facts of a `tools/call` request; `None` of any other message. `name` is told each hash and its text.
    pub fn of(message: &v1::Message, ts: Micros, order: u64, mut name: impl FnMut(u64, &[&str])) -> Option<Self> {
        let call = message.call.as_ref()?;
        let tool = name_hash(&[&message.target]);
        name(tool, &[&message.target]);
        let leaves = call
            .leaves
            .iter()
            .map(|leaf| {
                let parameter = name_hash(&[&message.target, &leaf.path]);
                name(parameter, &[&message.target, &leaf.path]);
                let source = name_hash(&[&leaf.source]);
                name(source, &[&leaf.source]);
                let new_host = leaf.host != 0 && !leaf.host_known;
                LeafFact {
                    parameter,
                    source,
                    value: leaf.value,
                    place: leaf.place(),
                    place_of_part: leaf.place_of_part,
                    new_host,
                    host: leaf.host != 0,
                }
            })
            .collect();
        let texts = || call.leaves.iter().filter(|leaf| leaf.r#type() == v1::LeafType::String);
        Some(Self {
            ts,
            order,
            tool,
            shape: call.shape,
            arguments_bytes: call.arguments_bytes,
            request_bytes: u32::try_from(message.size_bytes).unwrap_or(u32::MAX),
            largest_result_bytes: call.largest_result_bytes,
            repeats: call.repeats,
            entropy_millibits: texts().fold(0, |sum, leaf| leaf.entropy_millibits.saturating_add(sum)),
            texts: u16::try_from(texts().count()).unwrap_or(u16::MAX),
            first_of_tool: is_first_of_tool(call, tool),
            novelty: Novelty::of(message),
            leaves,
        })
    }
}

impl SessionFact {
    /// Inserts a call at its place in time.
    pub fn insert(&mut self, call: CallFact, answer: Answer) {
        let at = self.calls.partition_point(|(other, _)| (other.ts, other.order) <= (call.ts, call.order));
        // Most sessions are short and many are open at once: there is room for half as many again, not for twice as many.
        if self.calls.len() == self.calls.capacity() {
            self.calls.reserve_exact(1 + self.calls.len() / 2);
        }
        self.calls.insert(at, (call, answer));
    }

    /// The tools called, each once, in the order of their first calls.
    #[must_use]
    pub fn tools(&self) -> Vec<u64> {
        let mut tools = Vec::new();
        for (call, _) in &self.calls {
            if tools.len() < EARLIER_TOOLS_MAX && !tools.contains(&call.tool) {
                tools.push(call.tool);
            }
        }
        tools
    }

    /// Calls `each` with every call and its past, in order.
    pub fn with_past(&self, mut each: impl FnMut(Past<'_>, &CallFact, &Answer)) {
        let mut earlier = Vec::new();
        let [mut previous, mut before] = [none(); 2];
        for (call, answer) in &self.calls {
            each(Past { previous, before, earlier: &earlier }, call, answer);
            (before, previous) = (previous, call.tool);
            if earlier.len() < EARLIER_TOOLS_MAX && !earlier.contains(&call.tool) {
                earlier.push(call.tool);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_call_is_one_that_the_edge_can_know_to_be_first() {
        let check = |shape, earlier: Vec<u64>, expect| {
            let call = v1::CallFacts { shape, earlier_tools: earlier, ..v1::CallFacts::default() };
            assert_eq!(is_first_of_tool(&call, 7), expect, "{call:?}");
        };
        check(1, vec![], true);
        check(1, vec![3, 4], true);
        check(1, vec![3, 7], false);
        check(1, (100..100 + EARLIER_TOOLS_MAX as u64).collect(), false);
        // Nobody looked inside, so nobody noted what came before.
        check(0, vec![], false);
    }
}
