//! The thread that brings events from the queue to the brokers, and to the spill while they are away.
//!
//! Events go straight to the producer. Where the oldest waits too long for its broker, all that waits goes to the spill,
//! which frees its room in the queue, and so does all that comes; once deliveries go on, the spill is sent in its order,
//! until it is empty. Not here: what a tick is (`ticks`).
//! Invariant: of each partition, events are sent in the order in which they were queued; an event is safe when it is
//! delivered or in the spill.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::super::encoded::Encoded;
use super::super::queue::{Drained, Room};
use super::delivery::{Delivery, is_refused};
use super::shared::Shared;
use super::window::{OnItsWay, Window};
use super::{KafkaLogError, KafkaOptions};
use crate::faults;

/// How often the log says that time passes.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between looks at what was delivered, should nobody say.
const LOOK: Duration = Duration::from_millis(5);
/// What comes together is sent together.
const GATHER: Duration = Duration::from_millis(1);
/// Between two fsyncs of the spill.
const SPILL_GATHER: Duration = Duration::from_millis(20);
/// Events of the spill that are on their way at a time.
const CATCH_UP_EVENTS: usize = 8_192;
/// Events whose room is free together once all of them are delivered, and that are read of the spill at a time.
const BATCH_EVENTS: usize = 1_024;
/// Until a failed producer is made anew.
const RETRY: Duration = Duration::from_secs(1);
/// How long a log that closes waits for its brokers before it leaves the rest to the spill.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What the thread alone has.
struct Shipper {
    shared: Arc<Shared>,
    producer: Option<ThreadedProducer<Delivery>>,
    /// What is on its way.
    window: Window,
    /// When the next producer may be made.
    retry_at: Instant,
    /// The first number of the spill that is not on its way.
    unsent: u64,
    /// Taken from the queue and not yet anywhere else: the spill is full or broken.
    stuck: Option<Drained<Encoded>>,
    is_away: bool,
}

/// Runs until the log is closing and all is delivered or in the spill.
pub(super) fn run(shared: Arc<Shared>, producer: ThreadedProducer<Delivery>) {
    let now = Instant::now();
    let mut shipper = Shipper {
        shared,
        producer: Some(producer),
        window: Window::default(),
        retry_at: now,
        unsent: 0,
        stuck: None,
        is_away: false,
    };
    let mut next_heartbeat = now + HEARTBEAT;
    let mut closing_since = None;
    loop {
        let closing = shipper.wait(&mut next_heartbeat);
        shipper.settle();
        shipper.mend();
        shipper.spill_if_stalled();
        shipper.take();
        shipper.catch_up();
        if closing {
            let since = *closing_since.get_or_insert_with(Instant::now);
            if shipper.may_end(since) {
                return;
            }
        }
    }
}

/// A producer whose reports are noted.
pub(super) fn producer(
    options: &KafkaOptions,
    delivery: Delivery,
) -> Result<ThreadedProducer<Delivery>, KafkaLogError> {
    options.brokers.producer().create_with_context(delivery).map_err(KafkaLogError::client)
}

impl Shipper {
    /// Waits for something to do; true where the log is closing.
    fn wait(&self, next_heartbeat: &mut Instant) -> bool {
        std::thread::sleep(if self.is_away || self.stuck.is_some() { SPILL_GATHER } else { GATHER });
        let busy = !self.window.is_empty() || self.stuck.is_some() || !self.shared.spill().is_empty();
        let mut queue = self.shared.queue();
        let now = Instant::now();
        if now >= *next_heartbeat && !queue.closing {
            *next_heartbeat = now + HEARTBEAT;
            if self.shared.options.heartbeats {
                queue.heartbeat(&self.shared.clock);
            }
            // Whoever starts after this stamps no earlier.
            let _ = self.shared.spill().stamp(self.shared.clock.now());
        }
        if queue.is_empty() && !queue.closing {
            let rest = if busy { LOOK } else { next_heartbeat.saturating_duration_since(now) };
            queue = self.shared.wait(queue, rest);
        } else if queue.closing {
            queue = self.shared.wait(queue, LOOK);
        }
        queue.closing
    }

