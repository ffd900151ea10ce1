//! The settings as they are written: serde's view of the file, with every default. Not validated, not for use inside.
//!
//! Invariant: every key of a fixed section has a default, so that the default configuration names every key.
//! Downstream: [`super::resolve`], which turns it into [`super::Config`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kafka::DERIVED_TOPICS;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub listen: RawListen,
    pub data: RawData,
    pub gateway: RawGateway,
    pub stdio: RawStdio,
    pub auth: RawAuth,
    pub aggregate: RawAggregate,
    pub limits: RawLimits,
    pub facts: RawFacts,
    pub log: RawLog,
    pub kafka: RawKafka,
    pub engine: RawEngine,
    pub history: RawHistory,
    pub snapshot: RawSnapshot,
    pub reports: RawReports,
    pub capture: RawCapture,
    pub policy: RawPolicy,
    pub access_log: RawAccessLog,
    pub tracing: RawTracing,
    pub upstreams: BTreeMap<String, RawUpstream>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawListen {
    pub mcp: String,
    pub admin: String,
    /// Both empty: plain HTTP.
    pub tls_certificate: String,
    pub tls_key: String,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            mcp: "127.0.0.1:8808".into(),
            admin: "127.0.0.1:8809".into(),
            tls_certificate: String::new(),
            tls_key: String::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawData {
    /// Empty: `$UNDERCURRENT_DATA`, else the platform's data directory.
    pub dir: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawGateway {
    pub body_bytes_max: u64,
    pub response_capture_bytes_max: u64,
    pub unread_bytes_max: u64,
    pub connections_max: u64,
    pub sessions_max: u64,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub upstream_connect_timeout_ms: u64,
    pub upstream_idle_timeout_ms: u64,
    pub upstream_call_timeout_ms: u64,
    pub shutdown_timeout_ms: u64,
}

impl Default for RawGateway {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            response_capture_bytes_max: 4 << 20,
            unread_bytes_max: 32 << 20,
            connections_max: 4096,
            sessions_max: 10_000,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            upstream_connect_timeout_ms: 10_000,
            upstream_idle_timeout_ms: 600_000,
            upstream_call_timeout_ms: 86_400_000,
            shutdown_timeout_ms: 5000,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStdio {
    /// 0: no stream is closed before its answer.
    pub stream_max_ms: u64,
    pub retry_ms: u64,
    pub kept_events_max: u64,
    pub kept_bytes_max: u64,
}

impl Default for RawStdio {
    fn default() -> Self {
        Self { stream_max_ms: 0, retry_ms: 1000, kept_events_max: 256, kept_bytes_max: 1 << 20 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAuth {
    /// Subject = hash of its key.
    pub keys: BTreeMap<String, String>,
    /// Empty: no tokens.
    pub issuer: String,
    pub audiences: Vec<String>,
    /// Empty: where the issuer's metadata says.
    pub jwks_url: String,
    pub algorithms: Vec<String>,
    pub scopes: Vec<String>,
}

impl Default for RawAuth {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            issuer: String::new(),
            audiences: Vec::new(),
            jwks_url: String::new(),
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
            scopes: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAggregate {
    pub enabled: bool,
    pub separator: String,
    /// Empty: all.
    pub upstreams: Vec<String>,
    pub patience_ms: u64,
    pub sessions_max: u64,
}

impl Default for RawAggregate {
    fn default() -> Self {
        Self { enabled: false, separator: "__".into(), upstreams: Vec::new(), patience_ms: 15_000, sessions_max: 1000 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    /// 0: no limit.
    pub requests_per_minute: u64,
    pub requests_burst: u64,
    /// 0: never.
    pub breaker_failures: u64,
    pub breaker_pause_ms: u64,
    pub breaker_pause_max_ms: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            requests_per_minute: 0,
            requests_burst: 100,
            breaker_failures: 5,
            breaker_pause_ms: 500,
            breaker_pause_max_ms: 30_000,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFacts {
    pub depth_max: u64,
    pub leaves_max: u64,
    pub index_values_max: u64,
    pub index_bytes_max: u64,
    pub open_requests_max: u64,
    pub provenance_bytes_max: u64,
}

impl Default for RawFacts {
    fn default() -> Self {
        Self {
            depth_max: 128,
            leaves_max: 64,
            index_values_max: 16_384,
            index_bytes_max: 256 << 10,
            open_requests_max: 1024,
            provenance_bytes_max: 256 << 20,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    /// `embedded` or `kafka`.
    pub backend: String,
    pub partitions: u64,
    pub tick_ms: u64,
    pub queue_events_max: u64,
    pub queue_bytes_max: u64,
    /// 0: for ever.
    pub retention_s: u64,
    /// 0: without bound.
    pub retention_bytes: u64,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            backend: "embedded".into(),
            partitions: 8,
            tick_ms: 50,
            queue_events_max: 65_536,
            queue_bytes_max: 64 << 20,
            retention_s: 7 * 86_400,
            retention_bytes: 8 << 30,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKafka {
    pub bootstrap_servers: String,
    pub topic_prefix: String,
    pub replication_factor: u64,
    /// 0: for ever.
    pub retention_hours: u64,
    pub spill_bytes_max: u64,
    pub spill_after_ms: u64,
    pub derived_topics: Vec<String>,
    pub properties: BTreeMap<String, String>,
}

impl Default for RawKafka {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".into(),
            topic_prefix: "undercurrent.".into(),
            replication_factor: 1,
            retention_hours: 0,
            spill_bytes_max: 1 << 30,
            spill_after_ms: 1000,
            derived_topics: DERIVED_TOPICS.map(str::to_owned).into(),
            properties: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawEngine {
    /// 0: one less than the machine has cores, at least 1.
    pub workers: u64,
    pub session_idle_s: u64,
    pub lateness_s: u64,
    pub call_timeout_s: u64,
    pub learning_gate_p: f64,
    pub doubtful_eighths: u64,
    pub unlearn_horizon_s: u64,
    pub unlearn_sessions_max: u64,
    pub loop_calls: u64,
    pub error_streak: u64,
    pub probes: u64,
    pub cluster_sessions_min: u64,
    pub alert_budget: f64,
    pub leave_out_terms: Vec<String>,
    pub checkpoint_interval_s: u64,
}

impl Default for RawEngine {
    fn default() -> Self {
        Self {
            workers: 0,
            session_idle_s: 300,
            lateness_s: 30,
            call_timeout_s: 300,
            learning_gate_p: 0.1,
            doubtful_eighths: 1,
            unlearn_horizon_s: 86_400,
            unlearn_sessions_max: 100_000,
            loop_calls: 6,
            error_streak: 6,
            probes: 5,
            cluster_sessions_min: 4,
            alert_budget: 0.01,
            leave_out_terms: Vec::new(),
            checkpoint_interval_s: 60,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHistory {
    pub roll_seconds: u64,
    pub roll_rows: u64,
    pub zstd_level: u64,
    /// 0: never.
    pub compact_after_s: u64,
    pub compact_bytes: u64,
    /// Of each table; 0: without end.
    pub retention_days: u64,
    pub retention_gib: u64,
    /// By table.
    pub retention_days_of: BTreeMap<String, u64>,
    pub retention_gib_of: BTreeMap<String, u64>,
    pub keep_replaced_s: u64,
    /// Empty: local files alone.
    pub url: String,
    /// Empty: the environment alone.
    pub credentials_file: String,
    pub staging_bytes_max: u64,
    pub keep_local_s: u64,
}

impl Default for RawHistory {
    fn default() -> Self {
        Self {
            roll_seconds: 60,
            roll_rows: 131_072,
            zstd_level: 3,
            compact_after_s: 900,
            compact_bytes: 64 << 20,
            retention_days: 90,
            retention_gib: 64,
            retention_days_of: BTreeMap::new(),
            retention_gib_of: BTreeMap::new(),
            keep_replaced_s: 900,
            url: String::new(),
            credentials_file: String::new(),
            staging_bytes_max: 8 << 30,
            keep_local_s: 86_400,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSnapshot {
    /// 0: none.
    pub interval_ms: u64,
}

impl Default for RawSnapshot {
    fn default() -> Self {
        Self { interval_ms: 10_000 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawReports {
    pub body_bytes_max: u64,
    pub points_max: u64,
}

impl Default for RawReports {
    fn default() -> Self {
        Self { body_bytes_max: 4 << 20, points_max: 10_000 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCapture {
    pub payload: String,
}

impl Default for RawCapture {
    fn default() -> Self {
        Self { payload: "none".into() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPolicy {
    /// Empty: the built-in policy.
    pub file: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAccessLog {
    /// Empty: none. `-`: standard error.
    pub file: String,
    pub queue_lines_max: u64,
}

impl Default for RawAccessLog {
    fn default() -> Self {
        Self { file: String::new(), queue_lines_max: 8192 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTracing {
    /// Empty: none.
    pub otlp_endpoint: String,
    pub sample_ratio: f64,
    pub service_name: String,
    pub queue_spans_max: u64,
    pub batch_spans_max: u64,
    pub export_interval_ms: u64,
    pub export_timeout_ms: u64,
}

impl Default for RawTracing {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            sample_ratio: 1.0,
            service_name: "undercurrent".into(),
            queue_spans_max: 4096,
            batch_spans_max: 512,
            export_interval_ms: 1000,
            export_timeout_ms: 10_000,
        }
    }
}

/// Exactly one of `url` and `command`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub url: Option<String>,
    pub replicas: Vec<String>,
    pub command: Option<String>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// `gateway` or `pass_through`.
    pub auth: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// 0: no limit.
    pub requests_max: Option<u64>,
}
