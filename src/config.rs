//! The settings: read once at the start, from a file, the environment and flags, and never "maybe" after that.
//!
//! Invariant: a [`Config`] holds only values that were checked; whoever is wrong is told the place, the key, the
//! value and the remedy. Each section is a struct that its component takes as it is. Not here: policy rules.

mod aggregate;
mod auth;
mod cidr;
mod data_default;
mod error;
mod given;
mod history;
mod hosts;
mod kafka;
mod keys;
mod layers;
pub mod mcp_json;
mod raw;
mod resolve;
mod stdio;
mod terms;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use undercurrent_dataflows::assess::LeftOut;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::Limits;
use undercurrent_dataflows::sessions::Rules;

pub use self::aggregate::Aggregate;
pub use self::auth::{Auth, Issuer, KeyHash, NotKeyHash};
pub use self::cidr::{Cidr, NotCidr};
pub use self::error::{ConfigError, Place, Problem};
pub use self::given::Given;
pub use self::history::{History, HistoryStore, Kept};
pub use self::hosts::HostRules;
pub use self::kafka::{DERIVED_TOPICS, Kafka, Properties};
pub use self::stdio::Stdio;
pub use self::terms::{BreakerSettings, Rate, Terms};
pub use self::upstream::{Environment, InvalidName, Upstream, UpstreamName, from_flag as upstream_from_flag};

/// What every override's variable starts with.
const ENV_PREFIX: &str = "UNDERCURRENT__";

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Listen,
    pub data_dir: PathBuf,
    pub upstreams: BTreeMap<UpstreamName, Upstream>,
    /// On what terms each upstream is used.
    pub terms: BTreeMap<UpstreamName, Terms>,
    pub auth: Auth,
    /// `None`: each upstream has its own endpoint, and that is all.
    pub aggregate: Option<Aggregate>,
    /// `None`: each principal may ask as much as it likes.
    pub rate: Option<Rate>,
    pub gateway: Gateway,
    pub stdio: Stdio,
    pub facts: Facts,
    pub log: Log,
    pub engine: Engine,
    pub history: History,
    /// How often what is live is published as files; `None` = never.
    pub snapshot_interval: Option<Duration>,
    pub reports: Reports,
    pub capture: Capture,
    /// `None`: the built-in policy.
    pub policy_file: Option<PathBuf>,
    /// `None`: none is kept.
    pub access_log: Option<AccessLog>,
    /// `None`: no span is made.
    pub tracing: Option<Tracing>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub mcp: SocketAddr,
    pub admin: SocketAddr,
    /// What MCP clients are offered instead of plain HTTP.
    pub tls: Option<Tls>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How the gateway relays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// A larger request is answered with 413.
    pub body_bytes_max: usize,
    /// Bytes of one response that are looked into; more is relayed all the same.
    pub response_capture_bytes_max: usize,
    /// Of messages that have left and are not read yet; 0: each is read before it leaves.
    pub unread_bytes_max: usize,
    /// Client connections at once; further ones wait.
    pub connections_max: usize,
    /// Sessions that the edge remembers; the one that was idle longest leaves first.
    pub sessions_max: usize,
    /// Whom both listeners answer.
    pub hosts: HostRules,
    /// Whose `X-Forwarded-For` names the principal.
    pub trusted_proxies: Vec<Cidr>,
    pub upstream_connect_timeout: Duration,
    /// Longest silence of an upstream that owes an answer.
    pub upstream_idle_timeout: Duration,
    /// Longest that an answer may take in all.
    pub upstream_call_timeout: Duration,
    /// What open exchanges get to finish when the gateway stops.
    pub shutdown_timeout: Duration,
}

/// What facts may cost.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub limits: Limits,
    /// Of all sessions' provenance indexes together.
    pub provenance_bytes_max: usize,
}

/// The log's shape and its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `None`: it is in DATA.
    pub kafka: Option<Kafka>,
    pub partitions: u32,
    /// Longest time between two group commits while events come.
    pub tick: Duration,
    pub queue_events_max: usize,
    pub queue_bytes_max: usize,
    /// What is kept beyond what is needed.
    pub retention: Retention,
}

/// How much of the log is kept, if nobody needs more of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// By event time; `None` = for ever.
    pub age: Option<Duration>,
    /// On disk; `None` = without bound.
    pub bytes: Option<u64>,
}

