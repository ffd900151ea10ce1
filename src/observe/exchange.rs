//! One exchange as operators see it: who, what, how it ended. Names, sizes and times; no content.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1;

use super::trace::{TraceContext, TraceParent};

/// Characters of a client's word that are kept.
const WORD_CHARS_MAX: usize = 256;

/// What is known when a request has been read.
#[derive(Debug)]
pub struct Opening {
    pub server: Arc<str>,
    pub principal: Arc<str>,
    pub peer: Option<IpAddr>,
    pub http_method: String,
    /// Of the era without sessions.
    pub stateless: bool,
    pub bytes_in: usize,
    /// The `traceparent` of the HTTP request.
    pub traceparent: Option<String>,
}

impl Opening {
    /// A request of which nothing is known but who sent it.
    #[must_use]
    pub fn unread(server: &str, principal: Arc<str>, peer: IpAddr) -> Self {
        Self {
            server: server.into(),
            principal,
            peer: Some(peer),
            http_method: String::new(),
            stateless: false,
            bytes_in: 0,
            traceparent: None,
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    pub outcome: &'static str,
    /// `error.type`.
    pub error: Option<&'static str>,
    pub duration: Duration,
}

/// The record of one exchange.
#[derive(Debug)]
pub struct Exchange {
    pub(super) started: Micros,
    pub(super) server: Arc<str>,
    pub(super) principal: Arc<str>,
    pub(super) peer: Option<IpAddr>,
    pub(super) http_method: String,
    pub(super) stateless: bool,
    /// The public digest.
    pub(super) session: Option<Arc<str>>,
    /// A request or notification, and not one of a batch.
    pub(super) is_operation: bool,
    pub(super) method: Option<String>,
    pub(super) target: Option<String>,
    pub(super) protocol_version: String,
    pub(super) verdict: Option<v1::Decision>,
    pub(super) status: Option<u16>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) parent: Option<TraceParent>,
    pub(super) outcome: &'static str,
    pub(super) error: Option<&'static str>,
    pub(super) duration: Duration,
    /// `None`: nobody records a span of it.
    pub(super) trace: Option<TraceContext>,
}

impl Exchange {
    pub(super) fn new(started: Micros, opening: Opening) -> Self {
        Self {
            started,
            server: opening.server,
            principal: opening.principal,
            peer: opening.peer,
            http_method: opening.http_method,
            stateless: opening.stateless,
            session: None,
            is_operation: false,
            method: None,
            target: None,
            protocol_version: String::new(),
            verdict: None,
            status: None,
            bytes_in: opening.bytes_in as u64,
            bytes_out: 0,
            parent: opening.traceparent.as_deref().and_then(|text| text.parse().ok()),
            outcome: "",
            error: None,
            duration: Duration::ZERO,
            trace: None,
        }
    }

    /// A message of the client was read. Of a batch the first is named, and the strictest verdict counts.
    pub fn read(&mut self, message: &v1::Message) {
        let verdict = message.verdict.as_ref().map(v1::Verdict::decision);
        self.verdict = self.verdict.max(verdict);
        if self.method.is_some() {
            self.is_operation = false;
            return;
        }
        let names = matches!(message.kind(), v1::Kind::Request | v1::Kind::Notification);
        self.is_operation = names && message.batch_index == 0;
        if names {
            self.method = Some(word(&message.method));
            self.target = Some(word(&message.target)).filter(|target| !target.is_empty());
        }
        self.protocol_version = word(&message.protocol_version);
        // What the message says of itself is nearer than what its transport says.
        self.parent = message.traceparent.parse().ok().or(self.parent);
    }

    /// It is the `initialize` of a session that is still to come.
    pub fn opens(&mut self, traceparent: &str) {
        self.is_operation = true;
        self.method = Some("initialize".to_owned());
        self.parent = traceparent.parse().ok().or(self.parent);
    }

    /// It belongs to this session, by its public id.
    pub fn of_session(&mut self, public_id: Arc<str>) {
        self.session = Some(public_id);
    }

    /// It is answered with this status.
    pub fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// So much was handed to the client.
    pub fn passed(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    pub(super) fn close(&mut self, closing: &Closing) {
        self.outcome = closing.outcome;
        self.error = closing.error.filter(|error| !error.is_empty());
        self.duration = closing.duration;
    }
}

/// A client may say what it likes; a record has its bounds.
fn word(text: &str) -> String {
    text.chars().take(WORD_CHARS_MAX).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An exchange in which a tool was called.
    pub(in crate::observe) fn called(traceparent: &str) -> Exchange {
        let opening = Opening {
            http_method: "POST".into(),
            bytes_in: 100,
            traceparent: Some(traceparent.to_owned()),
            ..Opening::unread("files", "192.0.2.7".into(), [192, 0, 2, 7].into())
        };
        let mut exchange = Exchange::new(Micros(1_700_000_000_000_000), opening);
        let mut message = v1::Message { method: "tools/call".into(), target: "read".into(), ..v1::Message::default() };
        message.set_kind(v1::Kind::Request);
        let mut verdict = v1::Verdict::default();
        verdict.set_decision(v1::Decision::Flag);
        message.verdict = Some(verdict);
        exchange.read(&message);
        exchange.of_session("public".into());
        exchange.answered(200);
        exchange.passed(50);
        exchange.passed(5);
        exchange.close(&Closing { outcome: "relayed", error: Some(""), duration: Duration::from_micros(1500) });
        exchange
    }

    #[test]
    fn a_message_names_its_parent_before_its_transport_does() {
        let header = "00-11111111111111111111111111111111-1111111111111111-01";
        let meta = "00-22222222222222222222222222222222-2222222222222222-01";
        let mut exchange = called(header);
        assert_eq!(exchange.parent, header.parse().ok());
        exchange.method = None;
        exchange.read(&v1::Message { traceparent: meta.into(), ..v1::Message::default() });
        assert_eq!(exchange.parent, meta.parse().ok());
        assert_eq!((exchange.bytes_out, exchange.error), (55, None));
    }

    #[test]
    fn a_batch_is_no_operation() {
        let mut exchange = called("");
        assert!(exchange.is_operation);
        let mut second = v1::Message { method: "ping".into(), batch_index: 2, ..v1::Message::default() };
        second.set_kind(v1::Kind::Request);
        exchange.read(&second);
        assert!(!exchange.is_operation);
        assert_eq!((exchange.method.as_deref(), exchange.verdict), (Some("tools/call"), Some(v1::Decision::Flag)));
    }

    #[test]
    fn words_of_clients_are_bounded() {
        assert_eq!(word(&"ä".repeat(1000)).chars().count(), WORD_CHARS_MAX);
    }
}
