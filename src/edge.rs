//! The edge: what happens to each message besides being relayed. Facts, assessment, decision, event.
//!
//! Upstream: the HTTP gateway, `wrap` and `replay`, which hand it the bytes they relay. Downstream: the log.
//! Invariant: nothing here awaits, blocks on I/O or fails; if learning is down the answer is `Assessment::Unknown`.

mod ambiguity;
mod holds;
mod later;
mod record;
mod session;
mod shown;
mod splice;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use undercurrent_dataflows::assess::LeftOut;
use undercurrent_dataflows::facts::{DigestKey, Limits};
use undercurrent_dataflows::model::ModelSlot;
use undercurrent_schemas::ids::{Micros, Sequence};
use undercurrent_schemas::v1::{self, event::Body, label::Verdict};

pub use holds::{Answer, HeldCall, Hold, Holds, OpenTicket, UnknownTicket};
pub use later::Reader;
pub use record::{RecordError, Recorder};
pub use session::EdgeSession;
pub(crate) use splice::splice;

pub use crate::policy::BlockReason;

use crate::clock::EventClock;
use crate::config::Payload;
use crate::log::{EventLog, LogFull};
use crate::policy::Policy;
use crate::telemetry::EdgeMetrics;
use later::Later;
use table::Table;

/// How messages travel: `network.transport` of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Pipe,
    Tcp,
}

impl Transport {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Tcp => "tcp",
        }
    }
}

/// What identifies a session to the edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// `Mcp-Session-Id`, or a stdio process: a credential, never logged or published as it is.
    Id(String),
    /// The stateless era: principal and trace; a silence of the idle time begins another session.
    Stateless { trace_id: String },
    /// A recording's name of the session, which is public already.
    Recorded(String),
}

/// What somebody says about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    Label(Verdict),
    /// It shall leave everything that was learned.
    Forget,
}

impl Saying {
    /// As it stands in the table `labels`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Label(verdict) => verdict.as_text(),
            Self::Forget => "forget",
        }
    }
}

/// Who talks to whom, and over what.
#[derive(Clone, Debug)]
pub struct SessionRef {
    pub server: Arc<str>,
    pub key: SessionKey,
    /// The authenticated subject, else the client's address without port.
    pub principal: Arc<str>,
    pub transport: Transport,
}

/// The right to forward one client message: only a decision makes one, and forwarding uses it up.
///
/// What was seen of the message goes to the log when its permit is used up: after the message has left, if the permit is
/// kept until then, since nobody waits for the log.
#[must_use = "a permit that is dropped is a message that was not forwarded"]
pub struct Permit {
    /// Only dropped.
    _seen: Option<Seen>,
    /// The answer is to be looked at before the client gets it.
    holds_answer: bool,
}

impl Permit {
    /// Whether [`EdgeSession::shown`] has to be asked about the answer before the client gets it.
    #[must_use]
    pub const fn holds_answer(&self) -> bool {
        self.holds_answer
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

/// Events that are queued when this is dropped.
struct Seen {
    shared: Arc<Shared>,
    events: Vec<v1::Event>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        for event in self.events.drain(..) {
            // A full queue is counted by the log, which also leaves a gap record; the message goes its way.
            let _ = self.shared.log.append(event);
        }
    }
}

/// What to do with a client message.
#[derive(Debug)]
pub enum Outcome {
    Forward(Permit),
    /// Forward, but only after this pause.
    Delay(Duration, Permit),
    /// Forward if a person approves.
    Hold(Box<Hold>, Permit),
    /// Answer the client with an error and forward nothing.
    Block(BlockReason),
}

/// What the edge is told once.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    pub tenant: Arc<str>,
    pub key: DigestKey,
    pub limits: Limits,
    /// Of all sessions' provenance indexes together; the oldest idle one is forgotten first.
    pub provenance_bytes_max: usize,
    /// Sessions remembered; the oldest idle one leaves first.
    pub sessions_max: usize,
    /// Silence after which a session is forgotten, and a stateless one is another.
    pub session_idle: Duration,
    pub payload: Payload,
    /// Terms that add nothing to a call's score.
    pub left_out: LeftOut,
}

/// The edge of one process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Edge {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: EdgeSettings,
    policy: ArcSwap<Policy>,
    log: Arc<dyn EventLog>,
    models: ModelSlot,
    clock: Arc<EventClock>,
    metrics: Arc<EdgeMetrics>,
    recorder: Option<Recorder>,
    table: Table,
    holds: Holds,
    /// While a [`Reader`] runs.
    later: ArcSwapOption<Later>,
}

impl Shared {
    /// Where messages wait that nothing can be decided about; `None` where each has to be read at once.
    fn later(&self, policy: &Policy) -> Option<Arc<Later>> {
        if policy.only_observes() { self.later.load_full() } else { None }
    }

