//! One session at the edge: every message becomes facts, then an event; every call a verdict before it is forwarded.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::Guard;
use bytes::Bytes;
use undercurrent_dataflows::assess::{LeftOut, assess_without};
use undercurrent_dataflows::facts::SessionFacts;
use undercurrent_dataflows::model::{Model, name_hash};
use undercurrent_dataflows::session::{CallFact, Past};
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1::event::Body;
use undercurrent_schemas::v1::{self, Direction};

use super::ambiguity::is_ambiguous;
use super::shown::Audience;
use super::{HeldCall, Hold, Outcome, Permit, Seen, SessionKey, SessionRef, Shared};
use crate::config::Payload;
use crate::policy::{self, Asked, BlockReason, Decision, Policy, Ruling};

/// One session; dropping it says nothing, `end` does.
#[derive(Debug)]
pub struct EdgeSession {
    shared: Weak<Shared>,
    session: SessionRef,
    /// Name hash of the server.
    scope: u64,
    last_seen: AtomicI64,
    gone: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    facts: SessionFacts,
    /// The id under which the world knows this session.
    public_id: Arc<str>,
    /// What this session last reported to the table.
    held_bytes: usize,
}

impl EdgeSession {
    pub(super) fn new(session: &SessionRef, shared: &Arc<Shared>, now: Micros) -> Arc<Self> {
        let state = State {
            facts: SessionFacts::new(shared.settings.limits),
            public_id: public_id(session, shared, now),
            held_bytes: 0,
        };
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            session: session.clone(),
            scope: name_hash(&[&session.server]),
            last_seen: AtomicI64::new(now.0),
            gone: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// Whose session it is.
    pub fn principal(&self) -> &Arc<str> {
        &self.session.principal
    }

    /// Call with the whole body (one message or a batch) before it is forwarded. Microseconds; never waits.
    pub fn client_message(&self, body: &[u8]) -> Outcome {
        self.client_message_read(body, |_| {})
    }

    /// As [`Self::client_message`]; `read` sees each message once it was decided about, so that nobody needs to read it again.
    pub fn client_message_read(&self, body: &[u8], read: impl FnMut(&v1::Message)) -> Outcome {
        match self.caught_up() {
            Some(shared) => self.decide_about(&shared, &shared.policy.load(), body, shared.clock.now(), read),
            None => Outcome::Forward(Permit { _seen: None, holds_answer: false }),
        }
    }

    /// Call with each whole message from the server (a JSON body, the data of one SSE event, one stdio line) once it
    /// has been handed to the client. `error.type` of what it reports, if it does.
    pub fn server_message(&self, body: &[u8]) -> Option<String> {
        self.caught_up().and_then(|shared| self.server_message_at(body, shared.clock.now()))
    }

    /// As [`Self::client_message_read`], once it has left, if nothing can be decided about it; `None`: it has to be read
    /// at once.
    pub(crate) fn client_message_later(
        self: &Arc<Self>,
        body: &Bytes,
        read: impl FnMut(&v1::Message) + Send + 'static,
    ) -> Option<Permit> {
        let shared = self.shared.upgrade()?;
        let policy = shared.policy.load();
        let later = shared.later(&policy)?;
        let (session, body, ts) = (Arc::clone(self), body.clone(), shared.clock.now());
        let policy = Guard::into_inner(policy);
        later.push(body.len(), move || {
            if let Some(shared) = session.shared.upgrade() {
                drop(session.decide_about(&shared, &policy, &body, ts, read));
            }
        });
        Some(Permit { _seen: None, holds_answer: false })
    }

    /// As [`Self::server_message`], when there is time; `then` is told which error it reports, if it does.
    pub(crate) fn server_message_later(
        self: &Arc<Self>,
        body: Bytes,
        then: impl FnOnce(Option<String>) + Send + 'static,
    ) {
        let shared = self.shared.upgrade();
        let later = shared.as_ref().and_then(|shared| shared.later(&shared.policy.load()));
        let (Some(shared), Some(later)) = (shared, later) else { return then(self.server_message(&body)) };
        let (session, ts) = (Arc::clone(self), shared.clock.now());
        later.push(body.len(), move || then(session.server_message_at(&body, ts)));
    }

    /// What all sessions share, once all that was handed in before has been read.
    fn caught_up(&self) -> Option<Arc<Shared>> {
        let shared = self.shared.upgrade()?;
        shared.catch_up();
        Some(shared)
    }

    /// The id under which the world knows this session.
    pub(crate) fn public_id(&self) -> Arc<str> {
        Arc::clone(&self.lock().public_id)
    }

    /// The session ended: DELETE, end of input, process exit.
    pub fn end(&self) {
        if let Some(shared) = self.caught_up() {
            self.end_at(shared.clock.now());
        }
    }

    /// As [`Self::client_message`], at a time that a recording gives.
    pub fn client_message_at(&self, body: &[u8], ts: Micros) -> Outcome {
        let Some(shared) = self.shared.upgrade() else {
            return Outcome::Forward(Permit { _seen: None, holds_answer: false });
        };
        self.decide_about(&shared, &shared.policy.load(), body, ts, |_| {})
    }

    fn decide_about(
        &self,
        shared: &Arc<Shared>,
        policy: &Policy,
        body: &[u8],
        ts: Micros,
        mut read: impl FnMut(&v1::Message),
    ) -> Outcome {
        // Of a batch: the strictest.
        let mut strictest = Decision::Allow;
        let mut held = None;
        let mut holds_answer = false;
        let refuses = policy.refuses();
        let events = self.observe(shared, Direction::ClientToServer, body, ts, |message| {
            if refuses && message.kind() == v1::Kind::Malformed {
                strictest = Decision::Block(unreadable());
            }
            holds_answer |= policy.holds_answer(&self.session.principal, &self.session.server, &message.method);
            if message.call.is_some() {
                let decision = self.decide(shared, policy, message, ts);
                if strictness(&decision) > strictness(&strictest) {
                    if let Decision::Hold(_) = &decision {
                        held = Some(self.held(message, body));
                    }
                    strictest = decision;
                }
            }
            read(message);
        });
        let seen = Seen { shared: Arc::clone(shared), events };
        if refuses && is_ambiguous(body) {
            strictest = Decision::Block(unreadable());
        }
        let permit = Permit { _seen: Some(seen), holds_answer };
        match (strictest, held) {
            (Decision::Block(reason), _) => Outcome::Block(reason),
            (Decision::Hold(ticket), Some(call)) => {
                let (holds, patience) = (shared.holds.clone(), policy.hold());
                Outcome::Hold(Box::new(Hold { holds, ticket, call, patience }), permit)
            }
            (Decision::Delay(pause), _) => Outcome::Delay(pause, permit),
            (Decision::Allow | Decision::Flag | Decision::Hold(_), _) => Outcome::Forward(permit),
        }
    }

    /// As [`Self::server_message`], at a time that a recording gives.
    pub fn server_message_at(&self, body: &[u8], ts: Micros) -> Option<String> {
        let shared = self.shared.upgrade()?;
        let mut error = None;
        let events = self.observe(&shared, Direction::ServerToClient, body, ts, |message| {
            let error_type = message.result.as_ref().map(|result| &result.error_type);
            if let Some(error_type) = error_type.filter(|error_type| !error_type.is_empty()) {
                error = Some(error_type.clone());
            }
        });
        drop(Seen { shared, events });
        error
    }

    /// As [`Self::end`], at a time that a recording gives.
    pub fn end_at(&self, ts: Micros) {
        let Some(shared) = self.shared.upgrade() else { return };
        let public_id = Arc::clone(&self.lock().public_id);
        let event = self.event(&shared, &public_id, ts, Body::SessionEnd(v1::SessionEnd {}));
        drop(Seen { shared: Arc::clone(&shared), events: vec![event] });
        if let Some(recorder) = &shared.recorder {
            recorder.end(ts, &public_id, &self.session);
        }
        shared.table.remove(&self.session);
        self.release();
    }

    /// The table still has it. One that it has let go of, or that has ended, must be asked for again.
    pub(crate) fn is_current(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }

    /// When the session last said something.
    pub(super) fn last_seen(&self) -> Micros {
        Micros(self.last_seen.load(Ordering::Relaxed))
    }

    /// Forgets which result held which value.
    pub(super) fn forget_values(&self) {
        let mut state = self.lock();
        state.facts.forget_values();
        self.report_bytes(&mut state);
    }

    /// The table lets go of this session: its bytes no longer count.
    pub(super) fn release(&self) {
        self.gone.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        state.facts = SessionFacts::new(undercurrent_dataflows::facts::Limits::default());
        self.report_bytes(&mut state);
    }

    fn observe(
        &self,
        shared: &Arc<Shared>,
        direction: Direction,
        body: &[u8],
        ts: Micros,
        mut decide: impl FnMut(&mut v1::Message),
    ) -> Vec<v1::Event> {
        let mut state = self.lock();
        let silent_us = ts.0.saturating_sub(self.last_seen.fetch_max(ts.0, Ordering::Relaxed));
        if matches!(self.session.key, SessionKey::Stateless { .. })
            && u128::from(silent_us.unsigned_abs()) > shared.settings.session_idle.as_micros()
        {
            state.facts = SessionFacts::new(shared.settings.limits);
            state.public_id = public_id(&self.session, shared, ts);
        }
        let public_id = Arc::clone(&state.public_id);
        let mut events = Vec::with_capacity(1);
        for mut message in state.facts.observe(direction, body, &shared.settings.key) {
            message.transport = self.session.transport.as_str().to_owned();
            match shared.settings.payload {
                Payload::None => {}
                Payload::Redacted => message.payload = super::record::redacted(body),
                Payload::Full => message.payload = body.to_vec(),
            }
            decide(&mut message);
            events.push(self.event(shared, &public_id, ts, Body::Message(Box::new(message))));
        }
        if let Some(recorder) = &shared.recorder {
            recorder.frame(ts, &public_id, &self.session, direction, body);
        }
        // What the table has let go of counts no more, though a last message of it be read only now.
        if self.is_current() {
            self.report_bytes(&mut state);
        }
        drop(state);
        shared.table.forget_values(shared);
        events
    }

    /// Assesses a call by the live model and decides what to do with it; both go into the message.
    fn decide(&self, shared: &Shared, policy: &Policy, message: &mut v1::Message, ts: Micros) -> Decision {
        let started = Instant::now();
        let guard = shared.models.load();
        let left_out = shared.settings.left_out;
        let assessment = assess_message(left_out, guard.as_deref(), self.scope, message, ts);
        let asked = Asked {
            principal: &self.session.principal,
            server: &self.session.server,
            tool: &message.target,
            fingerprint: message.call.as_ref().map_or(0, |call| call.fingerprint),
            p_value: assessment.p_value(),
        };
        let Ruling { decision, enforced } = policy::decide(&asked, policy);
        let assessment = assessment.into_wire();
        message.verdict = Some(v1::Verdict { decision: decision.to_wire().into(), enforced, assessment });
        shared.metrics.decided(decision.to_wire(), started.elapsed());
        if enforced { decision } else { Decision::Allow }
    }

    /// A call as the person who has to answer sees it.
    fn held(&self, message: &v1::Message, body: &[u8]) -> HeldCall {
        let assessment = message.verdict.as_ref().and_then(|verdict| verdict.assessment.as_ref());
        HeldCall {
            principal: self.session.principal.to_string(),
            server: self.session.server.to_string(),
            tool: message.target.clone(),
            p_value: assessment.map(|assessment| assessment.p_value),
            reasons: assessment.into_iter().flat_map(|a| &a.reasons).map(|reason| reason.text.clone()).collect(),
            message: String::from_utf8_lossy(body).into_owned(),
        }
    }

    /// What the client is to get in place of a message from the server; `None`: the message as it is. To be asked where
    /// a [`Permit`] says so, and before the message goes out.
    #[must_use]
    pub fn shown(&self, message: &[u8]) -> Option<Vec<u8>> {
        let shared = self.shared.upgrade()?;
        let policy = shared.policy.load();
        if !self.is_shown_less_by(&policy) {
            return None;
        }
        Audience { policy: &policy, principal: &self.session.principal, server: &self.session.server }.shown(message)
    }

    /// Whether the policy may say no to anything: then nothing may pass that it cannot read.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.policy.load().refuses())
    }

