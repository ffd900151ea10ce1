//! What a child says, as a response: one JSON body, or a stream of events.
//!
//! Upstream: `session` and `shared`, which sort a child's lines by request. Downstream: `events`, the stream. Invariant:
//! a JSON body holds all answers.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;

use super::events::Events;
use super::journal::EventId;
use super::polling::Polling;
use crate::gateway::call::{Body, SESSION_ID};
use crate::gateway::deadline::Patience;
use crate::gateway::envelope;
use crate::gateway::rescue::Refusal;
use crate::gateway::shared::{Account, Ending};

/// How long the first message is waited for, so that it leaves together with the event that opens a stream.
const OPEN_AFTER: Duration = Duration::from_millis(100);

/// One message on its way to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) text: Bytes,
    /// Where it stands, in a session whose streams can be had again.
    pub(super) event: Option<EventId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing but an id, so that a client can come back before the first message.
    Opening,
    /// Where a client of 2024-11-05 posts to.
    Endpoint,
    /// A request or notification of the server.
    Message,
    /// The answer to one of the client's requests.
    Answer,
}

/// What a client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    pub(super) json: bool,
    pub(super) events: bool,
}

/// How many answers a stream of replies carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    One,
    /// To a batch of 2025-03-26.
    Batch(usize),
    /// A stream that is listened to: it ends when the server does.
    Unbounded,
}

/// The replies to the requests of one call.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) receiver: mpsc::Receiver<Reply>,
    pub(super) expected: Expected,
    /// The stream's first event, for clients that know what an empty one is.
    pub(super) opening: Option<Opening>,
    /// A result is a stream even if it comes alone, for clients that read both. An error that comes at once stays JSON:
    /// the era without sessions ties it to a status.
    pub(super) streams: bool,
    /// Set once the response is a stream of events with ids: its client can come back for what it misses.
    pub(super) resumable: Arc<AtomicBool>,
    /// How long its stream may go on, where nobody else looks to that.
    pub(super) limit: Option<Limit>,
    /// What to do if the client leaves before the last answer.
    pub(super) on_leave: OnLeave,
}

/// How long an answer may take, and whose it is.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) patience: Patience,
    pub(super) id: String,
}

/// How a stream opens that can be had again.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// All that is to come stands behind it.
    pub(super) at: EventId,
    pub(super) polling: Arc<Polling>,
}

/// Done when it is dropped, unless it was disarmed.
#[derive(Default)]
pub(super) struct OnLeave(Option<Box<dyn FnOnce() + Send>>);

/// A child's part of a response.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing but a status.
    Status(StatusCode),
    Json(Bytes),
    Events(Vec<Reply>, Replies),
}

impl Reply {
    pub(super) const fn message(text: Bytes) -> Self {
        Self { kind: Kind::Message, text, event: None }
    }

    pub(super) const fn answer(text: Bytes) -> Self {
        Self { kind: Kind::Answer, text, event: None }
    }

    pub(super) const fn endpoint(text: Bytes) -> Self {
        Self { kind: Kind::Endpoint, text, event: None }
    }

    pub(super) fn at(self, event: EventId) -> Self {
        Self { event: Some(event), ..self }
    }
}

impl Accept {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
        let any = accept.is_empty() || accept.contains("*/*");
        Self { json: any || accept.contains("application/json"), events: accept.contains("text/event-stream") }
    }
}

impl OnLeave {
    pub(super) fn new(leave: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(leave)))
    }

    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for OnLeave {
    fn drop(&mut self) {
        if let Some(leave) = self.0.take() {
            leave();
        }
    }
}

impl fmt::Debug for OnLeave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnLeave({})", self.0.is_some())
    }
}

impl Opening {
    fn event(&self) -> Reply {
        self.polling.opened.inc();
        Reply { kind: Kind::Opening, text: Bytes::new(), event: Some(self.at) }
    }
}

impl Replies {
    pub(super) fn new(receiver: mpsc::Receiver<Reply>, expected: Expected) -> Self {
        Self {
            receiver,
            expected,
            opening: None,
            streams: false,
            resumable: Arc::default(),
            limit: None,
            on_leave: OnLeave::default(),
        }
    }

