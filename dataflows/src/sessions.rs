//! The life of sessions in one partition: pairing of calls, parts that begin and end, scoring, teaching.
//!
//! A state machine without clock: time passes only through the watermark. Upstream: decoded events in the order of
//! their offsets. Downstream: rows, measures for the windows, and changes of the model's sums, in an [`Outbox`].
//! Invariant: every `tools/call` request leaves exactly one `CallRow`.

mod calls;
mod close;
mod contribution;
mod image;
mod imports;
mod labels;
mod names;
mod outbox;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use undercurrent_schemas::ids::{Micros, Offset, Partition};
use undercurrent_schemas::rows::{EndReason, EntityKind};
use undercurrent_schemas::v1::{self, event::Body, label::Verdict};

pub use imports::import_id;
pub(crate) use labels::FORGET;
pub use names::Dictionary;
pub use outbox::{Counters, Measure, Outbox};
pub use watch::Rules;

use calls::{Calls, RequestText, Settled};
use contribution::Contribution;
use watch::Watch;

use crate::assess::LeftOut;
use crate::catalogue::{LastSeen, Met};
use crate::graph::EntityKey;
use crate::model::{FULL_WEIGHT, Model, name_hash};
use crate::session::{Answer, CallFact, SessionFact, none};
use crate::shards::Shards;
use crate::shared;

/// When things end, by event time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A session without messages for so long has ended.
    pub session_idle_us: i64,
    /// How late a message may come and still be where it belongs.
    pub lateness_us: i64,
    /// A call without an answer for so long is unanswered.
    pub call_timeout_us: i64,
    /// How long a session's id is remembered, so that what comes later is its next part.
    pub session_memory_us: i64,
    /// How long after its end a session can be labelled and unlearned.
    pub unlearn_us: i64,
}

/// Who is flagged, and who may teach.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Flag sessions whose p-value is at most this: the alert budget.
    pub flag_p: f64,
    /// Doubt sessions whose p-value is at most this: they teach with the weight below.
    pub learn_p: f64,
    /// In eighths of a session, up to [`FULL_WEIGHT`]; 0 = they teach nothing.
    pub doubtful_weight: u32,
}

impl Gate {
    /// How much a session teaches: what is rare among good sessions is learned from many of them, while what comes
    /// with attacks alone stays nearly unknown.
    #[must_use]
    pub fn weight(&self, p_value: Option<f64>) -> u32 {
        match p_value {
            Some(p_value) if p_value <= self.learn_p => self.doubtful_weight.min(FULL_WEIGHT),
            _ => FULL_WEIGHT,
        }
    }
}

/// What the state machine is told once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub timing: Timing,
    pub gate: Gate,
    /// From how many on loops, streaks and probes are told.
    pub rules: Rules,
    /// Terms that add nothing to a session's score.
    pub left_out: LeftOut,
    /// Calls of one session that wait for an answer; the oldest is settled as unanswered beyond that.
    pub open_calls_max: usize,
    /// Ended parts of one partition that can be unlearned; beyond that the oldest no longer can.
    pub unlearnable_max: usize,
    /// Without it calls are paired and measured, and sessions are neither scored nor teach.
    pub learns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        const SECOND: i64 = 1_000_000;
        Self {
            timing: Timing {
                session_idle_us: 300 * SECOND,
                lateness_us: 30 * SECOND,
                call_timeout_us: 300 * SECOND,
                session_memory_us: 3_600 * SECOND,
                unlearn_us: 86_400 * SECOND,
            },
            gate: Gate { flag_p: 0.01, learn_p: 0.1, doubtful_weight: 1 },
            rules: Rules::default(),
            left_out: LeftOut::default(),
            open_calls_max: 1024,
            unlearnable_max: 16 * 1024,
            learns: true,
        }
    }
}

/// By id: looked up at every message, and wherever their order shows, put in order first. What is moved as the map grows are
/// pointers.
type Sessions = Shards<Arc<str>, Box<Session>>;

