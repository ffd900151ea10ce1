//! The hour of a row: its Hive partition.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::Offset;
use undercurrent_schemas::ids::Micros;

const HOUR_S: i64 = 3600;
/// The last hour that jiff knows in every time zone, in year 9999: dates beyond have no four-digit form for readers.
const HOUR_MAX: i64 = 253_402_207_200 / HOUR_S;

/// An hour of event time, counted from the Unix epoch. Times outside 1970..=9999 count to the nearest hour inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hour(i64);

impl Hour {
    pub(super) fn of(time: Micros) -> Self {
        Self(time.0.div_euclid(HOUR_S * 1_000_000).clamp(0, HOUR_MAX))
    }

    /// `TABLE/date=YYYY-MM-DD/hour=HH`.
    pub(super) fn dir(self, table: &str) -> PathBuf {
        let start = Timestamp::from_second(self.0 * HOUR_S).expect("hours are clamped to years that jiff knows");
        let start = Offset::UTC.to_datetime(start);
        Path::new(table).join(format!("date={}", start.date())).join(format!("hour={:02}", start.hour()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(micros: i64, expect: &str) {
        assert_eq!(Hour::of(Micros(micros)).dir("calls"), Path::new("calls").join(expect));
    }

    #[test]
    fn hours_are_utc_and_stay_within_years_of_four_digits() {
        check(0, "date=1970-01-01/hour=00");
        check(1_772_438_404_799_565, "date=2026-03-02/hour=08");
        check(1_772_438_399_999_999, "date=2026-03-02/hour=07");
        check(-1, "date=1970-01-01/hour=00");
        check(i64::MIN, "date=1970-01-01/hour=00");
        check(i64::MAX, "date=9999-12-30/hour=22");
    }
}
