//! Section `history`: how files are cut, merged, kept, and where else they go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use undercurrent_schemas::tables::Table;
use url::Url;

use super::error::ConfigError;
use super::raw::RawConfig;
use super::resolve::{Check, GIB, Surroundings, beside, number, quoted, seconds};
use super::upstream::Environment;

/// What the client of an S3-compatible store takes from the environment.
const STORE_VARIABLES: &str = "AWS_";
const DAY_S: u64 = 86_400;

/// The Parquet files: how they are cut and compressed, merged, kept, and where else they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub roll: Duration,
    pub roll_rows: usize,
    pub zstd_level: i32,
    /// How long after its end the small files of an hour are merged; `None` = never.
    pub compact_after: Option<Duration>,
    /// Files are merged up to this size.
    pub compact_bytes: u64,
    /// Of tables that are not named by themselves.
    pub retention: Kept,
    pub retention_of: BTreeMap<Table, Kept>,
    /// How long files that were replaced stay aside for those who read a version.
    pub keep_replaced: Duration,
    /// `None`: they are here alone.
    pub store: Option<HistoryStore>,
}

/// How much of a table is kept; `None` = without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub age: Option<Duration>,
    pub bytes: Option<u64>,
}

/// Another place for the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStore {
    pub url: Url,
    /// Lines `NAME=VALUE`, which win over the environment.
    pub credentials_file: Option<PathBuf>,
    pub environment: Environment,
    /// Bytes that may wait for it.
    pub staging_bytes_max: u64,
    /// How long after their hour files stay here, too.
    pub keep_local: Duration,
}

pub(super) fn resolve(check: &Check<'_>, raw: &RawConfig, around: &Surroundings<'_>) -> Result<History, ConfigError> {
    let after_s = number!(check, raw.history.compact_after_s, 0..=31_536_000);
    let days = number!(check, raw.history.retention_days, 0..=36_500) as u64;
    let gib = number!(check, raw.history.retention_gib, 0..=1_048_576) as u64;
    Ok(History {
        roll: seconds(number!(check, raw.history.roll_seconds, 1..=86_400)),
        roll_rows: number!(check, raw.history.roll_rows, 1..=100_000_000),
        zstd_level: number!(check, raw.history.zstd_level, 1..=22) as i32,
        compact_after: (after_s > 0).then(|| seconds(after_s)),
        compact_bytes: number!(check, raw.history.compact_bytes, 4096..=GIB) as u64,
        retention: kept(days, gib),
        retention_of: retention_of(check, raw, days, gib)?,
        keep_replaced: seconds(number!(check, raw.history.keep_replaced_s, 0..=31_536_000)),
        store: store(check, raw, around)?,
    })
}

fn kept(days: u64, gib: u64) -> Kept {
    Kept {
        age: (days > 0).then(|| Duration::from_secs(days * DAY_S)),
        bytes: (gib > 0).then(|| gib.saturating_mul(GIB)),
    }
}

fn retention_of(check: &Check<'_>, raw: &RawConfig, days: u64, gib: u64) -> Result<BTreeMap<Table, Kept>, ConfigError> {
    let mut numbers: BTreeMap<Table, (u64, u64)> = BTreeMap::new();
    for (name, value) in &raw.history.retention_days_of {
        let key = "history.retention_days_of";
        numbers.entry(table(check, key, name)?).or_insert((days, gib)).0 =
            check.number(key, *value, 0..=36_500)? as u64;
    }
    for (name, value) in &raw.history.retention_gib_of {
        let key = "history.retention_gib_of";
        numbers.entry(table(check, key, name)?).or_insert((days, gib)).1 =
            check.number(key, *value, 0..=1_048_576)? as u64;
    }
    Ok(numbers.into_iter().map(|(table, (days, gib))| (table, kept(days, gib))).collect())
}

fn table(check: &Check<'_>, key: &str, name: &str) -> Result<Table, ConfigError> {
    let found = Table::ALL.into_iter().find(|table| table.name() == name);
    match found {
        Some(Table::Models) => {
            let remedy = "leave it out: its rows are differences, and a version is the sum of all before it";
            Err(check.wrong(key, quoted(name), "a table that is always kept", remedy))
        }
        Some(table) => Ok(table),
        None => {
            let names: Vec<_> = Table::ALL.map(Table::name).into_iter().filter(|name| *name != "models").collect();
            Err(check.wrong(key, quoted(name), "not a table", format!("give some of {}", names.join(", "))))
        }
    }
}

fn store(check: &Check<'_>, raw: &RawConfig, around: &Surroundings<'_>) -> Result<Option<HistoryStore>, ConfigError> {
    let staging_bytes_max = number!(check, raw.history.staging_bytes_max, 1_048_576..=1_099_511_627_776) as u64;
    let keep_local = seconds(number!(check, raw.history.keep_local_s, 0..=315_360_000));
    let history = &raw.history;
    if history.url.is_empty() {
        return Ok(None);
    }
    let remedy = "give \"s3://BUCKET/PREFIX\" or \"file:///DIRECTORY\"";
    let wrong = |problem: &str| check.wrong("history.url", "(not shown)", problem, remedy);
    let url = Url::parse(&history.url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "s3" | "file") {
        return Err(wrong("neither s3 nor file"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(check.wrong("history.url", "(not shown)", "holds credentials", "put them into the environment"));
    }
    let variables = around.env.iter().filter(|(name, _)| name.starts_with(STORE_VARIABLES));
    let environment = Environment(variables.map(|(name, value)| (name.clone(), value.clone())).collect());
    let credentials_file =
        beside(&history.credentials_file, &around.places.of("history.credentials_file"), around.file);
    Ok(Some(HistoryStore { url, credentials_file, environment, staging_bytes_max, keep_local }))
}
