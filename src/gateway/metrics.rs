//! The gateway's metrics, registered on a registry that is passed in. Every label comes from a closed set.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

/// What one gateway counts and times.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    /// `mcp_server_operation_duration_seconds{mcp_method_name,server,error_type}`: from a request's body to the end of
    /// its answer.
    pub(crate) operation: HistogramVec,
    /// `undercurrent_gateway_overhead_seconds`: from a request's body to its sending, pauses by policy excluded.
    pub(crate) overhead: Histogram,
    /// `undercurrent_gateway_requests_total{server,outcome}`: `relayed` (also error statuses), `aborted` (the upstream
    /// ended in the middle), or the reason of a refusal.
    pub(crate) requests: IntCounterVec,
    /// `undercurrent_gateway_unread_responses_total{server,cause}`: messages that were relayed, but not learned from.
    pub(crate) unread: IntCounterVec,
    /// `undercurrent_gateway_malformed_requests_total{server}`: bodies that are not JSON-RPC.
    pub(crate) malformed: IntCounterVec,
    /// `undercurrent_gateway_breaker_open{server}`: places of an upstream that count as down.
    pub(crate) breaker_open: IntGaugeVec,
    /// `undercurrent_gateway_aggregate_left_out_total{server}`: times that the aggregated endpoint did without it.
    pub(crate) left_out: IntCounterVec,
    /// `undercurrent_gateway_connections`.
    pub(crate) connections: IntGauge,
    /// `undercurrent_gateway_abandoned_exchanges`: exchanges that go on without their legacy client.
    pub(crate) abandoned: IntGauge,
    /// `undercurrent_gateway_stdio_sessions`.
    pub(crate) sessions: IntGauge,
    /// `undercurrent_gateway_stdio_streams_total{server,event}`: of streams that can be had again, `opened` and of those
    /// `resumed`, `closed` before their answer, `lost`: what a client came back for had gone.
    pub(crate) streams: IntCounterVec,
    /// `undercurrent_gateway_stdio_kept_bytes`.
    pub(crate) kept_bytes: IntGauge,
}

/// Buckets of OpenTelemetry's MCP conventions.
const OPERATION_SECONDS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Theirs start at 10 ms; a gateway's own time is microseconds.
const OVERHEAD_SECONDS: [f64; 12] =
    [1e-6, 2e-6, 5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 10e-3, 100e-3];

impl GatewayMetrics {
    /// Registers all of them; fails if one of the names is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let buckets =
            |name: &str, help: &str, buckets: &[f64]| HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metrics = Self {
            operation: HistogramVec::new(
                buckets(
                    "mcp_server_operation_duration_seconds",
                    "Duration of an MCP request as the gateway sees it.",
                    &OPERATION_SECONDS,
                ),
                &["mcp_method_name", "server", "error_type"],
            )?,
            overhead: Histogram::with_opts(buckets(
                "undercurrent_gateway_overhead_seconds",
                "Time a request spends in the gateway before it is sent on.",
                &OVERHEAD_SECONDS,
            ))?,
            requests: counters("requests_total", "HTTP requests by how they ended.", &["server", "outcome"])?,
            unread: counters(
                "unread_responses_total",
                "Server messages that were relayed but not learned from.",
                &["server", "cause"],
            )?,
            malformed: counters("malformed_requests_total", "Request bodies that are not JSON-RPC.", &["server"])?,
            breaker_open: IntGaugeVec::new(
                Opts::new(
                    "undercurrent_gateway_breaker_open",
                    "Places of an upstream that count as down (of one that has a single place: 1 or 0).",
                ),
                &["server"],
            )?,
            left_out: counters(
                "aggregate_left_out_total",
                "Times that the aggregated endpoint did without an upstream that failed.",
                &["server"],
            )?,
            connections: gauge("connections", "Open client connections.")?,
            abandoned: gauge("abandoned_exchanges", "Exchanges that go on after their client has left.")?,
            sessions: gauge("stdio_sessions", "Open sessions of stdio upstreams, each a process.")?,
            streams: counters(
                "stdio_streams_total",
                "Event streams of stdio upstreams that can be had again, by what became of them.",
                &["server", "event"],
            )?,
            kept_bytes: gauge("stdio_kept_bytes", "Events of stdio sessions that can be had again, in bytes.")?,
        };
        let all: [Box<dyn Collector>; 12] = [
            Box::new(metrics.operation.clone()),
            Box::new(metrics.overhead.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.unread.clone()),
            Box::new(metrics.malformed.clone()),
            Box::new(metrics.breaker_open.clone()),
            Box::new(metrics.left_out.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.abandoned.clone()),
            Box::new(metrics.sessions.clone()),
            Box::new(metrics.streams.clone()),
            Box::new(metrics.kept_bytes.clone()),
        ];
        all.into_iter().try_for_each(|metric| registry.register(metric))?;
        Ok(metrics)
    }
}

/// Adds one to a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl Counted {
    pub(crate) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(format!("undercurrent_gateway_{name}"), help), labels)
}

fn gauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(format!("undercurrent_gateway_{name}"), help)
}