    /// Whether [`Self::shown`] could change anything, for streams whose messages no permit announces.
    #[must_use]
    pub fn is_shown_less(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| self.is_shown_less_by(&shared.policy.load()))
    }

    fn is_shown_less_by(&self, policy: &Policy) -> bool {
        policy.holds_answers(&self.session.principal, &self.session.server)
    }

    fn event(&self, shared: &Shared, public_id: &str, ts: Micros, body: Body) -> v1::Event {
        shared.metrics.event(&body);
        v1::Event {
            id: None,
            ts_us: ts.0,
            tenant: shared.settings.tenant.to_string(),
            principal: self.session.principal.to_string(),
            session_id: public_id.to_owned(),
            server: self.session.server.to_string(),
            digest_key: shared.settings.key.id,
            body: Some(body),
        }
    }

    fn report_bytes(&self, state: &mut State) {
        let now = state.facts.held_bytes();
        if let Some(shared) = self.shared.upgrade() {
            let held = &shared.table.held_bytes;
            if now >= state.held_bytes {
                held.fetch_add(now - state.held_bytes, Ordering::Relaxed);
            } else {
                held.fetch_sub(state.held_bytes - now, Ordering::Relaxed);
            }
        }
        state.held_bytes = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where rules decide, what cannot be read in one way alone does not pass.
fn unreadable() -> BlockReason {
    let text = "the message cannot be read, or can be read in two ways (a key twice, or in another case)".to_owned();
    BlockReason { code: "message_unreadable", text }
}

/// Of a batch, the strictest decision holds for all.
const fn strictness(decision: &Decision) -> u8 {
    match decision {
        Decision::Allow | Decision::Flag => 0,
        Decision::Delay(_) => 1,
        Decision::Hold(_) => 2,
        Decision::Block(_) => 3,
    }
}

/// What the model says of a call, given the facts of its message.
pub(super) fn assess_message(
    left_out: LeftOut,
    model: Option<&Model>,
    scope: u64,
    message: &v1::Message,
    ts: Micros,
) -> undercurrent_dataflows::assess::Assessment {
    use undercurrent_dataflows::assess::Assessment;
    // Without a model there is nothing to look up, and no need for the facts in hashed form.
    let Some(model) = model else { return Assessment::Unknown };
    let Some(fact) = CallFact::of(message, ts, 0, |_, _| {}) else { return Assessment::Unknown };
    let past = match &message.call {
        Some(call) => Past::of(call),
        None => Past::none(),
    };
    assess_without(left_out, Some(model), scope, past, &fact, &|hash| name_in(message, hash, model))
}

/// The text of a name hash: one of the message's own names, else one that the model knows.
fn name_in<'a>(message: &'a v1::Message, hash: u64, model: &'a Model) -> Option<Cow<'a, str>> {
    if let Some(name) = model.name(hash) {
        return Some(Cow::Borrowed(name));
    }
    let call = message.call.as_ref()?;
    let tools = call.previous_tools.iter().chain(std::iter::once(&message.target));
    let sources = call.leaves.iter().map(|leaf| &leaf.source);
    let name = tools.chain(sources).find(|name| name_hash(&[name]) == hash);
    name.map(|name| Cow::Borrowed(name.as_str())).or_else(|| {
        let leaf = call.leaves.iter().find(|leaf| name_hash(&[&message.target, &leaf.path]) == hash)?;
        Some(Cow::Owned(undercurrent_dataflows::model::name_text(&[&message.target, &leaf.path])))
    })
}

/// The public id of a session: a keyed digest, since the real one is a credential.
fn public_id(session: &SessionRef, shared: &Shared, started: Micros) -> Arc<str> {
    let key = &shared.settings.key;
    let digest = |parts: &[&[u8]]| {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(*part);
        }
        let (low, high) = (key.digest(&bytes), key.digest(&[&bytes[..], b"high"].concat()));
        format!("{low:016x}{high:016x}").into()
    };
    let server = session.server.as_bytes();
    match &session.key {
        SessionKey::Recorded(name) => name.as_str().into(),
        SessionKey::Id(id) => digest(&[b"id", server, id.as_bytes()]),
        SessionKey::Stateless { trace_id } => {
            digest(&[b"stateless", server, session.principal.as_bytes(), trace_id.as_bytes(), &started.0.to_le_bytes()])
        }
    }
}
