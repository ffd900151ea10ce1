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
    pub commits: IntCounter,
    pub commit_errors: IntCounter,
    /// Seconds.
    pub commit_duration: Histogram,
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
            commit_duration: register::histogram(registry, names::LOG_COMMIT_DURATION, &register::WORK_BUCKETS)?,
        })
    }
}
