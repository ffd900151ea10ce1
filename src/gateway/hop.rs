//! The hop: one HTTP exchange with an upstream. All that knows of client connections is in this file, so that a
//! stricter and faster relay can take its place.
//!
//! Invariant: a message leaves only against a [`Right`], which a decision made and sending uses up.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::config::Timeouts;
use crate::edge::Permit;

/// The right to send a request.
#[derive(Debug)]
pub(crate) enum Right {
    /// A decision was made about its message.
    Decided(Permit),
    /// `initialize` outside a session: what the decision is keyed by, the session, comes with the response, which is
    /// withheld if the decision then says so.
    Initialize,
    /// It carries no message (GET, DELETE).
    NoMessage,
    /// It takes back what the gateway has given up.
    Withdrawal,
}

impl Right {
    /// Whether the answer is to be looked at before the client gets it.
    pub(crate) const fn holds_answer(&self) -> bool {
        match self {
            Self::Decided(permit) => permit.holds_answer(),
            Self::Initialize | Self::NoMessage | Self::Withdrawal => false,
        }
    }

    /// Whoever has sent has no right left to send again.
    pub(crate) fn use_up(self) {
        if let Self::Decided(permit) = self {
            drop(permit);
        }
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HopError {
    #[error("connect to upstream")]
    Connect(#[source] hyper_util::client::legacy::Error),
    #[error("exchange with upstream")]
    Exchange(#[source] hyper_util::client::legacy::Error),
    #[error("wait for the head of the upstream's response")]
    Timeout,
}

/// A pool of connections to one upstream.
#[derive(Clone, Debug)]
pub(crate) enum Hop {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Hop {
    pub(crate) fn plain(timeouts: &Timeouts) -> Self {
        Self::Plain(pool(timeouts).build(connector(timeouts)))
    }

    /// Reads the system's root certificates.
    pub(crate) fn tls(timeouts: &Timeouts) -> io::Result<Self> {
        let mut tcp = connector(timeouts);
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().wrap_connector(tcp);
        Ok(Self::Tls(pool(timeouts).build(tls)))
    }

    /// Sends the request and waits for the head of its response, if need be for ever. Dropping the future or the
    /// response's body ends the exchange and its connection.
    pub(crate) async fn exchange(
        &self,
        right: Right,
        request: Request<Full<Bytes>>,
        patience: Option<Duration>,
    ) -> Result<Response<Incoming>, HopError> {
        right.use_up();
        let response = match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        };
        let response = match patience {
            Some(patience) => tokio::time::timeout(patience, response).await.map_err(|_| HopError::Timeout)?,
            None => response.await,
        };
        response.map_err(|error| if error.is_connect() { HopError::Connect(error) } else { HopError::Exchange(error) })
    }
}

impl HopError {
    /// The innermost cause, for the log.
    pub(crate) fn cause(&self) -> String {
        let mut cause: &dyn std::error::Error = self;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    }
}

fn connector(timeouts: &Timeouts) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeouts.connect));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp
}

fn pool(timeouts: &Timeouts) -> hyper_util::client::legacy::Builder {
    let mut pool = Client::builder(TokioExecutor::new());
    pool.pool_timer(TokioTimer::new()).pool_idle_timeout(timeouts.upstream_idle).set_host(false);
    pool
}
