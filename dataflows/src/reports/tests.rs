//! Reports of one server: what is learned of them, when they alert, what they add to windows.

use undercurrent_schemas::v1::Attribute;

use super::*;
use crate::model::ModelChange;

/// A server's reports, each in a tick of its own, learned from at its end.
struct Told {
    reports: Reports,
    model: Model,
    ticks: u64,
}

impl Told {
    fn new() -> Self {
        Self { reports: Reports::new(Partition(0)), model: Model::default(), ticks: 0 }
    }

    fn tell(&mut self, point: Point) -> Outbox {
        self.ticks += 1;
        let ts_us = self.ticks as i64 * 10_000_000;
        let event = v1::Event { ts_us, server: "files".into(), tenant: "default".into(), ..v1::Event::default() };
        let telemetry = v1::Telemetry { points: vec![Point { ts_us, ..point }] };
        let mut out = Outbox::default();
        self.reports.telemetry(&event, &telemetry, Some(&self.model), &mut out);
        let total = |(entry, diff): &(Entry, i64)| {
            let before = self.model.count(entry.part, entry.scope, entry.key, entry.bin);
            (*entry, before + *diff as u64)
        };
        let totals = out.sums.iter().map(total).collect();
        let version = undercurrent_schemas::ids::ModelVersion(self.ticks);
        self.model.apply(&ModelChange { version, totals, names: Vec::new() });
        out
    }
}

fn cpu(value: f64) -> Point {
    Point {
        name: "system.cpu.utilization".into(),
        unit: "1".into(),
        kind: PointKind::Gauge.into(),
        value: Some(value),
        ..Point::default()
    }
}

#[test]
fn values_that_stay_above_their_range_alert_until_they_are_back() {
    let mut told = Told::new();
    for step in 0..200 {
        let out = told.tell(cpu(0.2 + f64::from(step % 10) / 100.0));
        assert!(out.signals.is_empty() && out.sums.len() == 1);
        assert_eq!(out.reported[0].sums.cpu_points, 1);
    }
    // One that stands alone is none.
    assert!(told.tell(cpu(0.9)).signals.is_empty());
    assert!(told.tell(cpu(0.2)).signals.is_empty());
    let signals: Vec<_> = (0..5)
        .map(|_| told.tell(cpu(0.95)))
        .flat_map(|out| {
            assert!(out.sums.is_empty(), "what is outside teaches nothing");
            out.signals
        })
        .collect();
    assert_eq!(signals.len(), 3);
    let text = signals[0].text.as_deref().unwrap();
    assert!(text.contains("0.95") && text.contains("99.9 % of 201"), "{text}");
    assert_eq!(
        (signals[0].kind, signals[0].subject.as_str()),
        (AlertKind::ServerDegraded, "files/system.cpu.utilization")
    );
    let over: Vec<_> = (0..4).flat_map(|_| told.tell(cpu(0.25)).signals).collect();
    assert!(matches!(&over[..], [Signal { text: None, .. }]), "{over:?}");
}

#[test]
fn what_stays_outside_for_long_is_usual_in_the_end() {
    let mut told = Told::new();
    (0..200).for_each(|_| drop(told.tell(cpu(0.2))));
    let raised = (0..1000).map(|_| usize::from(!told.tell(cpu(0.8)).signals.is_empty())).collect::<Vec<_>>();
    assert!(raised[2] == 1 && raised[999] == 0);
}

#[test]
fn cumulative_series_are_differences_and_survive_restarts() {
    let mut told = Told::new();
    let point = |count: u64, sum: f64| Point {
        name: "mcp.server.operation.duration".into(),
        unit: "s".into(),
        kind: PointKind::Histogram.into(),
        cumulative: true,
        count,
        sum,
        attributes: vec![Attribute { key: "error.type".into(), value: "timeout".into() }],
        ..Point::default()
    };
    assert!(told.tell(point(10, 1.0)).reported.is_empty(), "the first says nothing of the time before");
    let sums = told.tell(point(14, 3.0)).reported[0].sums;
    assert_eq!((sums.calls, sums.errors, sums.latency_sum_us), (4, 4, 2_000_000));
    assert!(told.tell(point(1, 0.1)).reported.is_empty(), "a restart is no fall");
    assert_eq!(told.tell(point(2, 0.2)).reported[0].sums.calls, 1);
}

#[test]
fn no_point_adds_more_than_sums_can_hold() {
    let mut told = Told::new();
    let name = "mcp.server.operation.duration".into();
    let point = Point { name, kind: PointKind::Histogram.into(), count: u64::MAX, sum: f64::MAX, ..Point::default() };
    let sums = told.tell(point).reported[0].sums;
    assert_eq!((sums.calls, sums.latency_sum_us), (MOST, MOST));
    assert_eq!(told.tell(cpu(f64::MIN)).reported[0].sums.cpu_millionths, -MOST);
    assert_eq!(told.tell(cpu(f64::NAN)).reported[0].sums.cpu_millionths, 0);
}

#[test]
fn other_gateways_calls_count() {
    let mut told = Told::new();
    let log = |error: bool| {
        let attribute = |key: &str| Attribute { key: key.into(), value: "x".into() };
        let mut attributes = vec![attribute("mcp.method.name")];
        attributes.extend(error.then(|| attribute("error.type")));
        Point { name: "log".into(), kind: PointKind::Log.into(), attributes, ..Point::default() }
    };
    let sums = told.tell(log(true)).reported[0].sums;
    assert_eq!((sums.points, sums.calls, sums.errors), (1, 1, 1));
    assert_eq!(told.tell(log(false)).reported[0].sums.errors, 0);
    assert_eq!(told.tell(log(false)).telemetry.len(), 1);
}
