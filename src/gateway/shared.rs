//! What all exchanges of one gateway have in common, and the record that each of them leaves.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use undercurrent_schemas::v1;

use super::admission::{Admission, Entry};
use super::call::{Body, Call, Era, whole};
use super::config::Fixed;
use super::envelope;
use super::metrics::GatewayMetrics;
use super::relay::Finish;
use super::rescue::Refusal;
use crate::edge::{Edge, EdgeSession, Outcome, Permit};
use crate::observe::{Closing, Exchange, Opening};

/// Settings, edge and metrics of one gateway.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Fixed,
    pub(crate) edge: Edge,
    pub(crate) metrics: GatewayMetrics,
    pub(crate) finish: Finish,
}

/// One exchange in the metrics; counted exactly once, when it is closed or dropped.
#[derive(Debug)]
pub(crate) struct Account {
    shared: Arc<Shared>,
    server: Arc<str>,
    read: Arc<Read>,
    started: Instant,
    open: bool,
    entry: Entry,
    /// `None`: nobody wants to know more of it.
    seen: Option<Box<Mutex<Exchange>>>,
}

/// What the messages of an exchange say, once they were read, which may be after its end.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Of the request.
    method: OnceLock<&'static str>,
    /// `error.type` of what came back, if it is one.
    error: OnceLock<&'static str>,
}

/// The header of a client that traces its HTTP requests.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Relayed,
    /// The upstream ended in the middle of its response.
    Aborted,
    /// The client left first, and took the exchange with it.
    ClientLeft,
    Refused(&'static str),
}

impl Shared {
    /// Counts a message of a server that was not read, or reached nobody.
    pub(crate) fn unread(&self, server: &str, cause: &'static str) {
        self.metrics.unread.with_label_values(&[server, cause]).inc();
    }

    fn malformed(&self, server: &str) {
        self.metrics.malformed.with_label_values(&[server]).inc();
    }
}

impl Read {
    fn method(&self) -> &'static str {
        self.method.get().copied().unwrap_or("none")
    }

    /// The edge is the first to read a request that nobody looked into before.
    fn request(&self, message: &v1::Message, shared: &Shared, server: &str) {
        if self.method.set(envelope::label_of(message)).is_ok() && message.kind() == v1::Kind::Malformed {
            shared.malformed(server);
        }
    }

    /// `error` is the `error.type` that a message of the server reports, if it does. The first stands for all.
    pub(crate) fn answer(&self, error: Option<String>) {
        if let Some(error) = error {
            let _ = self.error.set(envelope::error_label(&error));
        }
    }
}

impl Account {
    pub(crate) fn open(shared: &Arc<Shared>, server: &Arc<str>, call: &Call) -> Self {
        let account = Self {
            shared: Arc::clone(shared),
            server: Arc::clone(server),
            read: Arc::new(Read {
                method: call.method_label.map(OnceLock::from).unwrap_or_default(),
                error: OnceLock::new(),
            }),
            started: Instant::now(),
            open: true,
            entry: Entry::default(),
            seen: shared.config.observers.open(|| opening(server, call)).map(|seen| Box::new(Mutex::new(seen))),
        };
        if call.malformed {
            account.shared.malformed(server);
        }
        if let (true, Some(mut seen)) = (call.opens, account.seen()) {
            // Its session begins with the answer; the edge sees the message only then.
            seen.opens(call.meta_traceparent());
        }
        account
    }

    /// Asks the upstream's doors whether this exchange may begin.
    pub(crate) fn admit(&mut self, admission: &Admission, call: &Call) -> Result<(), Refusal> {
        let takes_slot = admission.counts_requests() && call.awaits_answer();
        self.entry = admission.enter(takes_slot)?;
        Ok(())
    }

    /// The head of a response is there.
    pub(crate) fn answered(&mut self) {
        self.entry.answered();
    }

