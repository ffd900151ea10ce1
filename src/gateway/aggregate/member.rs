//! One upstream of the aggregated endpoint, and what is sent to it on a caller's behalf.
//!
//! A request becomes an ordinary call of the upstream: decision, access, limits, taps and metrics are those of its own
//! endpoint. Not here: what to ask. Invariant: headers that repeat the body say what the body says; a credential goes to an
//! upstream that takes credentials, and to no other.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};

use super::names;
use super::offers::Offers;
use super::sessions::{Opened, Session, lock};
use crate::gateway::Upstream;
use crate::gateway::after_write::AfterWrite;
use crate::gateway::call::{Body, Call, Client, Era, SESSION_ID};

/// One upstream.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    /// What its names begin with.
    pub(super) prefix: String,
    /// It gets the caller's own credential, and whatever other headers the caller sends.
    pub(super) takes_credential: bool,
    upstream: Upstream,
    offers: Mutex<Offers>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) era: Era,
    pub(super) session: Option<Arc<Session>>,
    pub(super) client: Client,
    /// As the client sent them, without what speaks of its session and its body.
    pub(super) headers: HeaderMap,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Message<'a> {
    pub(super) method: Method,
    pub(super) body: Bytes,
    pub(super) headers: Headers<'a>,
    /// The gateway reads the answer itself, as a whole.
    pub(super) is_for_us: bool,
}

/// How the headers that repeat the body follow from the client's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Headers<'a> {
    /// The body is the client's.
    Kept,
    /// The body names something else.
    Named(&'a str),
    /// The body is the gateway's own request for this method.
    Own(&'a str),
}

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(super) const NAME: &str = "mcp-name";
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

impl<'a> Message<'a> {
    pub(super) const fn post(body: Bytes, headers: Headers<'a>) -> Self {
        Self { method: Method::POST, body, headers, is_for_us: false }
    }

    /// The same, for an answer that no client gets as it is.
    pub(super) fn for_us(&self) -> Self {
        Self { is_for_us: true, ..self.clone() }
    }

    pub(super) const fn empty(method: Method) -> Self {
        Self { method, body: Bytes::new(), headers: Headers::Kept, is_for_us: false }
    }
}

impl Caller {
    pub(super) fn new(call: &Call, session: Option<Arc<Session>>) -> Self {
        let mut headers = call.head.headers.clone();
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.remove(SESSION_ID);
        headers.remove(LAST_EVENT_ID);
        Self { era: call.era, session, client: call.client.clone(), headers }
    }

    /// The call that takes a message to an upstream.
    pub(super) fn call(
        &self,
        member: &Member,
        opened: Option<&Opened>,
        message: &Message<'_>,
        after_write: AfterWrite,
    ) -> Call {
        let mut headers = self.headers.clone();
        if !member.takes_credential {
            // Any other may be one: a cookie, or a key under a name of its own.
            let others: Vec<HeaderName> =
                headers.keys().filter(|name| !is_of_message(name.as_str())).cloned().collect();
            others.iter().for_each(|name| drop(headers.remove(name)));
        }
        if let Some(opened) = opened {
            let version = HeaderValue::from_str(&opened.version).ok();
            set(&mut headers, HeaderName::from_static("mcp-protocol-version"), version);
            let id = opened.id.as_deref().and_then(|id| HeaderValue::from_str(id).ok());
            set(&mut headers, HeaderName::from_static(SESSION_ID), id);
        } else if self.era == Era::Legacy {
            // What is spoken there is not settled yet.
            headers.remove("mcp-protocol-version");
        }
        match message.headers {
            Headers::Kept => {}
            // Where the client leaves it out, the upstream is to say so.
            Headers::Named(name) if headers.contains_key(NAME) => {
                set(&mut headers, HeaderName::from_static(NAME), encoded(name));
            }
            Headers::Named(_) => {}
            Headers::Own(method) => {
                let of_body: Vec<HeaderName> =
                    headers.keys().filter(|name| name.as_str().starts_with("mcp-param-")).cloned().collect();
                for name in of_body.into_iter().chain([HeaderName::from_static(NAME)]) {
                    headers.remove(name);
                }
                if self.era == Era::Modern {
                    set(&mut headers, METHOD, HeaderValue::from_str(method).ok());
                }
                let both = HeaderValue::from_static("application/json, text/event-stream");
                headers.insert(header::ACCEPT, both);
            }
        }
        if message.is_for_us && matches!(member.upstream, Upstream::Stdio(_)) {
            // A stream may be closed before its answer.
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        }
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = message.method.clone();
        head.headers = headers;
        Call::read(head, message.body.clone(), Client { after_write, ..self.client.clone() })
    }
}

impl Member {
    pub(super) fn new(name: &str, separator: &str, upstream: Upstream, takes_credential: bool) -> Self {
        let prefix = names::prefix(name, separator);
        Self { name: name.into(), prefix, takes_credential, upstream, offers: Mutex::default() }
    }

    /// As on its own endpoint.
    pub(super) async fn answer(&self, call: Call) -> Response<Body> {
        match &self.upstream {
            Upstream::Http(upstream) => Arc::clone(upstream.of(&call)).answer(call).await,
            Upstream::Stdio(upstream) => upstream.answer(call).await,
        }
    }

    pub(super) const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(super) fn offers(&self) -> MutexGuard<'_, Offers> {
        lock(&self.offers)
    }
}

/// Whether a header speaks of the message, and not of who sends it.
pub(super) fn is_of_message(name: &str) -> bool {
    const OTHERS: [&str; 7] =
        ["accept", "accept-language", "content-type", "user-agent", "traceparent", "tracestate", "baggage"];
    let is_mcp = name.get(..4).is_some_and(|part| part.eq_ignore_ascii_case("mcp-"));
    is_mcp || OTHERS.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

/// What a header cannot hold stands in it as `=?base64?…?=`.
fn encoded(name: &str) -> Option<HeaderValue> {
    let plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~')) && name.trim() == name && !name.starts_with("=?");
    let encoded = || format!("=?base64?{}?=", BASE64_STANDARD.encode(name));
    if plain { HeaderValue::from_str(name).ok() } else { HeaderValue::from_str(&encoded()).ok() }
}
