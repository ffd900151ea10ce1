//! Twin of `sessions`: each session's messages in order of time, cut into parts, its answers given to its requests.

use std::collections::{BTreeMap, BTreeSet};

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::CallOutcome;
use undercurrent_schemas::v1::{self, event::Body};

use crate::session::{Answer, shape_bin};
use crate::sessions::Timing;

/// One part of one session.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Its first event: whose session it is.
    pub first: &'a v1::Event,
    pub started: Micros,
    pub ended: Micros,
    /// Nothing more belongs to it.
    pub is_over: bool,
    /// All of its messages, in order of time.
    pub messages: Vec<(Micros, &'a v1::Message)>,
    /// Its calls whose fate is known, in order of time.
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

    /// Digest of the shape of its result.
    #[must_use]
    pub fn result_shape(&self) -> u64 {
        self.answer.and_then(|(_, answer)| answer.result.as_ref()).map_or(0, |result| result.shape)
    }

    /// How it ended, as learning keeps it.
    #[must_use]
    pub fn answer_fact(&self) -> Answer {
        Answer {
            outcome: self.outcome(),
            latency_us: self.latency_us(),
            response_bytes: self.response_bytes(),
            shape_bin: shape_bin(self.result_shape()),
            settled_at: Micros(0),
        }
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

/// Every part of every session of a finished log, by session id and time.
#[must_use]
pub fn parts<'a>(events: &'a [v1::Event], timing: &Timing) -> Vec<Part<'a>> {
    parts_at(events, timing, Micros(i64::MAX))
}

/// Every part that there is of every session when time has come so far, by session id and time. What a session did
/// before it was forgotten never was.
#[must_use]
pub fn parts_at<'a>(events: &'a [v1::Event], timing: &Timing, watermark: Micros) -> Vec<Part<'a>> {
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
        let forgotten = events.iter().rposition(|event| matches!(event.body, Some(Body::Forget(_))));
        events.drain(..forgotten.map_or(0, |at| at + 1));
        // Stable: what has one time keeps its order in the log. An end is the last of its time.
        events.sort_by_key(|event| (event.ts_us, matches!(event.body, Some(Body::SessionEnd(_)))));
        parts_of_session(events, timing, watermark, &mut all);
    }
    for part in &mut all {
        part.calls = calls(part, timing, watermark);
    }
    all
}

fn parts_of_session<'a>(events: &[&'a v1::Event], timing: &Timing, watermark: Micros, all: &mut Vec<Part<'a>>) {
    let mut open: Option<Part<'a>> = None;
    let over = |part: Part<'a>| Part { is_over: true, ..part };
    let idle_us = timing.session_idle_us + timing.lateness_us;
    for event in events {
        let ts = Micros(event.ts_us);
        match &event.body {
            Some(Body::SessionEnd(_)) => all.extend(open.take().map(over)),
            Some(Body::Message(message)) => {
                if open.as_ref().is_some_and(|part| part.ended.plus(idle_us) < ts) {
                    all.extend(open.take().map(over));
                }
                let part = open.get_or_insert_with(|| Part {
                    first: event,
                    started: ts,
                    ended: ts,
                    is_over: false,
                    messages: Vec::new(),
                    calls: Vec::new(),
                });
                part.ended = ts;
                part.messages.push((ts, message));
            }
            Some(Body::Gap(_) | Body::Heartbeat(_) | Body::Label(_) | Body::Forget(_))
            | Some(Body::Telemetry(_) | Body::DeadLetter(_) | Body::ModelImport(_))
            | None => {}
        }
    }
    all.extend(open.map(|part| Part { is_over: part.ended.plus(idle_us) < watermark, ..part }));
}

/// An answer belongs to the oldest request of its id that still waits for one when it comes. What has no answer is given
/// up when its part is over, when its time and the lateness are, or when an answer comes after its time.
fn calls<'a>(part: &Part<'a>, timing: &Timing, watermark: Micros) -> Vec<Call<'a>> {
    let requests = part.messages.iter().filter(|(_, message)| message.call.is_some());
    let mut calls: Vec<Call<'a>> = requests.map(|&(ts, request)| Call { ts, request, answer: None }).collect();
    let deadline = |call: &Call<'a>| call.ts.plus(timing.call_timeout_us);
    let mut given_up = vec![false; calls.len()];
    for &(ts, answer) in &part.messages {
        let is_answer = matches!(answer.kind(), v1::Kind::Result | v1::Kind::Error)
            && answer.direction() == v1::Direction::ServerToClient;
        if !is_answer {
            continue;
        }
        let of_id = |call: &Call<'a>| call.answer.is_none() && call.request.jsonrpc_id == answer.jsonrpc_id;
        for (call, given_up) in calls.iter().zip(&mut given_up).filter(|(call, _)| of_id(call) && deadline(call) < ts) {
            *given_up |= call.ts <= ts;
        }
        let mut in_time = calls.iter_mut().filter(|call| of_id(call) && call.ts <= ts && ts <= deadline(call));
        if let Some(call) = in_time.next() {
            call.answer = Some((ts, answer));
        }
    }
    let is_over = |call: &Call<'a>| deadline(call).plus(timing.lateness_us) < watermark;
    let settled = calls.into_iter().zip(given_up);
    let settled =
        settled.filter(|(call, given_up)| part.is_over || *given_up || call.answer.is_some() || is_over(call));
    settled.map(|(call, _)| call).collect()
}
