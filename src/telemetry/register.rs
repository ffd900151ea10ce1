//! Makes a metric and registers it, in one step.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result};

use super::names::Name;

/// 0.5 µs to 1 ms: the range of a decision.
pub(super) const DECISION_BUCKETS: [f64; 11] =
    [0.5e-6, 1e-6, 2e-6, 3e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3];
/// 100 µs to 10 s: commits and ticks.
pub(super) const WORK_BUCKETS: [f64; 12] =
    [100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 1.0, 10.0];

pub(super) fn counter(registry: &Registry, Name(name, help): Name) -> Result<IntCounter> {
    let metric = IntCounter::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub(super) fn counter_by(registry: &Registry, Name(name, help): Name, label: &str) -> Result<IntCounterVec> {
    let metric = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub(super) fn counter_by_two(registry: &Registry, Name(name, help): Name, labels: [&str; 2]) -> Result<IntCounterVec> {
    let metric = IntCounterVec::new(Opts::new(name, help), &labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub(super) fn gauge(registry: &Registry, Name(name, help): Name) -> Result<IntGauge> {
    let metric = IntGauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub(super) fn histogram(registry: &Registry, Name(name, help): Name, buckets: &[f64]) -> Result<Histogram> {
    let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
