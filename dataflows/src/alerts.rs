//! Alerts: what somebody should look at, once for each thing, from its opening to its resolution.
//!
//! Upstream: signals of rules, of flagged sessions and of the tool catalogue. Downstream: rows of table `alerts`: one
//! when it opens, few while it goes on, one when it is resolved. On worker 0 alone, in order of (time, kind, subject).
//! Not here: what is worth a signal; who is told.

use std::collections::BTreeMap;

use undercurrent_schemas::ids::{Micros, stable_hash};
use undercurrent_schemas::rows::{AlertKind, AlertRow, AlertState, Source};

/// An alert of which nothing was heard for so long is resolved.
const QUIET_US: i64 = 3_600_000_000;

/// Open alerts; beyond that the one that was quiet longest is resolved.
const OPEN_MAX: usize = 10_000;

/// Something that a rule says of a subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Signal {
    pub ts: Micros,
    pub kind: AlertKind,
    /// What it is about: a session id, or `server/tool`. With the kind it is the alert's identity.
    pub subject: String,
    pub server: String,
    /// In words; `None` = it is over.
    pub text: Option<String>,
}

impl Signal {
    #[must_use]
    pub fn raised(ts: Micros, kind: AlertKind, server: &str, subject: &str, text: String) -> Self {
        Self { ts, kind, subject: subject.to_owned(), server: server.to_owned(), text: Some(text) }
    }

    /// In which order signals of one tick are taken.
    fn order(&self) -> impl Ord + '_ {
        (self.ts, self.kind, &self.subject, self.text.is_none(), &self.server, &self.text)
    }

    #[must_use]
    pub fn over(ts: Micros, kind: AlertKind, server: &str, subject: &str) -> Self {
        Self { ts, kind, subject: subject.to_owned(), server: server.to_owned(), text: None }
    }
}

/// Those that are open.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Alerts {
    open: BTreeMap<(AlertKind, String), Open>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Open {
    opened: Micros,
    last: Micros,
    times: u64,
    server: String,
    text: String,
}

impl Alerts {
    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Takes the signals of one tick; what became of alerts.
    pub(crate) fn take(&mut self, mut signals: Vec<Signal>, watermark: Micros) -> Vec<AlertRow> {
        // What was raised and is over at one time is over.
        signals.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        let mut rows = Vec::new();
        for signal in signals {
            self.one(signal, &mut rows);
        }
        // The end of a recording is no silence.
        if watermark != Micros(i64::MAX) && !self.open.is_empty() {
            let quiet = |open: &Open| open.last.plus(QUIET_US) < watermark;
            let over: Vec<_> = self.open.iter().filter(|(_, open)| quiet(open)).map(|(key, _)| key.clone()).collect();
            for key in over {
                self.resolve(&key, watermark, &mut rows);
            }
        }
        while self.open.len() > OPEN_MAX {
            let Some(key) = self.open.iter().min_by_key(|(_, open)| open.last).map(|(key, _)| key.clone()) else {
                break;
            };
            self.resolve(&key, watermark, &mut rows);
        }
        rows
    }

    fn one(&mut self, signal: Signal, rows: &mut Vec<AlertRow>) {
        let key = (signal.kind, signal.subject);
        let Some(text) = signal.text else { return self.resolve(&key, signal.ts, rows) };
        let mut is_new = false;
        let open = self.open.entry(key.clone()).or_insert_with(|| {
            is_new = true;
            Open { opened: signal.ts, last: signal.ts, times: 0, server: signal.server, text: String::new() }
        });
        open.times += 1;
        open.last = open.last.max(signal.ts);
        open.text = text;
        // What goes on is told ever more rarely: at the second, fourth, eighth time.
        if open.times.is_power_of_two() {
            let state = if is_new { AlertState::Open } else { AlertState::Updated };
            rows.push(open.row(&key, signal.ts, state));
        }
    }

    fn resolve(&mut self, key: &(AlertKind, String), ts: Micros, rows: &mut Vec<AlertRow>) {
        if let Some(open) = self.open.remove(key) {
            rows.push(open.row(key, ts, AlertState::Resolved));
        }
    }
}

impl Open {
    fn row(&self, (kind, subject): &(AlertKind, String), ts: Micros, state: AlertState) -> AlertRow {
        let opened = self.opened.0.to_le_bytes();
        let id = stable_hash(&[kind.as_str().as_bytes(), subject.as_bytes(), &opened]);
        AlertRow {
            source: Source::default(),
            ts,
            alert_id: format!("{id:016x}"),
            kind: *kind,
            state,
            server: self.server.clone(),
            subject: subject.clone(),
            opened_at: self.opened,
            times: self.times,
            text: self.text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minute, subject, and whether it is raised or over.
    type Said<'a> = (i64, &'a str, bool);

    /// The signals of ticks that end at these minutes, and the rows that come of them.
    fn check(ticks: &[(i64, &[Said<'_>])], expect: &[(&str, AlertState, u64)]) {
        let minutes = |minutes: i64| Micros(minutes * 60_000_000);
        let mut alerts = Alerts::default();
        let mut rows = Vec::new();
        for (watermark, signals) in ticks {
            let signal = |(at, subject, raised): &Said<'_>| match raised {
                true => Signal::raised(minutes(*at), AlertKind::Loop, "s", subject, "text".into()),
                false => Signal::over(minutes(*at), AlertKind::Loop, "s", subject),
            };
            rows.extend(alerts.take(signals.iter().map(signal).collect(), minutes(*watermark)));
        }
        let got: Vec<_> = rows.iter().map(|row| (row.subject.as_str(), row.state, row.times)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn each_thing_is_one_alert_from_opening_to_resolution() {
        use AlertState::{Open, Resolved, Updated};
        check(
            &[(1, &[(1, "a", true), (1, "a", true), (1, "a", true), (1, "b", true)])],
            &[("a", Open, 1), ("a", Updated, 2), ("b", Open, 1)],
        );
        check(
            &[(1, &[(1, "a", true)]), (2, &[(2, "a", false)]), (3, &[(3, "a", true)])],
            &[("a", Open, 1), ("a", Resolved, 1), ("a", Open, 1)],
        );
        check(&[(1, &[(1, "a", false)])], &[]);
        check(&[(1, &[(1, "a", false), (1, "a", true)])], &[("a", Open, 1), ("a", Resolved, 1)]);
    }

    #[test]
    fn silence_resolves() {
        use AlertState::{Open, Resolved};
        check(&[(1, &[(1, "a", true)]), (61, &[]), (62, &[])], &[("a", Open, 1), ("a", Resolved, 1)]);
    }
}
