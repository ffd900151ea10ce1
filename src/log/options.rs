//! The settings of an embedded log.

use std::sync::Arc;
use std::time::Duration;

use undercurrent_schemas::ids::Micros;

use crate::telemetry::LogMetrics;

/// Who decides when a tick is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    /// The log itself, in groups and with fsync: live traffic. Each group is a tick.
    #[default]
    Group,
    /// The caller, tick by tick and without fsync: a replay, whose ticks come from the recording.
    Manual,
}

/// How an embedded log is opened.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Fixed when the log is made: the partition of a session follows from it.
    pub partitions: u32,
    pub tick: Duration,
    /// Events that are queued or being committed.
    pub queue_events_max: usize,
    /// Encoded bytes of those events.
    pub queue_bytes_max: usize,
    /// Bytes of recent ticks that are kept in memory for the tails.
    pub recent_bytes_max: usize,
    pub commit: Commit,
    /// The gateway id of a new log; `None` draws one. A replay gives it, so that its log depends on its input alone.
    pub gateway: Option<u64>,
    /// Where commits are counted and timed.
    pub metrics: Option<Arc<LogMetrics>>,
    /// The clock starts no earlier than here, nor earlier than the last stamp in the log.
    pub clock_floor: Micros,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            partitions: 8,
            tick: Duration::from_millis(50),
            queue_events_max: 65_536,
            queue_bytes_max: 64 << 20,
            recent_bytes_max: 32 << 20,
            commit: Commit::Group,
            gateway: None,
            metrics: None,
            clock_floor: Micros(0),
        }
    }
}

impl LogOptions {
    /// The settings of a replay: its own ticks, and an id that is the same in every run.
    #[must_use]
    pub fn replay() -> Self {
        Self { commit: Commit::Manual, gateway: Some(1), ..Self::default() }
    }

    /// The length of a tick in microseconds, at least 1.
    pub(super) fn tick_us(&self) -> u64 {
        u64::try_from(self.tick.as_micros()).unwrap_or(u64::MAX).max(1)
    }
}
