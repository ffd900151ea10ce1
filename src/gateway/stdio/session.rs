//! One legacy session: one child, and who is waiting for what it says.
//!
//! The child's answers go to the request they answer. Its own requests and notifications go to a POST that is open
//! (its progress token says which, else the latest), else to the GET stream, else they wait for one. Not here: HTTP,
//! remapped ids (`shared`). Invariant: ids pass unchanged; a client that has left cancels nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::journal::{EventId, Journal, LISTENER};
use super::messages::{IdKey, Messages};
use super::polling::Polling;
use super::replies::{Accept, Answer, Expected, Kind, OnLeave, Opening, Replies, Reply};
use crate::edge::{EdgeSession, Permit};
use crate::gateway::config::Timeouts;
use crate::gateway::deadline::Patience;
use crate::gateway::envelope::RequestIds;
use crate::gateway::metrics::Counted;
use crate::gateway::rescue::Refusal;
use crate::gateway::ties::Ties;
use crate::upstream::link::{Line, LinkReceiver, LinkSender};

/// Messages on their way to one client stream; the child waits when its client does not read.
const STREAM_QUEUE: usize = 16;
/// Messages that wait for a GET stream; the oldest go first.
const BACKLOG: usize = 256;

/// Whose session it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) edge: Arc<EdgeSession>,
    /// The client knows that a stream may open with an event that holds nothing but an id.
    pub(super) knows_openings: bool,
    /// Everything goes out on the one stream that it began with (2024-11-05).
    pub(super) one_stream: bool,
}

/// A session, as its requests see it.
#[derive(Debug)]
pub(super) struct Session {
    sender: LinkSender,
    pub(super) edge: Arc<EdgeSession>,
    knows_openings: bool,
    one_stream: bool,
    polling: Arc<Polling>,
    state: Mutex<State>,
    limits: SessionLimits,
    stop: CancellationToken,
    _counted: Counted,
}

#[derive(Clone, Debug)]
pub(super) struct SessionLimits {
    pub(super) open_requests_max: usize,
    pub(super) timeouts: Timeouts,
}

#[derive(Debug)]
struct State {
    /// In the order in which they came.
    open: Vec<Open>,
    listener: Option<mpsc::Sender<Reply>>,
    /// What waits for a listener.
    backlog: VecDeque<Reply>,
    journal: Journal,
    used: Instant,
    ended: bool,
}

/// A request without its answer.
#[derive(Debug)]
struct Open {
    key: IdKey,
    id: String,
    token: Option<IdKey>,
    /// Its client reads events, so messages that belong to it may be sent along.
    events: bool,
    stream: u64,
    /// Its client may have left, and can come back for what it misses.
    resumable: Arc<AtomicBool>,
    replies: mpsc::Sender<Reply>,
    patience: Patience,
    /// When it is given up, unless something is heard of it before.
    due: Instant,
}

/// Who gets a message, and on which stream.
#[derive(Clone, Debug)]
struct Audience {
    replies: mpsc::Sender<Reply>,
    stream: u64,
    /// What the client misses now, it can have again.
    resumable: bool,
}

