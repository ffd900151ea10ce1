//! The response body on its way to the client: each chunk goes out as it came, and to the tap afterwards.
//!
//! Invariant: an upstream that ends in the middle makes the client's body end in an error too, never cleanly. What
//! happens when the client leaves first depends on the era: see [`Abandon`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prometheus::IntGauge;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::after_write::AfterWrite;
use super::call::{self, BodyError};
use super::deadline::{Deadline, Patience};
use super::metrics::Counted;
use super::shared::Ending;
use super::tap::Tap;
use super::withdrawal::Withdrawal;
use crate::edge::EdgeSession;

/// What becomes of an exchange whose client has left.
#[derive(Clone, Debug)]
pub(crate) enum Abandon {
    /// Leaving is cancelling (2026-07-28, and all streams that a client merely listens to).
    Cancel,
    /// Leaving is not cancelling (before): the exchange goes on to its end, within limits. A stream whose events have
    /// ids ends all the same: an upstream that is still listened to would not keep the rest for the client's return.
    Finish(Finish),
}

/// What an exchange may bring once its client has left; an upstream that says more than that speaks to nobody.
pub(crate) const UNHEARD_BYTES_MAX: usize = 32 << 20;

/// Limits on exchanges that go on without their client.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    pub(crate) limit: Duration,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) gauge: IntGauge,
    /// The gateway stops: nothing is waited for any more.
    pub(crate) stop: CancellationToken,
}

impl Finish {
    /// Runs what is left of an exchange on a task of its own; with all slots taken it is dropped, which cancels it.
    pub(crate) fn spawn(&self, rest: impl Future<Output = ()> + Send + 'static) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        let (limit, counted, stop) = (self.limit, Counted::new(&self.gauge), self.stop.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(limit, stop.run_until_cancelled_owned(rest)).await;
            drop((slot, counted));
        });
    }
}

/// A response body that is relayed and tapped.
#[derive(Debug)]
pub(crate) struct RelayBody {
    /// `None` once it has ended.
    inner: Option<Incoming>,
    tap: SharedTap,
    after_write: AfterWrite,
    abandon: Abandon,
    /// `None` where the stream may be silent.
    limit: Option<Limit>,
}

/// How long an answer may go on, and what is said when it is over.
#[derive(Debug)]
struct Limit {
    patience: Patience,
    deadline: Deadline,
    withdrawal: Option<Withdrawal>,
}

/// It took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("the MCP server did not finish its answer in time")]
struct TookTooLong;

#[derive(Clone, Debug)]
struct SharedTap(Arc<Mutex<Tap>>);

impl SharedTap {
    fn with<T>(&self, work: impl FnOnce(&mut Tap) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RelayBody {
    pub(crate) fn new(
        inner: Incoming,
        tap: Tap,
        after_write: AfterWrite,
        abandon: Abandon,
        limit: Option<(Patience, Option<Withdrawal>)>,
    ) -> Self {
        let tap = SharedTap(Arc::new(Mutex::new(tap)));
        let mut body = Self { inner: Some(inner), tap, after_write, abandon, limit: None };
        // hyper never polls a body that is empty from the start.
        if body.is_end_stream() {
            body.end(Ending::Relayed);
        } else {
            body.limit = limit.map(|(patience, withdrawal)| {
                let deadline = Deadline::new(patience.next());
                Limit { patience, deadline, withdrawal }
            });
        }
        body
    }

    /// What comes from now on is of another session than was thought.
    pub(crate) fn belongs_to(&self, session: &Arc<EdgeSession>) {
        self.tap.with(|tap| tap.belongs_to(session));
    }

    fn end(&mut self, ending: Ending) {
        if self.inner.take().is_some() {
            let tap = self.tap.clone();
            self.after_write.push(move || tap.with(|tap| tap.end(ending)));
        }
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *inner).poll_frame(cx) else {
            let Some(limit) = &mut this.limit else { return Poll::Pending };
            ready!(limit.deadline.poll(cx));
            tracing::warn!("an answer took too long, and is cut off");
            // Of a stream with ids the client can have the rest.
            let withdrawal = limit.withdrawal.take().filter(|_| !this.tap.with(|tap| tap.is_resumable()));
            if let Some(withdrawal) = withdrawal {
                withdrawal.send();
            }
            self.end(Ending::Aborted);
            return Poll::Ready(Some(Err(TookTooLong.into())));
        };
        let last = inner.is_end_stream();
        if let Some(Limit { patience, deadline, .. }) = &mut this.limit {
            deadline.set(patience.next());
        }
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let (tap, data) = (self.tap.clone(), data.clone());
                    self.after_write.push(move || tap.with(|tap| tap.feed(&data)));
                }
                if last {
                    self.end(Ending::Relayed);
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "upstream ended in the middle of a response");
                self.end(Ending::Aborted);
            }
            None => self.end(Ending::Relayed),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // What was queued on the connection comes before what the rest will bring.
        self.after_write.run();
        match &self.abandon {
            Abandon::Cancel => self.tap.with(|tap| tap.end(Ending::ClientLeft)),
            Abandon::Finish(_) if self.tap.with(|tap| tap.is_resumable()) => {
                self.tap.with(|tap| tap.end(Ending::ClientLeft));
            }
            Abandon::Finish(finish) => finish.spawn(read_to_end(inner, self.tap.clone())),
        }
    }
}

async fn read_to_end(mut inner: Incoming, tap: SharedTap) {
    let mut unheard_bytes = 0;
    while let Some(frame) = inner.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    tap.with(|tap| tap.feed(data));
                    unheard_bytes += data.len();
                }
                if unheard_bytes > UNHEARD_BYTES_MAX {
                    return tap.with(|tap| tap.end(Ending::ClientLeft));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "upstream ended in the middle of a response");
                return tap.with(|tap| tap.end(Ending::Aborted));
            }
        }
    }
    tap.with(|tap| tap.end(Ending::Relayed));
}

/// Drives an exchange up to its response; dropped before that, it acts as its [`Finish`] says.
pub(crate) struct Undisturbed {
    exchange: Option<Pin<Box<dyn Future<Output = Response<call::Body>> + Send>>>,
    finish: Finish,
}

impl Undisturbed {
    pub(crate) fn new(exchange: impl Future<Output = Response<call::Body>> + Send + 'static, finish: Finish) -> Self {
        Self { exchange: Some(Box::pin(exchange)), finish }
    }
}

impl Future for Undisturbed {
    type Output = Response<call::Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let exchange = self.exchange.as_mut().expect("polled only until it is ready");
        let response = ready!(exchange.as_mut().poll(cx));
        self.exchange = None;
        Poll::Ready(response)
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            // Its response is dropped in turn, and a relayed body then finishes by itself.
            self.finish.spawn(async move { drop(exchange.await) });
        }
    }
}
