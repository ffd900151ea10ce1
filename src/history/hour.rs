//! The hour of a row: its Hive partition.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
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

    /// The first moment after it.
    pub(super) const fn end(self) -> Micros {
        Micros((self.0 + 1) * HOUR_S * 1_000_000)
    }

    /// The hour of a path that begins as [`Self::dir`] says; `None` = it does not.
    pub(super) fn of_dir(path: &str) -> Option<Self> {
        let mut names = path.split('/').skip(1);
        let date: Date = names.next()?.strip_prefix("date=")?.parse().ok()?;
        let hour: i8 = names.next()?.strip_prefix("hour=")?.parse().ok()?;
        let start = date.at(0, 0, 0, 0).with().hour(hour).build().ok()?;
        Some(Self(Offset::UTC.to_timestamp(start).ok()?.as_second().div_euclid(HOUR_S)))
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
        let hour = Hour::of(Micros(micros));
        assert_eq!(hour.dir("calls"), Path::new("calls").join(expect));
        assert_eq!(Hour::of_dir(&format!("calls/{expect}/t=1-2.parquet")), Some(hour));
    }

    #[test]
    fn hours_are_utc_and_stay_within_years_of_four_digits() {
        check(0, "date=1970-01-01/hour=00");
        check(1_772_438_404_799_565, "date=2026-03-02/hour=08");
        check(1_772_438_399_999_999, "date=2026-03-02/hour=07");
        check(-1, "date=1970-01-01/hour=00");
        check(i64::MIN, "date=1970-01-01/hour=00");
        check(i64::MAX, "date=9999-12-30/hour=22");
        assert_eq!(Hour::of(Micros(0)).end(), Micros(3_600_000_000));
        for odd in ["calls", "calls/date=2026-03-02", "calls/date=2026-03-02/hour=24", "calls/date=x/hour=01"] {
            assert_eq!(Hour::of_dir(odd), None, "{odd}");
        }
    }
}