/// All sessions of one partition: what they are between ticks is what a checkpoint holds.
#[derive(Debug, serde::Deserialize)]
pub struct PartitionSessions {
    #[serde(deserialize_with = "image::sessions")]
    sessions: Sessions,
    /// When to look at a session again: never later than something of it falls due. Each session knows its own entry.
    #[serde(skip)]
    due: BTreeSet<(Micros, Arc<str>)>,
    watermark: Micros,
    /// Ended parts that are kept, oldest first: (kept until, session, number). The sessions themselves tell.
    #[serde(skip)]
    kept: BTreeSet<(Micros, Arc<str>, u32)>,
    learning: Learning,
}

/// What a partition's sessions share.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Learning {
    partition: Partition,
    /// Of this run: a checkpoint may be of another.
    #[serde(skip)]
    settings: Settings,
    dictionary: Dictionary,
    /// Sessions with an open part.
    open: usize,
    definitions: LastSeen,
    /// The watermark of the tick before: calls that are settled now are settled at it.
    settled_at: Micros,
}

/// Whose session it is: the same in every row.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Identity {
    #[serde(with = "shared")]
    id: Arc<str>,
    #[serde(with = "shared")]
    tenant: Arc<str>,
    #[serde(with = "shared")]
    principal: Arc<str>,
    #[serde(with = "shared")]
    server: Arc<str>,
    /// Name hash of the server.
    scope: u64,
    /// Of the server, the principal and the session.
    entities: [EntityKey; 3],
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Session {
    identity: Identity,
    /// Elsewhere: nearly all that are kept have ended.
    open: Option<Box<Part>>,
    closed: VecDeque<ClosedPart>,
    calls: Calls,
    /// Number of its next part.
    next_part: u32,
    last_seen: Micros,
    /// What was last said about it.
    label: Verdict,
    /// Its entry in `due`.
    due: Micros,
}

/// The part of a session that is under way.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Part {
    number: u32,
    started: Micros,
    last: Micros,
    messages: u64,
    errors: u64,
    fact: SessionFact,
    contribution: Contribution,
    watch: Watch,
    /// Name hashes of the two tools that were asked for last, nearest first.
    last_tools: [u64; 2],
}

/// A part that has ended and been scored; kept while it can be unlearned.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct ClosedPart {
    number: u32,
    started: Micros,
    ended: Micros,
    fact: SessionFact,
    contribution: Contribution,
    /// Until here late messages may correct what it taught.
    correctable_until: Micros,
    kept_until: Micros,
}

impl PartitionSessions {
    #[must_use]
    pub fn new(partition: Partition, settings: Settings) -> Self {
        Self {
            sessions: Sessions::default(),
            due: BTreeSet::new(),
            watermark: Micros(i64::MIN),
            kept: BTreeSet::new(),
            learning: Learning {
                partition,
                settings,
                dictionary: Dictionary::default(),
                open: 0,
                definitions: LastSeen::default(),
                settled_at: Micros(i64::MIN),
            },
        }
    }

    #[must_use]
    pub fn partition(&self) -> Partition {
        self.learning.partition
    }

