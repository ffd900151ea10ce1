//! Rows of the history, as the engine makes them; `tables` turns them into Arrow.

use crate::ids::{Micros, ModelVersion, Offset, Partition, Tick};
use crate::text::Text;
use crate::v1;

/// Where a derived row comes from: unique in its table, and the order of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Source {
    pub tick: Tick,
    pub partition: Partition,
    /// Position among this partition's rows of this table and tick.
    pub ordinal: u32,
}

/// One message, with all its facts: a record of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    pub tick: Tick,
    pub partition: Partition,
    pub offset: Offset,
    pub event: v1::Event,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum CallOutcome {
    /// Answered with a result.
    Result,
    /// Answered with a tool error (`isError`).
    ToolError,
    /// Answered with a JSON-RPC error.
    RpcError,
    /// Not answered within its timeout (known once the watermark has passed that and the lateness), or before its
    /// session ended.
    Unanswered,
}

impl CallOutcome {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::ToolError => "tool_error",
            Self::RpcError => "rpc_error",
            Self::Unanswered => "unanswered",
        }
    }
}

/// One `tools/call` request and what became of it; stands at the record that settled it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallRow {
    pub source: Source,
    pub tenant: Text,
    pub principal: Text,
    pub server: Text,
    pub session_id: Text,
    /// Time of the request.
    pub ts: Micros,
    /// The JSON-RPC id; strings without their quotes.
    pub jsonrpc_id: String,
    pub tool: Text,
    pub outcome: CallOutcome,
    /// `error.type`; empty = none.
    pub error_type: String,
    /// From request to response; `None` = unanswered.
    pub latency_us: Option<i64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// 8 bits of the digest of the result's shape; `None` = unanswered.
    pub result_shape: Option<u8>,
    /// What the request path used; `None` = it made no verdict.
    pub verdict: Option<v1::Verdict>,
    /// What the model expected before the call was made.
    pub expected: Expected,
}

/// What is expected of a call, by the model of the tick before it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Expected {
    /// The likeliest tool; empty = nothing was expected.
    pub tool: Text,
    /// 1 to 3: the place of the tool that was called among those expected; `None` = not among them.
    pub tool_rank: Option<u32>,
    pub latency_us: Option<i64>,
    /// Probability that it fails or is not answered.
    pub failure_p: Option<f64>,
}

/// Why a part of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum EndReason {
    /// It said so: DELETE, end of input, an `end` line.
    Closed,
    /// The watermark passed its last message by the idle time and the lateness.
    Idle,
    /// The replay that it was part of ended.
    ReplayEnd,
}

impl EndReason {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::ReplayEnd => "replay_end",
        }
    }
}

/// One part of a session, scored before it taught.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SessionRow {
    pub source: Source,
    pub tenant: Text,
    pub principal: Text,
    pub server: Text,
    pub session_id: Text,
    pub part: u32,
    pub started_at: Micros,
    /// Time of its last message.
    pub ended_at: Micros,
    pub end_reason: EndReason,
    pub messages: u64,
    pub calls: u64,
    pub errors: u64,
    /// `None` = no model was live.
    pub assessment: Option<v1::Assessment>,
    /// `None` = not scored.
    pub flagged: Option<bool>,
    /// Its contributions entered the model.
    pub taught: bool,
    /// With what weight, in eighths.
    pub taught_eighths: u32,
    /// Where in its server's grid of behaviour it is; `None` = it made no calls.
    pub cell: Option<u64>,
    /// The cluster that its cell was in when it ended; empty = none.
    pub cluster: String,
}

/// Why what was told of a cluster came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum ClusterChange {
    Opened,
    /// It has more sessions, or fewer, in the same cells.
    Grew,
    /// Cells came or went.
    Moved,
    /// It was a part of another.
    Split,
    /// It became a part of another.
    Merged,
    Closed,
}

impl ClusterChange {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Grew => "grew",
            Self::Moved => "moved",
            Self::Split => "split",
            Self::Merged => "merged",
            Self::Closed => "closed",
        }
    }
}

