//! An upstream that speaks Streamable HTTP: requests are sent on as they came, responses come back as they are.
//!
//! What changes on the way, and why: hop-by-hop headers belong to one connection; `Host` must be the upstream's
//! authority (`guard` has looked at the client's); `Accept-Encoding` becomes `identity`, because a compressed response
//! could only be read for facts by holding it back and unpacking it. Bodies never change.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::admission::{Admission, Slots};
use super::call::{Body, Call, Era, session_id, whole};
use super::deadline::Patience;
use super::first_sse::{self, FirstSse, Places};
use super::held::{self, Bounds};
use super::hop::{Hop, HopError, Right};
use super::oauth::Resource;
use super::relay::{Abandon, Finish, RelayBody, Undisturbed};
use super::replicas::Homes;
use super::rescue::Refusal;
use super::shared::{Account, Shared};
use super::strict::Plain;
use super::tap::{Content, Tap};
use super::withdrawal::Withdrawal;
use crate::edge::{EdgeSession, Outcome};
use crate::upstream::{Endpoint, UpstreamConfig};

/// What an upstream gets to take note that a request was taken back.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// One place of an HTTP upstream.
#[derive(Debug)]
pub(crate) struct HttpUpstream {
    name: Arc<str>,
    uri: Uri,
    host: HeaderValue,
    hop: Hop,
    /// Set on each request, in place of the client's.
    own_headers: HeaderMap,
    pass_through: bool,
    admission: Admission,
    /// How the strict relay reaches it, where it can.
    plain: Option<Plain>,
    resource: Resource,
    /// Where clients of its streams of 2024-11-05 post to.
    places: Places,
    /// Where sessions live, and which of these places this is.
    home: (Homes, usize),
    shared: Arc<Shared>,
}

/// A request that may be sent.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) right: Right,
    /// An `initialize` that opens a session has none yet.
    pub(super) session: Option<Arc<EdgeSession>>,
    /// What it waits first.
    pub(super) pause: Duration,
}

impl HttpUpstream {
    pub(super) fn new(
        config: &UpstreamConfig,
        endpoint: &Endpoint,
        slots: Slots,
        home: (Homes, usize),
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let (name, uri): (Arc<str>, _) = (config.name.as_str().into(), endpoint.uri().clone());
        let tls = uri.scheme_str() == Some("https");
        let timeouts = &shared.config.timeouts;
        let hop = if tls { Hop::tls(timeouts)? } else { Hop::plain(timeouts) };
        let host = host_of(&uri);
        let terms = &config.terms;
        let plain = Plain::new(&uri, &host, &terms.headers, timeouts);
        let resource = Resource::new(Arc::clone(&name), uri.clone(), host.clone(), hop.clone());
        let admission = Admission::new(terms, slots, shared.metrics.breaker_open.with_label_values(&[&*name]));
        let (own_headers, pass_through) = (terms.headers.clone(), terms.pass_through);
        Ok(Self {
            name,
            host,
            uri,
            hop,
            own_headers,
            pass_through,
            admission,
            plain,
            resource,
            places: Places::default(),
            home,
            shared,
        })
    }

    /// The upstream as its clients sign in to it.
    pub(super) const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// It knows its callers itself.
    pub(super) const fn is_passed_through(&self) -> bool {
        self.pass_through
    }

    pub(super) const fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(super) const fn places(&self) -> &Places {
        &self.places
    }

    /// What the upstream means by a URL, if it is its own.
    pub(super) fn at_home(&self, named: &str) -> Option<Uri> {
        first_sse::at_home(&self.uri, named)
    }

    /// The session of a call under an id that the gateway gave.
    pub(super) fn session(&self, call: &Call, id: &str) -> Arc<EdgeSession> {
        self.shared.edge.session(&call.session_named(&self.name, Some(id)))
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) const fn plain(&self) -> Option<&Plain> {
        self.plain.as_ref()
    }

    pub(super) fn finish(&self) -> &Finish {
        &self.shared.finish
    }

    pub(super) fn capture_bytes_max(&self) -> usize {
        self.shared.config.limits.capture_bytes_max
    }

    /// The strict relay's exchange is over, and its connection good for another.
    pub(super) fn give_back(&self, connection: TcpStream) {
        if let Some(plain) = &self.plain {
            plain.give_back(connection);
        }
    }

