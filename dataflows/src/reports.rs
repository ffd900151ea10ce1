//! What is reported of servers from outside: sums beside the calls' own, and each metric's own range.
//!
//! A metric's values are a histogram of the model, by server and name, over bins that are fixed beforehand. A value that
//! lies clearly above nearly all earlier ones is outside; some in a row raise an alert, as many inside end it. What is
//! outside teaches nothing, until it has been outside for so long that it is what is usual now. Cumulative series are
//! differences here, so a restart of the reporter is not a fall.
//!
//! A state machine without clock, like `sessions`. Upstream: decoded events of one partition. Downstream: rows, sums for
//! the windows, changes of the model's sums and signals, in its outbox.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use undercurrent_schemas::ids::{Micros, Partition, stable_hash};
use undercurrent_schemas::rows::{AlertKind, DeadLetterRow, EntityKind, ReportedSums, Source, TelemetryRow};
use undercurrent_schemas::v1::{self, Point, PointKind};

use crate::alerts::Signal;
use crate::graph::EntityKey;
use crate::model::{Entry, Model, Part, REPORTED_BINS, name_hash, reported_bin, reported_value};
use crate::sessions::{Dictionary, Outbox};

/// Series that are remembered; further ones are kept in the table alone, and counted.
const SERIES_MAX: usize = 10_000;
/// A series of which nothing was heard for so long begins anew.
const SERIES_QUIET_US: i64 = 3_600_000_000;
/// Values that a range rests on, at least.
const LEARNED_MIN: u64 = 100;
/// Share of earlier values that a range holds, in thousandths.
const RANGE_THOUSANDTHS: u64 = 999;
/// How many bins above its range a value is outside: about a fifth.
const MARGIN_BINS: u32 = 2;
/// Points in a row that raise an alert, or end it.
const IN_A_ROW: u32 = 3;
/// Points in a row after which what is outside is usual.
const USUAL_AFTER: u32 = 120;

/// What one server's reports add to its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    pub ts: Micros,
    pub tenant: Arc<str>,
    pub server: Arc<str>,
    pub entity: EntityKey,
    pub sums: ReportedSums,
}

/// The series of one partition.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Reports {
    partition: Partition,
    dictionary: Dictionary,
    series: BTreeMap<SeriesKey, Series>,
    swept: Micros,
}

/// Server, metric, and a hash of its attributes.
type SeriesKey = (String, String, u64);

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Series {
    heard: Micros,
    /// Of a cumulative series: time, value or sum, count.
    last: Option<(Micros, f64, u64)>,
    outside: u32,
    inside: u32,
    raised: bool,
}

impl Reports {
    #[must_use]
    pub fn new(partition: Partition) -> Self {
        Self { partition, dictionary: Dictionary::default(), series: BTreeMap::new(), swept: Micros(0) }
    }

    /// The points of one event, by the model of the tick before.
    pub fn telemetry(&mut self, event: &v1::Event, telemetry: &v1::Telemetry, model: Option<&Model>, out: &mut Outbox) {
        let received = Micros(event.ts_us);
        self.forget_quiet(received);
        for point in &telemetry.points {
            out.counters.telemetry_points += 1;
            if !event.server.is_empty() {
                self.of_server(event, point, model, out);
            }
            out.telemetry.push(TelemetryRow {
                source: Source { partition: self.partition, ..Source::default() },
                received,
                tenant: event.tenant.clone(),
                server: event.server.clone(),
                point: point.clone(),
            });
        }
    }

    /// Something that could not be taken.
    pub fn dead_letter(&self, event: &v1::Event, letter: &v1::DeadLetter, out: &mut Outbox) {
        out.counters.dead_letters += 1;
        out.dead_letters.push(DeadLetterRow {
            source: Source { partition: self.partition, ..Source::default() },
            ts: Micros(event.ts_us),
            tenant: event.tenant.clone(),
            letter: letter.clone(),
        });
    }

