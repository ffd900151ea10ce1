//! One HTTP request, read once: what it asks, for whom, in which era and session.
//!
//! Not here: where it goes. Invariant: the body is what came in, byte for byte.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use super::after_write::AfterWrite;
use super::auth::Identity;
use super::envelope::{Envelope, Meta, RequestIds};
use crate::edge::{EdgeSession, SessionKey, SessionRef, Transport};

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ends before its end.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Who a connection belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) peer: IpAddr,
    pub(crate) principal: Arc<str>,
    /// The principal was verified, rather than guessed from an address.
    pub(crate) authenticated: bool,
    /// The connection is encrypted.
    pub(crate) tls: bool,
    pub(crate) after_write: AfterWrite,
}

impl Client {
    /// Nobody knows more than the address yet.
    pub(crate) fn new(peer: IpAddr, after_write: AfterWrite) -> Self {
        Self { peer, principal: peer.to_string().into(), authenticated: false, tls: false, after_write }
    }

    pub(crate) fn identify(&mut self, identity: Identity) {
        self.principal = identity.subject;
        self.authenticated = true;
    }
}

/// The two ways in which MCP uses HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// Up to 2025-11-25: sessions, and leaving is not cancelling.
    Legacy,
    /// From 2026-07-28: no sessions, and leaving is cancelling.
    Modern,
}

/// A request with its whole body.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    pub(crate) client: Client,
    pub(crate) era: Era,
    /// `None` while nobody has looked into the message.
    pub(crate) method_label: Option<&'static str>,
    /// It is an `initialize` request that opens a session.
    pub(crate) opens: bool,
    pub(crate) malformed: bool,
    /// It was posted to the place that a stream of 2024-11-05 named.
    pub(crate) by_first_sse: bool,
    meta: Meta,
    session_id: Option<Box<str>>,
}

pub(crate) const SESSION_ID: &str = "mcp-session-id";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
const FIRST_MODERN: &str = "2026-07-28";

impl Call {
    pub(crate) fn read(head: Parts, body: Bytes, client: Client) -> Self {
        let session_id = session_id(&head.headers).map(Box::from);
        let version = protocol_version(&head.headers).map(str::to_owned);
        Self::new(head, session_id, version.as_deref(), body, client)
    }

    /// A message that was posted to the place of a stream of 2024-11-05, which is its session.
    pub(crate) fn read_of_first_sse(head: Parts, body: Bytes, client: Client, token: &str) -> Self {
        Self { by_first_sse: true, ..Self::new(head, Some(token.into()), None, body, client) }
    }

    /// As [`Self::read`], for headers that were read already and need not be in `head`.
    pub(crate) fn new(
        head: Parts,
        session_id: Option<Box<str>>,
        version: Option<&str>,
        body: Bytes,
        client: Client,
    ) -> Self {
        let modern_version = version.is_some_and(is_modern);
        // Within a legacy session, session and revision are known without a look into the message.
        let known = body.is_empty() || (session_id.is_some() && !modern_version);
        let envelope = if known { None } else { Some(Envelope::read(&body)) };
        let meta = envelope.as_ref().map(Envelope::meta).unwrap_or_default();
        let modern = modern_version || (version.is_none() && is_modern(&meta.protocol_version));
        let opens = session_id.is_none() && envelope.as_ref().is_some_and(Envelope::is_initialize);
        Self {
            era: if modern { Era::Modern } else { Era::Legacy },
            method_label: envelope.as_ref().map(Envelope::method_label),
            opens: opens && !modern,
            malformed: matches!(envelope, Some(Envelope::Unreadable)),
            by_first_sse: false,
            meta,
            session_id,
            body,
            head,
            client,
        }
    }

