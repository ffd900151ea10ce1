//! Metrics of the log and of the queue to it.

use prometheus::{Histogram, IntCounter, IntGauge, Registry, Result};

use super::{Age, names, register};

#[derive(Debug)]
pub struct LogMetrics {
    pub queue_events: IntGauge,
    pub queue_bytes: IntGauge,
    pub events_dropped: IntCounter,
    /// Started with the oldest event that is not durable; clear while none waits.
    pub durable_lag: Age,
    commits: IntCounter,
    commit_errors: IntCounter,
    /// Seconds.
    commit_duration: Histogram,
    /// On disk.
    pub bytes: IntGauge,
    /// The first tick that is kept.
    pub first_tick: IntGauge,
}

impl LogMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        Ok(Self {
            queue_events: register::gauge(registry, names::LOG_QUEUE_EVENTS)?,
            queue_bytes: register::gauge(registry, names::LOG_QUEUE_BYTES)?,
            events_dropped: register::counter(registry, names::LOG_EVENTS_DROPPED)?,
            durable_lag: Age::register(registry, names::LOG_DURABLE_LAG, 0.0)?,
            commits: register::counter(registry, names::LOG_COMMITS)?,
            commit_errors: register::counter(registry, names::LOG_COMMIT_ERRORS)?,
            bytes: register::gauge(registry, names::LOG_BYTES)?,
            first_tick: register::gauge(registry, names::LOG_FIRST_TICK)?,
            commit_duration: register::histogram(registry, names::LOG_COMMIT_DURATION, &register::WORK_BUCKETS)?,
        })
    }

    /// A group commit took this long.
    pub fn committed(&self, took: std::time::Duration, succeeded: bool) {
        (if succeeded { &self.commits } else { &self.commit_errors }).inc();
        self.commit_duration.observe(took.as_secs_f64());
    }

    /// A commit has ended; `more`: the next one's events wait already.
    pub fn waiting(&self, more: bool) {
        if more { self.durable_lag.start() } else { self.durable_lag.clear() }
    }
}
