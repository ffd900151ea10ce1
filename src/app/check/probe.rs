//! Tries each upstream: a handshake and a list of tools, through a gateway of its own that keeps nothing.
//!
//! Going through the gateway's own code tries what `serve` would do: connecting, TLS, starting children and ending them.
//! Nothing is learned and nothing is called; both eras of the protocol are tried, the one with sessions first.

pub(in crate::app) mod client;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use undercurrent_dataflows::facts::DigestKey;
use undercurrent_dataflows::model::ModelSlot;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1;

use self::client::{Client, ProbeError};
use crate::app::settings;
use crate::clock::EventClock;
use crate::config::Config;
use crate::edge::Edge;
use crate::gateway::{self, Gateway, GatewayConfig, GatewayMetrics};
use crate::log::{EventLog, LogFull};
use crate::policy::Policy;
use crate::telemetry::EdgeMetrics;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(in crate::app) enum Found {
    Answered {
        server: String,
        version: String,
        /// Of the protocol.
        revision: String,
        /// `null`: it offers none.
        tools: Option<usize>,
        ms: u64,
    },
    /// It is there, and lets nobody in who has not signed in.
    SignIn,
    Failed {
        error: String,
    },
}

impl Found {
    pub(super) const fn is_reachable(&self) -> bool {
        match self {
            Self::Answered { .. } | Self::SignIn => true,
            Self::Failed { .. } => false,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { server, version, revision, tools, ms } => {
                write!(f, "{server} {version}, MCP {revision}, ")?;
                match tools {
                    Some(1) => f.write_str("1 tool")?,
                    Some(tools) => write!(f, "{tools} tools")?,
                    None => f.write_str("no tools")?,
                }
                write!(f, ", after {ms} ms")
            }
            Self::SignIn => f.write_str("asks clients to sign in"),
            Self::Failed { error } => write!(f, "FAILED: {error}"),
        }
    }
}

/// Takes events and keeps none.
#[derive(Debug)]
struct NoLog;

impl EventLog for NoLog {
    fn append(&self, _event: v1::Event) -> Result<Sequence, LogFull> {
        Ok(Sequence(0))
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        watch::channel(Sequence(0)).1
    }
}

/// A gateway that keeps and learns nothing. Needs a tokio runtime.
pub(super) fn gateway(config: &Config, gateway: GatewayConfig) -> anyhow::Result<Gateway> {
    let registry = Registry::new();
    let edge = Edge::new(
        settings::edge(config, DigestKey::REPLAY),
        Policy::default(),
        Arc::new(NoLog),
        ModelSlot::default(),
        Arc::new(EventClock::default()),
        Arc::new(EdgeMetrics::register(&registry)?),
        None,
    );
    Ok(Gateway::new(gateway, edge, GatewayMetrics::register(&registry)?)?)
}

/// Probes all upstreams at once, each within `limit`.
pub(super) async fn all(
    config: &Config,
    settings: GatewayConfig,
    limit: Duration,
) -> anyhow::Result<BTreeMap<String, Found>> {
    // What a deployment asks of its clients is not asked of this one, which is on the same machine.
    let open = GatewayConfig { upstreams: settings.upstreams, ..GatewayConfig::default() };
    let gateway = gateway(config, open)?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on a port of loopback for the probe")?;
    let at = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(gateway::serve(listener, gateway, async {
        // A sender that is gone has also stopped.
        let _ = stopped.await;
    }));
    let probes = config.upstreams.keys().map(|name| async move {
        let mut client = Client::new(format!("http://{at}/mcp/{name}"));
        let found = match tokio::time::timeout(limit, client.probe()).await {
            Ok(Ok(found)) => found,
            Ok(Err(ProbeError::SignIn)) => Found::SignIn,
            Ok(Err(error)) => Found::Failed { error: error.to_string() },
            Err(_) => Found::Failed { error: format!("no answer within {limit:?}") },
        };
        (name.to_string(), found)
    });
    let found = futures_util::future::join_all(probes).await.into_iter().collect();
    drop(stop);
    served.await?;
    Ok(found)
}