    /// Sessions with an open part.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.learning.open
    }

    /// One event, in the order of offsets, duplicates already dropped.
    pub fn event(&mut self, offset: Offset, event: &v1::Event, model: Option<&Model>, out: &mut Outbox) {
        let ts = Micros(event.ts_us);
        match &event.body {
            Some(Body::Message(message)) => self.message(offset, event, message, model, out),
            Some(Body::SessionEnd(_)) => self.end(&event.session_id, ts, model, out),
            Some(Body::Gap(gap)) => {
                out.counters.gaps += 1;
                out.counters.gap_events += gap.events;
            }
            Some(Body::Heartbeat(_)) => {}
            Some(Body::Label(label)) => self.label(event, label.verdict(), out),
            Some(Body::Forget(forget)) if forget.whole_principal => self.forget_principal(event, out),
            Some(Body::Forget(_)) => self.forget(event, out),
            Some(Body::ModelImport(import)) => self.import(event, import, out),
            // Of no session: see `reports`.
            Some(Body::Telemetry(_) | Body::DeadLetter(_)) => {}
            None => out.counters.corrupt += 1,
        }
    }

    fn message(
        &mut self,
        offset: Offset,
        event: &v1::Event,
        message: &v1::Message,
        model: Option<&Model>,
        out: &mut Outbox,
    ) {
        let ts = Micros(event.ts_us);
        out.counters.messages += 1;
        if event.session_id.is_empty() {
            return;
        }
        let Self { sessions, due, watermark, kept, learning } = self;
        let timing = learning.settings.timing;
        out.counters.late += u64::from(ts.plus(timing.lateness_us) < *watermark);
        if !sessions.contains_key(event.session_id.as_str()) {
            let session = Session::new(Identity::of(event, &mut learning.dictionary, out));
            sessions.get_or_insert_with(Arc::clone(&session.identity.id), || Box::new(session));
        }
        let Some(session) = sessions.get_mut(event.session_id.as_str()) else { return };
        // The watermark may not have been seen between the two: that must not depend on where ticks were cut.
        if session.open.as_ref().is_some_and(|part| timing.idle_at(part.last) < ts) {
            kept.extend(session.close(None, EndReason::Idle, model, learning, out));
        }
        let was_open = session.open.is_some();
        let part = session.part_of(ts, message, *watermark);
        learning.open += usize::from(session.open.is_some() && !was_open);
        session.look_at(message, ts, learning, out);
        let call = CallFact::of(message, ts, offset.0, |hash, names| learning.dictionary.learn(hash, names, out));
        match call {
            Some(call) => {
                let last = session.next_of(part, call.tool);
                let expected = out.expectations.of(model, session.identity.scope, last, call.tool);
                let tool = learning.dictionary.shared(call.tool);
                let text = RequestText::of(message, tool, expected);
                let settled = session.calls.request(part, text, call, &learning.settings);
                session.settle(settled, learning, out);
            }
            None if is_answer(message) => {
                let settled = session.calls.response(message, ts, &timing);
                session.settle(settled, learning, out);
            }
            None => {}
        }
        session.reschedule(&timing, due);
        self.drop_oldest_kept();
    }

    fn end(&mut self, session_id: &str, ts: Micros, model: Option<&Model>, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        self.kept.extend(session.close(Some(ts), EndReason::Closed, model, &mut self.learning, out));
        session.reschedule(&self.learning.settings.timing, &mut self.due);
        self.drop_oldest_kept();
    }

    /// The watermark moved: whatever falls due by it ends, in order of (time, session).
    pub fn advance(&mut self, watermark: Micros, model: Option<&Model>, out: &mut Outbox) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let Self { sessions, due, kept, learning, .. } = self;
        let timing = learning.settings.timing;
        let reason = if watermark == Micros(i64::MAX) { EndReason::ReplayEnd } else { EndReason::Idle };
        while due.first().is_some_and(|(due, _)| *due < watermark) {
            let Some((_, id)) = due.pop_first() else { break };
            let Some(session) = sessions.get_mut(&id) else { continue };
            session.due = Micros(i64::MAX);
            let timed_out = session.calls.time_out(watermark, &timing);
            session.settle(timed_out, learning, out);
            if session.open.as_ref().is_some_and(|part| timing.idle_at(part.last) < watermark) {
                kept.extend(session.close(None, reason, model, learning, out));
            }
            session.closed.retain(|part| part.kept_until >= watermark);
            if session.is_forgettable(watermark, &timing) {
                sessions.remove(&id);
            } else {
                session.reschedule(&timing, due);
            }
        }
        while kept.first().is_some_and(|(until, ..)| *until < watermark) {
            kept.pop_first();
        }
        learning.settled_at = watermark;
        self.drop_oldest_kept();
    }

    /// Holds what is kept for unlearning within its bound.
    fn drop_oldest_kept(&mut self) {
        while self.kept.len() > self.learning.settings.unlearnable_max {
            let Some((_, id, number)) = self.kept.pop_first() else { return };
            if let Some(session) = self.sessions.get_mut(&id) {
                session.closed.retain(|part| part.number != number);
                session.reschedule(&self.learning.settings.timing, &mut self.due);
            }
        }
    }
}

