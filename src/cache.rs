//! What learning hands back to the request path: the live model, and the features of every entity right now.
//!
//! Upstream: the engine (or the hub, in a process that owns no log), which alone writes. Downstream: the edge and the
//! admin pages, which read without waiting. Invariant: models are whole and only grow in version.

use dashmap::DashMap;
use undercurrent_dataflows::graph::{Aggregate, Entity, WindowKey};
use undercurrent_dataflows::model::ModelSlot;

/// Cheap to read from any thread.
#[derive(Debug)]
pub struct Cache {
    models: ModelSlot,
    features: DashMap<WindowKey, (Entity, Aggregate)>,
}

impl Cache {
    /// A cache whose models come from this slot's publisher.
    #[must_use]
    pub fn new(models: ModelSlot) -> Self {
        Self { models, features: DashMap::new() }
    }

    /// Where the live model is.
    #[must_use]
    pub fn models(&self) -> &ModelSlot {
        &self.models
    }

    /// Takes what a tick changed: current values, or `None` where a window is gone.
    pub fn update_features(&self, changes: Vec<(WindowKey, Entity, Option<Aggregate>)>) {
        for (key, entity, now) in changes {
            match now {
                Some(now) => drop(self.features.insert(key, (entity, now))),
                None => drop(self.features.remove(&key)),
            }
        }
    }

    /// The features of one kind of entity in its newest window of this size, busiest first, at most `limit`.
    #[must_use]
    pub fn busiest(
        &self,
        kind: undercurrent_schemas::rows::EntityKind,
        size_us: i64,
        limit: usize,
    ) -> Vec<(Entity, Aggregate)> {
        let of_kind =
            || self.features.iter().filter(move |entry| entry.key().kind == kind && entry.key().size_us == size_us);
        let Some(newest) = of_kind().map(|entry| entry.key().start).max() else { return Vec::new() };
        let mut busiest: Vec<_> =
            of_kind().filter(|entry| entry.key().start == newest).map(|entry| entry.value().clone()).collect();
        busiest.sort_by(|a, b| b.1.calls.cmp(&a.1.calls).then_with(|| a.0.cmp(&b.0)));
        busiest.truncate(limit);
        busiest
    }
}
