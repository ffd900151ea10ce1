//! How long ago something was: computed when someone asks, so that it grows while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{PullingGauge, Registry, Result};

use super::names::Name;

/// The time since a moment, in a gauge. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Age {
    origin: Instant,
    /// Microseconds from `origin` to the moment, plus one; 0 = there is none.
    since: Arc<AtomicU64>,
}

impl Age {
    /// `otherwise`: what the gauge shows while there is no moment.
    pub(super) fn register(registry: &Registry, Name(name, help): Name, otherwise: f64) -> Result<Self> {
        let age = Self { origin: Instant::now(), since: Arc::default() };
        let shown = age.clone();
        let seconds = move || shown.get().map_or(otherwise, |age| age.as_secs_f64());
        registry.register(Box::new(PullingGauge::new(name, help, Box::new(seconds))?))?;
        Ok(age)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// The moment is now.
    pub fn start(&self) {
        self.start_at(Instant::now());
    }

    /// The moment is `at`.
    pub fn start_at(&self, at: Instant) {
        self.since.store(self.micros(at), Ordering::Relaxed);
    }

    /// The moment is now, unless there is an earlier one.
    pub fn start_if_clear(&self) {
        if self.since.load(Ordering::Relaxed) == 0 {
            let now = self.micros(Instant::now());
            // A racing start is as good as this one.
            let _ = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// There is no such moment.
    pub fn clear(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// The time since then; `None` while there is no moment.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        let micros = self.micros(Instant::now()).saturating_sub(since);
        (since > 0).then(|| Duration::from_micros(micros))
    }
}