    /// Lets go of what was delivered.
    fn settle(&mut self) {
        let (delivered, not_taken) = {
            let mut reports = self.shared.reports();
            (std::mem::take(&mut reports.delivered), std::mem::take(&mut reports.refused))
        };
        delivered.into_iter().for_each(|number| self.window.delivered(number));
        not_taken.into_iter().for_each(|number| self.window.refuse(number));
        let (left, room) = (self.window.settle(), self.window.freed());
        let (refused, oldest) = (std::mem::take(&mut self.window.refused), self.window.oldest());
        if refused > 0 {
            self.shared.queue().lose(refused);
            tracing::error!(
                events = refused,
                "the brokers refuse events as too large or invalid: they are lost, a gap says so"
            );
        }
        if left.is_empty() {
            return;
        }
        if self.is_away && !self.is_late(oldest) {
            self.is_away = false;
            let waiting = self.shared.spill().events();
            tracing::info!(waiting, "the Kafka brokers take events again");
        }
        if let Some(metrics) = &self.shared.options.metrics {
            let oldest = left.first().map(|event| event.since.elapsed()).unwrap_or_default();
            metrics.delivered(left.len(), oldest);
        }
        self.shared.safe(left.iter().map(|event| &event.event.id));
        let gone: Vec<_> = left.iter().filter_map(|event| Some((event.spilled?, event.event.record.len()))).collect();
        if !gone.is_empty() {
            let removed = self.shared.spill().remove(&gone);
            self.shared.note(&removed);
            self.spilled(0);
        }
        self.shared.release(room);
    }

    /// Makes the producer anew where only that helps, and sends again what it had.
    fn mend(&mut self) {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        let fatal = fatal.map(|(_, reason)| reason);
        let failed = self.shared.reports().failed.take().or(fatal);
        if let Some(reason) = failed {
            tracing::warn!(reason, "events are not taken by the Kafka brokers; they wait and are sent again");
            self.producer = None;
            self.retry_at = Instant::now() + RETRY;
            self.is_away = true;
        }
        if self.producer.is_some() || Instant::now() < self.retry_at {
            return;
        }
        match producer(&self.shared.options, Delivery::new(&self.shared)) {
            Ok(producer) => {
                // What the dropped one said of its last events is no failure of this one.
                self.shared.reports().failed = None;
                self.producer = Some(producer);
                let numbers: Vec<_> = self.window.undelivered().collect();
                numbers.into_iter().for_each(|number| self.send(number));
            }
            Err(error) => {
                self.retry_at = Instant::now() + RETRY;
                self.shared.note::<()>(&Err(error));
            }
        }
    }

    /// Puts all that waits into the spill where the oldest has waited too long, or where there is no room to wait.
    fn spill_if_stalled(&mut self) {
        let (oldest, unspilled) = (self.window.oldest(), self.window.unspilled().next().is_some());
        let is_late = self.is_late(oldest);
        let is_full = oldest.is_some() && self.shared.queue().is_crowded() && self.shared.spill().is_empty();
        if is_late && !self.is_away {
            self.is_away = true;
            tracing::warn!(
                servers = self.shared.options.brokers.servers,
                "the Kafka brokers do not answer; events wait in DATA and are sent when they do"
            );
        }
        if unspilled && (is_late || is_full || self.is_away) {
            self.spill_window();
        }
    }

    /// Whether what waits since then waits too long for its broker.
    fn is_late(&self, oldest: Option<Instant>) -> bool {
        oldest.is_some_and(|since| since.elapsed() > self.shared.options.spill_after)
    }

    fn spill_window(&mut self) {
        let window = &mut self.window;
        let mut spill = self.shared.spill();
        if spill.bytes() >= self.shared.options.spill_bytes_max {
            self.shared.note_full(true);
            return;
        }
        let pushed = spill.push(window.unspilled().map(|event| event.event.record.as_slice()));
        let Ok(first) = pushed else {
            drop(spill);
            self.shared.note(&pushed);
            return;
        };
        let safe: Vec<_> = window.unspilled().map(|event| event.event.id).collect();
        window.set_spilled(first);
        let room = window.free_all();
        self.unsent = first + safe.len() as u64;
        drop(spill);
        self.shared.note(&pushed);
        self.spilled(safe.len());
        self.shared.safe(safe.iter());
        self.shared.release(room);
    }

