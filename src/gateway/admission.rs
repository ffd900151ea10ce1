//! What an upstream is spared: requests beyond its number, and requests while it is down (a circuit breaker).
//!
//! Invariant: whoever was let in holds an [`Entry`] until the exchange is over, and says once how it went. Nothing is
//! ever sent again: a probe is a request that came anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rescue::Refusal;
use crate::config::{BreakerSettings, Terms};

/// The doors of one place of an upstream.
#[derive(Debug)]
pub(super) struct Admission {
    slots: Slots,
    breaker: Option<Arc<Breaker>>,
}

/// How many requests may be open at once, at all places of an upstream together.
#[derive(Clone, Debug)]
pub(super) struct Slots(Option<(usize, Arc<Semaphore>)>);

impl Slots {
    pub(super) fn new(terms: &Terms) -> Self {
        Self(terms.requests_max.map(|max| (max.get(), Arc::new(Semaphore::new(max.get())))))
    }
}

/// Being let in.
#[derive(Debug, Default)]
pub(super) struct Entry {
    _slot: Option<OwnedSemaphorePermit>,
    breaker: Option<Arc<Breaker>>,
}

#[derive(Debug)]
struct Breaker {
    settings: BreakerSettings,
    state: Mutex<State>,
    /// How many of the upstream's breakers are open.
    open: IntGauge,
}

#[derive(Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One request is on its way to find out.
    Probing {
        since: Instant,
        pause: Duration,
    },
}

impl Admission {
    pub(super) fn new(terms: &Terms, slots: Slots, open: IntGauge) -> Self {
        let state = Mutex::new(State::Closed { failures: 0 });
        let breaker = terms.breaker.map(|settings| Arc::new(Breaker { settings, state, open }));
        Self { slots, breaker }
    }

    /// Whether it matters if a message awaits an answer.
    pub(super) const fn counts_requests(&self) -> bool {
        self.slots.0.is_some()
    }

    /// Whether it is left alone just now.
    pub(super) fn is_down(&self) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.is_down(Instant::now()))
    }

    /// `takes_slot`: only what awaits an answer, and will not do so for ever. An answer of the client must pass: the
    /// requests that hold the slots may be waiting for it.
    pub(super) fn enter(&self, takes_slot: bool) -> Result<Entry, Refusal> {
        let slot = match &self.slots.0 {
            Some((max, slots)) if takes_slot => {
                let slot = Arc::clone(slots).try_acquire_owned();
                Some(slot.map_err(|_| Refusal::UpstreamBusy { requests_max: *max })?)
            }
            _ => None,
        };
        if let Some(breaker) = &self.breaker {
            breaker.enter(Instant::now()).map_err(|wait| Refusal::UpstreamDown { wait })?;
        }
        Ok(Entry { _slot: slot, breaker: self.breaker.clone() })
    }
}

impl Entry {
    /// The upstream answered, whatever it said.
    pub(super) fn answered(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.answered();
        }
    }

    /// It could not be reached, or gave no answer.
    pub(super) fn failed(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.failed(Instant::now());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Nobody knows how it went: a client that left proves nothing. The next request probes.
        if let Some(breaker) = self.breaker.take() {
            breaker.unknown(Instant::now());
        }
    }
}

impl Drop for Breaker {
    /// A reload that replaces an upstream leaves nothing behind in the gauge.
    fn drop(&mut self) {
        if !matches!(*self.lock(), State::Closed { .. }) {
            self.open.dec();
        }
    }
}

