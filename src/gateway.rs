//! The gateway: `/mcp/NAME` for every upstream, relayed untouched and tapped; `/mcp` for all of them, where asked for.
//!
//! The life of a request: `serve` (connection) → `guard` (Host, Origin) → `call` (read once) → `shared` (decision) →
//! `forward` and `hop` (HTTP upstream) → `relay` (the response on its way) → `tap` (read after it was handed on).
//! What goes wrong anywhere is answered by `rescue` alone.
//!
//! Not here: what messages mean (edge), learning, administration. Invariant: bodies are never re-serialised, and
//! nothing waits for learning.

mod admission;
mod after_write;
mod aggregate;
mod auth;
mod call;
mod config;
mod deadline;
mod envelope;
mod first_sse;
mod forward;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod guard;
mod held;
mod hop;
mod live;
mod metrics;
mod oauth;
mod proxies;
mod rates;
mod relay;
mod replicas;
mod rescue;
mod serve;
mod shared;
mod sse;
mod stdio;
mod strict;
mod tap;
#[cfg(test)]
mod tests;
mod ties;
mod tls;
mod withdrawal;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::config::{GatewayConfig, Limits, Timeouts};
pub use self::metrics::GatewayMetrics;
pub use self::serve::serve;
pub use self::tls::TlsError;

use self::aggregate::Aggregate;
use self::auth::Auth;
use self::call::{Body, Call, Client, whole};
use self::config::Fixed;
use self::envelope::RequestIds;
use self::live::Live;
use self::oauth::Origin;
use self::relay::Finish;
use self::replicas::Replicas;
use self::rescue::Refusal;
use self::shared::Shared;
use self::stdio::StdioUpstream;
use crate::edge::{BlockReason, Edge};
use crate::observe::Opening;
use crate::upstream;

/// The line that answers a blocked message of a stdio client; `None` if the message awaits no answer.
pub(crate) fn refusal_line(reason: BlockReason, message: &[u8]) -> Option<Bytes> {
    let ids = envelope::Envelope::read(message).ids();
    let awaited = match &ids {
        RequestIds::None => false,
        RequestIds::One(_) => true,
        RequestIds::Many(ids) => !ids.is_empty(),
    };
    awaited.then(|| (Refusal::Blocked(reason).message(&ids) + "\n").into())
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("two upstreams are named `{0}`")]
    DuplicateName(String),
    #[error("name upstream `{name}`")]
    Name { name: String, source: upstream::TargetError },
    #[error("read the system's root certificates for upstream `{name}`")]
    Roots { name: String, source: std::io::Error },
    #[error("read the system's root certificates for the issuer of tokens")]
    IssuerRoots(#[source] std::io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A gateway with its upstreams; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    live: Arc<ArcSwap<Live>>,
}

#[derive(Clone, Debug)]
enum Upstream {
    Http(Arc<Replicas>),
    Stdio(Arc<StdioUpstream>),
}

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
enum Endpoint<'a> {
    Upstream(&'a Upstream),
    Aggregate(&'a Arc<Aggregate>),
}

impl Endpoint<'_> {
    /// Where it is, by its name.
    fn path(self, name: &str) -> String {
        match self {
            Self::Upstream(_) => format!("/mcp/{name}"),
            Self::Aggregate(_) => aggregate::PATH.to_owned(),
        }
    }
}

impl Gateway {
    /// Nothing is connected or started before the first request.
    pub fn new(config: GatewayConfig, edge: Edge, metrics: GatewayMetrics) -> Result<Self, GatewayError> {
        let finish = Finish {
            limit: config.timeouts.abandoned,
            slots: Arc::new(Semaphore::new(config.limits.connections_max)),
            gauge: metrics.abandoned.clone(),
            stop: CancellationToken::new(),
        };
        let fixed = Fixed {
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            stdio: config.stdio,
            observers: config.observers.clone(),
        };
        let shared = Arc::new(Shared { config: fixed, edge, metrics, finish });
        let live = Live::new(config, None, &shared)?;
        Ok(Self { shared, live: Arc::new(ArcSwap::from_pointee(live)) })
    }

