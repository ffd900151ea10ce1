//! Events that were given to the producer and are not known to be delivered, in the order in which they were given.
//!
//! Not here: sending, disks, clocks. Invariant: only a delivered prefix leaves; what is in between waits for it, so that
//! a mark on a sequence covers all before it.

use std::collections::VecDeque;
use std::time::Instant;

use undercurrent_schemas::ids::Partition;

use super::super::encoded::Encoded;
use super::super::queue::Room;

/// One event on its way.
#[derive(Debug)]
pub(super) struct OnItsWay {
    pub(super) event: Encoded,
    pub(super) partition: Partition,
    /// Its number in the spill, if it is there too.
    pub(super) spilled: Option<u64>,
    pub(super) since: Instant,
    delivered: bool,
}

/// Room in the queue that is free once all up to `last` is safe.
#[derive(Debug)]
struct Claim {
    last: u64,
    room: Room,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    events: VecDeque<OnItsWay>,
    /// The number of the first of them.
    first: u64,
    claims: VecDeque<Claim>,
    /// Records that no broker takes, since the last look.
    pub(super) refused: u64,
}

impl Window {
    /// Takes an event, and gives it its number.
    pub(super) fn push(&mut self, event: Encoded, partition: Partition, spilled: Option<u64>, now: Instant) -> u64 {
        self.events.push_back(OnItsWay { event, partition, spilled, since: now, delivered: false });
        self.first + self.events.len() as u64 - 1
    }

    /// What was pushed up to now takes up this room in the queue.
    pub(super) fn claim(&mut self, room: Room) {
        self.claims.push_back(Claim { last: self.first + self.events.len() as u64, room });
    }

    /// Notes a delivery.
    pub(super) fn delivered(&mut self, number: u64) {
        let index = number.checked_sub(self.first);
        if let Some(event) = index.and_then(|index| self.events.get_mut(index as usize)) {
            event.delivered = true;
        }
    }

    /// Notes that no broker will ever take this one.
    pub(super) fn refuse(&mut self, number: u64) {
        self.refused += 1;
        self.delivered(number);
    }

    pub(super) fn get(&self, number: u64) -> Option<&OnItsWay> {
        self.events.get(number.checked_sub(self.first)? as usize)
    }

    /// Takes the delivered prefix out.
    pub(super) fn settle(&mut self) -> Vec<OnItsWay> {
        let count = self.events.iter().take_while(|event| event.delivered).count();
        self.first += count as u64;
        self.events.drain(..count).collect()
    }

    /// The room that became free with what has left.
    pub(super) fn freed(&mut self) -> Room {
        let count = self.claims.partition_point(|claim| claim.last <= self.first);
        sum(self.claims.drain(..count))
    }

    /// The room of everything: all of it is safe on disk.
    pub(super) fn free_all(&mut self) -> Room {
        sum(self.claims.drain(..))
    }

    /// Those that are in no spill, in order.
    pub(super) fn unspilled(&self) -> impl Iterator<Item = &OnItsWay> {
        self.events.iter().filter(|event| event.spilled.is_none())
    }

    /// They are in the spill now, from this number on.
    pub(super) fn set_spilled(&mut self, first: u64) {
        for (number, event) in (first..).zip(self.events.iter_mut().filter(|event| event.spilled.is_none())) {
            event.spilled = Some(number);
        }
    }

    /// The numbers of all that is not delivered: what another producer has to send.
    pub(super) fn undelivered(&self) -> impl Iterator<Item = u64> {
        (self.first..).zip(&self.events).filter(|(_, event)| !event.delivered).map(|(number, _)| number)
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.events.front().map(|event| event.since)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

fn sum(claims: impl Iterator<Item = Claim>) -> Room {
    claims.fold(Room::default(), |sum, claim| Room {
        events: sum.events + claim.room.events,
        bytes: sum.bytes + claim.room.bytes,
    })
}

#[cfg(test)]
mod tests {
    use undercurrent_schemas::v1;

    use super::*;

    fn window(events: u64) -> Window {
        let mut window = Window::default();
        for sequence in 1..=events {
            let id = Some(v1::EventId { gateway: 1, epoch: 1, sequence });
            window.push(v1::Event { id, ..Default::default() }.into(), Partition(0), None, Instant::now());
            window.claim(Room { events: 1, bytes: 10 });
        }
        window
    }

    fn left(window: &mut Window) -> Vec<u64> {
        window.settle().iter().map(|event| event.event.id.sequence).collect()
    }

    #[test]
    fn only_a_delivered_prefix_leaves_and_frees_its_room() {
        let mut window = window(3);
        window.delivered(1);
        assert_eq!(left(&mut window), [0_u64; 0]);
        window.delivered(0);
        assert_eq!(left(&mut window), [1, 2]);
        assert_eq!(window.freed(), Room { events: 2, bytes: 20 });
        // A report that comes twice is nothing new.
        window.delivered(0);
        window.delivered(2);
        assert_eq!(left(&mut window), [3]);
        assert_eq!(window.freed(), Room { events: 1, bytes: 10 });
    }

    #[test]
    fn what_is_spilled_frees_its_room_and_is_still_on_its_way() {
        let mut window = window(2);
        window.delivered(1);
        assert_eq!(window.unspilled().count(), 2);
        window.set_spilled(7);
        assert_eq!(window.free_all(), Room { events: 2, bytes: 20 });
        assert_eq!(window.undelivered().collect::<Vec<_>>(), [0]);
        window.delivered(0);
        assert_eq!(window.settle().iter().map(|event| event.spilled).collect::<Vec<_>>(), [Some(7), Some(8)]);
        assert_eq!(window.freed(), Room::default());
    }
}
