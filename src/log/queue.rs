//! The bounded queue between `append` and the commit.
//!
//! Not here: disks, ticks, partitions. Invariant: ids are given in queue order, own sequences have no holes, and no
//! event of a gateway is queued twice. Where events had to be dropped, a gap event stands at their place.

use std::collections::HashMap;

use prost::Message as _;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1;

use super::LogFull;
use crate::clock::EventClock;

/// One life of one gateway: what sequences count within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayLife {
    pub gateway: u64,
    pub epoch: u64,
}

impl GatewayLife {
    /// The life that an id belongs to.
    #[must_use]
    pub const fn of(id: &v1::EventId) -> Self {
        Self { gateway: id.gateway, epoch: id.epoch }
    }
}

/// What became of an event that another process had given its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    Queued,
    /// It is queued or in the log already.
    Duplicate,
}

/// Id, stamp and framing that an event's size does not yet hold when it is weighed.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// How much the queue holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

/// An event in the form in which a queue holds it.
pub(crate) trait Queued: From<v1::Event> {
    /// What it takes up, without its id.
    fn bytes(&self) -> usize;
    fn set_id(&mut self, id: v1::EventId);
}

impl Queued for v1::Event {
    fn bytes(&self) -> usize {
        self.encoded_len()
    }

    fn set_id(&mut self, id: v1::EventId) {
        self.id = Some(id);
    }
}

/// What was taken from the queue for one commit; its room is free once [`Queue::release`] gets it back.
#[derive(Debug)]
pub(crate) struct Drained<E> {
    pub(crate) events: Vec<E>,
    pub(crate) room: Room,
}

/// Room that events take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Queue<E> {
    limits: QueueLimits,
    own: GatewayLife,
    own_last: Sequence,
    /// Highest sequence queued, of every life heard of.
    seen: HashMap<GatewayLife, Sequence>,
    events: Vec<E>,
    /// Bytes of `events`.
    bytes: usize,
    /// Everything that is queued or being committed.
    used: Room,
    /// Dropped since the last gap event.
    gap: u64,
    dropped: u64,
    pub(crate) closing: bool,
}

impl<E: Queued> Queue<E> {
    pub(crate) fn new(limits: QueueLimits, own: GatewayLife, seen: HashMap<GatewayLife, Sequence>) -> Self {
        let own_last = seen.get(&own).copied().unwrap_or_default();
        Self {
            limits,
            own,
            own_last,
            seen,
            events: Vec::new(),
            bytes: 0,
            used: Room::default(),
            gap: 0,
            dropped: 0,
            closing: false,
        }
    }

    /// Queues an own event; one that finds no room is counted, and a gap event will say so.
    pub(crate) fn append(&mut self, event: E, clock: &EventClock) -> Result<Sequence, LogFull> {
        let bytes = weight(&event);
        self.settle_gap(clock);
        if self.closing || self.gap > 0 || !self.has_room(bytes) {
            self.gap += 1;
            self.dropped += 1;
            return Err(LogFull);
        }
        Ok(self.push_own(event, bytes))
    }

    /// Says that time passes, if there is room to say so: a queue without has events that say as much.
    pub(crate) fn heartbeat(&mut self, clock: &EventClock) {
        let heartbeat = E::from(now(v1::event::Body::Heartbeat(v1::Heartbeat {}), clock));
        let bytes = weight(&heartbeat);
        if self.gap == 0 && self.has_room(bytes) {
            self.push_own(heartbeat, bytes);
        }
    }

    /// Queues an event that has its id already; one that finds no room stays with the sender, so nothing is counted.
    ///
    /// An empty queue takes any event, so that its sender is never stuck with it.
    pub(crate) fn forward(&mut self, event: E, id: v1::EventId) -> Result<Forwarded, LogFull> {
        let bytes = weight(&event);
        let seen = self.seen.get(&GatewayLife::of(&id)).copied().unwrap_or_default();
        if Sequence(id.sequence) <= seen {
            return Ok(Forwarded::Duplicate);
        }
        if self.closing || !(self.has_room(bytes) || self.used.events == 0) {
            return Err(LogFull);
        }
        self.seen.insert(GatewayLife::of(&id), Sequence(id.sequence));
        self.push(event, bytes);
        Ok(Forwarded::Queued)
    }

    /// Takes all that is queued. It counts as queued until it is released.
    pub(crate) fn drain(&mut self) -> Drained<E> {
        let next = Vec::with_capacity(self.events.len());
        let room = Room { events: self.events.len(), bytes: std::mem::take(&mut self.bytes) };
        Drained { events: std::mem::replace(&mut self.events, next), room }
    }

    /// What was drained is durable: its room is free, first of all for the gap event that waits for it.
    pub(crate) fn release(&mut self, room: Room, clock: &EventClock) {
        self.used.events -= room.events;
        self.used.bytes -= room.bytes;
        self.settle_gap(clock);
    }

    /// Says that so many events that were taken from the queue are lost all the same: a gap event will tell.
    pub(crate) fn lose(&mut self, events: u64) {
        self.gap += events;
        self.dropped += events;
    }

