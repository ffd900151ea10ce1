//! Metrics of the log on Kafka; all 0 where the log is embedded.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, Registry, Result};

use super::{names, register};

#[derive(Debug)]
pub struct KafkaMetrics {
    delivered: IntCounter,
    /// Seconds.
    delivery_duration: Histogram,
    spilled: IntCounter,
    /// Events that wait in DATA.
    pub spill_events: IntGauge,
    pub spill_bytes: IntGauge,
    lag_records: IntGauge,
    /// Seconds.
    bind_duration: Histogram,
}

impl KafkaMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        Ok(Self {
            delivered: register::counter(registry, names::KAFKA_DELIVERED)?,
            delivery_duration: register::histogram(registry, names::KAFKA_DELIVERY_DURATION, &register::WORK_BUCKETS)?,
            spilled: register::counter(registry, names::KAFKA_SPILLED)?,
            spill_events: register::gauge(registry, names::KAFKA_SPILL_EVENTS)?,
            spill_bytes: register::gauge(registry, names::KAFKA_SPILL_BYTES)?,
            lag_records: register::gauge(registry, names::KAFKA_LAG_RECORDS)?,
            bind_duration: register::histogram(registry, names::KAFKA_BIND_DURATION, &register::WORK_BUCKETS)?,
        })
    }

    /// So many events were delivered; the oldest of them had waited this long.
    pub fn delivered(&self, events: usize, oldest: Duration) {
        self.delivered.inc_by(events as u64);
        self.delivery_duration.observe(oldest.as_secs_f64());
    }

    /// So many events went to the spill.
    pub fn spilled(&self, events: usize) {
        self.spilled.inc_by(events as u64);
    }

    /// So many records of the topic are in no tick yet.
    pub fn lag(&self, records: u64) {
        self.lag_records.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// A tick was bound in this time.
    pub fn bound(&self, took: Duration) {
        self.bind_duration.observe(took.as_secs_f64());
    }
}
