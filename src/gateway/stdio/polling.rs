//! What streams that can be had again have in common: their settings, and what is counted of them.
//!
//! From 2025-11-25 on a stream opens with an event that holds nothing but an id, so that its client can come back for
//! the rest whenever it ends before its answer. Upstream: `config`. Downstream: `journal`, `session`, `events`.

use prometheus::{IntCounter, IntGauge};

use crate::config::Stdio;
use crate::gateway::metrics::GatewayMetrics;

/// Of one upstream.
#[derive(Debug)]
pub(super) struct Polling {
    pub(super) settings: Stdio,
    pub(super) opened: IntCounter,
    pub(super) resumed: IntCounter,
    pub(super) closed: IntCounter,
    pub(super) lost: IntCounter,
    pub(super) kept_bytes: IntGauge,
}

impl Polling {
    pub(super) fn new(settings: Stdio, server: &str, metrics: &GatewayMetrics) -> Self {
        let event = |name: &str| metrics.streams.with_label_values(&[server, name]);
        Self {
            settings,
            opened: event("opened"),
            resumed: event("resumed"),
            closed: event("closed"),
            lost: event("lost"),
            kept_bytes: metrics.kept_bytes.clone(),
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests(settings: Stdio) -> Self {
        let metrics = GatewayMetrics::register(&prometheus::Registry::new()).unwrap();
        Self::new(settings, "up", &metrics)
    }
}
