//! Names that operators rely on, in one place: renaming a metric has to be done here too, on purpose.

/// HTTP requests by `server` and `outcome`, a reason code where the gateway answered itself.
pub(crate) const REQUESTS: &str = "undercurrent_gateway_requests_total";
/// Request bodies that are not JSON-RPC, and messages that the edge could make nothing of.
pub(crate) const MALFORMED: [&str; 2] =
    ["undercurrent_gateway_malformed_requests_total", "undercurrent_events_total{kind=\"malformed\"}"];
/// Calls that were settled: answered, or given up after `engine.call_timeout_s`.
pub(crate) const CALLS_SETTLED: &str = "undercurrent_calls_total";
/// Events that found no room in the queue to the log.
pub(crate) const LOG_EVENTS_DROPPED: &str = "undercurrent_log_events_dropped_total";
/// Group commits that the disk refused.
pub(crate) const LOG_COMMIT_ERRORS: &str = "undercurrent_log_commit_errors_total";
/// Event streams of stdio upstreams, by `server` and what became of them.
pub(crate) const STDIO_STREAMS: &str = "undercurrent_gateway_stdio_streams_total";
