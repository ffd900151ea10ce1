//! What all exchanges of one gateway have in common, and the record that each of them leaves.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use undercurrent_schemas::v1;

use super::admission::{Admission, Entry};
use super::call::{Body, Call, Era, whole};
use super::config::Fixed;
use super::envelope;
use super::metrics::GatewayMetrics;
use super::relay::Finish;
use super::rescue::Refusal;
use crate::edge::{Edge, EdgeSession, Outcome, Permit};

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
    /// Of the message, once it was read.
    method: OnceLock<&'static str>,
    started: Instant,
    open: bool,
    entry: Entry,
}

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
}

impl Account {
    pub(crate) fn open(shared: &Arc<Shared>, server: &Arc<str>, call: &Call) -> Self {
        let account = Self {
            shared: Arc::clone(shared),
            server: Arc::clone(server),
            method: call.method_label.map(OnceLock::from).unwrap_or_default(),
            started: Instant::now(),
            open: true,
            entry: Entry::default(),
        };
        if call.malformed {
            account.malformed();
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

    fn malformed(&self) {
        self.shared.metrics.malformed.with_label_values(&[&*self.server]).inc();
    }

    fn method(&self) -> &'static str {
        self.method.get().copied().unwrap_or("none")
    }

    /// The decision about a message, once a person has made it if need be, and the pause before it is sent.
    pub(crate) async fn decide(&self, session: &EdgeSession, call: &Call) -> Result<(Permit, Duration), Refusal> {
        let outcome = session.client_message_read(&call.body, |message| {
            // Where the call was not looked into before, the edge is the first to read it.
            if self.method.get().is_none() {
                let malformed = message.kind() == v1::Kind::Malformed;
                let _ = self.method.set(envelope::label_of(message));
                if malformed {
                    self.malformed();
                }
            }
        });
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

    /// Counts a message of the server that was relayed but not read.
    pub(crate) fn unread(&self, cause: &'static str) {
        self.shared.unread(&self.server, cause);
    }

    /// `error` is the `error.type` of an answer that was relayed.
    pub(crate) fn close(&mut self, ending: Ending, error: Option<&'static str>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        match ending {
            Ending::Relayed => self.entry.answered(),
            Ending::Aborted => self.entry.failed(),
            Ending::ClientLeft | Ending::Refused(_) => {}
        }
        let (outcome, error) = match ending {
            Ending::Relayed => ("relayed", error.unwrap_or_default()),
            Ending::Aborted => ("aborted", "upstream_aborted"),
            Ending::ClientLeft => ("client_left", "client_left"),
            Ending::Refused(reason) => (reason, reason),
        };
        let metrics = &self.shared.metrics;
        metrics.requests.with_label_values(&[&*self.server, outcome]).inc();
        let operation = metrics.operation.with_label_values(&[self.method(), &*self.server, error]);
        operation.observe(self.started.elapsed().as_secs_f64());
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
        tracing::debug!(server = %self.server, method = self.method(), reason, "request refused");
        self.close(Ending::Refused(reason), None);
        refusal.response(&call.ids())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close(Ending::ClientLeft, None);
    }
}
