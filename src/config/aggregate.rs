//! The endpoint that stands for all upstreams, as it is set.

use std::collections::BTreeSet;
use std::time::Duration;

use super::error::ConfigError;
use super::raw::RawConfig;
use super::resolve::{Check, millis, quoted};

/// How the upstreams are served as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Between an upstream's name and the name of a tool or prompt.
    pub separator: String,
    /// Which upstreams; empty: all.
    pub upstreams: BTreeSet<String>,
    /// What each upstream gets to open a session or to list what it has.
    pub patience: Duration,
    /// Sessions at once.
    pub sessions_max: usize,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            separator: "__".into(),
            upstreams: BTreeSet::new(),
            patience: Duration::from_secs(15),
            sessions_max: 1000,
        }
    }
}

/// `None` where there is no such endpoint. What is wrong is said all the same.
pub(super) fn resolve(check: &Check<'_>, raw: &RawConfig) -> Result<Option<Aggregate>, ConfigError> {
    let given = &raw.aggregate;
    let separator = &given.separator;
    let plain = |byte: u8| matches!(byte, b'-' | b'_');
    if !(1..=4).contains(&separator.len()) || !separator.bytes().all(plain) {
        let problem = "not a separator that clients take in the name of a tool";
        return Err(check.wrong("aggregate.separator", quoted(separator), problem, "give 1 to 4 of `_` and `-`"));
    }
    if let Some(unknown) = given.upstreams.iter().find(|name| !raw.upstreams.contains_key(*name)) {
        let known = raw.upstreams.keys().cloned().collect::<Vec<_>>().join(", ");
        let remedy = format!("give some of [upstreams]: {known}");
        return Err(check.wrong("aggregate.upstreams", quoted(unknown), "no such upstream", remedy));
    }
    let patience = millis(check.number("aggregate.patience_ms", given.patience_ms, 1..=600_000)?);
    let sessions_max = check.number("aggregate.sessions_max", given.sessions_max, 1..=1_000_000)?;
    let upstreams = given.upstreams.iter().cloned().collect();
    let aggregate = Aggregate { separator: separator.clone(), upstreams, patience, sessions_max };
    Ok(given.enabled.then_some(aggregate))
}