    /// Takes what is queued on its way, or to the spill.
    fn take(&mut self) {
        let direct = !self.is_away && self.shared.spill().is_empty() && self.producer.is_some();
        if !direct && self.window.unspilled().next().is_some() {
            // They come first, and found no room in the spill.
            return;
        }
        let drained = match self.stuck.take() {
            Some(stuck) => stuck,
            None => self.shared.queue().drain(),
        };
        if drained.events.is_empty() {
            return;
        }
        if direct {
            self.ship(drained);
        } else {
            self.spill_drained(drained);
        }
    }

    fn ship(&mut self, drained: Drained<Encoded>) {
        let Drained { events, mut room } = drained;
        let (now, partitions) = (Instant::now(), self.shared.options.log.partitions);
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let mut part = Room::default();
            for event in events.by_ref().take(BATCH_EVENTS) {
                part.events += 1;
                // At most what it was weighed as.
                part.bytes += event.record.len();
                let partition = event.partition(partitions);
                let number = self.window.push(event, partition, None, now);
                self.send(number);
            }
            // What is delivered first makes room while the rest is on its way.
            room.events -= part.events;
            room.bytes = room.bytes.saturating_sub(part.bytes);
            self.window.claim(part);
            faults::passed("produce-half");
        }
        self.window.claim(room);
    }

    fn spill_drained(&mut self, drained: Drained<Encoded>) {
        let mut spill = self.shared.spill();
        let full = spill.bytes() >= self.shared.options.spill_bytes_max;
        let pushed = if full { Ok(0) } else { spill.push(drained.events.iter().map(|event| event.record.as_slice())) };
        drop(spill);
        self.shared.note(&pushed);
        if full || pushed.is_err() {
            // The queue fills, and what no longer fits is counted; a gap event will say so.
            self.shared.note_full(full);
            self.stuck = Some(drained);
            return;
        }
        faults::passed("spill-pushed");
        self.shared.note_full(false);
        self.spilled(drained.events.len());
        self.shared.safe(drained.events.iter().map(|event| &event.id));
        self.shared.release(drained.room);
    }

    fn spilled(&self, events: usize) {
        if let Some(metrics) = &self.shared.options.metrics {
            metrics.spilled(events);
            let spill = self.shared.spill();
            metrics.spill_events.set(spill.events() as i64);
            metrics.spill_bytes.set(spill.bytes() as i64);
        }
    }

    /// Brings what is in the spill on its way, a bounded part at a time.
    fn catch_up(&mut self) {
        if self.producer.is_none() || self.shared.spill().is_empty() {
            return;
        }
        let on_their_way = self.window.len();
        if on_their_way >= CATCH_UP_EVENTS {
            return;
        }
        let read = self.shared.spill().read(self.unsent, (CATCH_UP_EVENTS - on_their_way).min(BATCH_EVENTS));
        self.shared.note(&read);
        let Ok(records) = read else { return };
        let (now, partitions) = (Instant::now(), self.shared.options.log.partitions);
        for (number, record) in records {
            self.unsent = number + 1;
            // It was encoded by us: one that is no event is of no use to anyone.
            let Some(event) = Encoded::of_record(record) else { continue };
            let partition = event.partition(partitions);
            let number = self.window.push(event, partition, Some(number), now);
            self.send(number);
        }
    }

    /// Hands an event of the window to the producer.
    fn send(&mut self, number: u64) {
        let Some((producer, event)) = self.producer.as_ref().zip(self.window.get(number)) else { return };
        let OnItsWay { event, partition, .. } = event;
        let record = BaseRecord::with_opaque_to(&self.shared.topic, number as usize)
            .partition(partition.0 as i32)
            .key(event.key())
            .payload(&event.record);
        match producer.send(record).map_err(|(error, _)| error) {
            Ok(()) => {}
            Err(error) if is_refused(&error) => self.window.refuse(number),
            Err(error) => self.shared.reports().failed = Some(error.to_string()),
        }
    }

    /// All is delivered, or was kept.
    fn may_end(&mut self, since: Instant) -> bool {
        let is_late = since.elapsed() >= CLOSE_WAIT;
        if is_late {
            self.spill_window();
        }
        let (in_window, unspilled) = (self.window.len(), self.window.unspilled().count());
        let queued = self.stuck.is_some() || !self.shared.queue().is_empty();
        let delivered = in_window == 0 && self.shared.spill().is_empty();
        if !queued && (delivered || (is_late && unspilled == 0)) {
            return true;
        }
        // Neither brokers nor disk: what is left is lost, and the next life says so.
        since.elapsed() >= CLOSE_WAIT * 2
    }
}
