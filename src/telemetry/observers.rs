//! Metrics of the access log and of spans: what was handed on, and what was lost on the way.

use prometheus::{IntCounter, Registry, Result};

use super::{names, register};

#[derive(Debug)]
pub struct ObserverMetrics {
    pub lines: IntCounter,
    pub lines_dropped_queue_full: IntCounter,
    pub lines_dropped_write_failed: IntCounter,
    pub spans_exported: IntCounter,
    pub spans_dropped_queue_full: IntCounter,
    pub spans_dropped_export_failed: IntCounter,
}

impl ObserverMetrics {
    pub fn register(registry: &Registry) -> Result<Self> {
        let lines = register::counter_by(registry, names::ACCESS_LOG_DROPPED, "cause")?;
        let spans = register::counter_by(registry, names::SPANS_DROPPED, "cause")?;
        Ok(Self {
            lines: register::counter(registry, names::ACCESS_LOG_LINES)?,
            lines_dropped_queue_full: lines.with_label_values(&["queue_full"]),
            lines_dropped_write_failed: lines.with_label_values(&["write_failed"]),
            spans_exported: register::counter(registry, names::SPANS_EXPORTED)?,
            spans_dropped_queue_full: spans.with_label_values(&["queue_full"]),
            spans_dropped_export_failed: spans.with_label_values(&["export_failed"]),
        })
    }
}