/// A change of one cluster: what was told last is withdrawn, what holds now is told.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ClusterRow {
    pub source: Source,
    pub ts: Micros,
    /// `+1`: this holds from this tick on; `-1`: it no longer holds.
    pub diff: i64,
    pub change: ClusterChange,
    pub cluster: String,
    /// The cluster that it split from, or merged into; empty = none.
    pub related: String,
    /// Name hash of the server.
    pub scope: u64,
    pub server: String,
    pub sessions: u64,
    /// Dense cells that it consists of.
    pub cells: u64,
    /// A session of its densest cell; empty = the one that was known has been forgotten.
    pub exemplar: String,
    /// How far its mix of cells is from what it was when it opened: 0 to 1.
    pub drift: f64,
}

/// What became of something said about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LabelOutcome {
    /// What its ended parts taught is as was asked for; parts to come will be.
    Applied,
    /// The session is not known: it never was, or it ended before the horizon of unlearning.
    TooOld,
}

impl LabelOutcome {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::TooOld => "too_old",
        }
    }
}

/// A label, or a wish to be forgotten, and what became of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LabelRow {
    pub source: Source,
    /// Which record said so.
    pub event: v1::EventId,
    pub ts: Micros,
    pub session_id: String,
    /// `benign`, `malicious`, `clear` or `forget`.
    pub label: String,
    pub outcome: LabelOutcome,
    /// Ended parts whose contribution changed.
    pub parts: u32,
}

/// What happened to a tool's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ToolChange {
    FirstSeen,
    Changed,
}

impl ToolChange {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstSeen => "first_seen",
            Self::Changed => "changed",
        }
    }
}

/// A tool's definition, when it was first seen or changed.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ToolRow {
    pub source: Source,
    pub ts: Micros,
    pub tenant: String,
    pub server: String,
    pub tool: String,
    /// Who was told this definition.
    pub session_id: String,
    pub change: ToolChange,
    /// Of the canonical definition.
    pub definition_hash: u64,
    /// Of shingles of the definition before and of this one, the share that both have, in percent; `None` = the first.
    pub similarity_pct: Option<u32>,
    /// What changed, in words.
    pub what: Vec<String>,
    /// What is odd about it, in words.
    pub findings: Vec<String>,
    /// Other servers with a tool of this name.
    pub also_at: Vec<String>,
    /// Canonical JSON.
    pub definition: String,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum AlertKind {
    /// A session's p-value is within the alert budget.
    Flagged,
    /// Equal calls in a row.
    Loop,
    /// Two calls that take turns.
    LoopOfTwo,
    ErrorStreak,
    /// Values of a secret are tried.
    Probing,
    /// A tool is defined anew.
    ToolChanged,
    /// A definition hides characters, or gives orders to the model.
    ToolText,
    /// Two servers have a tool of one name.
    ToolShadowed,
    /// A tool that no session of the server called before.
    ToolFirstSeen,
    /// A tool's results are others than they were, and its definition is the same.
    ToolBehaviour,
    /// A tool is slower, or fails more often, than it did.
    Degraded,
    /// Many more calls in a minute than were expected.
    Burst,
    /// What is reported of a server has left its range.
    ServerDegraded,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Flagged,
        Self::Loop,
        Self::LoopOfTwo,
        Self::ErrorStreak,
        Self::Probing,
        Self::ToolChanged,
        Self::ToolText,
        Self::ToolShadowed,
        Self::ToolFirstSeen,
        Self::ToolBehaviour,
        Self::Degraded,
        Self::Burst,
        Self::ServerDegraded,
    ];

    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flagged => "flagged",
            Self::Loop => "loop",
            Self::LoopOfTwo => "loop_of_two",
            Self::ErrorStreak => "error_streak",
            Self::Probing => "probing",
            Self::ToolChanged => "tool_changed",
            Self::ToolText => "tool_text",
            Self::ToolShadowed => "tool_shadowed",
            Self::ToolFirstSeen => "tool_first_seen",
            Self::ToolBehaviour => "tool_behaviour",
            Self::Degraded => "degraded",
            Self::Burst => "burst",
            Self::ServerDegraded => "server_degraded",
        }
    }
}

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AlertState {
    Open,
    Updated,
    Resolved,
}

impl AlertState {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
        }
    }
}

/// A step in an alert's life; its rows share the id.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AlertRow {
    pub source: Source,
    pub ts: Micros,
    pub alert_id: String,
    pub kind: AlertKind,
    pub state: AlertState,
    pub server: String,
    /// A session id, or `server/tool`.
    pub subject: String,
    pub opened_at: Micros,
    /// Signals so far.
    pub times: u64,
    pub text: String,
}

