//! Metrics of the history's writer.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry, Result};
use undercurrent_schemas::ids::Tick;

use super::{names, register};

#[derive(Debug)]
pub struct HistoryMetrics {
    pub queue_ticks: IntGauge,
    rows: IntCounterVec,
    pub rolls: IntCounter,
    pub errors: IntCounter,
    covered_tick: IntGauge,
    pub merged: IntCounter,
    pub expired: IntCounter,
    pub replaced: IntGauge,
    pub keeping_errors: IntCounter,
    pub store_files: IntCounter,
    pub store_bytes: IntCounter,
    pub store_waiting: IntGauge,
    pub store_errors: IntCounter,
}

impl HistoryMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        let rows = register::counter_by(registry, names::HISTORY_ROWS, "table")?;
        for table in ["messages", "calls", "sessions", "features", "models"] {
            rows.with_label_values(&[table]); // shown as 0 before the first row
        }
        Ok(Self {
            queue_ticks: register::gauge(registry, names::HISTORY_QUEUE_TICKS)?,
            rows,
            rolls: register::counter(registry, names::HISTORY_ROLLS)?,
            errors: register::counter(registry, names::HISTORY_ERRORS)?,
            covered_tick: register::gauge(registry, names::HISTORY_COVERED_TICK)?,
            merged: register::counter(registry, names::HISTORY_MERGED)?,
            expired: register::counter(registry, names::HISTORY_EXPIRED)?,
            replaced: register::gauge(registry, names::HISTORY_REPLACED)?,
            keeping_errors: register::counter(registry, names::HISTORY_KEEPING_ERRORS)?,
            store_files: register::counter(registry, names::HISTORY_STORE_FILES)?,
            store_bytes: register::counter(registry, names::HISTORY_STORE_BYTES)?,
            store_waiting: register::gauge(registry, names::HISTORY_STORE_WAITING)?,
            store_errors: register::counter(registry, names::HISTORY_STORE_ERRORS)?,
        })
    }

    /// Rows of one tick were handed to the writer, by table.
    pub fn handed(&self, rows: &[(&'static str, usize)]) {
        for (table, rows) in rows {
            self.rows.with_label_values(&[table]).inc_by(*rows as u64);
        }
    }

    /// All rows up to this tick are visible.
    pub fn covered(&self, tick: Tick) {
        self.covered_tick.set(i64::try_from(tick.0).unwrap_or(i64::MAX));
    }
}
