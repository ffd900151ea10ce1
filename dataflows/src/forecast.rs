//! How many calls the next minute has: Holt and Winters' forecast of each server and tool, on closed minutes.
//!
//! A series is the sums of its last minutes and nothing else; level, trend and season are computed from them each time,
//! so a corrected minute, and one that a forgotten session left, is as if it had been right from the start. A forecast is
//! made before its minute is known and is never revised; its row has what came, and a correction of that withdraws the
//! row. On worker 0 alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{AlertKind, EntityKind, FeatureRow, ForecastRow, Source};
use undercurrent_schemas::text::Text;

use crate::alerts::Signal;
use crate::sessions::{Counters, Measure};

pub(crate) const MINUTE_US: i64 = 60_000_000;

/// Minutes of a series; a rest as long begins it anew.
const MINUTES_MAX: i64 = 240;

/// Minutes before the first forecast.
const MINUTES_MIN: usize = 10;

/// Minutes of a season: it counts once two of them are known.
const SEASON: usize = 60;

/// Series; beyond that the one that was heard longest ago is forgotten.
const SERIES_MAX: usize = 10_000;

/// How fast level, trend and season follow, and how fast a trend fades.
const LEVEL: f64 = 0.3;
const TREND: f64 = 0.05;
const SEASONAL: f64 = 0.2;
const FADING: f64 = 0.9;

/// A burst has so many calls, so many times what was expected, and so many times the usual error more.
const BURST_CALLS: f64 = 30.0;
const BURST_TIMES: f64 = 3.0;
const BURST_ERRORS: f64 = 6.0;

/// The minutes of every server and tool.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Forecasts {
    series: BTreeMap<SeriesKey, Series>,
}

