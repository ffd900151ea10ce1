//! A client's connection, as long as what it asks is usual.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::exchange::{Exchange, Progress};
use super::head::{self, RequestHead, Unusual};
use super::joined::Joined;
use super::{BODY_BYTES_MAX, HEAD_BYTES_MAX, READ_BYTES, send, write_response};
use crate::edge::EdgeSession;
use crate::gateway::aggregate::{self, Aggregate};
use crate::gateway::auth::{Auth, Identity};
use crate::gateway::call::{Call, Client};
use crate::gateway::deadline::{Deadline, Patience};
use crate::gateway::forward::{Admitted, HttpUpstream};
use crate::gateway::rescue::Refusal;
use crate::gateway::shared::{Account, Ending, TRACEPARENT};
use crate::gateway::{Gateway, Upstream};

/// Where a connection comes from and arrived.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) client: Client,
    /// The address of ours that it was made to.
    pub(crate) at: IpAddr,
}

/// Serves a connection until it ends or asks something unusual: then it is given back, with what was read.
pub(crate) async fn serve(
    stream: TcpStream,
    gateway: &Gateway,
    reached: Reached,
    stopped: &mut watch::Receiver<()>,
) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let deadline = Deadline::new(gateway.shared.config.timeouts.head);
    let mut connection = Connection {
        gateway,
        reached,
        stream,
        received: BytesMut::new(),
        lines: Vec::new(),
        out: Vec::new(),
        spare: BytesMut::new(),
        generation: 0,
        host: Bytes::new(),
        shown: None,
        identity: None,
        last: None,
        deadline,
    };
    loop {
        let next = match connection.request(stopped).await {
            Step::Request(head, Place::Upstream(upstream)) => {
                connection.out.clear();
                connection.write_head(&head, &upstream);
                let call = connection.call(&head);
                connection.exchange(upstream, call, None, stopped).await
            }
            Step::Request(head, Place::Aggregate(aggregate)) => connection.aggregated(&head, aggregate, stopped).await,
            Step::Unusual => {
                // What was read comes first.
                let (rest, writer) = connection.stream.into_split();
                return Some(tokio::io::join(AsyncReadExt::chain(io::Cursor::new(connection.received), rest), writer));
            }
            Step::Closed => Next::Close,
        };
        if next != Next::Request {
            // Says goodbye properly: what was written last may still be on its way.
            let _ = connection.stream.shutdown().await;
            return None;
        }
    }
}

pub(super) struct Connection<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) reached: Reached,
    pub(super) stream: TcpStream,
    /// From the client, not yet understood.
    pub(super) received: BytesMut,
    /// Header lines of the current request that are passed on.
    pub(super) lines: Vec<u8>,
    /// What is written next.
    pub(super) out: Vec<u8>,
    /// What upstreams are read into, between exchanges.
    spare: BytesMut,
    /// Of the settings that what follows holds for.
    generation: u64,
    /// The `Host` that was let in last.
    host: Bytes,
    /// The credential that was shown last, and whom it names.
    shown: Option<(Bytes, Identity)>,
    /// Who sends the current request, where that has to be known.
    identity: Option<Identity>,
    last: Option<Last>,
    deadline: Deadline,
}

/// The session of the last request that named one: the next is nearly always of the same.
struct Last {
    upstream: Arc<HttpUpstream>,
    id: Box<str>,
    session: Arc<EdgeSession>,
}

#[expect(clippy::large_enum_variant, reason = "taken apart at once: a box would be an allocation per request")]
enum Step {
    /// A head whose body is there too.
    Request(RequestHead, Place),
    Unusual,
    Closed,
}

/// What a request is for.
enum Place {
    Upstream(Arc<HttpUpstream>),
    /// The endpoint of all upstreams.
    Aggregate(Arc<Aggregate>),
}

