//! Metrics of calls that wait for a person.

use prometheus::{IntCounterVec, IntGauge, Registry, Result};

use super::{names, register};

#[derive(Debug)]
pub struct HoldMetrics {
    open: IntGauge,
    answered: IntCounterVec,
}

impl HoldMetrics {
    pub fn register(registry: &Registry) -> Result<Self> {
        let answered = register::counter_by(registry, names::HOLDS_ENDED, "outcome")?;
        for outcome in ["approved", "denied", "timeout", "given_up"] {
            answered.with_label_values(&[outcome]); // shown as 0 before the first
        }
        Ok(Self { open: register::gauge(registry, names::HOLDS_OPEN)?, answered })
    }

    pub fn open(&self, tickets: usize) {
        self.open.set(i64::try_from(tickets).unwrap_or(i64::MAX));
    }

    pub fn answered(&self, outcome: &str) {
        self.answered.with_label_values(&[outcome]).inc();
    }
}