    fn of_server(&mut self, event: &v1::Event, point: &Point, model: Option<&Model>, out: &mut Outbox) {
        let key = (event.server.clone(), point.name.clone(), attributes_hash(point));
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&key) {
            out.counters.telemetry_beyond += 1;
            return;
        }
        let series = self.series.entry(key).or_default();
        series.heard = Micros(event.ts_us);
        let Some(step) = series.step(point) else { return };
        out.reported.push(Reported {
            ts: Micros(point.ts_us),
            tenant: event.tenant.as_str().into(),
            server: event.server.as_str().into(),
            entity: EntityKey::of(&event.tenant, EntityKind::Server, event.server.as_bytes()),
            sums: sums_of(point, &step),
        });
        let Some(value) = step.value else { return };
        let (scope, key) = (name_hash(&[&event.server]), name_hash(&[&point.name]));
        let bin = reported_bin(value);
        let range = model.and_then(|model| Range::of(model, scope, key));
        let is_usual = series.look(bin, range.as_ref());
        if let Some(text) = series.said(range.as_ref(), value, point) {
            let subject = format!("{}/{}", event.server, point.name);
            let ts = Micros(event.ts_us);
            out.signals.push(match text {
                Some(text) => Signal::raised(ts, AlertKind::ServerDegraded, &event.server, &subject, text),
                None => Signal::over(ts, AlertKind::ServerDegraded, &event.server, &subject),
            });
        }
        if is_usual {
            self.dictionary.learn(scope, &[&event.server], out);
            self.dictionary.learn(key, &[&point.name], out);
            out.sums.push((Entry { part: Part::Reported, scope, key, bin }, 1));
        }
    }

    fn forget_quiet(&mut self, now: Micros) {
        if self.swept.plus(SERIES_QUIET_US / 4) < now {
            self.swept = now;
            self.series.retain(|_, series| series.heard.plus(SERIES_QUIET_US) >= now);
        }
    }
}

/// What a point says of the time since the one before it.
#[derive(Debug, PartialEq)]
struct Step {
    /// A level, a mean, or a rate per second; `None` = nothing that has a range.
    value: Option<f64>,
    count: u64,
    sum: f64,
}

impl Series {
    /// `None` = it says nothing yet: the first of a cumulative series, or the first after its restart.
    fn step(&mut self, point: &Point) -> Option<Step> {
        let of = |count: u64, sum: f64| Step { value: (count > 0).then(|| sum / count as f64), count, sum };
        match point.kind() {
            PointKind::Gauge => Some(Step { value: point.value, count: 0, sum: 0.0 }),
            PointKind::Log | PointKind::Unspecified => Some(Step { value: None, count: 1, sum: 0.0 }),
            PointKind::Sum if !point.cumulative => Some(Step { value: point.value, count: 0, sum: 0.0 }),
            PointKind::Histogram if !point.cumulative => Some(of(point.count, point.sum)),
            PointKind::Sum => {
                let now = point.value.unwrap_or(0.0);
                let (ts, before, _) = self.last.replace((Micros(point.ts_us), now, 0))?;
                let seconds = (point.ts_us - ts.0) as f64 / 1e6;
                (now >= before && seconds > 0.0).then(|| Step {
                    value: Some((now - before) / seconds),
                    count: 0,
                    sum: 0.0,
                })
            }
            PointKind::Histogram => {
                let now = (Micros(point.ts_us), point.sum, point.count);
                let (_, sum, count) = self.last.replace(now)?;
                (point.count >= count && point.sum >= sum).then(|| of(point.count - count, point.sum - sum))
            }
        }
    }

    /// Whether a value in this bin teaches.
    fn look(&mut self, bin: u32, range: Option<&Range>) -> bool {
        if range.is_some_and(|range| bin > range.top_bin + MARGIN_BINS) {
            (self.outside, self.inside) = (self.outside.saturating_add(1), 0);
            self.outside > USUAL_AFTER
        } else {
            (self.inside, self.outside) = (self.inside.saturating_add(1), 0);
            true
        }
    }

