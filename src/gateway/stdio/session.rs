//! One legacy session: one child, and who is waiting for what it says.
//!
//! The child's answers go to the request they answer. Its own requests and notifications go to a POST that is open
//! (its progress token says which, else the latest), else to the GET stream, else they wait for one. Not here: HTTP,
//! remapped ids (`shared`). Invariant: ids pass unchanged; a client that has left cancels nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::replies::{Accept, Answer, Expected, OnLeave, Replies, Reply};
use crate::edge::{EdgeSession, Permit};
use crate::gateway::envelope::{Envelope, RequestIds};
use crate::gateway::metrics::Counted;
use crate::gateway::rescue::Refusal;
use crate::gateway::splice::Ties;
use crate::gateway::tap::hear;
use crate::upstream::link::{Line, LinkReceiver, LinkSender};

/// Messages on their way to one client stream; the child waits when its client does not read.
const STREAM_QUEUE: usize = 16;
/// Messages that wait for a GET stream; the oldest go first.
const BACKLOG: usize = 256;

/// A session, as its requests see it.
#[derive(Debug)]
pub(super) struct Session {
    sender: LinkSender,
    pub(super) edge: Arc<EdgeSession>,
    state: Mutex<State>,
    limits: SessionLimits,
    stop: CancellationToken,
    _counted: Counted,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SessionLimits {
    pub(super) open_requests_max: usize,
    pub(super) idle: Duration,
}

#[derive(Debug)]
struct State {
    /// In the order in which they came.
    open: Vec<Open>,
    listener: Option<mpsc::Sender<Reply>>,
    backlog: VecDeque<Bytes>,
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
    replies: mpsc::Sender<Reply>,
}

/// A JSON-RPC id, equal for all ways to write it: a child may answer `"A"` to `"\u0041"`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IdKey(String);

/// The messages of one body.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    all: Vec<(&'a [u8], Ties<'a>)>,
    batch: bool,
}

impl IdKey {
    fn of(id: &RawValue) -> Self {
        let text = id.get();
        if let Ok(string) = serde_json::from_str::<String>(text) {
            return Self(format!("\"{string}"));
        }
        match text.parse::<f64>() {
            // Beyond 2^53 a float cannot tell neighbours apart; such ids are compared as they are written.
            Ok(number) if number.abs() < 9e15 => Self(number.to_string()),
            _ => Self(text.to_owned()),
        }
    }
}

impl<'a> Messages<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let texts: Vec<&[u8]> = match Envelope::read(body) {
            Envelope::One(_) => vec![body],
            Envelope::Batch(batch) if batch.is_empty() => return Err(Refusal::InvalidMessage("the batch is empty")),
            Envelope::Batch(batch) => batch.into_iter().map(|one| one.get().as_bytes()).collect(),
            Envelope::Unreadable if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
                return Err(Refusal::InvalidMessage("request body is not a JSON-RPC message"));
            }
            Envelope::Unreadable => return Err(Refusal::Parse),
        };
        let read = |text| Ties::read(text).map(|ties| (text, ties));
        let all: Option<Vec<_>> = texts.iter().copied().map(read).collect();
        let all = all.ok_or(Refusal::InvalidMessage("request body is not a JSON-RPC message"))?;
        Ok(Self { all, batch: body.trim_ascii_start().first() == Some(&b'[') })
    }

    /// The message, unless it is a batch.
    pub(super) fn one(&self) -> Option<&(&'a [u8], Ties<'a>)> {
        self.all.first().filter(|_| !self.batch)
    }

    fn requests(&self) -> impl Iterator<Item = (&'a RawValue, &Ties<'a>)> {
        self.all.iter().filter_map(|(_, ties)| Some((ties.id.filter(|_| ties.method.is_some())?, ties)))
    }
}