/// A server's answer to some request of the client.
fn is_answer(message: &v1::Message) -> bool {
    matches!(message.kind(), v1::Kind::Result | v1::Kind::Error) && message.direction() == v1::Direction::ServerToClient
}

impl Timing {
    /// When a session that was last heard at `last` has ended.
    const fn idle_at(&self, last: Micros) -> Micros {
        last.plus(self.session_idle_us.saturating_add(self.lateness_us))
    }
}

impl Identity {
    fn of(event: &v1::Event, dictionary: &mut Dictionary, out: &mut Outbox) -> Self {
        let scope = name_hash(&[&event.server]);
        dictionary.learn(scope, &[&event.server], out);
        Self {
            id: event.session_id.as_str().into(),
            tenant: event.tenant.as_str().into(),
            principal: event.principal.as_str().into(),
            server: event.server.as_str().into(),
            scope,
            entities: [
                EntityKey::of(&event.tenant, EntityKind::Server, event.server.as_bytes()),
                EntityKey::of(&event.tenant, EntityKind::Principal, event.principal.as_bytes()),
                EntityKey::of(&event.tenant, EntityKind::Session, event.session_id.as_bytes()),
            ],
        }
    }

    /// Of the server, the tool, the principal and the session: whose features a call of this tool changes.
    fn entities_of(&self, tool: u64) -> [EntityKey; 4] {
        let [server, principal, session] = self.entities;
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.scope.to_le_bytes());
        name[8..].copy_from_slice(&tool.to_le_bytes());
        [server, EntityKey::of(&self.tenant, EntityKind::Tool, &name), principal, session]
    }
}

impl Session {
    fn new(identity: Identity) -> Self {
        Self {
            identity,
            open: None,
            closed: VecDeque::new(),
            calls: Calls::default(),
            next_part: 0,
            last_seen: Micros(i64::MIN),
            label: Verdict::Unspecified,
            due: Micros(i64::MAX),
        }
    }

    /// The part that a message of this time belongs to: a closed one if it lies inside it, else the open one, which it
    /// may begin.
    fn part_of(&mut self, ts: Micros, message: &v1::Message, watermark: Micros) -> u32 {
        self.last_seen = self.last_seen.max(ts);
        let is_error = message.result.as_ref().is_some_and(|result| !result.error_type.is_empty());
        let mut correctable = self.closed.iter().filter(|part| part.correctable_until >= watermark);
        if let Some(closed) = correctable.find(|part| part.started <= ts && ts <= part.ended) {
            return closed.number;
        }
        let part = self.open.get_or_insert_with(|| {
            let number = self.next_part;
            self.next_part += 1;
            Box::new(Part {
                number,
                started: ts,
                last: ts,
                messages: 0,
                errors: 0,
                fact: SessionFact::default(),
                contribution: Contribution::default(),
                watch: Watch::default(),
                last_tools: [none(); 2],
            })
        });
        part.started = part.started.min(ts);
        part.last = part.last.max(ts);
        part.messages += 1;
        part.errors += u64::from(is_error);
        part.number
    }

    /// The two tools that a part asked for before this one, nearest first, in the order in which they came.
    fn next_of(&mut self, part: u32, tool: u64) -> [u64; 2] {
        let open = self.open.as_mut().filter(|open| open.number == part);
        open.map_or_else(
            || [none(); 2],
            |open| {
                let [previous, _] = open.last_tools;
                std::mem::replace(&mut open.last_tools, [tool, previous])
            },
        )
    }

