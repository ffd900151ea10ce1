//! The stream of events that a client reads.
//!
//! Upstream: `replies`. Not here: which message is whose. Invariant: a stream ends cleanly only once every request has
//! its answer, or for a client that can come back for the rest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::{Interval, MissedTickBehavior, Sleep, sleep};

use super::replies::{Expected, Kind, Replies, Reply};
use crate::gateway::deadline::Deadline;
use crate::gateway::envelope::{self, RequestIds};
use crate::gateway::rescue::Refusal;
use crate::gateway::shared::{Account, Ending};

/// How often a silent stream says that it lives: proxies in between cut streams that seem dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The client's stream of events.
#[derive(Debug)]
pub(super) struct Events {
    first: VecDeque<Reply>,
    replies: Replies,
    /// Answers that are still to come; `None` = nobody counts.
    remaining: Option<usize>,
    error: Option<&'static str>,
    account: Account,
    keep_alive: Interval,
    /// When its answer is given up, unless something is heard before.
    due: Option<Deadline>,
    /// When it ends even if its answer is not there; its client comes back for it.
    close: Option<Pin<Box<Sleep>>>,
}

/// The child is gone, and not all requests are answered.
#[derive(Debug, thiserror::Error)]
#[error("the MCP server ended before it answered")]
struct Unanswered;

impl Events {
    pub(super) fn new(first: Vec<Reply>, replies: Replies, account: Account) -> Self {
        let remaining = match replies.expected {
            Expected::One => Some(1),
            Expected::Batch(answers) => Some(answers),
            Expected::Unbounded => None,
        };
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_alive.reset();
        account.has_status(StatusCode::OK);
        let stream_max = replies.opening.as_ref().and_then(|opening| opening.polling.settings.stream_max);
        let close = stream_max.map(|stream_max| Box::pin(sleep(stream_max)));
        let due = replies.limit.as_ref().map(|limit| Deadline::new(limit.patience.next()));
        Self { first: first.into(), replies, remaining, error: None, account, keep_alive, due, close }
    }

    fn end(&mut self) {
        self.replies.on_leave.disarm();
        self.account.close(Ending::Relayed, self.error);
    }

    /// Ends it before its answer, if it is time.
    fn closes(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.close.as_mut().is_some_and(|close| close.as_mut().poll(cx).is_ready());
        if due {
            self.remaining = Some(0);
            if let Some(opening) = &self.replies.opening {
                opening.polling.closed.inc();
            }
        }
        due
    }

    fn event(&mut self, reply: Reply) -> Bytes {
        self.keep_alive.reset();
        if let (Some(due), Some(limit)) = (&mut self.due, &self.replies.limit) {
            due.set(limit.patience.next());
        }
        let Reply { kind, text, event: id } = reply;
        let mut event = BytesMut::with_capacity(text.len() + 48);
        if let Some(id) = id {
            event.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        self.account.passed(text.len());
        match kind {
            Kind::Opening => event.extend_from_slice(self.retry().as_bytes()),
            Kind::Message => {}
            Kind::Endpoint => event.extend_from_slice(b"event: endpoint\n"),
            Kind::Answer => self.answered(&text),
        }
        if matches!(kind, Kind::Message | Kind::Answer) {
            event.extend_from_slice(b"event: message\n");
        }
        event.extend_from_slice(b"data: ");
        // A CR between tokens would end the event's line.
        event.extend(text.iter().map(|&byte| if byte == b'\r' { b' ' } else { byte }));
        event.extend_from_slice(b"\n\n");
        event.freeze()
    }

    /// The answer in place of one that took too long; the child is told as if the client had left.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let (due, limit) = self.due.as_mut().zip(self.replies.limit.as_ref())?;
        if due.poll(cx).is_pending() {
            return None;
        }
        let error = Refusal::UpstreamTimeout.message(&RequestIds::One(limit.id.clone()));
        drop(std::mem::take(&mut self.replies.on_leave));
        Some(self.event(Reply::answer(error.into())))
    }

    /// When its client may come back.
    fn retry(&self) -> String {
        let retry = self.replies.opening.as_ref().map(|opening| opening.polling.settings.retry);
        retry.map_or_else(String::new, |retry| format!("retry: {}\n", retry.as_millis()))
    }

    fn answered(&mut self, text: &[u8]) {
        self.error = envelope::error_type(text).or(self.error);
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(1));
        if self.remaining == Some(0) {
            self.end();
        }
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(reply) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(self.event(reply)))));
        }
        if self.remaining == Some(0) {
            self.end();
            return Poll::Ready(None);
        }
        match self.replies.receiver.poll_recv(cx) {
            Poll::Ready(Some(reply)) => Poll::Ready(Some(Ok(Frame::data(self.event(reply))))),
            Poll::Ready(None) if self.remaining.is_none() => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                self.account.close(Ending::Aborted, None);
                Poll::Ready(Some(Err(Unanswered.into())))
            }
            Poll::Pending if self.closes(cx) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => match self.overdue(cx) {
                Some(error) => Poll::Ready(Some(Ok(Frame::data(error)))),
                None => self.keep_alive.poll_tick(cx).map(|_| Some(Ok(Frame::data(Bytes::from_static(b":\n\n"))))),
            },
        }
    }
}