impl Place {
    fn name(&self) -> &str {
        match self {
            Self::Upstream(upstream) => upstream.name(),
            Self::Aggregate(_) => aggregate::NAME,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Request,
    Close,
    /// Nothing was written yet: see [`Progress::Denied`].
    Denied(StatusCode),
}

/// What came first.
enum Event {
    Upstream(io::Result<usize>),
    ClientLeft,
    TimedOut,
}

impl Connection<'_> {
    /// The next request, read to the end of its body.
    async fn request(&mut self, stopped: &mut watch::Receiver<()>) -> Step {
        self.deadline.set(self.gateway.shared.config.timeouts.head);
        let (head, place) = loop {
            if !self.received.is_empty() {
                self.lines.clear();
                match head::request(&self.received, &mut self.lines) {
                    Ok(Some(head)) => match self.admitted(&head) {
                        Ok(place) => break (head, place),
                        Err(Unusual) => return Step::Unusual,
                    },
                    Ok(None) if self.received.len() <= HEAD_BYTES_MAX => {}
                    Ok(None) | Err(Unusual) => return Step::Unusual,
                }
            }
            let idle = self.received.is_empty();
            tokio::select! {
                biased;
                read = self.read() => if !read { return Step::Closed },
                _ = stopped.changed(), if idle => return Step::Closed,
            }
        };
        let whole = head.bytes + head.content_length;
        if self.received.len() < whole {
            self.deadline.set(self.gateway.shared.config.timeouts.body);
            self.received.reserve(whole - self.received.len());
            while self.received.len() < whole {
                if !self.read().await {
                    if self.deadline.is_over() {
                        let client = &self.reached.client;
                        let refusal = self.gateway.refused(client, place.name(), &Refusal::BodyTimeout);
                        self.answer(&refusal).await;
                    }
                    return Step::Closed;
                }
            }
        }
        Step::Request(head, place)
    }

    /// What a request is for. Whatever is to be refused, hyper's path refuses.
    fn admitted(&mut self, head: &RequestHead) -> Result<Place, Unusual> {
        let live = self.gateway.live.load();
        if live.generation != self.generation {
            self.generation = live.generation;
            self.host.clear();
            self.shown = None;
        }
        let at = |span: &head::Span| &self.received[span.clone()];
        let too_large = head.content_length > BODY_BYTES_MAX.min(self.gateway.shared.config.limits.body_bytes_max);
        if too_large || (head.is_forwarded && !live.trusted_proxies.is_empty()) {
            return Err(Unusual);
        }
        let host = at(&head.host);
        let is_known = host == self.host && head.origin.is_none();
        if !is_known {
            let text = |span: &head::Span| std::str::from_utf8(at(span)).map_err(|_| Unusual);
            let origin = head.origin.as_ref().map(text).transpose()?;
            live.guard.check_values(Some(text(&head.host)?), origin, self.reached.at).map_err(|_| Unusual)?;
        }
        let named = head.name.as_ref().map(|name| std::str::from_utf8(at(name)).map_err(|_| Unusual)).transpose()?;
        let (place, auth) = match (named, named.and_then(|name| live.upstream(name))) {
            (_, Some((_, served @ Upstream::Http(places)))) if places.first().plain().is_some() => {
                let session_id = head.session_id.as_ref().and_then(|span| head::ascii(at(span)));
                (Place::Upstream(Arc::clone(places.of_session(session_id))), live.auth_of(served))
            }
            (None, _) => {
                let aggregate = live.aggregate.as_ref().ok_or(Unusual)?;
                (Place::Aggregate(Arc::clone(aggregate)), live.auth.as_ref())
            }
            (Some(_), Some(_) | None) => return Err(Unusual),
        };
        if !is_known {
            self.host = Bytes::copy_from_slice(&self.received[head.host.clone()]);
        }
        self.identity = None;
        if let Some(auth) = auth {
            self.identity = Some(self.identify(auth, head)?);
            if matches!(place, Place::Upstream(_)) {
                // It was issued for the gateway.
                self.lines.drain(head.authorization_line.clone().ok_or(Unusual)?);
            }
        }
        let principal = self.identity.as_ref().map_or(&self.reached.client.principal, |identity| &identity.subject);
        if let Place::Upstream(upstream) = &place
            && self.gateway.shared.edge.holds_answers(principal, upstream.name())
        {
            return Err(Unusual);
        }
        live.rates.take(principal).map_err(|_| Unusual)?;
        Ok(place)
    }

    fn identify(&mut self, auth: &Auth, head: &RequestHead) -> Result<Identity, Unusual> {
        let shown = &self.received[head.authorization.clone().ok_or(Unusual)?];
        if let Some((before, identity)) = &self.shown
            && bool::from(before.ct_eq(shown))
            && identity.is_valid()
        {
            return Ok(identity.clone());
        }
        let Some(Ok(identity)) = auth.identify_now(Some(shown)) else { return Err(Unusual) };
        self.shown = Some((Bytes::copy_from_slice(shown), identity.clone()));
        Ok(identity)
    }

    /// The head of the current request, as the upstream gets it.
    fn write_head(&mut self, head: &RequestHead, upstream: &HttpUpstream) {
        let query = head.query.as_ref().map(|query| &self.received[query.clone()]);
        if let Some(plain) = upstream.plain() {
            plain.write_head(query, &self.lines, &mut self.out);
        }
    }

    /// `out` is the head that the upstream gets.
    pub(super) async fn exchange(
        &mut self,
        upstream: Arc<HttpUpstream>,
        call: Call,
        joined: Option<Joined>,
        stopped: &watch::Receiver<()>,
    ) -> Next {
        let Some(plain) = upstream.plain() else { return Next::Close };
        self.out.extend_from_slice(&call.body);
        let mut account = Account::open(&self.gateway.shared, upstream.name(), &call);
        if let Err(refusal) = account.admit(upstream.admission(), &call) {
            return self.answer(&account.refused(&refusal, &call)).await;
        }
        let known = self.known_session(&upstream, &call);
        let was_known = known.is_some();
        let admitted = tokio::select! {
            biased;
            admitted = upstream.right(&call, &account, known) => admitted,
            // Nearly always the decision is there at once; a person takes time, and nothing has been sent yet.
            () = self.left() => return Next::Close,
        };
        let Admitted { right, session, pause } = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return self.answer(&account.refused(&refusal, &call)).await,
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if let (false, Some(id), Some(session)) = (was_known, call.session_id(), &session) {
            let (id, session, upstream) = (id.into(), Arc::clone(session), Arc::clone(&upstream));
            self.last = Some(Last { upstream, id, session });
        }
        let timeouts = &self.gateway.shared.config.timeouts;
        let mut connection = match plain.pool.take().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(upstream = %upstream.name(), %error, "connect to upstream");
                return self.answer(&account.refused(&Refusal::UpstreamUnreachable, &call)).await;
            }
        };
        if let Err(error) = send(right, &mut connection, &self.out, timeouts).await {
            tracing::warn!(upstream = %upstream.name(), %error, "send to upstream");
            return self.answer(&account.refused(&Refusal::UpstreamGone, &call)).await;
        }
        let patience = Patience::new(timeouts);
        self.deadline.set(patience.next());
        let read = std::mem::take(&mut self.spare);
        let exchange =
            Exchange::new(upstream, call, self.host.clone(), account, session, connection, read).joined(joined);
        self.relay(exchange, patience, stopped).await
    }

    /// The request as the rest of the gateway knows it, and its bytes out of the way.
    pub(super) fn call(&mut self, head: &RequestHead) -> Call {
        let parts = self.parts();
        let text = |span: &Option<head::Span>| -> Option<Box<str>> {
            head::ascii(&self.received[span.clone()?]).map(Box::from)
        };
        let (session_id, version) = (text(&head.session_id), text(&head.protocol_version));
        self.received.advance(head.bytes);
        let body = self.received.split_to(head.content_length).freeze();
        let mut client = self.reached.client.clone();
        if let Some(identity) = self.identity.take() {
            client.identify(identity);
        }
        Call::new(parts, session_id, version.as_deref(), body, client)
    }

    /// What the gateway has to know of the current request's head.
    pub(super) fn parts(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = Method::POST;
        if self.gateway.shared.config.observers.are_on()
            && let Some(value) = head::line(&self.lines, TRACEPARENT)
        {
            parts.headers.insert(TRACEPARENT, value);
        }
        parts
    }

    /// The session of the request before, if it is this one's too.
    fn known_session(&self, upstream: &Arc<HttpUpstream>, call: &Call) -> Option<Arc<EdgeSession>> {
        let last = self.last.as_ref()?;
        let same = Arc::ptr_eq(&last.upstream, upstream) && call.session_id() == Some(&*last.id);
        let usable = same && last.session.is_current() && call.may_use(&last.session);
        usable.then(|| Arc::clone(&last.session))
    }

    /// Passes the response on as it comes.
    async fn relay(&mut self, mut exchange: Exchange, patience: Patience, stopped: &watch::Receiver<()>) -> Next {
        let mut progress = Ok(Progress::Unfinished);
        self.out.clear();
        loop {
            if progress == Ok(Progress::Unfinished) {
                progress = match self.event(&mut exchange).await {
                    Event::Upstream(Ok(0) | Err(_)) => exchange.closed(&mut self.out),
                    Event::Upstream(Ok(_)) => exchange.advance(stopped.has_changed().unwrap_or(true), &mut self.out),
                    Event::TimedOut if exchange.has_begun() => {
                        exchange.withdraw(&self.lines);
                        tracing::warn!(upstream = %exchange.upstream.name(), "an answer took too long, and is cut off");
                        Ok(Progress::Aborted)
                    }
                    Event::TimedOut => {
                        exchange.withdraw(&self.lines);
                        Err(Refusal::UpstreamTimeout)
                    }
                    Event::ClientLeft => {
                        exchange.abandon();
                        return Next::Close;
                    }
                };
            }
            if !self.out.is_empty() {
                let written = self.stream.write_all(&self.out).await;
                self.out.clear();
                if written.is_err() {
                    exchange.abandon();
                    return Next::Close;
                }
                exchange.hear();
            }
            match &progress {
                // Interim responses are no part of an answer.
                Ok(Progress::Unfinished) if !exchange.has_begun() => {}
                Ok(Progress::Unfinished) => self.deadline.set(patience.next()),
                Ok(Progress::Relayed) => {
                    self.spare = exchange.end(Ending::Relayed);
                    return if stopped.has_changed().unwrap_or(true) { Next::Close } else { Next::Request };
                }
                Ok(Progress::RelayedUntilClose) => {
                    exchange.end(Ending::Relayed);
                    return Next::Close;
                }
                Ok(Progress::Aborted) => {
                    exchange.end(Ending::Aborted);
                    return Next::Close;
                }
                Ok(Progress::Denied(status)) => {
                    let status = *status;
                    exchange.abandon();
                    return Next::Denied(status);
                }
                Err(refusal) => {
                    let refused = exchange.refuse(refusal);
                    let Some(answer) = refused else { return Next::Close };
                    return self.answer(&answer).await;
                }
            }
        }
    }

    pub(super) async fn answer(&mut self, response: &Response<Bytes>) -> Next {
        self.out.clear();
        write_response(response, &mut self.out);
        if self.stream.write_all(&self.out).await.is_err() { Next::Close } else { Next::Request }
    }

    /// Waits for the upstream to go on, the client to leave, or time to run out. What the client sends meanwhile is
    /// kept, up to a bound, for when it is its turn.
    async fn event(&mut self, exchange: &mut Exchange) -> Event {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(read) = poll_read(&mut exchange.connection, &mut exchange.read, cx) {
                return Poll::Ready(Event::Upstream(read));
            }
            while self.received.len() < HEAD_BYTES_MAX {
                match poll_read(&mut self.stream, &mut self.received, cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Event::ClientLeft),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if exchange.may_be_silent() {
                return Poll::Pending;
            }
            self.deadline.poll(cx).map(|()| Event::TimedOut)
        })
        .await
    }

    /// Waits for the client to leave. What it sends meanwhile is kept, up to a bound, for when it is its turn.
    pub(super) async fn left(&mut self) {
        std::future::poll_fn(|cx| {
            while self.received.len() < HEAD_BYTES_MAX {
                match poll_read(&mut self.stream, &mut self.received, cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Reads more from the client; `false` = it has ended, or time has run out.
    async fn read(&mut self) -> bool {
        std::future::poll_fn(|cx| match poll_read(&mut self.stream, &mut self.received, cx) {
            Poll::Ready(read) => Poll::Ready(matches!(read, Ok(1..))),
            Poll::Pending => self.deadline.poll(cx).map(|()| false),
        })
        .await
    }
}

fn poll_read(stream: &mut TcpStream, into: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if into.capacity() - into.len() < READ_BYTES / 4 {
        into.reserve(READ_BYTES);
    }
    // Nothing is lost when it is dropped unfinished.
    pin!(stream.read_buf(into)).poll(cx)
}