impl Session {
    /// A session with its child; `unread` is told of messages that reach nobody, `ended` when all is over.
    pub(super) fn start(
        (sender, receiver): (LinkSender, LinkReceiver),
        edge: Arc<EdgeSession>,
        limits: SessionLimits,
        counted: Counted,
        unread: impl Fn(&'static str) + Send + Sync + 'static,
        ended: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let state =
            State { open: Vec::new(), listener: None, backlog: VecDeque::new(), used: Instant::now(), ended: false };
        let stop = CancellationToken::new();
        let session = Arc::new(Self { sender, edge, state: Mutex::new(state), limits, stop, _counted: counted });
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

    /// The stream of what belongs to no request; `None` if somebody listens already.
    pub(super) fn listen(&self) -> Option<Answer> {
        let mut state = self.state();
        if state.ended || state.listener.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return None;
        }
        let (listener, receiver) = mpsc::channel(STREAM_QUEUE);
        state.listener = Some(listener);
        let waiting = state.backlog.drain(..).map(Reply::Message).collect();
        Some(Answer::Events(waiting, Replies { receiver, expected: Expected::Unbounded, on_leave: OnLeave::default() }))
    }

    fn register(&self, messages: &Messages<'_>, accept: Accept) -> Result<Option<Replies>, Refusal> {
        let mut state = self.state();
        if state.ended {
            return Err(Refusal::UnknownSession);
        }
        state.used = Instant::now();
        let mut new: Vec<Open> = Vec::new();
        let (replies, receiver) = mpsc::channel(STREAM_QUEUE);
        for (id, ties) in messages.requests() {
            let key = IdKey::of(id);
            if state.open.iter().chain(&new).any(|open| open.key == key) {
                return Err(Refusal::InvalidMessage("a request with this id is still open"));
            }
            let (token, replies) = (ties.token.map(IdKey::of), replies.clone());
            new.push(Open { key, id: id.get().to_owned(), token, events: accept.events, replies });
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
        Ok(Some(Replies { receiver, expected, on_leave: OnLeave::default() }))
    }

    /// Tells the child that nobody waits any longer.
    fn give_up(&self, messages: &Messages<'_>) {
        for (id, _) in messages.requests() {
            let key = IdKey::of(id);
            self.state().open.retain(|open| open.key != key);
            let cancelled = cancellation(id.get(), "timeout");
            if self.sender.try_send(cancelled.as_bytes()).is_err() {
                tracing::debug!("child does not read, so it is not told of a timeout");
            }
        }
    }

    async fn pump(&self, mut receiver: LinkReceiver, unread: &(impl Fn(&'static str) + Sync)) {
        loop {
            let idle_at = self.state().used + self.limits.idle;
            let line = tokio::select! {
                line = receiver.next() => line,
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(idle_at) => {
                    if self.end_if_idle() {
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

    /// Hands one line of the child to whom it belongs, then tells the edge.
    async fn deliver(&self, line: Bytes, unread: &(impl Fn(&'static str) + Sync)) {
        let Some(ties) = Ties::read(&line) else {
            unread("malformed");
            hear(&self.edge, &line);
            return;
        };
        let (to, reply) = match (&ties.method, ties.id) {
            (None, Some(id)) => (self.answered(&IdKey::of(id)), Reply::Answer(line.clone())),
            (None, None) => (None, Reply::Answer(line.clone())),
            (Some(method), _) => (self.audience(method, &ties), Reply::Message(line.clone())),
        };
        let missed = match to {
            // A stop must not wait for a client that does not read.
            Some(to) => tokio::select! {
                sent = to.send(reply) => sent.err().map(|unsent| unsent.0),
                () = self.stop.cancelled() => None,
            },
            None => Some(reply),
        };
        match missed {
            Some(Reply::Message(line)) => {
                let mut state = self.state();
                if state.backlog.len() == BACKLOG {
                    state.backlog.pop_front();
                    unread("undelivered");
                }
                state.backlog.push_back(line);
            }
            // Its client has left, or never asked; the edge hears it all the same.
            Some(Reply::Answer(_)) | None => {}
        }
        hear(&self.edge, &line);
    }

    fn answered(&self, key: &IdKey) -> Option<mpsc::Sender<Reply>> {
        let mut state = self.state();
        state.used = Instant::now();
        let at = state.open.iter().position(|open| open.key == *key)?;
        Some(state.open.remove(at).replies)
    }

    fn audience(&self, method: &str, ties: &Ties<'_>) -> Option<mpsc::Sender<Reply>> {
        let state = self.state();
        let listener = state.listener.as_ref().filter(|listener| !listener.is_closed());
        if let Some(listener) = listener.filter(|_| belongs_to_no_request(method)) {
            return Some(listener.clone());
        }
        let token = ties.token.map(IdKey::of);
        let mut present = state.open.iter().rev().filter(|open| open.events && !open.replies.is_closed());
        let by_token = present.clone().find(|open| token.is_some() && open.token == token);
        by_token.or_else(|| present.next()).map(|open| &open.replies).or(listener).cloned()
    }

    fn end_if_idle(&self) -> bool {
        let mut state = self.state();
        let listened = state.listener.as_ref().is_some_and(|listener| !listener.is_closed());
        if !state.open.is_empty() || listened {
            state.used = Instant::now();
            return false;
        }
        // Under the same lock as `register`: no request can slip in between.
        state.ended = state.used.elapsed() >= self.limits.idle;
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
            let _ = open.replies.try_send(Reply::Answer(error.into()));
        }
        drop(state);
        self.edge.end();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message that takes a request back.
pub(super) fn cancellation(id: &str, reason: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"{reason}"}}}}"#
    )
}

/// Notifications about the server itself; all others belong to what the client is doing.
fn belongs_to_no_request(method: &str) -> bool {
    method.ends_with("/list_changed") || method == "notifications/resources/updated"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_however_they_are_written() {
        let key = |id: &str| IdKey::of(serde_json::from_str::<&RawValue>(id).unwrap());
        assert_eq!(key("1"), key("1.0"));
        assert_eq!(key(r#""A""#), key(r#""\u0041""#));
        assert_ne!(key("1"), key(r#""1""#));
        assert_ne!(key("9007199254740993"), key("9007199254740992"));
    }
}
