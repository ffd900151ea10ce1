//! Pairing: `tools/call` requests wait here for their answers.

use std::collections::{BTreeMap, VecDeque};
use std::mem::take;

use undercurrent_schemas::ids::{Micros, Partition};
use undercurrent_schemas::rows::{CallOutcome, CallRow, Expected, Source};
use undercurrent_schemas::text::Text;
use undercurrent_schemas::v1;

use super::{Identity, Measure, Outbox, Settings, Timing};
use crate::predict::judged;
use crate::session::{Answer, CallFact, shape_bin};

/// The calls of one session that are not settled yet.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Calls {
    /// By JSON-RPC id, oldest first: honest clients reuse ids.
    open: BTreeMap<String, VecDeque<Request>>,
    /// Answers that came before their requests (out of order in the log).
    early: BTreeMap<String, VecDeque<(Micros, Response)>>,
    waiting: usize,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Request {
    part: u32,
    text: RequestText,
    fact: CallFact,
}

/// What only the row needs.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct RequestText {
    /// As JSON text.
    jsonrpc_id: String,
    tool: Text,
    bytes: u64,
    verdict: Option<v1::Verdict>,
    expected: Expected,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Response {
    outcome: CallOutcome,
    error_type: String,
    bytes: u64,
    shape_bin: u8,
}

/// A call whose fate is known.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) part: u32,
    pub(super) fact: CallFact,
    text: RequestText,
    answered: Option<(Micros, Response)>,
}

impl RequestText {
    pub(super) fn of(message: &v1::Message, tool: Text, expected: Expected) -> Self {
        let v1::Message { jsonrpc_id, verdict, size_bytes, .. } = message;
        Self { jsonrpc_id: jsonrpc_id.clone(), tool, bytes: *size_bytes, verdict: verdict.clone(), expected }
    }
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.early.is_empty()
    }

    /// A request: waits for its answer, or meets one that came early. Beyond the bound the oldest is given up.
    pub(super) fn request(
        &mut self,
        part: u32,
        text: RequestText,
        fact: CallFact,
        settings: &Settings,
    ) -> Option<Settled> {
        let request = Request { part, text, fact };
        while let Some((ts, response)) = take_first(&mut self.early, &request.text.jsonrpc_id) {
            // What was stamped before the request answers an older one of this id, which was given up.
            if request.fact.ts <= ts {
                let in_time = ts <= request.deadline(&settings.timing);
                return Some(request.settle(in_time.then_some((ts, response))));
            }
        }
        self.open.entry(request.text.jsonrpc_id.clone()).or_default().push_back(request);
        self.waiting += 1;
        if self.waiting > settings.open_calls_max { self.give_up_oldest() } else { None }
    }

    /// An answer: settles its request, or waits for it a while, since the log may hold them out of order. Older requests
    /// of its id whose time was over before it came are unanswered, whether or not the watermark has said so yet.
    pub(super) fn response(&mut self, message: &v1::Message, ts: Micros, timing: &Timing) -> Vec<Settled> {
        let response = Response::of(message);
        let mut settled = Vec::new();
        while let Some(request) = take_first(&mut self.open, &message.jsonrpc_id) {
            self.waiting -= 1;
            if ts <= request.deadline(timing) {
                settled.push(request.settle(Some((ts, response))));
                return settled;
            }
            settled.push(request.settle(None));
        }
        // The edge knows the method of an answer if it saw the request first; then this is no answer to a call.
        if message.method.is_empty() || message.method == "tools/call" {
            self.early.entry(message.jsonrpc_id.clone()).or_default().push_back((ts, response));
        }
        settled
    }

    /// The session ended: nothing more will be answered.
    pub(super) fn give_up_all(&mut self) -> Vec<Settled> {
        self.waiting = 0;
        self.early = BTreeMap::new();
        let open = take(&mut self.open);
        in_order(open.into_values().flatten().map(|call| call.settle(None)).collect())
    }

    /// Gives up what has waited too long by this watermark.
    pub(super) fn time_out(&mut self, watermark: Micros, timing: &Timing) -> Vec<Settled> {
        self.early.retain(|_, waiting| {
            waiting.retain(|(ts, _)| ts.plus(timing.lateness_us) >= watermark);
            !waiting.is_empty()
        });
        let mut settled = Vec::new();
        self.open.retain(|_, waiting| {
            // Calls of one id may have come out of order: whoever is due need not be the first.
            for _ in 0..waiting.len() {
                match waiting.pop_front() {
                    Some(call) if call.given_up_at(timing) < watermark => settled.push(call.settle(None)),
                    call => waiting.extend(call),
                }
            }
            !waiting.is_empty()
        });
        let_go_if_empty(&mut self.early);
        let_go_if_empty(&mut self.open);
        self.waiting -= settled.len();
        in_order(settled)
    }

    /// When something here falls due.
    pub(super) fn first_deadline(&self, timing: &Timing) -> Option<Micros> {
        let open = self.open.values().flatten().map(|call| call.given_up_at(timing)).min();
        let early = self.early.values().flatten().map(|(ts, _)| ts.plus(timing.lateness_us)).min();
        open.into_iter().chain(early).min()
    }

    fn give_up_oldest(&mut self) -> Option<Settled> {
        let (id, _) = self.open.iter().min_by_key(|(_, waiting)| waiting.front().map(Request::order))?;
        let id = id.clone();
        self.waiting -= 1;
        take_first(&mut self.open, &id).map(|call| call.settle(None))
    }
}

