//! Models between processes: the wire form of a change, and the feed that the owner's members take them from.

use std::sync::Arc;

use tokio::sync::broadcast;
use undercurrent_dataflows::model::{Entry, ModelChange, ModelSlot, Part, Publisher};
use undercurrent_schemas::ids::ModelVersion;
use undercurrent_schemas::v1;

use crate::hub::ModelFeed;

/// Changes that a member may be behind before it is sent the whole model instead.
const CHANGES_WAITING: usize = 64;

/// The owner's live model, as members get it.
#[derive(Debug)]
pub(super) struct Feed {
    live: ModelSlot,
    updates: broadcast::Sender<Arc<v1::ModelUpdate>>,
}

impl Feed {
    pub(super) fn new(live: ModelSlot) -> Self {
        Self { live, updates: broadcast::Sender::new(CHANGES_WAITING) }
    }

    /// The live model is another now, by this change.
    pub(super) fn changed(&self, change: &ModelChange) {
        if self.updates.receiver_count() > 0 {
            // No receiver is left: nobody waits for it.
            let _ = self.updates.send(Arc::new(to_wire(change, false)));
        }
    }

    /// The live model is another now, whatever members have.
    pub(super) fn replaced(&self) {
        let _ = self.updates.send(Arc::new(self.base()));
    }

    /// The live model is another now, by an update that came from elsewhere.
    pub(super) fn relayed(&self, update: v1::ModelUpdate) {
        let _ = self.updates.send(Arc::new(update));
    }
}

impl ModelFeed for Feed {
    fn base(&self) -> v1::ModelUpdate {
        whole(&self.live)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<v1::ModelUpdate>> {
        self.updates.subscribe()
    }
}

/// The live model, whole; of version 0 where none is live.
pub(super) fn whole(live: &ModelSlot) -> v1::ModelUpdate {
    let whole = live.load().as_ref().map(|model| model.as_change()).unwrap_or_default();
    to_wire(&whole, true)
}

pub(super) fn to_wire(change: &ModelChange, base: bool) -> v1::ModelUpdate {
    let sum = |(entry, total): &(Entry, u64)| v1::Sum {
        part: entry.part as u32,
        scope: entry.scope,
        key: entry.key,
        bin: entry.bin,
        total: i64::try_from(*total).unwrap_or(i64::MAX),
    };
    let name = |(hash, text): &(u64, Arc<str>)| v1::Name { hash: *hash, text: text.to_string() };
    v1::ModelUpdate {
        version: change.version.0,
        base,
        sums: change.totals.iter().map(sum).collect(),
        names: change.names.iter().map(name).collect(),
        previous: 0,
    }
}

/// Makes the owner's models live in a member. An older whole model is left: a new owner that still rebuilds sends the
/// whole again once it is where the last one was.
pub(super) fn take(publisher: &mut Publisher, update: v1::ModelUpdate) {
    let live = publisher.live().version();
    let version = ModelVersion(update.version);
    if version < live || version == ModelVersion(0) {
        return;
    }
    let entry = |sum: &v1::Sum| {
        let part = Part::from_number(sum.part)?;
        Some((Entry { part, scope: sum.scope, key: sum.key, bin: sum.bin }, u64::try_from(sum.total).unwrap_or(0)))
    };
    let change = ModelChange {
        version,
        totals: update.sums.iter().filter_map(entry).collect(),
        names: update.names.into_iter().map(|name| (name.hash, name.text.into())).collect(),
    };
    if update.base { publisher.restart(change) } else { publisher.publish(change) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_the_owners_model_after_base_and_changes() {
        let entry = |key| Entry { part: Part::Tool, scope: 1, key, bin: 0 };
        let change =
            |version, totals| ModelChange { version: ModelVersion(version), totals, names: vec![(7, "t".into())] };
        let (mut owner, live) = Publisher::new();
        let feed = Feed::new(live);
        owner.publish(change(1, vec![(entry(1), 3)]));
        let (mut member, _slot) = Publisher::new();
        take(&mut member, feed.base());
        assert_eq!(owner.live(), member.live());

        let mut updates = feed.subscribe();
        for next in [change(2, vec![(entry(1), 0), (entry(2), 5)]), change(3, vec![(entry(2), 6)])] {
            owner.publish(next.clone());
            feed.changed(&next);
            take(&mut member, v1::ModelUpdate::clone(&updates.try_recv().expect("an update")));
            assert_eq!(owner.live(), member.live());
        }
        // A new owner that has not rebuilt its model yet does not take ours away.
        take(&mut member, Feed::new(ModelSlot::default()).base());
        assert_eq!(owner.live(), member.live());
    }
}
