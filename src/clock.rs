//! The only place that reads the wall clock for event times.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use undercurrent_schemas::ids::Micros;

use crate::faults;

/// Stamps events with a time that never runs backwards, whatever the wall clock does.
#[derive(Debug, Default)]
pub struct EventClock {
    last: AtomicI64,
}

impl EventClock {
    /// A clock that starts no earlier than `floor` (the last stamp of an earlier life).
    #[must_use]
    pub const fn starting_at(floor: Micros) -> Self {
        Self { last: AtomicI64::new(floor.0) }
    }

    /// The time now, or the last stamp where the wall clock stepped back.
    #[must_use]
    pub fn now(&self) -> Micros {
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let wall = i64::try_from(wall).unwrap_or(i64::MAX).saturating_add(faults::clock_shift_s() * 1_000_000);
        Micros(self.last.fetch_max(wall, Ordering::Relaxed).max(wall))
    }
}