fn in_order(mut settled: Vec<Settled>) -> Vec<Settled> {
    settled.sort_by_key(|call| (call.fact.ts, call.fact.order));
    settled
}

fn take_first<T>(map: &mut BTreeMap<String, VecDeque<T>>, id: &str) -> Option<T> {
    let waiting = map.get_mut(id)?;
    let first = waiting.pop_front();
    if waiting.is_empty() {
        map.remove(id);
        let_go_if_empty(map);
    }
    first
}

/// An empty tree keeps a node of eleven places, and nearly all sessions wait for nothing.
fn let_go_if_empty<T>(map: &mut BTreeMap<String, VecDeque<T>>) {
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}

impl Request {
    fn settle(self, answered: Option<(Micros, Response)>) -> Settled {
        Settled { part: self.part, fact: self.fact, text: self.text, answered }
    }

    /// An answer that is later than this comes too late.
    fn deadline(&self, timing: &Timing) -> Micros {
        self.fact.ts.plus(timing.call_timeout_us)
    }

    /// An answer that is not too late may still arrive until the watermark passes this.
    fn given_up_at(&self, timing: &Timing) -> Micros {
        self.deadline(timing).plus(timing.lateness_us)
    }

    fn order(&self) -> (Micros, u64) {
        (self.fact.ts, self.fact.order)
    }
}

impl Response {
    fn of(message: &v1::Message) -> Self {
        let facts = message.result.as_ref();
        let outcome = match message.kind() {
            v1::Kind::Error => CallOutcome::RpcError,
            _ if facts.is_some_and(|facts| facts.is_error) => CallOutcome::ToolError,
            _ => CallOutcome::Result,
        };
        let error_type = facts.map(|facts| facts.error_type.clone()).unwrap_or_default();
        let shape_bin = facts.map_or(0, |facts| shape_bin(facts.shape));
        Self { outcome, error_type, bytes: message.size_bytes, shape_bin }
    }
}

impl Measure {
    /// Of a call: the same whenever it is asked for, so that what was counted can be taken back.
    pub(super) fn of(identity: &Identity, call: &CallFact, answer: &Answer, tool: Text) -> Self {
        Self {
            ts: call.ts,
            settled_at: answer.settled_at,
            tenant: identity.tenant.clone(),
            principal: identity.principal.clone(),
            server: identity.server.clone(),
            session_id: identity.id.clone(),
            tool,
            entities: identity.entities_of(call.tool),
            outcome: answer.outcome,
            new_hosts: call.leaves.iter().map(|leaf| u32::from(leaf.new_host)).sum(),
            hosts: call.leaves.iter().map(|leaf| u32::from(leaf.host)).sum(),
            new_tool: call.first_of_tool,
            arguments: call.leaves.len() as u32,
            text_arguments: u32::from(call.texts),
            sourced_arguments: call.leaves.iter().map(|leaf| u32::from(leaf.has_source())).sum(),
            shape_millibits: call.novelty.shape_millibits,
            fresh_millibits: call.novelty.fresh_millibits,
            argument_entropy_millibits: call.entropy_millibits,
            shape: (call.shape != 0).then_some(call.shape),
            request_bytes: u64::from(call.request_bytes),
            response_bytes: answer.response_bytes,
            latency_us: answer.latency_us,
        }
    }
}

