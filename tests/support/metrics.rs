//! `/metrics` as numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::http::get;

/// One scrape: series (name and labels as printed) to value.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    #[track_caller]
    pub(crate) fn scrape(admin: SocketAddr) -> Self {
        let answer = get(admin, "/metrics");
        assert_eq!(answer.status(), 200, "/metrics: {answer:?}");
        Self::parse(&answer.text())
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = samples.filter_map(|line| line.rsplit_once(' '));
        Self(pairs.filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?))).collect())
    }

    /// The sum over all series of a metric; a label in braces (`name{label="value"}`) narrows it to those that have it.
    pub(crate) fn sum(&self, wanted: &str) -> f64 {
        let (name, label) =
            wanted.split_once('{').map_or((wanted, ""), |(name, label)| (name, label.trim_end_matches('}')));
        let series =
            self.0.iter().filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(label));
        series.map(|(_, value)| value).sum()
    }

    /// The sum over all of the metrics named.
    pub(crate) fn sum_all(&self, wanted: &[&str]) -> f64 {
        wanted.iter().map(|name| self.sum(name)).sum()
    }
}
