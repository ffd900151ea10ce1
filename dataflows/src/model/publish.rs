//! Swapping the live model: one publisher, any number of readers, no copy of the model in the common case.
//!
//! Two models take turns. While one is live the other waits, one change behind; to publish, it takes both changes and
//! is swapped in. Only where a reader still holds the waiting one is the live one copied.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use foldhash::fast::RandomState;

use super::{Entry, Model, ModelChange};
use crate::image::{Sorted, put};
use crate::shards::SHARDS;

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
    /// An image under way.
    writing: Option<Box<Writing>>,
}

/// The model as it was when an image began.
#[derive(Debug, Default)]
struct Writing {
    /// The first shard that is not written.
    next: usize,
    /// Of the others: what counts have changed since, as they were. In no order: all are sorted when they are put together.
    changed: HashMap<Entry, u64, RandomState>,
    written: Written,
}

/// A model's counts, by shard, in any order.
#[derive(Debug, Default)]
pub(crate) struct Written(Vec<Vec<(Entry, u64)>>);

impl Sorted for Written {
    fn write(self: Box<Self>, to: &mut Vec<u8>) {
        let Self(shards) = *self;
        let mut totals = shards.concat();
        totals.sort_unstable();
        put(&totals, to);
    }
}

impl Publisher {
    /// A publisher and the slot that it alone writes.
    #[must_use]
    pub fn new() -> (Self, ModelSlot) {
        let slot = ModelSlot::default();
        let (live, spare, behind) = Default::default();
        (Self { slot: slot.clone(), live, spare, behind, writing: None }, slot)
    }

    /// Makes the next model live.
    pub fn publish(&mut self, change: ModelChange) {
        if let Some(writing) = &mut self.writing {
            for (entry, _) in &change.totals {
                if Model::shard_of(entry) >= writing.next {
                    let before = || self.live.count(entry.part, entry.scope, entry.key, entry.bin);
                    writing.changed.entry(*entry).or_insert_with(before);
                }
            }
        }
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

    /// Begins an image of the counts of the model that is live now.
    pub(crate) fn begin_image(&mut self) {
        self.writing = Some(Box::default());
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(crate) fn go_on(&mut self, bytes: &mut usize) -> bool {
        let Self { live, writing: Some(writing), .. } = self else { return true };
        let Writing { next, changed, written: Written(totals) } = &mut **writing;
        while *next < SHARDS {
            if *bytes == 0 {
                return false;
            }
            let shard: Vec<_> = live.shard(*next).filter(|(entry, _)| !changed.contains_key(entry)).collect();
            *next += 1;
            *bytes = bytes.saturating_sub(shard.len() * size_of::<(Entry, u64)>());
            totals.push(shard);
        }
        totals.push(changed.drain().filter(|(_, total)| *total > 0).collect());
        true
    }

    /// The counts of the model that was live when the image began.
    pub(crate) fn finish_image(&mut self) -> Written {
        let mut all = usize::MAX;
        self.go_on(&mut all);
        self.writing.take().map(|writing| writing.written).unwrap_or_default()
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
