//! The places of one HTTP upstream: a session stays where it began, and a place that fails too often in a row is left
//! out for a while (outlier ejection).
//!
//! Not here: when a place counts as down (`admission`), what is sent to it (`forward`, `strict`). Invariant: a request
//! that names a session goes to the place that opened it, whatever the others do; none is sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::admission::Slots;
use super::call::Call;
use super::forward::HttpUpstream;
use super::shared::Shared;
use crate::upstream::{Endpoint, UpstreamConfig};

/// Where an upstream is: one place, or several that are alike.
#[derive(Debug)]
pub(crate) struct Replicas {
    all: Vec<Arc<HttpUpstream>>,
    homes: Homes,
    next: AtomicUsize,
}

/// Which place opened a session. One place needs none.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    /// Session id → place, and when it was noted, in the order of noting.
    places: DashMap<Box<str>, (usize, usize)>,
    noted: AtomicUsize,
    sessions_max: usize,
}

impl Replicas {
    pub(super) fn new(config: &UpstreamConfig, endpoints: &[Endpoint], shared: &Arc<Shared>) -> std::io::Result<Self> {
        let homes = if endpoints.len() > 1 { Homes::new(shared.config.limits.homes_max) } else { Homes::default() };
        let slots = Slots::new(&config.terms);
        let place = |(at, endpoint): (usize, &Endpoint)| {
            HttpUpstream::new(config, endpoint, slots.clone(), (homes.clone(), at), Arc::clone(shared)).map(Arc::new)
        };
        let all = endpoints.iter().enumerate().map(place).collect::<Result<_, _>>()?;
        Ok(Self { all, homes, next: AtomicUsize::new(0) })
    }

    /// The place that stands for all: what they have in common can be asked of it.
    pub(super) fn first(&self) -> &Arc<HttpUpstream> {
        &self.all[0]
    }

    /// Where a request goes.
    pub(super) fn of(&self, call: &Call) -> &Arc<HttpUpstream> {
        if call.by_first_sse {
            // Its session is a stream of 2024-11-05, which is open at one of them.
            let token = call.session_id().unwrap_or_default();
            return self.all.iter().find(|place| place.places().get(token).is_some()).unwrap_or(self.first());
        }
        self.of_session(call.session_id())
    }

    /// Where a request of a session goes, or one that names none.
    pub(super) fn of_session(&self, session_id: Option<&str>) -> &Arc<HttpUpstream> {
        let [only] = &self.all[..] else {
            let at = session_id.and_then(|id| self.homes.of(id)).unwrap_or_else(|| self.pick());
            return &self.all[at % self.all.len()];
        };
        only
    }

    /// The next in turn that does not count as down; the next in turn if all do.
    fn pick(&self) -> usize {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let up = |at: &usize| !self.all[at % self.all.len()].admission().is_down();
        (turn..turn + self.all.len()).find(up).unwrap_or(turn)
    }
}

impl Homes {
    fn new(sessions_max: usize) -> Self {
        Self(Some(Arc::new(Known { places: DashMap::new(), noted: AtomicUsize::new(0), sessions_max })))
    }

    fn of(&self, id: &str) -> Option<usize> {
        self.0.as_ref()?.places.get(id).map(|entry| entry.0)
    }

    /// A session was opened there. Beyond the bound the one that was noted first is forgotten: its requests then go to
    /// any place, which says that it does not know the session, and the client opens another.
    pub(super) fn note(&self, id: &str, place: usize) {
        let Some(known) = &self.0 else { return };
        if known.places.len() >= known.sessions_max {
            let oldest = known.places.iter().min_by_key(|entry| entry.1).map(|entry| entry.key().clone());
            oldest.map(|id| known.places.remove(&id));
        }
        known.places.insert(id.into(), (place, known.noted.fetch_add(1, Ordering::Relaxed)));
    }

    /// The session has ended.
    pub(super) fn forget(&self, id: &str) {
        if let Some(known) = &self.0 {
            known.places.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_bounded_and_the_first_noted_goes_first() {
        let homes = Homes::new(2);
        for (place, id) in ["a", "b", "c"].into_iter().enumerate() {
            homes.note(id, place);
        }
        assert_eq!(["a", "b", "c"].map(|id| homes.of(id)), [None, Some(1), Some(2)]);
        homes.forget("b");
        assert_eq!(homes.of("b"), None);
        assert_eq!(Homes::default().of("a"), None);
    }
}