    /// Whoever comes back after this is taken for new.
    pub(crate) fn forget(&mut self, lives: &[GatewayLife]) {
        for life in lives {
            self.seen.remove(life);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Half of the room is taken: a commit that waits any longer may cost events.
    pub(crate) const fn is_half_full(&self) -> bool {
        self.events.len() * 2 >= self.limits.events_max || self.bytes * 2 >= self.limits.bytes_max
    }

    /// Half of the room is taken by what is queued or not yet safe.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.used.events * 2 >= self.limits.events_max || self.used.bytes * 2 >= self.limits.bytes_max
    }

    pub(crate) const fn used(&self) -> Room {
        self.used
    }

    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn settle_gap(&mut self, clock: &EventClock) {
        if self.gap == 0 {
            return;
        }
        let gap = E::from(gap_event(v1::gap::Reason::Overflow, self.gap, clock));
        let bytes = weight(&gap);
        if self.has_room(bytes) {
            self.gap = 0;
            self.push_own(gap, bytes);
        }
    }

    const fn has_room(&self, bytes: usize) -> bool {
        self.used.events < self.limits.events_max && self.used.bytes.saturating_add(bytes) <= self.limits.bytes_max
    }

    fn push_own(&mut self, mut event: E, bytes: usize) -> Sequence {
        self.own_last.0 += 1;
        let GatewayLife { gateway, epoch } = self.own;
        event.set_id(v1::EventId { gateway, epoch, sequence: self.own_last.0 });
        self.push(event, bytes);
        self.own_last
    }

    fn push(&mut self, event: E, bytes: usize) {
        self.used.events += 1;
        self.used.bytes += bytes;
        self.bytes += bytes;
        self.events.push(event);
    }
}

/// The bytes that an event counts in the queue.
fn weight(event: &impl Queued) -> usize {
    event.bytes() + EVENT_OVERHEAD_BYTES
}

/// An event that says that `events` are missing (0 = unknown).
pub(crate) fn gap_event(reason: v1::gap::Reason, events: u64, clock: &EventClock) -> v1::Event {
    now(v1::event::Body::Gap(v1::Gap { reason: reason.into(), events }), clock)
}

fn now(body: v1::event::Body, clock: &EventClock) -> v1::Event {
    v1::Event { ts_us: clock.now().0, body: Some(body), ..v1::Event::default() }
}

#[cfg(test)]
mod tests {
    use undercurrent_schemas::ids::Micros;

    use super::*;

    const OWN: GatewayLife = GatewayLife { gateway: 1, epoch: 1 };

    fn queue(events_max: usize, bytes_max: usize) -> (Queue<v1::Event>, EventClock) {
        let limits = QueueLimits { events_max, bytes_max };
        (Queue::new(limits, OWN, HashMap::new()), EventClock::starting_at(Micros(i64::MAX)))
    }

    fn gaps(events: &[v1::Event]) -> Vec<u64> {
        let gap = |event: &v1::Event| match &event.body {
            Some(v1::event::Body::Gap(gap)) => gap.events,
            _ => 0,
        };
        events.iter().map(gap).collect()
    }

    #[test]
    fn a_gap_event_stands_where_events_were_dropped() {
        let (mut queue, clock) = queue(2, usize::MAX);
        let outcomes: Vec<_> = (0..4).map(|_| queue.append(v1::Event::default(), &clock)).collect();
        assert_eq!(outcomes, [Ok(Sequence(1)), Ok(Sequence(2)), Err(LogFull), Err(LogFull)]);

        let drained = queue.drain();
        assert_eq!(queue.append(v1::Event::default(), &clock), Err(LogFull), "room is free only when durable");
        queue.release(drained.room, &clock);
        assert_eq!(queue.append(v1::Event::default(), &clock), Ok(Sequence(4)));

        let after = queue.drain();
        assert_eq!(gaps(&after.events), [3, 0]);
        assert_eq!(after.events[0].id.unwrap().sequence, 3, "sequences have no holes");
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (mut queue, clock) = queue(100, 1_000);
        let of = |bytes: usize| v1::Event { tenant: "x".repeat(bytes), ..v1::Event::default() };
        assert!(queue.append(of(780), &clock).is_ok());
        assert_eq!(queue.append(of(200), &clock), Err(LogFull));
        assert!(queue.append(of(1), &clock).is_ok(), "the gap event went in before it");
        assert_eq!(gaps(&queue.drain().events), [0, 1, 0]);
    }

    #[test]
    fn a_forwarded_event_is_taken_once_and_never_counted_as_dropped() {
        let (mut queue, _) = queue(1, usize::MAX);
        let id = |sequence| Some(v1::EventId { gateway: 7, epoch: 1, sequence });
        let event = |sequence| v1::Event { id: id(sequence), ..Default::default() };
        assert_eq!(queue.forward(event(1), id(1).unwrap()), Ok(Forwarded::Queued));
        assert_eq!(queue.forward(event(1), id(1).unwrap()), Ok(Forwarded::Duplicate));
        assert_eq!(queue.forward(event(2), id(2).unwrap()), Err(LogFull));
        assert_eq!(queue.dropped(), 0);
        let drained = queue.drain();
        queue.release(drained.room, &EventClock::default());
        assert_eq!(
            queue.forward(event(2), id(2).unwrap()),
            Ok(Forwarded::Queued),
            "a refused event was not marked as seen"
        );
    }
}