    /// Takes new settings from the next request on. Upstreams that stay the same keep their connections and children;
    /// those that are gone may finish what they do.
    pub fn reload(&self, config: GatewayConfig) -> Result<(), GatewayError> {
        let before = self.live.load_full();
        let next = Arc::new(Live::new(config, Some(&before), &self.shared)?);
        self.live.store(Arc::clone(&next));
        let patience = self.shared.config.timeouts.shutdown;
        for upstream in before.gone_in(&next) {
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                upstream.close().await;
            });
        }
        Ok(())
    }

    async fn answer(&self, request: Request<Incoming>, reached: IpAddr, mut client: Client) -> Response<Body> {
        let live = self.live.load_full();
        if let Err(foreign) = live.guard.check(request.headers(), reached) {
            return self.refuse(&client, "none", &Refusal::Foreign(foreign));
        }
        let origin =
            Origin::of(request.headers(), client.tls, || proxies::is_trusted(client.peer, &live.trusted_proxies));
        if let Some(path) = oauth::asked_for(request.uri().path()) {
            return self.metadata(&live, &client, path, request.method(), origin.as_ref()).await;
        }
        let (name, endpoint, token) = match route(&live, request.uri().path()) {
            Ok(route) => route,
            Err(refusal) => return self.refuse(&client, "none", &refusal),
        };
        let token = token.map(str::to_owned);
        let (mut head, body) = request.into_parts();
        if let Some(forwarded) = proxies::forwarded(&head.headers, client.peer, &live.trusted_proxies) {
            client.principal = forwarded.to_string().into();
        }
        let auth = match endpoint {
            Endpoint::Upstream(upstream) => live.auth_of(upstream),
            Endpoint::Aggregate(_) => live.auth.as_ref(),
        };
        if let Some(auth) = auth {
            match auth.identify(head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes)).await {
                Ok(identity) => client.identify(identity),
                Err(denied) => {
                    let challenge = auth.challenge(denied, &endpoint.path(name), origin.as_ref());
                    return self.refuse(&client, name, &Refusal::Denied(challenge));
                }
            }
            if matches!(endpoint, Endpoint::Upstream(_)) {
                // It was issued for the gateway.
                head.headers.remove(AUTHORIZATION);
            }
        }
        if let Err(wait) = live.rates.take(&client.principal) {
            return self.refuse(&client, name, &Refusal::TooFast { wait });
        }
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(refusal) => return self.refuse(&client, name, &refusal),
        };
        let call = match token {
            Some(token) if head.method == Method::POST => Call::read_of_first_sse(head, body, client, &token),
            Some(_) => return self.refuse(&client, name, &Refusal::MethodNotAllowed { allow: "POST" }),
            None => Call::read(head, body, client),
        };
        match endpoint {
            Endpoint::Aggregate(aggregate) => Arc::clone(aggregate).answer(call).await,
            Endpoint::Upstream(Upstream::Http(upstream)) => {
                let upstream = upstream.of(&call);
                let mut response = Arc::clone(upstream).answer(call).await;
                upstream.resource().readdress(response.status(), response.headers_mut(), origin.as_ref());
                response
            }
            Endpoint::Upstream(Upstream::Stdio(upstream)) => upstream.answer(call).await,
        }
    }

    /// The protected-resource metadata of an endpoint, for clients that sign in.
    async fn metadata(
        &self,
        live: &Live,
        client: &Client,
        path: &str,
        method: &Method,
        origin: Option<&Origin>,
    ) -> Response<Body> {
        let Some((Ok((name, endpoint, None)), origin)) = origin.map(|origin| (route(live, path), origin)) else {
            return self.refuse(client, "none", &Refusal::UnknownPath);
        };
        if method != Method::GET {
            return self.refuse(client, name, &Refusal::MethodNotAllowed { allow: "GET" });
        }
        let of_gateway = |auth: Option<&Arc<Auth>>| auth.and_then(|auth| auth.metadata(path, origin));
        let metadata = match endpoint {
            Endpoint::Aggregate(_) => of_gateway(live.auth.as_ref()).ok_or(Refusal::UnknownPath),
            Endpoint::Upstream(upstream) => match (live.auth_of(upstream), upstream) {
                (Some(auth), _) => of_gateway(Some(auth)).ok_or(Refusal::UnknownPath),
                (None, Upstream::Http(upstream)) => upstream.first().resource().metadata(origin).await,
                (None, Upstream::Stdio(_)) => Err(Refusal::UnknownPath),
            },
        };
        match metadata {
            Ok(metadata) => {
                self.shared.metrics.requests.with_label_values(&[name, "relayed"]).inc();
                whole(metadata)
            }
            Err(refusal) => self.refuse(client, name, &refusal),
        }
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let bytes_max = self.shared.config.limits.body_bytes_max;
        if hyper::body::Body::size_hint(&body).lower() > bytes_max as u64 {
            return Err(Refusal::BodyTooLarge { bytes_max });
        }
        let body = Limited::new(body, bytes_max).collect();
        match tokio::time::timeout(self.shared.config.timeouts.body, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge { bytes_max }),
            Ok(Err(_)) => Err(Refusal::BodyUnreadable),
            Err(_) => Err(Refusal::BodyTimeout),
        }
    }

    /// Answers a request that never became a call.
    fn refuse(&self, client: &Client, server: &str, refusal: &Refusal) -> Response<Body> {
        whole(self.refused(client, server, refusal))
    }

    /// The same, as bytes.
    fn refused(&self, client: &Client, server: &str, refusal: &Refusal) -> Response<Bytes> {
        tracing::debug!(server, reason = refusal.reason(), "request refused");
        self.shared.metrics.requests.with_label_values(&[server, refusal.reason()]).inc();
        let response = refusal.response(&RequestIds::None);
        let asked = || Opening::unread(server, Arc::clone(&client.principal), client.peer);
        let (status, bytes_out) = (response.status().as_u16(), response.body().len());
        self.shared.config.observers.refused(asked, refusal.reason(), status, bytes_out);
        response
    }

    /// Ends exchanges that go on without their client, and the children of stdio upstreams.
    async fn close(&self) {
        self.shared.finish.stop.cancel();
        for upstream in self.live.load_full().upstreams() {
            upstream.close().await;
        }
    }
}

/// The endpoint, and the token of the stream that a message is posted for (2024-11-05).
fn route<'a, 'b>(live: &'a Live, path: &'b str) -> Result<(&'a str, Endpoint<'a>, Option<&'b str>), Refusal> {
    if let Some(aggregate) = live.aggregate.as_ref().filter(|_| path == aggregate::PATH) {
        return Ok((aggregate::NAME, Endpoint::Aggregate(aggregate), None));
    }
    let path = path.strip_prefix("/mcp/").ok_or(Refusal::UnknownPath)?;
    let (name, token) = match first_sse::parse(path) {
        Some((name, token)) => (name, Some(token)),
        None if path.contains('/') => return Err(Refusal::UnknownPath),
        None => (path, None),
    };
    let known = live.upstream(name).map(|(name, upstream)| (name, Endpoint::Upstream(upstream), token));
    known.ok_or_else(|| {
        let known = live.names().collect::<Vec<_>>().join(", ");
        Refusal::UnknownUpstream { name: name.to_owned(), known }
    })
}
