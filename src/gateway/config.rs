//! The gateway's settings, as plain values. Not here: files, environment, defaults of other parts.

use std::time::Duration;

use crate::config::{Aggregate, Auth, Cidr, HostRules, Rate, Stdio, Tls};
use crate::observe::Observers;
use crate::upstream::UpstreamConfig;

/// Everything the gateway needs to know before it serves. A reload replaces all but `limits`, `timeouts` and
/// `stdio`.
#[derive(Clone, Debug, Default)]
pub struct GatewayConfig {
    pub upstreams: Vec<UpstreamConfig>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// The streams of stdio upstreams.
    pub stdio: Stdio,
    /// Hosts and origins that are let in besides local ones.
    pub hosts: HostRules,
    /// Whose `X-Forwarded-For` is believed when it names the client.
    pub trusted_proxies: Vec<Cidr>,
    /// Who wants to know of exchanges.
    pub observers: Observers,
    /// How callers are known.
    pub auth: Auth,
    /// What each principal may ask; `None`: as much as it likes.
    pub rate: Option<Rate>,
    /// How the upstreams are served as one; `None`: they are not.
    pub aggregate: Option<Aggregate>,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// What stays as it is until the gateway ends.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) stdio: Stdio,
    pub(crate) observers: Observers,
}

/// Bounds on what clients and upstreams may make the gateway hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections; more wait in the listener's backlog.
    pub connections_max: usize,
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// Largest request body; above: 413.
    pub body_bytes_max: usize,
    /// Largest response message that is read for facts; larger ones are relayed all the same, and counted.
    pub capture_bytes_max: usize,
    /// Longest line of a stdio upstream.
    pub line_bytes_max: usize,
    /// Open sessions of one stdio upstream, each a process; above: 503.
    pub sessions_max: usize,
    /// Sessions whose place is remembered, for each upstream that has several.
    pub homes_max: usize,
    /// Requests that one shared child of a stdio upstream may have open; above: 503.
    pub open_requests_max: usize,
}

/// How long the gateway waits for others.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// A request's head; also how long an idle client connection is kept.
    pub head: Duration,
    /// A request's body.
    pub body: Duration,
    /// Connecting to an upstream.
    pub connect: Duration,
    /// The longest silence of an upstream that owes an answer; whatever it sends begins it anew. Streams that are listened
    /// to may be silent.
    pub response: Duration,
    /// The longest that an answer may take in all, however much is heard meanwhile.
    pub call: Duration,
    /// How long an exchange whose legacy client has left may go on.
    pub abandoned: Duration,
    /// How long an unused connection to an upstream is kept.
    pub upstream_idle: Duration,
    /// How long a stdio session without requests and streams is kept.
    pub session_idle: Duration,
    /// What a child gets to leave by itself after its input was closed, and again after SIGTERM.
    pub child_exit: Duration,
    /// What open exchanges get to finish when the gateway stops.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 << 10,
            headers_max: 128,
            body_bytes_max: 32 << 20,
            capture_bytes_max: 4 << 20,
            line_bytes_max: 32 << 20,
            sessions_max: 64,
            homes_max: 10_000,
            open_requests_max: 1024,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            response: Duration::from_secs(600),
            call: Duration::from_secs(24 * 3600),
            abandoned: Duration::from_secs(600),
            upstream_idle: Duration::from_secs(30),
            session_idle: Duration::from_secs(30 * 60),
            child_exit: Duration::from_secs(2),
            shutdown: Duration::from_secs(5),
        }
    }
}