    /// Waits until it is clear which kind of response this will be.
    pub(super) async fn first(mut self, accept: Accept, patience: Duration) -> Result<Answer, Refusal> {
        let mut answers = Vec::new();
        let expected = match self.expected {
            _ if !accept.json => return Ok(self.stream(answers)),
            Expected::One => 1,
            Expected::Batch(answers) => answers,
            Expected::Unbounded => return Ok(self.stream(answers)),
        };
        let may_open = accept.events && self.opening.is_some() && OPEN_AFTER < patience;
        let wait = if may_open { OPEN_AFTER } else { patience };
        while answers.len() < expected {
            match tokio::time::timeout(wait, self.receiver.recv()).await {
                Ok(Some(reply)) => {
                    let alone = reply.kind == Kind::Answer;
                    answers.push(reply);
                    if !alone {
                        return Ok(self.stream(answers));
                    }
                }
                Ok(None) => return Err(Refusal::UpstreamGone),
                Err(_) if may_open => return Ok(self.stream(answers)),
                Err(_) => return Err(Refusal::UpstreamTimeout),
            }
        }
        let failed = answers.last().is_some_and(|answer| envelope::error_type(&answer.text).is_some());
        if self.streams && accept.events && self.expected == Expected::One && !failed {
            return Ok(self.stream(answers));
        }
        self.on_leave.disarm();
        let texts = answers.into_iter().map(|answer| answer.text);
        Ok(Answer::Json(match self.expected {
            Expected::Batch(_) => array(texts),
            Expected::One | Expected::Unbounded => texts.last().unwrap_or_default(),
        }))
    }

    /// A stream that has these to begin with.
    pub(super) fn stream(self, replies: Vec<Reply>) -> Answer {
        self.resumable.store(true, Ordering::Relaxed);
        let opening = self.opening.as_ref().map(Opening::event);
        Answer::Events(opening.into_iter().chain(replies).collect(), self)
    }
}

impl Answer {
    /// The whole response. `status_of` says which status an answer's `error.type` means.
    pub(super) fn respond(
        self,
        mut account: Account,
        session_id: Option<&str>,
        status_of: impl Fn(&str) -> StatusCode,
    ) -> Response<Body> {
        let mut response = match self {
            Self::Status(status) => {
                account.has_status(status);
                account.close(Ending::Relayed, None);
                with_status(status, Bytes::new())
            }
            Self::Json(body) => {
                let error = envelope::error_type(&body);
                let status = error.map_or(StatusCode::OK, status_of);
                account.has_status(status);
                account.passed(body.len());
                account.close(Ending::Relayed, error);
                let mut response = with_status(status, body);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Self::Events(first, replies) => {
                let mut response = Response::new(Events::new(first, replies, account).boxed_unsync());
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
                response
            }
        };
        if let Some(id) = session_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            response.headers_mut().insert(HeaderName::from_static(SESSION_ID), id);
        }
        response
    }
}

fn with_status(status: StatusCode, body: Bytes) -> Response<Body> {
    let never = |never: Infallible| match never {};
    let mut response = Response::new(Full::new(body).map_err(never).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn array(texts: impl Iterator<Item = Bytes>) -> Bytes {
    let mut out = BytesMut::from(&b"["[..]);
    for (i, text) in texts.enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        out.extend_from_slice(&text);
    }
    out.put_u8(b']');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> Accept {
        Accept::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]))
    }

    async fn first(replies: &[&'static str], expected: Expected, accept: Accept) -> Result<Answer, Refusal> {
        let (sender, receiver) = mpsc::channel(8);
        for reply in replies {
            let text = Bytes::from_static(reply.as_bytes());
            let reply = if reply.contains("method") { Reply::message(text) } else { Reply::answer(text) };
            sender.send(reply).await.unwrap();
        }
        drop(sender);
        Replies::new(receiver, expected).first(accept, Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn an_answer_alone_is_json_and_one_with_company_is_a_stream() {
        let both = accept("application/json, text/event-stream");
        assert!(matches!(first(&["1"], Expected::One, both).await, Ok(Answer::Json(body)) if body == "1"));
        assert!(
            matches!(first(&["1", "2"], Expected::Batch(2), both).await, Ok(Answer::Json(body)) if body == "[1,2]")
        );
        assert!(matches!(first(&["method", "1"], Expected::One, both).await, Ok(Answer::Events(..))));
        assert!(matches!(first(&["1"], Expected::One, accept("text/event-stream")).await, Ok(Answer::Events(..))));
        assert!(matches!(first(&["1"], Expected::Batch(2), both).await, Err(Refusal::UpstreamGone)));
    }

    #[test]
    fn accept_headers_say_what_a_client_reads() {
        assert_eq!(accept("*/*"), Accept { json: true, events: false });
        assert_eq!(accept("text/event-stream, application/json;q=0.5"), Accept { json: true, events: true });
        assert_eq!(Accept::of(&HeaderMap::new()), Accept { json: true, events: false });
    }
}
