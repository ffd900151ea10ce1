//! Metrics of the edge. Its counters are resolved once: no label is looked up on the request path.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, Registry, Result};
use undercurrent_schemas::v1::{self, event::Body};

use super::{HoldMetrics, names, register};

#[derive(Debug)]
pub struct EdgeMetrics {
    decision_duration: Histogram,
    allow: IntCounter,
    flag: IntCounter,
    delay: IntCounter,
    hold: IntCounter,
    block: IntCounter,
    request: IntCounter,
    notification: IntCounter,
    result: IntCounter,
    error: IntCounter,
    malformed: IntCounter,
    session_end: IntCounter,
    label: IntCounter,
    gap: IntCounter,
    heartbeat: IntCounter,
    telemetry: IntCounter,
    pub sessions: IntGauge,
    /// Of messages that have left and are not read yet.
    pub unread_bytes: IntGauge,
    /// Messages that found that queue full.
    pub unread_full: IntCounter,
    pub provenance_bytes: IntGauge,
    pub provenance_evictions: IntCounter,
    pub holds: Arc<HoldMetrics>,
}

impl EdgeMetrics {
    pub fn register(registry: &Registry) -> Result<Self> {
        let decisions = register::counter_by(registry, names::DECISIONS, "verdict")?;
        let events = register::counter_by(registry, names::EVENTS, "kind")?;
        let verdict = |name: &str| decisions.with_label_values(&[name]);
        let kind = |name: &str| events.with_label_values(&[name]);
        Ok(Self {
            decision_duration: register::histogram(registry, names::DECISION_DURATION, &register::DECISION_BUCKETS)?,
            allow: verdict("allow"),
            flag: verdict("flag"),
            delay: verdict("delay"),
            hold: verdict("hold"),
            block: verdict("block"),
            request: kind("request"),
            notification: kind("notification"),
            result: kind("result"),
            error: kind("error"),
            malformed: kind("malformed"),
            session_end: kind("session_end"),
            label: kind("label"),
            gap: kind("gap"),
            heartbeat: kind("heartbeat"),
            telemetry: kind("telemetry"),
            sessions: register::gauge(registry, names::EDGE_SESSIONS)?,
            unread_bytes: register::gauge(registry, names::EDGE_UNREAD_BYTES)?,
            unread_full: register::counter(registry, names::EDGE_UNREAD_FULL)?,
            provenance_bytes: register::gauge(registry, names::PROVENANCE_BYTES)?,
            provenance_evictions: register::counter(registry, names::PROVENANCE_EVICTIONS)?,
            holds: Arc::new(HoldMetrics::register(registry)?),
        })
    }

    /// A call was decided about in this time.
    pub fn decided(&self, decision: v1::Decision, took: Duration) {
        self.decision_duration.observe(took.as_secs_f64());
        match decision {
            // A decision that was never made counts as what it amounts to.
            v1::Decision::Allow | v1::Decision::Unspecified => self.allow.inc(),
            v1::Decision::Flag => self.flag.inc(),
            v1::Decision::Delay => self.delay.inc(),
            v1::Decision::Hold => self.hold.inc(),
            v1::Decision::Block => self.block.inc(),
        }
    }

    /// An event was made.
    pub fn event(&self, body: &Body) {
        match body {
            Body::Message(message) => match message.kind() {
                v1::Kind::Request => self.request.inc(),
                v1::Kind::Notification => self.notification.inc(),
                v1::Kind::Result => self.result.inc(),
                v1::Kind::Error => self.error.inc(),
                v1::Kind::Malformed | v1::Kind::Unspecified => self.malformed.inc(),
            },
            Body::SessionEnd(_) => self.session_end.inc(),
            Body::Label(_) | Body::Forget(_) | Body::ModelImport(_) => self.label.inc(),
            Body::Gap(_) => self.gap.inc(),
            Body::Heartbeat(_) => self.heartbeat.inc(),
            Body::Telemetry(_) | Body::DeadLetter(_) => self.telemetry.inc(),
        }
    }
}
