use std::time::Duration;

use undercurrent_schemas::ids::ModelVersion;
use undercurrent_schemas::v1::{self, event::Body};

use super::*;

fn value(registry: &Registry, line_start: &str) -> f64 {
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let line = text.lines().find(|line| line.starts_with(line_start)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

// Goal: a renamed metric breaks someone's dashboard, so it must break this first.
#[test]
fn names_and_help() {
    let registry = Registry::new();
    Metrics::register(&registry).unwrap();
    ReloadMetrics::register(&registry).unwrap();
    let families = registry.gather();
    let lines: Vec<_> =
        families.iter().map(|f| format!("{} {:?}: {}", f.name(), f.get_field_type(), f.help())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn two_registries_know_nothing_of_each_other() {
    let (one, other) = (Registry::new(), Registry::new());
    let metrics = Metrics::register(&one).unwrap();
    Metrics::register(&other).unwrap();
    metrics.log.committed(std::time::Duration::ZERO, true);
    assert_eq!(value(&one, "undercurrent_log_commits_total"), 1.0);
    assert_eq!(value(&other, "undercurrent_log_commits_total"), 0.0);
    assert!(Metrics::register(&one).is_err());
}

#[test]
fn decisions_and_events_are_counted_by_what_they_are() {
    let registry = Registry::new();
    let edge = Metrics::register(&registry).unwrap().edge;
    edge.decided(v1::Decision::Flag, Duration::from_nanos(700));
    let malformed = v1::Message { kind: v1::Kind::Malformed.into(), ..Default::default() };
    edge.event(&Body::Message(malformed.into()));
    edge.event(&Body::Heartbeat(v1::Heartbeat {}));
    assert_eq!(value(&registry, r#"undercurrent_decisions_total{verdict="flag"}"#), 1.0);
    assert_eq!(value(&registry, r#"undercurrent_decision_duration_seconds_bucket{le="0.0000005"}"#), 0.0);
    assert_eq!(value(&registry, r#"undercurrent_decision_duration_seconds_bucket{le="0.000001"}"#), 1.0);
    assert_eq!(value(&registry, r#"undercurrent_events_total{kind="malformed"}"#), 1.0);
    assert_eq!(value(&registry, r#"undercurrent_events_total{kind="heartbeat"}"#), 1.0);
}

// Goal: a stuck engine shows as a growing age although it sets nothing.
#[test]
fn ages_are_told_when_asked() {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    assert_eq!(value(&registry, "undercurrent_log_durable_lag_seconds"), 0.0);
    assert!(value(&registry, "undercurrent_model_age_seconds").is_nan());
    metrics.engine.model_published(ModelVersion(7));
    assert_eq!(value(&registry, "undercurrent_model_version"), 7.0);
    assert!(value(&registry, "undercurrent_model_age_seconds") >= 0.0);
    metrics.log.durable_lag.start();
    let first = metrics.log.durable_lag.get().unwrap();
    metrics.log.durable_lag.start_if_clear();
    assert!(metrics.log.durable_lag.get().unwrap() >= first);
    metrics.log.durable_lag.clear();
    assert_eq!(metrics.log.durable_lag.get(), None);
}