    fn seen(&self) -> Option<MutexGuard<'_, Exchange>> {
        self.seen.as_ref().map(|seen| seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The client gets this status.
    pub(crate) fn has_status(&self, status: StatusCode) {
        if let Some(mut seen) = self.seen() {
            seen.answered(status.as_u16());
        }
    }

    /// The session that it belongs to is known.
    pub(crate) fn of_session(&self, session: &EdgeSession) {
        if let Some(mut seen) = self.seen() {
            seen.of_session(session.public_id());
        }
    }

    /// So many bytes of a body were handed to the client.
    pub(crate) fn passed(&self, bytes: usize) {
        if let Some(mut seen) = self.seen() {
            seen.passed(bytes);
        }
    }

    /// Somebody wants to know what its messages say as soon as it is over.
    pub(crate) const fn is_observed(&self) -> bool {
        self.seen.is_some()
    }

    /// Where whoever reads the messages notes what they say.
    pub(crate) fn read(&self) -> &Arc<Read> {
        &self.read
    }

    /// The decision about a message, once a person has made it if need be, and the pause before it is sent.
    pub(crate) async fn decide(&self, session: &Arc<EdgeSession>, call: &Call) -> Result<(Permit, Duration), Refusal> {
        let outcome = match self.decided_anyway(session, call) {
            Some(permit) => Outcome::Forward(permit),
            None => session.client_message_read(&call.body, |message| {
                self.read.request(message, &self.shared, &self.server);
                if let Some(mut seen) = self.seen() {
                    seen.read(message);
                }
            }),
        };
        self.of_session(session);
        self.shared.metrics.overhead.observe(self.started.elapsed().as_secs_f64());
        match outcome {
            Outcome::Forward(permit) => Ok((permit, Duration::ZERO)),
            Outcome::Delay(pause, permit) => Ok((permit, pause)),
            // Leaving is cancelling, or it is not: then the client may come back for what was approved meanwhile.
            Outcome::Hold(hold, permit) => {
                hold.answered(call.era == Era::Legacy).await.map_err(Refusal::Blocked)?;
                Ok((permit, Duration::ZERO))
            }
            Outcome::Block(reason) => Err(Refusal::Blocked(reason)),
        }
    }

    /// The permit of a message that cannot be refused, and that nobody wants to have read before it leaves.
    fn decided_anyway(&self, session: &Arc<EdgeSession>, call: &Call) -> Option<Permit> {
        if self.is_observed() {
            return None;
        }
        let (read, shared, server) = (Arc::clone(&self.read), Arc::clone(&self.shared), Arc::clone(&self.server));
        session.client_message_later(&call.body, move |message| read.request(message, &shared, &server))
    }

    /// Counts a message of the server that was relayed but not read.
    pub(crate) fn unread(&self, cause: &'static str) {
        self.shared.unread(&self.server, cause);
    }

    /// `error` is the exchange's `error.type` unless a message of it names another.
    pub(crate) fn close(&mut self, ending: Ending, error: Option<&'static str>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        match ending {
            Ending::Relayed => self.entry.answered(),
            Ending::Aborted => self.entry.failed(),
            Ending::ClientLeft | Ending::Refused(_) => {}
        }
        let outcome = match ending {
            Ending::Relayed => "relayed",
            Ending::Aborted => "aborted",
            Ending::ClientLeft => "client_left",
            Ending::Refused(reason) => reason,
        };
        self.shared.metrics.requests.with_label_values(&[&*self.server, outcome]).inc();
        let duration = self.started.elapsed();
        let error_of = move |read: &Read| match ending {
            Ending::Relayed => read.error.get().copied().or(error).unwrap_or_default(),
            Ending::Aborted => "upstream_aborted",
            Ending::ClientLeft => "client_left",
            Ending::Refused(reason) => reason,
        };
        if let Some(seen) = self.seen.take() {
            let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
            let error = Some(error_of(&self.read));
            self.shared.config.observers.close(seen, &Closing { outcome, error, duration });
        }
        let (shared, server, read) = (Arc::clone(&self.shared), Arc::clone(&self.server), Arc::clone(&self.read));
        self.shared.edge.once_read(move || {
            let operation = &shared.metrics.operation;
            let operation = operation.with_label_values(&[read.method(), &*server, error_of(&read)]);
            operation.observe(duration.as_secs_f64());
        });
    }

    /// The answer to a call that its upstream does not answer.
    pub(crate) fn refuse(self, refusal: &Refusal, call: &Call) -> Response<Body> {
        whole(self.refused(refusal, call))
    }

    /// The same, as bytes.
    pub(crate) fn refused(mut self, refusal: &Refusal, call: &Call) -> Response<Bytes> {
        let reason = refusal.reason();
        if refusal.is_of_upstream() {
            self.entry.failed();
        }
        tracing::debug!(server = %self.server, method = self.read.method(), reason, "request refused");
        let response = refusal.response(&call.ids());
        self.has_status(response.status());
        self.passed(response.body().len());
        self.close(Ending::Refused(reason), None);
        response
    }
}

/// What is known of a request that was read.
fn opening(server: &Arc<str>, call: &Call) -> Opening {
    let traceparent = call.head.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    Opening {
        server: Arc::clone(server),
        principal: Arc::clone(&call.client.principal),
        peer: Some(call.client.peer),
        http_method: call.head.method.to_string(),
        stateless: call.era == Era::Modern,
        bytes_in: call.body.len(),
        traceparent: traceparent.map(str::to_owned),
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close(Ending::ClientLeft, None);
    }
}