    /// Before a message is read at once, those that wait are.
    fn catch_up(&self) {
        if let Some(later) = &*self.later.load() {
            later.catch_up();
        }
    }
}

impl Edge {
    pub fn new(
        settings: EdgeSettings,
        policy: Policy,
        log: Arc<dyn EventLog>,
        models: ModelSlot,
        clock: Arc<EventClock>,
        metrics: Arc<EdgeMetrics>,
        recorder: Option<Recorder>,
    ) -> Self {
        let (table, policy) = (Table::default(), ArcSwap::from_pointee(policy));
        let holds = Holds::new(Arc::clone(&metrics.holds));
        Self {
            shared: Arc::new(Shared {
                settings,
                policy,
                log,
                models,
                clock,
                metrics,
                recorder,
                table,
                holds,
                later: ArcSwapOption::empty(),
            }),
        }
    }

    /// From here on messages that nothing can be decided about are read after they have left, until the reader is
    /// dropped. `bytes_max` of them may wait. The thread takes its priority from the one that calls.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn read_later(&self, bytes_max: usize) -> std::io::Result<Reader> {
        Reader::start(Arc::clone(&self.shared), bytes_max)
    }

    /// Messages that have left and are not read yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.shared.later.load().as_ref().map_or(0, |later| later.waiting())
    }

    /// Does something once the messages so far have been read.
    pub(crate) fn once_read(&self, work: impl FnOnce() + Send + 'static) {
        match self.shared.later(&self.shared.policy.load()) {
            Some(later) => later.push(0, work),
            None => work(),
        }
    }

    /// The session's state, made on first sight.
    pub fn session(&self, session: &SessionRef) -> Arc<EdgeSession> {
        self.session_at(session, self.shared.clock.now())
    }

    /// As [`Self::session`], at a time that a recording gives.
    pub fn session_at(&self, session: &SessionRef, now: Micros) -> Arc<EdgeSession> {
        self.shared.table.get(session, &self.shared, now)
    }

    /// Puts what somebody says about a session into the log: it takes effect where sessions are learned from.
    pub fn say(&self, session_id: &str, saying: Saying) -> Result<Sequence, LogFull> {
        self.say_at(session_id, saying, self.shared.clock.now())
    }

    /// As [`Self::say`], at a time that a recording gives.
    pub fn say_at(&self, session_id: &str, saying: Saying, ts: Micros) -> Result<Sequence, LogFull> {
        let body = match saying {
            Saying::Label(verdict) => Body::Label(v1::Label { verdict: verdict.into() }),
            Saying::Forget => Body::Forget(v1::Forget::default()),
        };
        self.told(session_id, body, ts)
    }

    /// Puts what another site learned into the log, or that it is taken back.
    pub fn import(&self, id: &str, import: v1::ModelImport) -> Result<Sequence, LogFull> {
        self.told(id, Body::ModelImport(import), self.shared.clock.now())
    }

    fn told(&self, session_id: &str, body: Body, ts: Micros) -> Result<Sequence, LogFull> {
        self.shared.metrics.event(&body);
        self.shared.log.append(v1::Event {
            id: None,
            ts_us: ts.0,
            tenant: self.shared.settings.tenant.to_string(),
            principal: String::new(),
            session_id: session_id.to_owned(),
            server: String::new(),
            digest_key: self.shared.settings.key.id,
            body: Some(body),
        })
    }

    /// Puts what was reported from outside into the log. It is of no session.
    pub fn report(&self, server: &str, body: Body) -> Result<Sequence, LogFull> {
        self.shared.metrics.event(&body);
        self.shared.log.append(v1::Event {
            id: None,
            ts_us: self.shared.clock.now().0,
            tenant: self.shared.settings.tenant.to_string(),
            principal: String::new(),
            session_id: String::new(),
            server: server.to_owned(),
            digest_key: self.shared.settings.key.id,
            body: Some(body),
        })
    }

    /// The present time by the clock of events.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.shared.clock.now()
    }

    /// The calls that wait for a person.
    #[must_use]
    pub fn holds(&self) -> &Holds {
        &self.shared.holds
    }

    /// Whether any answer to this principal would have to be looked at before it is passed on.
    #[must_use]
    pub fn holds_answers(&self, principal: &str, server: &str) -> bool {
        self.shared.policy.load().holds_answers(principal, server)
    }

    /// Decides by other rules from the next message on.
    pub fn set_policy(&self, policy: Policy) {
        self.shared.policy.store(Arc::new(policy));
    }

    /// Forgets sessions that have been silent for the idle time, and values beyond the memory bound. Call it now and
    /// then; it never blocks a message for longer than it takes to look at one session.
    pub fn sweep(&self) {
        self.sweep_at(self.shared.clock.now());
    }

    /// As [`Self::sweep`], at a time that a recording gives.
    pub fn sweep_at(&self, now: Micros) {
        self.shared.table.sweep(&self.shared, now);
    }

    /// Sessions remembered.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.table.len()
    }
}