    /// What is to be told now, if anything: a text, or that it is over.
    fn said(&mut self, range: Option<&Range>, value: f64, point: &Point) -> Option<Option<String>> {
        if self.outside >= IN_A_ROW {
            self.raised = true;
            let (top, learned) = range.map(|range| (reported_value(range.top_bin), range.learned))?;
            let (unit, name) = (point.unit.as_str(), point.name.as_str());
            let share = RANGE_THOUSANDTHS as f64 / 10.0;
            return Some(Some(format!(
                "{name} is {value:.4} {unit}, {share} % of {learned} earlier values were below {top:.4}"
            )));
        }
        let over = self.raised && self.inside >= IN_A_ROW;
        self.raised &= !over;
        over.then_some(None)
    }
}

/// The range of a metric's values, as learned.
struct Range {
    learned: u64,
    /// Nearly all values are in this bin or below.
    top_bin: u32,
}

impl Range {
    /// `None` = too little was learned.
    fn of(model: &Model, scope: u64, key: u64) -> Option<Self> {
        let counts: Vec<u64> =
            (0..REPORTED_BINS as u32).map(|bin| model.count(Part::Reported, scope, key, bin)).collect();
        let learned: u64 = counts.iter().sum();
        let enough = (learned * RANGE_THOUSANDTHS).div_ceil(1000);
        let mut below = 0;
        let top = counts.iter().position(|count| {
            below += count;
            below >= enough
        });
        top.filter(|_| learned >= LEARNED_MIN).map(|top| Self { learned, top_bin: top as u32 })
    }
}

/// What one point may add to a sum, whatever it says: half a million of these fit.
const MOST: i64 = 1 << 44;

/// What a point adds to its server's windows.
fn sums_of(point: &Point, step: &Step) -> ReportedSums {
    let mut sums = ReportedSums { points: 1, ..ReportedSums::default() };
    let bounded = |value: f64| value.round().clamp(-(MOST as f64), MOST as f64) as i64;
    let millionths = |value: f64| bounded(value * 1e6);
    let named = |key: &str| point.attributes.iter().any(|attribute| attribute.key == key);
    match point.kind() {
        PointKind::Gauge if point.name.ends_with("cpu.utilization") => {
            (sums.cpu_points, sums.cpu_millionths) = (1, millionths(step.value.unwrap_or(0.0)));
        }
        PointKind::Gauge if point.name.ends_with("memory.utilization") => {
            (sums.memory_points, sums.memory_millionths) = (1, millionths(step.value.unwrap_or(0.0)));
        }
        PointKind::Histogram if is_duration(&point.name) => {
            sums.calls = i64::try_from(step.count).unwrap_or(MOST).min(MOST);
            sums.errors = if named("error.type") { sums.calls } else { 0 };
            sums.latency_sum_us = bounded(step.sum * micros_of(&point.unit));
        }
        PointKind::Log if named("mcp.method.name") || named("gen_ai.tool.name") => {
            (sums.calls, sums.errors) = (1, i64::from(named("error.type")));
        }
        PointKind::Gauge | PointKind::Sum | PointKind::Histogram | PointKind::Log | PointKind::Unspecified => {}
    }
    sums
}

fn is_duration(name: &str) -> bool {
    ["operation.duration", "request.duration"].iter().any(|end| name.ends_with(end))
}

fn micros_of(unit: &str) -> f64 {
    match unit {
        "ms" => 1e3,
        "us" => 1.0,
        "ns" => 1e-3,
        _ => 1e6,
    }
}

/// Attributes are sorted.
fn attributes_hash(point: &Point) -> u64 {
    let texts: Vec<&[u8]> =
        point.attributes.iter().flat_map(|attribute| [attribute.key.as_bytes(), attribute.value.as_bytes()]).collect();
    stable_hash(&texts)
}