impl Breaker {
    fn enter(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Ok(()),
            State::Open { until, pause } if now >= until => {
                *state = State::Probing { since: now, pause };
                Ok(())
            }
            State::Open { until, .. } => Err(until - now),
            // A probe that hangs for longer than a pause does not keep the next from trying.
            State::Probing { since, pause } if now >= since + pause => {
                *state = State::Probing { since: now, pause };
                Ok(())
            }
            State::Probing { since, pause } => Err(since + pause - now),
        }
    }

    /// Whether a request would be turned away; one that would be a probe is not.
    fn is_down(&self, now: Instant) -> bool {
        match *self.lock() {
            State::Closed { .. } => false,
            State::Open { until, .. } => now < until,
            State::Probing { since, pause } => now < since + pause,
        }
    }

    fn answered(&self) {
        let before = std::mem::replace(&mut *self.lock(), State::Closed { failures: 0 });
        if !matches!(before, State::Closed { .. }) {
            self.open.dec();
        }
    }

    fn failed(&self, now: Instant) {
        let mut state = self.lock();
        let pause = match *state {
            State::Closed { failures } if failures + 1 < self.settings.failures.get() => {
                *state = State::Closed { failures: failures + 1 };
                return;
            }
            State::Closed { .. } => {
                self.open.inc();
                self.settings.pause
            }
            State::Probing { pause, .. } => (pause * 2).min(self.settings.pause_max),
            // Requests that were let in before it opened.
            State::Open { .. } => return,
        };
        *state = State::Open { until: now + pause, pause };
    }

    fn unknown(&self, now: Instant) {
        let mut state = self.lock();
        if let State::Probing { pause, .. } = *state {
            *state = State::Open { until: now, pause };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        let failures = NonZeroU32::new(2).unwrap();
        let settings = BreakerSettings { failures, pause: PAUSE, pause_max: PAUSE * 3 };
        let open = IntGauge::new("open", "test").unwrap();
        Breaker { settings, state: Mutex::new(State::Closed { failures: 0 }), open }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let (breaker, start) = (breaker(), Instant::now());
        breaker.failed(start);
        breaker.answered();
        breaker.failed(start);
        assert_eq!(breaker.enter(start), Ok(()));
        breaker.failed(start);
        assert_eq!(breaker.enter(start), Err(PAUSE));
        assert_eq!(breaker.open.get(), 1);
        // One probe, and nobody beside it.
        assert_eq!(breaker.enter(start + PAUSE), Ok(()));
        assert_eq!(breaker.enter(start + PAUSE), Err(PAUSE));
        breaker.answered();
        assert_eq!(breaker.enter(start + PAUSE), Ok(()));
        assert_eq!(breaker.open.get(), 0);
    }

    #[test]
    fn failed_probes_double_the_pause_up_to_its_bound() {
        let (breaker, mut now) = (breaker(), Instant::now());
        breaker.failed(now);
        breaker.failed(now);
        for pauses in [2, 3, 3] {
            while breaker.enter(now).is_err() {
                now += PAUSE / 10;
            }
            breaker.failed(now);
            assert_eq!(breaker.enter(now), Err(PAUSE * pauses));
        }
    }

    #[test]
    fn a_probe_without_an_end_lets_the_next_try() {
        let (breaker, start) = (breaker(), Instant::now());
        breaker.failed(start);
        breaker.failed(start);
        assert_eq!(breaker.enter(start + PAUSE), Ok(()));
        breaker.unknown(start + PAUSE);
        assert_eq!(breaker.enter(start + PAUSE), Ok(()));
        assert!(breaker.enter(start + PAUSE).is_err());
        assert_eq!(breaker.enter(start + PAUSE * 2), Ok(()));
    }

    #[test]
    fn slots_are_for_requests_and_come_back() {
        let terms = Terms { requests_max: NonZeroUsize::new(1), ..Terms::default() };
        let admission = Admission::new(&terms, Slots::new(&terms), IntGauge::new("open", "test").unwrap());
        let first = admission.enter(true).unwrap();
        assert!(matches!(admission.enter(true), Err(Refusal::UpstreamBusy { requests_max: 1 })));
        assert!(admission.enter(false).is_ok());
        drop(first);
        assert!(admission.enter(true).is_ok());
    }
}
