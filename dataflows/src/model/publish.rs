//! Swapping the live model: one publisher, any number of readers, no copy of the model in the common case.
//!
//! Two models take turns. While one is live the other waits, one change behind; to publish, it takes both changes and
//! is swapped in. Only where a reader still holds the waiting one is the live one copied.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::{Model, ModelChange};

/// Where readers find the live model; empty until the first is published. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ModelSlot(Arc<ArcSwapOption<Model>>);

impl ModelSlot {
    /// The live model. Hold it for one decision, not longer.
    #[must_use]
    pub fn load(&self) -> Guard<Option<Arc<Model>>> {
        self.0.load()
    }
}

/// The right to publish into a slot. Not `Clone`: two writers cannot be.
#[derive(Debug)]
pub struct Publisher {
    slot: ModelSlot,
    live: Arc<Model>,
    spare: Arc<Model>,
    /// What the live model has and the spare lacks.
    behind: ModelChange,
}

impl Publisher {
    /// A publisher and the slot that it alone writes.
    #[must_use]
    pub fn new() -> (Self, ModelSlot) {
        let slot = ModelSlot::default();
        let publisher =
            Self { slot: slot.clone(), live: Arc::default(), spare: Arc::default(), behind: ModelChange::default() };
        (publisher, slot)
    }

    /// Makes the next model live.
    pub fn publish(&mut self, change: ModelChange) {
        let next = match Arc::get_mut(&mut self.spare) {
            Some(spare) => {
                spare.apply(&self.behind);
                spare.apply(&change);
                Arc::clone(&self.spare)
            }
            None => {
                let mut copy = Model::clone(&self.live);
                copy.apply(&change);
                Arc::new(copy)
            }
        };
        self.slot.0.store(Some(Arc::clone(&next)));
        self.spare = std::mem::replace(&mut self.live, next);
        self.behind = change;
    }

    /// Starts again from a whole model, as one change on nothing.
    pub fn restart(&mut self, whole: ModelChange) {
        let mut model = Model::default();
        model.apply(&whole);
        self.live = Arc::new(model);
        self.slot.0.store(Some(Arc::clone(&self.live)));
        self.spare = Arc::default();
        self.behind = whole;
    }

    /// The model that was published last.
    #[must_use]
    pub fn live(&self) -> &Arc<Model> {
        &self.live
    }
}

/// The right to make another slot's models live in a slot of one's own: for readers who must not see every model of a
/// rebuild, only those that are newer than all before it.
#[derive(Debug, Default)]
pub struct Follower {
    slot: ModelSlot,
}

impl Follower {
    /// A follower and the slot that it alone writes.
    #[must_use]
    pub fn new() -> (Self, ModelSlot) {
        let slot = ModelSlot::default();
        (Self { slot: slot.clone() }, slot)
    }

    /// Makes what is live in `source` live here too.
    pub fn follow(&mut self, source: &ModelSlot) {
        self.slot.0.store(source.0.load_full());
    }
}