/// How the engine learns.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    pub workers: usize,
    /// Silence after which a session is over.
    pub session_idle: Duration,
    /// How much later than its neighbours a message may come and still count.
    pub lateness: Duration,
    /// After which a call is unanswered.
    pub call_timeout: Duration,
    /// A session with a p-value of at most this is doubtful.
    pub learning_gate_p: f64,
    /// How much a doubtful session teaches, in eighths of what others do.
    pub doubtful_eighths: u32,
    /// How long after its end a session can be labelled and forgotten.
    pub unlearn_horizon: Duration,
    /// Ended sessions that can be; beyond that the oldest no longer can.
    pub unlearn_sessions_max: usize,
    /// From how many on loops, streaks of errors and tried secrets are told.
    pub rules: Rules,
    /// What makes a cluster.
    pub clusters: ClusterSettings,
    /// Share of scored sessions that may be flagged.
    pub alert_budget: f64,
    /// Terms that add nothing to a score.
    pub left_out: LeftOut,
    pub checkpoint_interval: Duration,
}

/// What may be reported from outside at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    pub body_bytes_max: usize,
    pub points_max: usize,
}

/// What of a payload leaves the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub payload: Payload,
}

/// How much of a message is kept beside its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    None,
    /// Keys and types, but no values.
    Redacted,
    Full,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    pub target: AccessLogTarget,
    /// Lines that wait for the disk; more are dropped.
    pub queue_lines_max: usize,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    StandardError,
    File(PathBuf),
}

/// Spans, and the collector that takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Of its traces.
    pub endpoint: url::Url,
    /// Share of the traces without a parent that are recorded.
    pub sample_ratio: f64,
    pub service_name: String,
    /// Spans that wait to be exported; more are dropped.
    pub queue_spans_max: usize,
    pub batch_spans_max: usize,
    /// Longest wait of a span for its batch to fill.
    pub export_interval: Duration,
    /// Of one export, repetitions included.
    pub timeout: Duration,
}

/// One setting from outside the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    path: Vec<String>,
    value: toml::Value,
    place: Place,
}

impl Override {
    pub fn new<const N: usize>(path: [&str; N], value: impl Into<toml::Value>, place: Place) -> Self {
        Self { path: path.map(str::to_owned).to_vec(), value: value.into(), place }
    }
}

/// Where settings come from; later ones win: file, environment, overrides.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub env: BTreeMap<String, String>,
    pub overrides: Vec<Override>,
    /// `--data`: a path as the system gave it, which need not be text.
    pub data_dir: Option<PathBuf>,
}

impl Sources {
    /// Those of this process; variables that are not UTF-8 are none of ours.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, data_dir: Option<PathBuf>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let env = std::env::vars_os().filter_map(text).collect();
        Self { file, env, overrides: Vec::new(), data_dir }
    }
}

impl Config {
    /// The same for the text of a file alone.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn of_text(text: &str) -> Result<Self, ConfigError> {
        let mut layers = layers::Layers::default();
        layers.read_text(std::path::Path::new("undercurrent.toml"), text)?;
        let (raw, places) = layers.finish();
        let around = resolve::Surroundings {
            places: &places,
            file: None,
            data_flag: None,
            data_default: Some(PathBuf::from("data")),
            env: &BTreeMap::new(),
        };
        resolve::resolve(raw, around)
    }

    /// Reads, checks and resolves all settings.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        Self::load_given(sources).map(|(config, _)| config)
    }

    /// As [`Self::load`], with every setting that somebody gave.
    pub fn load_given(sources: Sources) -> Result<(Self, Vec<Given>), ConfigError> {
        let mut layers = layers::Layers::default();
        if let Some(file) = &sources.file {
            layers.read_file(file)?;
        }
        layers.read_env(&sources.env)?;
        for given in sources.overrides {
            layers.apply(given)?;
        }
        let mut settings = layers.given();
        let variable = sources.env.get(data_default::VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        given::data_dir(&mut settings, sources.data_dir.as_deref(), variable.as_ref());
        let (raw, places) = layers.finish();
        let surroundings = resolve::Surroundings {
            places: &places,
            file: sources.file.as_deref(),
            data_flag: sources.data_dir,
            data_default: data_default::data_dir(&sources.env),
            env: &sources.env,
        };
        resolve::resolve(raw, surroundings).map(|config| (config, settings))
    }
}

#[cfg(test)]
mod tests;
