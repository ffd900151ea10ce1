//! What is older, or more, than the settings keep: which files.
//!
//! Age is event time: the watermark decides, not a clock, so a system that stands still forgets nothing. Hours go as a
//! whole, the oldest first, and the newest never.
//!
//! Invariant: table `models` is never cut: its rows are differences, and a version is the sum of all before it.

use std::collections::BTreeMap;

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::tables::Table;

use super::hour::Hour;
use super::manifest::FileEntry;
use super::options::{Limits, Retention};

/// The paths that are to go.
pub(super) fn expired(live: &BTreeMap<String, FileEntry>, watermark: Micros, retention: &Retention) -> Vec<String> {
    let tables = Table::ALL.into_iter().filter(|table| *table != Table::Models);
    tables.flat_map(|table| expired_of(table, live, watermark, retention.of(table))).collect()
}

fn expired_of(table: Table, live: &BTreeMap<String, FileEntry>, watermark: Micros, limits: Limits) -> Vec<String> {
    let mut hours: BTreeMap<Hour, Vec<&FileEntry>> = BTreeMap::new();
    for file in live.values().filter(|file| file.table == table.name()) {
        let Some(hour) = Hour::of_dir(&file.path) else { continue };
        hours.entry(hour).or_default().push(file);
    }
    let mut left: u64 = hours.values().flatten().map(|file| file.bytes).sum();
    let newest = hours.keys().next_back().copied();
    let mut gone = Vec::new();
    for (hour, files) in hours {
        let old = limits
            .age
            .is_some_and(|age| hour.end().plus(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)) <= watermark);
        let many = limits.bytes.is_some_and(|bytes| left > bytes);
        if Some(hour) == newest || !(old || many) {
            break;
        }
        left -= files.iter().map(|file| file.bytes).sum::<u64>();
        gone.extend(files.into_iter().map(|file| file.path.clone()));
    }
    gone
}
