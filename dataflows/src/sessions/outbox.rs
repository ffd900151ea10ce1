//! What a partition's sessions hand on, tick by tick.

use std::sync::Arc;

use undercurrent_schemas::ids::{Micros, Offset, Partition};
use undercurrent_schemas::rows::{CallOutcome, CallRow, DeadLetterRow, LabelRow, MessageRow, SessionRow, TelemetryRow};
use undercurrent_schemas::text::Text;

use crate::alerts::Signal;
use crate::catalogue::Met;
use crate::graph::EntityKey;
use crate::model::Entry;
use crate::predict::Expectations;
use crate::reports::Reported;
use crate::shared;

/// What came out of one partition in one tick.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The events themselves, each once: read here, they need not be read again for the history.
    pub messages: Vec<MessageRow>,
    pub calls: Vec<CallRow>,
    pub sessions: Vec<SessionRow>,
    pub labels: Vec<LabelRow>,
    /// Tool definitions that differ from what this partition saw last.
    pub met: Vec<Met>,
    /// What rules say.
    pub signals: Vec<Signal>,
    pub measures: Vec<Measure>,
    /// Calls of sessions that were forgotten: as they were measured.
    pub withdrawn: Vec<Measure>,
    /// What was reported of servers.
    pub reported: Vec<Reported>,
    pub telemetry: Vec<TelemetryRow>,
    pub dead_letters: Vec<DeadLetterRow>,
    /// Changes of the model's sums; equal entries may repeat.
    pub sums: Vec<(Entry, i64)>,
    /// Names that this partition has not told before.
    pub names: Vec<(u64, String)>,
    /// Records whose event was there before.
    pub repeats: Vec<(Partition, Offset)>,
    pub counters: Counters,
    /// What the tick's model expects: many calls ask the same, in every partition.
    pub(crate) expectations: Expectations,
}

/// One settled call, as the windows count it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Measure {
    pub ts: Micros,
    /// The watermark when it was settled.
    pub settled_at: Micros,
    #[serde(with = "shared")]
    pub tenant: Arc<str>,
    #[serde(with = "shared")]
    pub principal: Arc<str>,
    #[serde(with = "shared")]
    pub server: Arc<str>,
    #[serde(with = "shared")]
    pub session_id: Arc<str>,
    pub tool: Text,
    /// The server, the tool, the principal and the session.
    pub entities: [EntityKey; 4],
    pub outcome: CallOutcome,
    /// Arguments that point to hosts new to the session.
    pub new_hosts: u32,
    /// Arguments that point to any host.
    pub hosts: u32,
    /// The first call of its tool in its session.
    pub new_tool: bool,
    /// Arguments that are listed, those of them that are texts, and the sum of the texts' entropies.
    pub arguments: u32,
    pub text_arguments: u32,
    /// Arguments whose value an earlier result of the session held.
    pub sourced_arguments: u32,
    /// `shape_bits` and `fresh_bits` as the request path said them, in thousandths.
    pub shape_millibits: u32,
    pub fresh_millibits: u32,
    pub argument_entropy_millibits: u32,
    /// Digest of the shape of the arguments; `None` = nobody looked at them.
    pub shape: Option<u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub latency_us: Option<i64>,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What happened, in numbers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Adds what another partition counted.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    messages,
    /// Events that were in the log before.
    duplicates,
    /// Records that are not events.
    corrupt,
    gaps,
    gap_events,
    /// Messages that the watermark had passed by more than the lateness.
    late,
    /// Calls whose last window was final when they were settled: in no window.
    too_late_for_windows,
    calls,
    unanswered,
    /// Parts of sessions that ended.
    sessions,
    scored,
    flagged,
    taught,
    /// Parts with calls that the gate let teach less than others, or nothing.
    quarantined,
    /// Late calls that corrected what an ended part had taught.
    corrections,
    /// Labels and wishes to be forgotten that were heeded, and that came too late.
    labels_applied,
    labels_too_old,
    /// Calls of the tool that was expected first, of one of the next two, and of another.
    next_tool_first,
    next_tool_third,
    next_tool_missed,
    /// Latencies within a factor of two of what was expected, and others.
    latency_close,
    latency_off,
    /// Calls that failed, or did not, as was expected, or not.
    failure_right,
    failure_wrong,
    /// Minutes with about as many calls as were expected, and others.
    forecast_close,
    forecast_off,
    /// Points that were reported from outside; those whose series is one too many; and what could not be taken.
    telemetry_points,
    telemetry_beyond,
    dead_letters,
}