impl Settled {
    /// `settled_at`: the watermark when its fate became known.
    pub(super) fn answer(&self, settled_at: Micros) -> Answer {
        match &self.answered {
            None => Answer::none(settled_at),
            Some((ts, response)) => Answer {
                outcome: response.outcome,
                latency_us: Some((ts.0 - self.fact.ts.0).max(0)),
                response_bytes: response.bytes,
                shape_bin: response.shape_bin,
                settled_at,
            },
        }
    }

    /// What the request path scored it with.
    pub(super) fn score(&self) -> Option<f64> {
        Some(self.text.verdict.as_ref()?.assessment.as_ref()?.score)
    }

    /// The call as a row, which takes its verdict, and as a measure.
    pub(super) fn report(&mut self, answer: &Answer, identity: &Identity, partition: Partition, out: &mut Outbox) {
        let &Answer { outcome, latency_us, response_bytes, .. } = answer;
        out.counters.calls += 1;
        judged(&self.text.expected, outcome, latency_us, &mut out.counters);
        out.counters.unanswered += u64::from(outcome == CallOutcome::Unanswered);
        out.measures.push(Measure::of(identity, &self.fact, answer, self.text.tool.clone()));
        out.calls.push(CallRow {
            source: Source { partition, ..Source::default() },
            tenant: Text::from(&identity.tenant),
            principal: Text::from(&identity.principal),
            server: Text::from(&identity.server),
            session_id: Text::from(&identity.id),
            ts: self.fact.ts,
            jsonrpc_id: plain_id(&self.text.jsonrpc_id),
            tool: self.text.tool.clone(),
            outcome,
            error_type: self.answered.as_mut().map(|(_, response)| take(&mut response.error_type)).unwrap_or_default(),
            latency_us,
            request_bytes: self.text.bytes,
            response_bytes,
            result_shape: latency_us.map(|_| answer.shape_bin),
            verdict: self.text.verdict.take(),
            expected: take(&mut self.text.expected),
        });
    }
}

/// A JSON-RPC id as people write it: a string without its quotes.
fn plain_id(json: &str) -> String {
    let text = json.starts_with('"').then(|| serde_json::from_str(json).ok()).flatten();
    text.unwrap_or_else(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, ts_us: i64) -> (RequestText, CallFact) {
        let call = Some(v1::CallFacts::default());
        let message = v1::Message { jsonrpc_id: id.to_owned(), call, ..v1::Message::default() };
        let fact = CallFact::of(&message, Micros(ts_us), 0, |_, _| {}).expect("a call");
        (RequestText::of(&message, Text::default(), Expected::default()), fact)
    }

    /// Whoever looks for what is due until nothing is must come to an end.
    #[test]
    fn nothing_stays_due_behind_a_later_call_of_the_same_id() {
        let (settings, mut calls) = (Settings::default(), Calls::default());
        let second = 1_000_000;
        for ts_us in [20 * second, 10 * second, 30 * second] {
            let (text, fact) = request("1", ts_us);
            assert!(calls.request(0, text, fact, &settings).is_none());
        }
        let timing = settings.timing;
        let watermark = Micros(15 * second + timing.call_timeout_us + timing.lateness_us);
        let settled = calls.time_out(watermark, &timing);
        assert_eq!(settled.iter().map(|call| call.fact.ts).collect::<Vec<_>>(), [Micros(10 * second)]);
        assert!(calls.first_deadline(&timing).is_some_and(|next| next >= watermark));
        assert_eq!(calls.waiting, 2);
    }
}