impl Session {
    /// A session with its child; `unread` is told of messages that reach nobody, `ended` when all is over.
    pub(super) fn start(
        (sender, receiver): (LinkSender, LinkReceiver),
        opened: Opened,
        limits: SessionLimits,
        polling: Arc<Polling>,
        counted: Counted,
        unread: impl Fn(&'static str) + Send + Sync + 'static,
        ended: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let state = State {
            open: Vec::new(),
            listener: None,
            backlog: VecDeque::new(),
            journal: Journal::new(Arc::clone(&polling)),
            used: Instant::now(),
            ended: false,
        };
        let stop = CancellationToken::new();
        let Opened { edge, knows_openings, one_stream } = opened;
        let state = Mutex::new(state);
        let session =
            Self { sender, edge, knows_openings, one_stream, polling, state, limits, stop, _counted: counted };
        let session = Arc::new(session);
        let pumped = Arc::clone(&session);
        tokio::spawn(async move {
            pumped.pump(receiver, &unread).await;
            ended();
            pumped.end();
        });
        session
    }

    /// Ends the child, and with it the session.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether it is one of 2024-11-05.
    pub(super) const fn is_one_stream(&self) -> bool {
        self.one_stream
    }

    /// The stream that such a session is: first where to post to, then everything that the child says. The session ends
    /// with it.
    pub(super) fn stream(self: &Arc<Self>, endpoint: String) -> Answer {
        let (listener, receiver) = mpsc::channel(STREAM_QUEUE);
        self.state().listener = Some(listener);
        let stop = self.stop.clone();
        let on_leave = OnLeave::new(move || stop.cancel());
        let replies = Replies { on_leave, ..Replies::new(receiver, Expected::Unbounded) };
        Answer::Events(vec![Reply::endpoint(endpoint.into())], replies)
    }

    /// Passes the messages of a body on; what comes back goes to the stream.
    pub(super) async fn pass(&self, permit: Permit, messages: &Messages<'_>) -> Result<Answer, Refusal> {
        drop(permit);
        self.state().used = Instant::now();
        for (text, _) in &messages.all {
            self.sender.send(text).await.map_err(|_| Refusal::UpstreamGone)?;
        }
        Ok(Answer::Status(http::StatusCode::ACCEPTED))
    }

    /// Passes the messages of a body on, and waits for what comes back.
    pub(super) async fn post(
        &self,
        permit: Permit,
        messages: &Messages<'_>,
        accept: Accept,
        patience: Duration,
    ) -> Result<Answer, Refusal> {
        let replies = self.register(messages, accept)?;
        drop(permit);
        for (text, _) in &messages.all {
            self.sender.send(text).await.map_err(|_| Refusal::UpstreamGone)?;
        }
        let Some(replies) = replies else { return Ok(Answer::Status(http::StatusCode::ACCEPTED)) };
        let answer = replies.first(accept, patience).await;
        if let Err(Refusal::UpstreamTimeout) = answer {
            self.give_up(messages);
        }
        answer
    }

    /// The stream of what belongs to no request, or the one that `last` was an event of.
    pub(super) fn listen(&self, last: Option<EventId>) -> Result<Answer, Refusal> {
        let mut state = self.state();
        state.used = Instant::now();
        if let Some(last) = last.filter(|last| last.stream != LISTENER) {
            let opening = self.opening(last);
            return state.resume(last, opening).inspect(|_| self.polling.resumed.inc());
        }
        let listened = state.listener.as_ref().is_some_and(|listener| !listener.is_closed());
        // Who names an event of the stream is who listened to it.
        if state.ended || listened && last.is_none() {
            return Err(Refusal::StreamTaken);
        }
        let (listener, receiver) = mpsc::channel(STREAM_QUEUE);
        state.listener = Some(listener);
        let waiting = state.waiting(last);
        Ok(Answer::Events(waiting, Replies::new(receiver, Expected::Unbounded)))
    }

    fn register(&self, messages: &Messages<'_>, accept: Accept) -> Result<Option<Replies>, Refusal> {
        let mut state = self.state();
        if state.ended {
            return Err(Refusal::UnknownSession);
        }
        state.used = Instant::now();
        let mut new: Vec<Open> = Vec::new();
        let (replies, receiver) = mpsc::channel(STREAM_QUEUE);
        let (stream, resumable) = (state.journal.stream(), Arc::<AtomicBool>::default());
        let patience = Patience::new(&self.limits.timeouts);
        let due = Instant::now() + patience.next();
        for (id, ties) in messages.requests() {
            let key = IdKey::of(id);
            if state.open.iter().chain(&new).any(|open| open.key == key) {
                return Err(Refusal::InvalidMessage("a request with this id is still open"));
            }
            let (token, replies, resumable) = (ties.token.map(IdKey::of), replies.clone(), Arc::clone(&resumable));
            let (id, events) = (id.get().to_owned(), accept.events);
            new.push(Open { key, id, token, events, stream, resumable, replies, patience, due });
        }
        if state.open.len() + new.len() > self.limits.open_requests_max {
            return Err(Refusal::TooManyRequests);
        }
        let expected = match (new.len(), messages.batch) {
            (0, _) => return Ok(None),
            (answers, true) => Expected::Batch(answers),
            (_, false) => Expected::One,
        };
        state.open.append(&mut new);
        // The answer to `initialize` decides about the session, and nobody comes back before there is one.
        let opens = messages.one().is_some_and(|(_, ties)| ties.method.as_deref() == Some("initialize"));
        let at = state.journal.opening(stream);
        let opening = self.opening(at).filter(|_| !opens);
        let streams = opening.is_some();
        Ok(Some(Replies { opening, streams, resumable, ..Replies::new(receiver, expected) }))
    }

    /// How a stream opens, for clients that know such events.
    fn opening(&self, at: EventId) -> Option<Opening> {
        self.knows_openings.then(|| Opening { at, polling: Arc::clone(&self.polling) })
    }

    /// Tells the child that nobody waits any longer.
    fn give_up(&self, messages: &Messages<'_>) {
        for (id, _) in messages.requests() {
            let key = IdKey::of(id);
            self.state().open.retain(|open| open.key != key);
            self.cancel(id.get());
        }
    }

    fn cancel(&self, id: &str) {
        if self.sender.try_send(cancellation(id, "timeout").as_bytes()).is_err() {
            tracing::debug!("child does not read, so it is not told of a timeout");
        }
    }

    /// Answers those streams, there or not, whose request has taken too long.
    fn expire(&self) {
        let now = Instant::now();
        let expired: Vec<Open> =
            self.state().open.extract_if(.., |open| open.is_out_of_sight() && open.due <= now).collect();
        for open in expired {
            let error = Refusal::UpstreamTimeout.message(&RequestIds::One(open.id.clone()));
            let reply = self.state().journal.keep(open.stream, Reply::answer(error.into()), !open.is_there());
            // Whoever does not read, or is not there, can have it again.
            let _ = open.replies.try_send(reply);
            self.cancel(&open.id);
        }
    }

    async fn pump(&self, mut receiver: LinkReceiver, unread: &(impl Fn(&'static str) + Sync)) {
        loop {
            let (idle_at, wake_at) = self.wakes();
            let line = tokio::select! {
                line = receiver.next() => line,
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(wake_at) => {
                    self.expire();
                    if idle_at <= Instant::now() && self.end_if_idle() {
                        return;
                    }
                    continue;
                }
            };
            match line {
                Some(Line::Message(line)) => self.deliver(line, unread).await,
                Some(Line::TooLong) => unread("too_large"),
                None => return,
            }
        }
    }

    /// When it may have been idle for too long, and when to look next. A request that comes meanwhile is due no earlier
    /// than a silence from now.
    fn wakes(&self) -> (Instant, Instant) {
        let timeouts = &self.limits.timeouts;
        let state = self.state();
        let idle_at = state.used + timeouts.session_idle;
        let look_at = Instant::now() + timeouts.response.min(timeouts.call);
        let due = state.open.iter().filter(|open| open.is_out_of_sight()).map(|open| open.due).min();
        (idle_at, idle_at.min(look_at).min(due.unwrap_or(look_at)))
    }

    /// Hands one line of the child to whom it belongs, then tells the edge.
    async fn deliver(&self, line: Bytes, unread: &(impl Fn(&'static str) + Sync)) {
        let Some(ties) = Ties::read(&line) else {
            unread("malformed");
            self.edge.server_message_later(line, drop);
            return;
        };
        let shown = self.edge.shown(&line).map_or_else(|| line.clone(), Bytes::from);
        let (to, reply) = self.route(&ties, &shown);
        let resumable = to.as_ref().is_some_and(|to| to.resumable);
        let missed = match to {
            // A stop must not wait for a client that does not read.
            Some(to) => tokio::select! {
                sent = to.replies.send(reply) => sent.err().map(|unsent| unsent.0),
                () = self.stop.cancelled() => None,
            },
            None => Some(reply),
        };
        // An answer whose client has left, or never asked, is heard by the edge all the same.
        if let Some(reply) = missed.filter(|reply| reply.kind == Kind::Message && !resumable) {
            let mut state = self.state();
            if state.backlog.len() == BACKLOG {
                state.backlog.pop_front();
                unread("undelivered");
            }
            state.backlog.push_back(reply);
        }
        self.edge.server_message_later(line, drop);
    }

    /// Whom a line is for, and the line as it is kept for them: in one step, so that who comes back in between finds
    /// the request open or its answer kept.
    fn route(&self, ties: &Ties<'_>, line: &Bytes) -> (Option<Audience>, Reply) {
        let mut state = self.state();
        if self.one_stream {
            let to = state.listener.clone();
            let to = to.map(|replies| Audience { replies, stream: LISTENER, resumable: false });
            return (to, Reply::message(line.clone()));
        }
        let (to, reply) = match (&ties.method, ties.id) {
            (None, Some(id)) => (state.answered(&IdKey::of(id)), Reply::answer(line.clone())),
            (None, None) => (None, Reply::answer(line.clone())),
            (Some(method), _) => (state.audience(method, ties), Reply::message(line.clone())),
        };
        match to {
            Some(to) => {
                let reply = state.journal.keep(to.stream, reply, to.replies.is_closed());
                state.heard(to.stream);
                (Some(to), reply)
            }
            None => (None, reply),
        }
    }

    fn end_if_idle(&self) -> bool {
        let mut state = self.state();
        let listened = state.listener.as_ref().is_some_and(|listener| !listener.is_closed());
        if !state.open.is_empty() || listened {
            state.used = Instant::now();
            return false;
        }
        // Under the same lock as `register`: no request can slip in between.
        state.ended = state.used.elapsed() >= self.limits.timeouts.session_idle;
        state.ended
    }

    /// Answers whoever still waits.
    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.listener = None;
        for open in state.open.drain(..) {
            let error = Refusal::UpstreamGone.message(&RequestIds::One(open.id));
            // A full queue has a reader that finds its end missing, which says the same.
            let _ = open.replies.try_send(Reply::answer(error.into()));
        }
        drop(state);
        self.edge.end();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answered(&mut self, key: &IdKey) -> Option<Audience> {
        self.used = Instant::now();
        let at = self.open.iter().position(|open| open.key == *key)?;
        Some(self.open.remove(at).audience())
    }

    /// A sign of life of what a stream waits for.
    fn heard(&mut self, stream: u64) {
        for open in self.open.iter_mut().filter(|open| open.stream == stream) {
            open.due = Instant::now() + open.patience.next();
        }
    }

    /// Whoever is there comes before who may come back.
    fn audience(&self, method: &str, ties: &Ties<'_>) -> Option<Audience> {
        let listener = self.listener.as_ref().filter(|listener| !listener.is_closed());
        let listener =
            listener.map(|listener| Audience { replies: listener.clone(), stream: LISTENER, resumable: false });
        if listener.is_some() && belongs_to_no_request(method) {
            return listener;
        }
        let token = ties.token.map(IdKey::of);
        let mut readers = self.open.iter().rev().filter(|open| open.events && (open.is_there() || open.is_resumable()));
        let by_token = readers.clone().find(|open| token.is_some() && open.token == token);
        let there = by_token.or_else(|| readers.clone().find(|open| open.is_there()));
        there.map(Open::audience).or(listener).or_else(|| readers.next().map(Open::audience))
    }

    /// What a listener gets first: what its stream has carried since an event, and what nobody was there for.
    fn waiting(&mut self, last: Option<EventId>) -> Vec<Reply> {
        let mut waiting = last.map_or_else(Vec::new, |last| self.journal.after(last));
        for reply in std::mem::take(&mut self.backlog) {
            let sent_before = reply.event.is_some_and(|id| id.stream == LISTENER);
            let reply = if sent_before { reply } else { self.journal.keep(LISTENER, reply, false) };
            if !waiting.contains(&reply) {
                waiting.push(reply);
            }
        }
        waiting
    }

    /// What a stream has carried since an event, and what is still to come on it.
    fn resume(&mut self, last: EventId, opening: Option<Opening>) -> Result<Answer, Refusal> {
        let missed = self.journal.after(last);
        let (replies, receiver) = mpsc::channel(STREAM_QUEUE);
        let mut answers = missed.iter().filter(|reply| reply.kind == Kind::Answer).count();
        for open in self.open.iter_mut().filter(|open| open.stream == last.stream) {
            open.replies = replies.clone();
            answers += 1;
        }
        if answers == 0 {
            return Err(Refusal::EventForgotten);
        }
        Ok(Replies { opening, ..Replies::new(receiver, Expected::Batch(answers)) }.stream(missed))
    }
}

impl Open {
    fn is_there(&self) -> bool {
        !self.replies.is_closed()
    }

    fn is_resumable(&self) -> bool {
        self.resumable.load(Ordering::Relaxed)
    }

    /// Nobody waits for its response to begin: it has, or its client has left.
    fn is_out_of_sight(&self) -> bool {
        self.is_resumable() || !self.is_there()
    }

    fn audience(&self) -> Audience {
        Audience { replies: self.replies.clone(), stream: self.stream, resumable: self.is_resumable() }
    }
}

/// The message that takes a request back.
pub(in crate::gateway) fn cancellation(id: &str, reason: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"{reason}"}}}}"#
    )
}

/// Notifications about the server itself; all others belong to what the client is doing.
fn belongs_to_no_request(method: &str) -> bool {
    method.ends_with("/list_changed") || method == "notifications/resources/updated"
}
