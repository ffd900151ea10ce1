//! Metrics of the engine: how far behind it is, what it learned, what it could not use.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry, Result};

use undercurrent_dataflows::sessions::Counters;
use undercurrent_schemas::rows::{AlertKind, AlertRow, AlertState};

use super::{Age, names, register};

#[derive(Debug)]
pub struct EngineMetrics {
    /// Started when a tick closes while others wait; clear while none waits.
    pub frontier_age: Age,
    pub lag_ticks: IntGauge,
    pub lag_events: IntGauge,
    /// Seconds.
    pub tick_duration: Histogram,
    model_version: IntGauge,
    model_age: Age,
    pub sessions_open: IntGauge,
    pub sessions_scored: IntCounter,
    pub sessions_flagged: IntCounter,
    pub sessions_taught: IntCounter,
    pub sessions_quarantined: IntCounter,
    pub calls: IntCounter,
    pub calls_unanswered: IntCounter,
    pub events_late: IntCounter,
    pub events_duplicate: IntCounter,
    pub records_corrupt: IntCounter,
    /// Seconds, of the slowest worker.
    pub checkpoint_pause: Histogram,
    /// Seconds, beside the engine.
    pub checkpoint_duration: Histogram,
    pub checkpoint_bytes: IntGauge,
    pub checkpoint_errors: IntCounter,
    pub checkpoint_age: Age,
    /// By what it was about, and how right it was.
    predictions: IntCounterVec,
    alerts: IntCounterVec,
    alerts_open: IntGauge,
    pub telemetry_points: IntCounter,
    pub telemetry_beyond: IntCounter,
    pub dead_letters: IntCounter,
}

impl EngineMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        let counter = |name| register::counter(registry, name);
        let gauge = |name| register::gauge(registry, name);
        let predictions = register::counter_by_two(registry, names::PREDICTIONS, ["about", "result"])?;
        for (about, result, _) in results(&Counters::default()) {
            predictions.with_label_values(&[about, result]);
        }
        let alerts = register::counter_by(registry, names::ALERTS, "kind")?;
        for kind in AlertKind::ALL {
            alerts.with_label_values(&[kind.as_str()]);
        }
        Ok(Self {
            frontier_age: Age::register(registry, names::FRONTIER_AGE, 0.0)?,
            lag_ticks: gauge(names::ENGINE_LAG_TICKS)?,
            lag_events: gauge(names::ENGINE_LAG_EVENTS)?,
            tick_duration: register::histogram(registry, names::TICK_DURATION, &register::WORK_BUCKETS)?,
            model_version: gauge(names::MODEL_VERSION)?,
            model_age: Age::register(registry, names::MODEL_AGE, f64::NAN)?,
            sessions_open: gauge(names::SESSIONS_OPEN)?,
            sessions_scored: counter(names::SESSIONS_SCORED)?,
            sessions_flagged: counter(names::SESSIONS_FLAGGED)?,
            sessions_taught: counter(names::SESSIONS_TAUGHT)?,
            sessions_quarantined: counter(names::SESSIONS_QUARANTINED)?,
            calls: counter(names::CALLS)?,
            calls_unanswered: counter(names::CALLS_UNANSWERED)?,
            events_late: counter(names::EVENTS_LATE)?,
            events_duplicate: counter(names::EVENTS_DUPLICATE)?,
            records_corrupt: counter(names::RECORDS_CORRUPT)?,
            checkpoint_pause: register::histogram(registry, names::CHECKPOINT_PAUSE, &register::WORK_BUCKETS)?,
            checkpoint_duration: register::histogram(registry, names::CHECKPOINT_DURATION, &register::WORK_BUCKETS)?,
            checkpoint_bytes: gauge(names::CHECKPOINT_BYTES)?,
            checkpoint_errors: counter(names::CHECKPOINT_ERRORS)?,
            checkpoint_age: Age::register(registry, names::CHECKPOINT_AGE, f64::NAN)?,
            predictions,
            alerts,
            alerts_open: gauge(names::ALERTS_OPEN)?,
            telemetry_points: counter(names::TELEMETRY_POINTS)?,
            telemetry_beyond: counter(names::TELEMETRY_BEYOND)?,
            dead_letters: counter(names::DEAD_LETTERS)?,
        })
    }

    /// What one tick counted.
    pub fn counted(&self, counters: &Counters, open_sessions: usize) {
        self.sessions_open.set(open_sessions as i64);
        self.sessions_scored.inc_by(counters.scored);
        self.sessions_flagged.inc_by(counters.flagged);
        self.sessions_taught.inc_by(counters.taught);
        self.sessions_quarantined.inc_by(counters.quarantined);
        self.calls.inc_by(counters.calls);
        self.calls_unanswered.inc_by(counters.unanswered);
        self.events_late.inc_by(counters.late);
        self.events_duplicate.inc_by(counters.duplicates);
        self.records_corrupt.inc_by(counters.corrupt);
        self.telemetry_points.inc_by(counters.telemetry_points);
        self.telemetry_beyond.inc_by(counters.telemetry_beyond);
        self.dead_letters.inc_by(counters.dead_letters);
        for (about, result, count) in results(counters).into_iter().filter(|(_, _, count)| *count > 0) {
            self.predictions.with_label_values(&[about, result]).inc_by(count);
        }
    }

    /// What became of alerts in one tick, and how many are open.
    pub fn alerted(&self, alerts: &[AlertRow], open: usize) {
        for alert in alerts.iter().filter(|alert| alert.state == AlertState::Open) {
            self.alerts.with_label_values(&[alert.kind.as_str()]).inc();
        }
        self.alerts_open.set(open as i64);
    }

    /// A model went live.
    pub fn model_published(&self, version: undercurrent_schemas::ids::ModelVersion) {
        self.model_version.set(i64::try_from(version.0).unwrap_or(i64::MAX));
        self.model_age.start();
    }

    /// Time since the live model was published; `None` = none is live.
    #[must_use]
    pub fn model_age(&self) -> Option<std::time::Duration> {
        self.model_age.get()
    }
}

/// How right the model was: about what, with which result, how often.
fn results(counters: &Counters) -> [(&'static str, &'static str, u64); 9] {
    [
        ("next_tool", "first", counters.next_tool_first),
        ("next_tool", "third", counters.next_tool_third),
        ("next_tool", "missed", counters.next_tool_missed),
        ("latency", "close", counters.latency_close),
        ("latency", "off", counters.latency_off),
        ("failure", "right", counters.failure_right),
        ("failure", "wrong", counters.failure_wrong),
        ("calls_a_minute", "close", counters.forecast_close),
        ("calls_a_minute", "off", counters.forecast_off),
    ]
}
