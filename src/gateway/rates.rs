//! How much each principal may ask: a bucket of requests that refills (GCRA, by `governor`).
//!
//! Invariant: memory is bounded: principals whose bucket is full again are forgotten, and beyond a number of them that
//! are not, further ones share one bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::Rate;

/// Principals with a bucket of their own.
const PRINCIPALS_MAX: usize = 100_000;
/// New principals between two looks for those that may be forgotten.
const SWEEP_EVERY: u32 = 4096;

type Buckets = RateLimiter<
    Arc<str>,
    DashMapStateStore<Arc<str>>,
    MonotonicClock,
    NoOpMiddleware<<MonotonicClock as governor::clock::Clock>::Instant>,
>;

/// The buckets of all principals, if there are any.
#[derive(Debug, Default)]
pub(super) struct Rates(Option<Limited>);

#[derive(Debug)]
struct Limited {
    rate: Rate,
    buckets: Buckets,
    /// Whose bucket it is that everybody beyond the bound shares.
    others: Arc<str>,
    taken: AtomicU32,
}

impl Rates {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| {
            let quota = Quota::per_minute(rate.per_minute).allow_burst(rate.burst);
            let buckets = RateLimiter::new(quota, DashMapStateStore::default(), MonotonicClock);
            Limited { rate, buckets, others: "".into(), taken: AtomicU32::new(0) }
        }))
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.0.as_ref().map(|limited| limited.rate)
    }

    /// Takes one request from the principal's bucket; if it is empty: after how long there is one again.
    pub(super) fn take(&self, principal: &Arc<str>) -> Result<(), Duration> {
        let Some(limited) = &self.0 else { return Ok(()) };
        if limited.taken.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            limited.buckets.retain_recent();
        }
        let full = limited.buckets.len() >= PRINCIPALS_MAX;
        let bucket = if full { &limited.others } else { principal };
        let taken = limited.buckets.check_key(bucket);
        taken.map_err(|until| until.wait_time_from(limited.buckets.clock().now()))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn each_principal_has_a_bucket_of_its_own() {
        let rates =
            Rates::new(Some(Rate { per_minute: NonZeroU32::new(60).unwrap(), burst: NonZeroU32::new(2).unwrap() }));
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        assert_eq!(rates.take(&alice), Ok(()));
        assert_eq!(rates.take(&alice), Ok(()));
        let wait = rates.take(&alice).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(rates.take(&bob), Ok(()));
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        let rates = Rates::new(None);
        assert!((0..10_000).all(|_| rates.take(&"alice".into()).is_ok()));
    }
}
