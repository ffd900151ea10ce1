//! What learning hands back to the request path: the live model, and the features of every entity right now.
//!
//! Upstream: the engine (or the hub, in a process that owns no log), which alone writes. Downstream: the edge and the
//! admin pages, which read without waiting. Invariant: models are whole and only grow in version.

use std::sync::Arc;

use dashmap::DashMap;
use undercurrent_dataflows::graph::{Aggregate, Entity, EntityKey, LiveFeatures};
use undercurrent_dataflows::model::ModelSlot;
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::EntityKind;

/// Cheap to read from any thread.
#[derive(Debug)]
pub struct Cache {
    models: ModelSlot,
    features: DashMap<EntityKey, LiveFeatures>,
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

    /// Takes what a tick changed: the features that an entity has now, or `None` where it has none.
    pub fn update_features(&self, changes: Vec<(EntityKey, Option<LiveFeatures>)>) {
        for (key, now) in changes {
            match now {
                Some(now) => drop(self.features.insert(key, now)),
                None => drop(self.features.remove(&key)),
            }
        }
    }

    /// What every entity does right now, in any order.
    #[must_use]
    pub fn features(&self) -> Vec<(EntityKey, LiveFeatures)> {
        self.features.iter().map(|entry| (*entry.key(), entry.value().clone())).collect()
    }

    /// The features of one kind of entity in the newest window of this size, busiest first, at most `limit`.
    #[must_use]
    pub fn busiest(&self, kind: EntityKind, size_us: i64, limit: usize) -> Vec<(Arc<Entity>, Arc<Aggregate>)> {
        let mut newest = Micros(i64::MIN);
        let mut busiest = Vec::new();
        for entry in self.features.iter().filter(|entry| entry.key().kind == kind) {
            let windows = &entry.value().windows;
            let Some((key, sum)) = windows.iter().find(|(key, _)| key.size_us == size_us) else { continue };
            if key.start > newest {
                newest = key.start;
                busiest.clear();
            }
            if key.start == newest {
                busiest.push((Arc::clone(&entry.value().entity), Arc::clone(sum)));
            }
        }
        busiest.sort_by(|a, b| b.1.calls.cmp(&a.1.calls).then_with(|| a.0.cmp(&b.0)));
        busiest.truncate(limit);
        busiest
    }
}