/// What a feature row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum EntityKind {
    Server,
    Tool,
    Principal,
    Session,
}

impl EntityKind {
    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Tool => "tool",
            Self::Principal => "principal",
            Self::Session => "session",
        }
    }
}

/// A change of one entity's features over one window: the sum of the diffs of a row's values is its multiplicity.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRow {
    pub source: Source,
    /// `+1`: these values hold from this tick on; `-1`: they no longer hold.
    pub diff: i64,
    pub kind: EntityKind,
    pub tenant: Text,
    /// `server`, `server/tool`, the principal, or the session id.
    pub entity: Text,
    pub window_start: Micros,
    pub window_us: i64,
    pub calls: i64,
    pub errors: i64,
    /// Errors by kind: results that say so themselves, and JSON-RPC errors; the others were not answered.
    pub tool_errors: i64,
    pub rpc_errors: i64,
    /// Arguments that point to hosts new to their session, and to any.
    pub new_hosts: i64,
    pub hosts: i64,
    /// Calls that are the first of their tool in their session.
    pub new_tools: i64,
    /// Tools called, and shapes of arguments that they were given: estimates.
    pub distinct_tools: i64,
    pub distinct_shapes: i64,
    /// Arguments that are listed; of those, texts; and the texts' entropies in thousandths of a bit per byte, added up.
    pub arguments: i64,
    pub text_arguments: i64,
    pub argument_entropy_millibits: i64,
    /// Arguments whose value an earlier result of their session held.
    pub sourced_arguments: i64,
    /// `shape_bits` and `fresh_bits` of its calls as the request path said them, thousandths of a bit, added up.
    pub shape_millibits: i64,
    pub fresh_millibits: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    /// Calls with an answer: what the latency figures rest on.
    pub answered: i64,
    pub latency_sum_us: i64,
    /// Of a DDSketch of 1 % relative error; `None` = no call was answered.
    pub latency_p50_us: Option<f64>,
    pub latency_p95_us: Option<f64>,
    /// What was reported from outside; only servers have it.
    pub reported: ReportedSums,
}

/// What was reported of a server from outside: integer sums, which can be added and taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReportedSums {
    pub points: i64,
    pub calls: i64,
    pub errors: i64,
    pub latency_sum_us: i64,
    /// Points of processor time, and their sum in millionths.
    pub cpu_points: i64,
    pub cpu_millionths: i64,
    /// Points of memory in use, and their sum in millionths.
    pub memory_points: i64,
    pub memory_millionths: i64,
}

impl ReportedSums {
    /// All of them.
    pub fn sums(&mut self) -> [&mut i64; 8] {
        [
            &mut self.points,
            &mut self.calls,
            &mut self.errors,
            &mut self.latency_sum_us,
            &mut self.cpu_points,
            &mut self.cpu_millionths,
            &mut self.memory_points,
            &mut self.memory_millionths,
        ]
    }
}

/// One point that was reported from outside.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TelemetryRow {
    pub source: Source,
    /// When it came.
    pub received: Micros,
    pub tenant: String,
    /// Empty = of none.
    pub server: String,
    pub point: v1::Point,
}

/// Something that could not be taken.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetterRow {
    pub source: Source,
    pub ts: Micros,
    pub tenant: String,
    pub letter: v1::DeadLetter,
}

/// How many calls a minute was expected to have, and had.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ForecastRow {
    pub source: Source,
    /// `+1`: this holds; `-1`: what came was corrected, and this no longer holds.
    pub diff: i64,
    pub kind: EntityKind,
    pub tenant: Text,
    /// `server`, or `server/tool`.
    pub entity: Text,
    pub window_start: Micros,
    /// Made before the minute was known; never revised.
    pub expected: f64,
    /// Mean absolute error of the forecasts before it.
    pub error: f64,
    pub calls: i64,
}

/// A change of one entry of the model: the sum of an entry's diffs up to a version is its count there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    pub source: Source,
    pub version: ModelVersion,
    pub part: &'static str,
    /// Server name; empty = the global back-off.
    pub scope: Text,
    pub key: Text,
    pub bin: u32,
    pub diff: i64,
}