/// Kind, tenant and name.
type SeriesKey = (EntityKind, Text, Text);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Series {
    /// By their start; one without calls has none.
    minutes: BTreeMap<Micros, Minute>,
    bursting: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Minute {
    calls: i64,
    /// What was expected, and the mean error of such expectations.
    expected: Option<(f64, f64)>,
}

impl Forecasts {
    /// Takes the changes of features of one tick, and calls of forgotten sessions whose minutes are final.
    pub(crate) fn take(
        &mut self,
        features: &[FeatureRow],
        withdrawn: &[Measure],
        signals: &mut Vec<Signal>,
        counters: &mut Counters,
    ) -> Vec<ForecastRow> {
        let mut rows = Vec::new();
        self.withdraw(withdrawn, &mut rows);
        let is_ours =
            |of: &&FeatureRow| matches!(of.kind, EntityKind::Server | EntityKind::Tool) && of.window_us == MINUTE_US;
        let mut features = features.iter().filter(is_ours).peekable();
        while let Some(of) = features.next() {
            let key = (of.kind, of.tenant.clone(), of.entity.clone());
            if of.diff < 0 {
                // It comes again with its right value, or everything in it was withdrawn.
                let is_it = |next: &&FeatureRow| {
                    (next.kind, next.window_start) == (of.kind, of.window_start) && next.entity == of.entity
                };
                if !features.peek().is_some_and(is_it) {
                    self.correct(&key, of.window_start, |_| 0, &mut rows);
                }
                continue;
            }
            let series = self.series.entry(key.clone()).or_default();
            if let Some(minute) = series.minutes.get_mut(&of.window_start) {
                minute.correct(&key, of.window_start, of.calls, &mut rows);
                continue;
            }
            let is_next = series.minutes.last_key_value().is_none_or(|(last, _)| *last < of.window_start);
            let expected = if is_next { series.forecast(of.window_start) } else { None };
            series.minutes.insert(of.window_start, Minute { calls: of.calls, expected });
            if let Some(expected) = expected {
                rows.push(row(&key, of.window_start, of.calls, expected, 1));
                series.judge(of, expected, signals, counters);
            }
        }
        while self.series.len() > SERIES_MAX {
            let last = |series: &Series| series.minutes.last_key_value().map(|(last, _)| *last);
            let Some(key) = self.series.iter().min_by_key(|(_, series)| last(series)).map(|(key, _)| key.clone())
            else {
                break;
            };
            self.series.remove(&key);
        }
        rows
    }

    /// Takes calls out of their minutes, however long ago those were.
    fn withdraw(&mut self, calls: &[Measure], rows: &mut Vec<ForecastRow>) {
        for call in calls {
            let start = Micros(call.ts.0.div_euclid(MINUTE_US) * MINUTE_US);
            let of_tool = format!("{}/{}", call.server, call.tool);
            let entities = [(EntityKind::Server, Text::from(&call.server)), (EntityKind::Tool, of_tool.into())];
            for (kind, entity) in entities {
                self.correct(&(kind, Text::from(&call.tenant), entity), start, |calls| calls - 1, rows);
            }
        }
    }

    /// A minute had other calls than was known; one that is left with none is as if it had never been.
    fn correct(&mut self, key: &SeriesKey, start: Micros, to: impl Fn(i64) -> i64, rows: &mut Vec<ForecastRow>) {
        let Some(series) = self.series.get_mut(key) else { return };
        let Some(minute) = series.minutes.get_mut(&start) else { return };
        let left = to(minute.calls);
        minute.correct(key, start, left, rows);
        if left <= 0 {
            series.minutes.remove(&start);
        }
        if series.minutes.is_empty() && !series.bursting {
            self.series.remove(key);
        }
    }
}

impl Minute {
    /// Its row has other calls than it was told with.
    fn correct(&mut self, key: &SeriesKey, start: Micros, calls: i64, rows: &mut Vec<ForecastRow>) {
        if let Some(expected) = self.expected.filter(|_| calls != self.calls) {
            rows.push(row(key, start, self.calls, expected, -1));
            rows.extend((calls > 0).then(|| row(key, start, calls, expected, 1)));
        }
        self.calls = calls;
    }
}

fn row(key: &SeriesKey, start: Micros, calls: i64, (expected, error): (f64, f64), diff: i64) -> ForecastRow {
    let (kind, tenant, entity) = key.clone();
    ForecastRow { source: Source::default(), diff, kind, tenant, entity, window_start: start, expected, error, calls }
}

impl Series {
    /// For the minute that starts here, from those before it.
    fn forecast(&mut self, start: Micros) -> Option<(f64, f64)> {
        let first = start.plus(-MINUTES_MAX * MINUTE_US);
        self.minutes = self.minutes.split_off(&first);
        let first = *self.minutes.first_key_value()?.0;
        let minutes = (start.0 - first.0) / MINUTE_US;
        let calls =
            |minute: i64| self.minutes.get(&first.plus(minute * MINUTE_US)).map_or(0.0, |minute| minute.calls as f64);
        holt_winters(&(0..minutes).map(calls).collect::<Vec<f64>>())
    }

    fn judge(
        &mut self,
        of: &FeatureRow,
        (expected, error): (f64, f64),
        signals: &mut Vec<Signal>,
        counters: &mut Counters,
    ) {
        let calls = of.calls as f64;
        let is_close = (calls - expected).abs() <= 2.0 * error + 1.0;
        *if is_close { &mut counters.forecast_close } else { &mut counters.forecast_off } += 1;
        let is_burst = calls >= BURST_CALLS.max(BURST_TIMES * expected).max(expected + BURST_ERRORS * error);
        let server = of.entity.split('/').next().unwrap_or_default();
        let ts = of.window_start.plus(MINUTE_US);
        if is_burst {
            let text =
                format!("`{}` was called {calls:.0} times in a minute, where {expected:.0} were expected", of.entity);
            signals.push(Signal::raised(ts, AlertKind::Burst, server, &of.entity, text));
        } else if self.bursting {
            signals.push(Signal::over(ts, AlertKind::Burst, server, &of.entity));
        }
        self.bursting = is_burst;
    }
}

/// The next value, and the mean of the errors that forecasts of the values before it had; `None` = too few values.
/// Additive, with a trend that fades.
fn holt_winters(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < MINUTES_MIN {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut season = [0.0; SEASON];
    if values.len() >= 2 * SEASON {
        let known = mean(&values[..2 * SEASON]);
        for (at, of) in season.iter_mut().enumerate() {
            *of = (values[at] + values[at + SEASON]) / 2.0 - known;
        }
    }
    let has_season = values.len() >= 2 * SEASON;
    let (mut level, mut trend) = (mean(&values[..MINUTES_MIN]) - mean(&season[..MINUTES_MIN]), 0.0);
    let (mut errors, mut counted) = (0.0, 0);
    for (at, value) in values.iter().enumerate() {
        let of_season = season[at % SEASON];
        let next = level + FADING * trend;
        if at >= MINUTES_MIN / 2 {
            errors += (value - (next + of_season).max(0.0)).abs();
            counted += 1;
        }
        let before = level;
        level = LEVEL * (value - of_season) + (1.0 - LEVEL) * next;
        trend = TREND * (level - before) + (1.0 - TREND) * FADING * trend;
        if has_season {
            season[at % SEASON] = SEASONAL * (value - level) + (1.0 - SEASONAL) * of_season;
        }
    }
    let expected = (level + FADING * trend + season[values.len() % SEASON]).max(0.0);
    Some((expected, errors / f64::from(counted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forecast of the next value is this close to what follows.
    fn check(of: impl Fn(usize) -> f64, minutes: usize, within: f64) {
        let values: Vec<f64> = (0..minutes).map(&of).collect();
        let (expected, error) = holt_winters(&values).expect("enough values");
        assert!((expected - of(minutes)).abs() <= within, "{expected} for {}", of(minutes));
        assert!(error <= within, "{error}");
    }

    #[test]
    fn what_goes_on_is_expected() {
        check(|_| 7.0, 12, 1e-9);
        check(|minute| 100.0 + minute as f64, 200, 8.0);
        let season = |minute: usize| if minute % SEASON < 30 { 10.0 } else { 90.0 };
        check(season, 240, 1.0);
        assert_eq!(holt_winters(&[1.0; MINUTES_MIN - 1]), None);
    }
}