    pub(crate) async fn answer(self: Arc<Self>, call: Call) -> Response<Body> {
        let mut account = Account::open(&self.shared, &self.name, &call);
        let admitted = match account.admit(&self.admission, &call) {
            Ok(()) => self.right(&call, &account, None).await,
            Err(refusal) => Err(refusal),
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return account.refuse(&refusal, &call),
        };
        // GET streams are listened to, not asked for: nobody needs them once the client has left.
        if call.era == Era::Modern || call.head.method == Method::GET {
            return self.exchange(call, account, admitted, Abandon::Cancel).await;
        }
        let finish = self.shared.finish.clone();
        Undisturbed::new(self.exchange(call, account, admitted, Abandon::Finish(finish.clone())), finish).await
    }

    async fn exchange(
        self: Arc<Self>,
        mut call: Call,
        account: Account,
        admitted: Admitted,
        abandon: Abandon,
    ) -> Response<Body> {
        let mut holds = admitted.right.holds_answer();
        let patience = Patience::new(&self.shared.config.timeouts);
        // Streams of sessions name their session; one that does not may be of 2024-11-05.
        let is_listening = call.head.method == Method::GET && call.era == Era::Legacy && call.session_id().is_none();
        let withdrawal = Withdrawal::of(&self, &call, |name| call.head.headers.get(name).cloned());
        match self.attempt(&mut call, admitted).await {
            Ok((mut head, body, session)) => {
                strip_hop_by_hop(&mut head.headers);
                // No request says what a stream will carry.
                holds |= call.head.method == Method::GET && session.is_shown_less();
                let content = Content::of_headers(&head.headers);
                let tap = Tap::new(Arc::clone(&session), head.status, content, self.capture_bytes_max(), account);
                let patience = (!call.listens()).then_some(patience);
                let limit = patience.map(|patience| (patience, withdrawal));
                let body = RelayBody::new(body, tap, call.client.after_write.clone(), abandon, limit);
                if is_listening && head.status.is_success() && matches!(content, Content::Events) {
                    let body = FirstSse::new(body, Arc::clone(&self), call);
                    // Its events are held in turn where they have to be looked at.
                    return match holds {
                        true => held::events(head, body, session, self.capture_bytes_max()),
                        false => Response::from_parts(head, body.boxed_unsync()),
                    };
                }
                if !holds {
                    return Response::from_parts(head, body.boxed_unsync());
                }
                let bounds =
                    Bounds { bytes_max: self.capture_bytes_max(), patience: self.shared.config.timeouts.response };
                let shown = held::answer(head, body, session, bounds).await;
                shown.unwrap_or_else(|refusal| whole(refusal.response(&call.ids())))
            }
            Err(refusal) => {
                if let (Refusal::UpstreamTimeout, Some(withdrawal)) = (&refusal, withdrawal) {
                    withdrawal.send();
                }
                account.refuse(&refusal, &call)
            }
        }
    }

    /// Tells the upstream that a request is taken back.
    pub(super) async fn withdraw(&self, mut headers: HeaderMap, message: bytes::Bytes) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.extend(self.own_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.insert(header::HOST, self.host.clone());
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        if let Err(error) = self.hop.exchange(Right::Withdrawal, request, Some(WITHDRAWAL)).await {
            tracing::debug!(upstream = %self.name, %error, "tell the upstream that a request is taken back");
        }
    }

    async fn attempt(
        &self,
        call: &mut Call,
        admitted: Admitted,
    ) -> Result<(Parts, Incoming, Arc<EdgeSession>), Refusal> {
        let Admitted { right, session, pause } = admitted;
        // A timer rounds up to its next tick, a millisecond, even where there is nothing to wait for.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        // A GET stream may be silent for as long as it likes, and some servers send its head with the first event.
        let patience = (call.head.method != Method::GET).then_some(self.shared.config.timeouts.response);
        let response = self.hop.exchange(right, self.request(call), patience).await.map_err(|e| self.refusal(&e))?;
        let (head, body) = response.into_parts();
        let session = match session {
            Some(session) => session,
            None => self.opened(call, session_id(&head.headers))?,
        };
        if call.head.method == Method::DELETE && head.status.is_success() {
            self.home.0.forget(call.session_id().unwrap_or_default());
            session.end();
        }
        Ok((head, body, session))
    }

