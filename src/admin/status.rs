//! What `/status` says. Its fields are a contract with operators' tools: extend, don't rename.

use std::fmt::Debug;

use serde::Serialize;

/// Who knows how things stand; asked at each request, so it must be quick and must not block.
pub trait StatusSource: Send + Sync + Debug {
    fn status(&self) -> Status;
}

/// Whether something is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Check {
    #[default]
    Ok,
    Failing {
        reason: String,
    },
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    pub uptime_s: u64,
    /// The process works and its log takes events.
    pub health: Check,
    /// Recovered, and listening.
    pub ready: Check,
    pub data_dir: String,
    pub upstreams: Vec<UpstreamStatus>,
    pub partitions: Vec<PartitionStatus>,
    /// Events that wait for the log.
    pub queued_events: u64,
    /// `null`: none is live.
    pub model: Option<ModelStatus>,
    /// Event time that every gateway has passed, Unix microseconds; `null`: nothing was seen.
    pub watermark_us: Option<i64>,
    /// Durable ticks whose results are not published.
    pub lag_ticks: u64,
    pub history: HistoryStatus,
    pub learned: Learned,
    /// Newest first, a few.
    pub recent_flagged: Vec<FlaggedSession>,
    /// Alerts that are not resolved, newest first, a few.
    pub open_alerts: Vec<OpenAlert>,
    /// In the newest window of a minute, busiest first, a few.
    pub busiest_tools: Vec<BusyTool>,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenAlert {
    pub alert_id: String,
    pub kind: &'static str,
    pub server: String,
    /// A session id, or `server/tool`.
    pub subject: String,
    pub opened_at_us: i64,
    /// Signals so far, as of its last row.
    pub times: u64,
    pub text: String,
}

/// One tool in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BusyTool {
    /// `server/tool`.
    pub tool: String,
    pub calls: i64,
    pub errors: i64,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    /// Where clients connect.
    pub endpoint: String,
    /// What is behind it: a URL without query, or a program without arguments.
    pub target: String,
}

/// How far a partition is. Each is the first offset that is not yet so: 0 = nothing, and equal = nothing waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    pub partition: u32,
    /// Safe on disk.
    pub durable: u64,
    /// In a tick.
    pub bound: u64,
    /// In a tick whose results are published.
    pub learned: u64,
}

/// The live model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ModelStatus {
    pub version: u64,
    pub age_ms: u64,
}

/// The Parquet files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryStatus {
    pub dir: String,
    /// The last tick whose rows are all in files; `null`: none yet.
    pub covered_tick: Option<u64>,
}

/// Since the start of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Learned {
    pub calls: u64,
    pub sessions_open: u64,
    pub sessions_scored: u64,
    pub sessions_flagged: u64,
    pub sessions_taught: u64,
    pub sessions_quarantined: u64,
}

/// A session that stood out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlaggedSession {
    pub session_id: String,
    pub part: u32,
    pub server: String,
    pub ended_at_us: i64,
    pub score: f64,
    pub p_value: f64,
    /// In words, the weightiest first.
    pub reasons: Vec<String>,
}
