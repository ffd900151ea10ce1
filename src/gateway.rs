//! The gateway: `/mcp/NAME` for every upstream, relayed untouched and tapped.
//!
//! The life of a request: `serve` (connection) → `guard` (Host, Origin) → `call` (read once) → `shared` (decision) →
//! `forward` and `hop` (HTTP upstream) → `relay` (the response on its way) → `tap` (read after it was handed on).
//! What goes wrong anywhere is answered by `rescue` alone.
//!
//! Not here: what messages mean (edge), learning, administration. Invariant: bodies are never re-serialised, and
//! nothing waits for learning.

mod after_write;
mod call;
mod config;
mod envelope;
mod forward;
mod guard;
mod hop;
mod metrics;
mod oauth;
mod proxies;
mod relay;
mod rescue;
mod serve;
mod shared;
mod splice;
mod sse;
mod stdio;
mod strict;
mod tap;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

pub use self::config::{GatewayConfig, Limits, Timeouts};
pub use self::metrics::GatewayMetrics;
pub use self::serve::serve;

use self::call::{Body, Call, Client, whole};
use self::envelope::RequestIds;
use self::forward::HttpUpstream;
use self::guard::Guard;
use self::oauth::Origin;
use self::relay::Finish;
use self::rescue::Refusal;
use self::shared::Shared;
use self::stdio::StdioUpstream;
use crate::edge::{BlockReason, Edge};
use crate::upstream::{self, Target};

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
}

/// A gateway with its upstreams; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    upstreams: Arc<BTreeMap<String, Upstream>>,
}

#[derive(Debug)]
enum Upstream {
    Http(Arc<HttpUpstream>),
    Stdio(Box<StdioUpstream>),
}

impl Gateway {
    /// Nothing is connected or started before the first request.
    pub fn new(config: GatewayConfig, edge: Edge, metrics: GatewayMetrics) -> Result<Self, GatewayError> {
        let guard = Arc::new(Guard::new(config.hosts.clone()));
        let finish = Finish {
            limit: config.timeouts.abandoned,
            slots: Arc::new(Semaphore::new(config.limits.connections_max)),
            gauge: metrics.abandoned.clone(),
        };
        let shared = Arc::new(Shared { config, edge, metrics, finish });
        let mut upstreams = BTreeMap::new();
        for upstream in &shared.config.upstreams {
            let name = upstream.name.clone();
            upstream::check_name(&name).map_err(|source| GatewayError::Name { name: name.clone(), source })?;
            let opened = match &upstream.target {
                Target::Http(endpoint) => HttpUpstream::new(name.as_str().into(), endpoint, Arc::clone(&shared))
                    .map(|upstream| Upstream::Http(Arc::new(upstream)))
                    .map_err(|source| GatewayError::Roots { name: name.clone(), source })?,
                Target::Stdio(command) => {
                    let (name, command) = (name.as_str().into(), command.clone());
                    Upstream::Stdio(Box::new(StdioUpstream::new(name, command, Arc::clone(&shared))))
                }
            };
            if upstreams.insert(name.clone(), opened).is_some() {
                return Err(GatewayError::DuplicateName(name));
            }
        }
        Ok(Self { shared, guard, upstreams: Arc::new(upstreams) })
    }

    async fn answer(&self, request: Request<Incoming>, reached: IpAddr, mut client: Client) -> Response<Body> {
        if let Err(foreign) = self.guard.check(request.headers(), reached) {
            return self.refuse("none", &Refusal::Foreign(foreign));
        }
        let trusted = &self.shared.config.trusted_proxies;
        let origin = Origin::of(request.headers(), || proxies::is_trusted(client.peer, trusted));
        if let Some(name) = oauth::asked_for(request.uri().path()) {
            return self.metadata(name, request.method(), origin.as_ref()).await;
        }
        let (name, upstream) = match self.route(request.uri().path()) {
            Ok(route) => route,
            Err(refusal) => return self.refuse("none", &refusal),
        };
        let (head, body) = request.into_parts();
        if let Some(forwarded) = proxies::forwarded(&head.headers, client.peer, trusted) {
            client.principal = forwarded.to_string().into();
        }
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(refusal) => return self.refuse(name, &refusal),
        };
        let call = Call::read(head, body, client);
        match upstream {
            Upstream::Http(upstream) => {
                let mut response = Arc::clone(upstream).answer(call).await;
                upstream.resource().readdress(response.status(), response.headers_mut(), origin.as_ref());
                response
            }
            Upstream::Stdio(upstream) => upstream.answer(call).await,
        }
    }

    /// The protected-resource metadata of an HTTP upstream, for clients that sign in.
    async fn metadata(&self, name: &str, method: &Method, origin: Option<&Origin>) -> Response<Body> {
        let Some((Upstream::Http(upstream), origin)) = self.upstreams.get(name).zip(origin) else {
            return self.refuse("none", &Refusal::UnknownPath);
        };
        if method != Method::GET {
            return self.refuse(name, &Refusal::MethodNotAllowed { allow: "GET" });
        }
        match upstream.resource().metadata(origin).await {
            Ok(metadata) => {
                self.shared.metrics.requests.with_label_values(&[name, "relayed"]).inc();
                whole(metadata)
            }
            Err(refusal) => self.refuse(name, &refusal),
        }
    }

    fn route(&self, path: &str) -> Result<(&str, &Upstream), Refusal> {
        let name = path.strip_prefix("/mcp/").filter(|name| !name.contains('/')).ok_or(Refusal::UnknownPath)?;
        match self.upstreams.get_key_value(name) {
            Some((name, upstream)) => Ok((name, upstream)),
            None => {
                let known = self.upstreams.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(Refusal::UnknownUpstream { name: name.to_owned(), known })
            }
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
    fn refuse(&self, server: &str, refusal: &Refusal) -> Response<Body> {
        whole(self.refused(server, refusal))
    }

    /// The same, as bytes.
    fn refused(&self, server: &str, refusal: &Refusal) -> Response<Bytes> {
        tracing::debug!(server, reason = refusal.reason(), "request refused");
        self.shared.metrics.requests.with_label_values(&[server, refusal.reason()]).inc();
        refusal.response(&RequestIds::None)
    }

    /// Ends the children of stdio upstreams.
    async fn close(&self) {
        for upstream in self.upstreams.values() {
            match upstream {
                Upstream::Http(_) => {}
                Upstream::Stdio(upstream) => upstream.close().await,
            }
        }
    }
}
