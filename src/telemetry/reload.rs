//! Metrics of settings that are read again while we serve.

use prometheus::{IntCounterVec, IntGauge, Registry, Result};

use super::{names, register};

#[derive(Debug)]
pub struct ReloadMetrics {
    reloads: IntCounterVec,
    current: IntGauge,
}

impl ReloadMetrics {
    pub fn register(registry: &Registry) -> Result<Self> {
        let reloads = register::counter_by(registry, names::CONFIG_RELOADS, "outcome")?;
        for outcome in ["taken", "refused"] {
            reloads.with_label_values(&[outcome]); // shown as 0 before the first
        }
        let current = register::gauge(registry, names::CONFIG_CURRENT)?;
        current.set(1);
        Ok(Self { reloads, current })
    }

    pub fn taken(&self) {
        self.reloads.with_label_values(&["taken"]).inc();
        self.current.set(1);
    }

    pub fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.current.set(0);
    }
}