    /// The decision, and the session it was made in (`known`, if the caller has it at hand). To be dropped when the
    /// client leaves: while a person is asked, nothing has been sent.
    pub(super) async fn right(
        &self,
        call: &Call,
        account: &Account,
        known: Option<Arc<EdgeSession>>,
    ) -> Result<Admitted, Refusal> {
        if call.opens {
            return Ok(Admitted { right: Right::Initialize, session: None, pause: Duration::ZERO });
        }
        let place = call.session_id().filter(|_| call.by_first_sse);
        if place.is_some_and(|token| self.places.get(token).is_none()) {
            return Err(Refusal::UnknownSession);
        }
        let session = known.unwrap_or_else(|| self.shared.edge.session(&call.session(&self.name)));
        if !call.may_use(&session) {
            return Err(Refusal::UnknownSession);
        }
        if call.body.is_empty() {
            return Ok(Admitted { right: Right::NoMessage, session: Some(session), pause: Duration::ZERO });
        }
        let (permit, pause) = account.decide(&session, call).await?;
        Ok(Admitted { right: Right::Decided(permit), session: Some(session), pause })
    }

    /// The session that the response to `initialize` names, once the edge has seen the request in it.
    pub(super) fn opened(&self, call: &Call, id: Option<&str>) -> Result<Arc<EdgeSession>, Refusal> {
        if let Some(id) = id {
            self.home.0.note(id, self.home.1);
        }
        let session = self.shared.edge.session(&call.session_named(&self.name, id));
        match session.client_message(&call.body) {
            // The pause is over: the response has been waited for. Nobody is asked about an `initialize`.
            Outcome::Forward(_) | Outcome::Delay(_, _) | Outcome::Hold(_, _) => Ok(session),
            Outcome::Block(reason) => Err(Refusal::Blocked(reason)),
        }
    }

    fn request(&self, call: &mut Call) -> Request<Full<bytes::Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.head.method.clone();
        let place = call.session_id().filter(|_| call.by_first_sse).and_then(|token| self.places.get(token));
        *request.uri_mut() = with_query(place.as_ref().unwrap_or(&self.uri), call.head.uri.query());
        let mut headers = std::mem::take(&mut call.head.headers);
        if headers.contains_key(header::TRANSFER_ENCODING) {
            // The body is here as a whole now; hyper states its length.
            headers.remove(header::CONTENT_LENGTH);
        }
        strip_hop_by_hop(&mut headers);
        headers.extend(self.own_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        *request.headers_mut() = headers;
        request
    }

    fn refusal(&self, error: &HopError) -> Refusal {
        tracing::warn!(upstream = %self.name, %error, cause = %error.cause(), "exchange with upstream failed");
        match error {
            HopError::Connect(_) => Refusal::UpstreamUnreachable,
            HopError::Exchange(_) => Refusal::UpstreamGone,
            HopError::Timeout => Refusal::UpstreamTimeout,
        }
    }
}

/// The upstream's URL with the client's query behind its own.
fn with_query(uri: &Uri, query: Option<&str>) -> Uri {
    let Some(query) = query else { return uri.clone() };
    let path_and_query = match uri.query() {
        Some(own) => format!("{}?{own}&{query}", uri.path()),
        None => format!("{}?{query}", uri.path()),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    // Both halves were parts of valid URIs; should they not join, the upstream's own URL still is one.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

pub(super) fn host_of(uri: &Uri) -> HeaderValue {
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = if uri.port_u16() == Some(default_port) { uri.host().unwrap_or_default() } else { authority };
    HeaderValue::from_str(host).expect("a URI's authority is visible ASCII")
}

/// Headers that speak of one connection only (RFC 9110, 7.6.1), and those that `Connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_joined() {
        let check = |uri: &'static str, query, expect: &str| {
            assert_eq!(with_query(&Uri::from_static(uri), query).to_string(), expect);
        };
        check("http://h/mcp", None, "http://h/mcp");
        check("http://h/mcp", Some("a=1"), "http://h/mcp?a=1");
        check("http://h/mcp?k=v", Some("a=%20"), "http://h/mcp?k=v&a=%20");
        check("http://h", Some("a"), "http://h/?a");
    }

    #[test]
    fn hosts_name_only_unusual_ports() {
        let check = |uri: &'static str, expect: &str| assert_eq!(host_of(&Uri::from_static(uri)), expect);
        check("http://h:80/", "h");
        check("https://h:443/", "h");
        check("http://[::1]:81/", "[::1]:81");
        check("https://h/", "h");
    }

    #[test]
    fn hop_by_hop_headers_go_and_all_others_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "x-a, close"), ("x-a", "1"), ("te", "trailers"), ("mcp-param-b", "2")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["mcp-param-b"]);
    }
}