    /// What rules and the tool catalogue want of a message.
    fn look_at(&mut self, message: &v1::Message, ts: Micros, learning: &mut Learning, out: &mut Outbox) {
        if let (Some(call), Some(part)) = (&message.call, &mut self.open) {
            part.watch.call(ts, &message.target, call.fingerprint, &self.identity, &learning.settings.rules, out);
        }
        for definition in &message.tool_definitions {
            if learning.definitions.is_new(self.identity.scope, definition) {
                out.met.push(Met {
                    ts,
                    partition: learning.partition,
                    tenant: self.identity.tenant.to_string(),
                    server: self.identity.server.to_string(),
                    session_id: self.identity.id.to_string(),
                    definition: definition.clone(),
                });
            }
        }
    }

    /// Settled calls become rows and measures, and facts of the part that they belong to.
    fn settle(&mut self, settled: impl IntoIterator<Item = Settled>, learning: &mut Learning, out: &mut Outbox) {
        for mut call in settled {
            let answer = call.answer(learning.settled_at);
            let scope = self.identity.scope;
            let score = call.score();
            call.report(&answer, &self.identity, learning.partition, out);
            if let Some(closed) = self.closed.iter_mut().find(|part| part.number == call.part) {
                if let Some(score) = score {
                    closed.contribution.call_score(scope, score, out);
                }
                closed.correct(self.identity.scope, call.fact, answer, &mut learning.dictionary, out);
            } else if let Some(part) = self.open.as_mut().filter(|part| part.number == call.part) {
                let rules = &learning.settings.rules;
                part.watch.settled(&call.fact, &answer, &self.identity, &learning.dictionary, rules, out);
                if let Some(score) = score {
                    part.contribution.call_score(scope, score, out);
                }
                part.fact.insert(call.fact, answer);
            }
        }
    }

    /// Keeps `due` right: one entry for each session, at the first time that something of it falls due.
    fn reschedule(&mut self, timing: &Timing, due: &mut BTreeSet<(Micros, Arc<str>)>) {
        let next = [
            self.open.as_ref().map(|part| timing.idle_at(part.last)),
            self.calls.first_deadline(timing),
            self.closed.front().map(|part| part.kept_until),
            self.is_over().then(|| self.last_seen.plus(timing.session_memory_us)),
        ];
        let next = next.into_iter().flatten().min().unwrap_or(Micros(i64::MAX));
        // An entry that is early is harmless; moving it at every message would not be.
        if next < self.due {
            due.remove(&(self.due, Arc::clone(&self.identity.id)));
            due.insert((next, Arc::clone(&self.identity.id)));
            self.due = next;
        }
    }

    /// Nothing of it waits for anything: only its number of parts is remembered.
    fn is_over(&self) -> bool {
        self.open.is_none() && self.closed.is_empty() && self.calls.is_empty()
    }

    fn is_forgettable(&self, watermark: Micros, timing: &Timing) -> bool {
        self.is_over() && self.last_seen.plus(timing.session_memory_us) < watermark
    }
}

impl ClosedPart {
    /// A call that was settled after its part ended: what the part taught is corrected, its score stays.
    fn correct(&mut self, scope: u64, call: CallFact, answer: Answer, dictionary: &mut Dictionary, out: &mut Outbox) {
        out.counters.corrections += 1;
        let before = self.fact.clone();
        let known = self.fact.calls.iter_mut().find(|(fact, _)| (fact.ts, fact.order) == (call.ts, call.order));
        match known {
            Some((_, old)) => *old = answer,
            None => self.fact.insert(call, answer),
        }
        self.contribution.correct(scope, &before, &self.fact, out);
        dictionary.learn_pairs(&self.fact, out);
    }
}