    /// `None` in the era without sessions, whatever the client sends.
    pub(crate) fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref().filter(|_| self.era == Era::Legacy)
    }

    /// The session as the request names it.
    pub(crate) fn session(&self, server: &Arc<str>) -> SessionRef {
        self.session_named(server, self.session_id())
    }

    /// The session `id`; without one, the stateless session that the request belongs to.
    pub(crate) fn session_named(&self, server: &Arc<str>, id: Option<&str>) -> SessionRef {
        let key = match id {
            Some(id) => SessionKey::Id(id.to_owned()),
            None => SessionKey::Stateless { trace_id: self.meta.trace_id.clone() },
        };
        let (server, principal) = (Arc::clone(server), Arc::clone(&self.client.principal));
        SessionRef { server, key, principal, transport: Transport::Tcp }
    }

    /// A session belongs to the principal that opened it, where principals are verified.
    pub(crate) fn may_use(&self, session: &EdgeSession) -> bool {
        !self.client.authenticated || **session.principal() == *self.client.principal
    }

    /// The `protocolVersion` of `_meta`, where that was looked at.
    pub(crate) fn meta_version(&self) -> Option<&str> {
        Some(&*self.meta.protocol_version).filter(|version| !version.is_empty())
    }

    /// Whether it opens a stream to listen to, for as long as somebody likes.
    pub(crate) fn listens(&self) -> bool {
        self.head.method == Method::GET || self.method_label == Some("subscriptions/listen")
    }

    /// Whether an answer is owed, and will come some time: neither notifications and answers, nor streams that are
    /// listened to.
    pub(crate) fn awaits_answer(&self) -> bool {
        !self.listens()
            && match self.ids() {
                RequestIds::None => false,
                RequestIds::One(_) => true,
                RequestIds::Many(ids) => !ids.is_empty(),
            }
    }

    /// Whom an error is addressed to.
    pub(crate) fn ids(&self) -> RequestIds {
        Envelope::read(&self.body).ids()
    }
}

/// `Mcp-Session-Id`, where it is what the specification allows: visible ASCII.
pub(crate) fn session_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty())
}

/// `MCP-Protocol-Version`.
pub(crate) fn protocol_version(headers: &HeaderMap) -> Option<&str> {
    headers.get(PROTOCOL_VERSION).and_then(|value| value.to_str().ok())
}

/// A response that is there as a whole.
pub(crate) fn whole(response: Response<Bytes>) -> Response<Body> {
    response.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

/// Revisions are dates, so they compare as text; anything else is left to the upstream to refuse, as legacy.
fn is_modern(version: &str) -> bool {
    let dated = version.len() == 10
        && version.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    dated && version >= FIRST_MODERN
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn call(headers: &[(&str, &str)], body: &'static str) -> Call {
        let mut request = Request::builder().method("POST");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let client = Client::new([127, 0, 0, 1].into(), AfterWrite::default());
        Call::read(head, Bytes::from_static(body.as_bytes()), client)
    }

    const LISTEN: &str = r#"{"id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","traceparent":"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}}}"#;

    #[test]
    fn the_era_is_the_header_else_the_meta() {
        let check =
            |headers: &[(&str, &str)], body, era| assert_eq!(call(headers, body).era, era, "{headers:?} {body}");
        check(&[], "{}", Era::Legacy);
        check(&[("mcp-protocol-version", "2025-11-25")], LISTEN, Era::Legacy);
        check(&[("mcp-protocol-version", "2026-07-28")], "{}", Era::Modern);
        check(&[("mcp-protocol-version", "2027-01-01")], "", Era::Modern);
        check(&[("mcp-protocol-version", "DRAFT")], "{}", Era::Legacy);
        check(&[], LISTEN, Era::Modern);
    }

    #[test]
    fn sessions_by_id_or_by_trace() {
        let server: Arc<str> = "s".into();
        let key = |call: Call| call.session(&server).key;
        assert_eq!(key(call(&[(SESSION_ID, "a")], "{}")), SessionKey::Id("a".into()));
        assert_eq!(key(call(&[], "{}")), SessionKey::Stateless { trace_id: String::new() });
        let trace_id = "0123456789abcdef0123456789abcdef".to_owned();
        let modern = call(&[(SESSION_ID, "a"), ("mcp-protocol-version", "2026-07-28")], LISTEN);
        assert_eq!(key(modern), SessionKey::Stateless { trace_id });
    }

    #[test]
    fn only_an_initialize_outside_a_session_opens_one() {
        let initialize = r#"{"id":0,"method":"initialize"}"#;
        assert!(call(&[], initialize).opens);
        assert!(!call(&[(SESSION_ID, "a")], initialize).opens);
        assert!(!call(&[], r#"{"method":"initialize"}"#).opens);
    }
}
