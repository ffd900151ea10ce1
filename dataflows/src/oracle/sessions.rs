//! Twin of `sessions`: each session's messages in order of time, cut into parts, its answers given to its requests.

use std::collections::{BTreeMap, BTreeSet};

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::CallOutcome;
use undercurrent_schemas::v1::{self, event::Body};

use crate::sessions::Timing;

/// One part of one session.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Its first event: whose session it is.
    pub first: &'a v1::Event,
    pub started: Micros,
    pub ended: Micros,
    /// All of its messages, in order of time.
    pub messages: Vec<(Micros, &'a v1::Message)>,
    /// Its calls, in order of time.
    pub calls: Vec<Call<'a>>,
}

/// One `tools/call` request and its answer.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub ts: Micros,
    pub request: &'a v1::Message,
    pub answer: Option<(Micros, &'a v1::Message)>,
}

impl Call<'_> {
    /// From request to answer.
    #[must_use]
    pub fn latency_us(&self) -> Option<i64> {
        self.answer.map(|(ts, _)| ts.0 - self.ts.0)
    }

    /// Bytes of the answer.
    #[must_use]
    pub fn response_bytes(&self) -> u64 {
        self.answer.map_or(0, |(_, answer)| answer.size_bytes)
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> CallOutcome {
        match self.answer {
            None => CallOutcome::Unanswered,
            Some((_, answer)) if answer.kind() == v1::Kind::Error => CallOutcome::RpcError,
            Some((_, answer)) if answer.result.as_ref().is_some_and(|result| result.is_error) => CallOutcome::ToolError,
            Some(_) => CallOutcome::Result,
        }
    }
}

/// Every part of every session, by session id and time.
#[must_use]
pub fn parts<'a>(events: &'a [v1::Event], timing: &Timing) -> Vec<Part<'a>> {
    let mut seen = BTreeSet::new();
    let mut sessions: BTreeMap<&str, Vec<&v1::Event>> = BTreeMap::new();
    for event in events {
        let is_new = event.id.is_none_or(|id| seen.insert((id.gateway, id.epoch, id.sequence)));
        if is_new && !event.session_id.is_empty() {
            sessions.entry(&event.session_id).or_default().push(event);
        }
    }
    let mut all = Vec::new();
    for events in sessions.values_mut() {
        // Stable: what has one time keeps its order in the log. An end is the last of its time.
        events.sort_by_key(|event| (event.ts_us, matches!(event.body, Some(Body::SessionEnd(_)))));
        parts_of_session(events, timing, &mut all);
    }
    for part in &mut all {
        part.calls = calls(&part.messages, timing);
    }
    all
}

fn parts_of_session<'a>(events: &[&'a v1::Event], timing: &Timing, all: &mut Vec<Part<'a>>) {
    let mut open: Option<Part<'a>> = None;
    for event in events {
        let ts = Micros(event.ts_us);
        let idle_us = timing.session_idle_us + timing.lateness_us;
        match &event.body {
            Some(Body::SessionEnd(_)) => all.extend(open.take()),
            Some(Body::Message(message)) => {
                if open.as_ref().is_some_and(|part| part.ended.plus(idle_us) < ts) {
                    all.extend(open.take());
                }
                let part = open.get_or_insert_with(|| Part {
                    first: event,
                    started: ts,
                    ended: ts,
                    messages: Vec::new(),
                    calls: Vec::new(),
                });
                part.ended = ts;
                part.messages.push((ts, message));
            }
            Some(Body::Gap(_) | Body::Heartbeat(_) | Body::Label(_) | Body::Forget(_))
            | Some(Body::Telemetry(_) | Body::DeadLetter(_))
            | None => {}
        }
    }
    all.extend(open);
}

/// An answer belongs to the oldest request of its id that still waits for one when it comes.
fn calls<'a>(messages: &[(Micros, &'a v1::Message)], timing: &Timing) -> Vec<Call<'a>> {
    let requests = messages.iter().filter(|(_, message)| message.call.is_some());
    let mut calls: Vec<Call<'a>> = requests.map(|&(ts, request)| Call { ts, request, answer: None }).collect();
    for &(ts, answer) in messages {
        let is_answer = matches!(answer.kind(), v1::Kind::Result | v1::Kind::Error)
            && answer.direction() == v1::Direction::ServerToClient;
        let waits = |call: &&mut Call<'a>| {
            call.answer.is_none()
                && call.request.jsonrpc_id == answer.jsonrpc_id
                && call.ts <= ts
                && ts <= call.ts.plus(timing.call_timeout_us)
        };
        if let Some(call) = calls.iter_mut().filter(|_| is_answer).find(waits) {
            call.answer = Some((ts, answer));
        }
    }
    calls
}
