//! What the threads of one log on Kafka share: the queue, what is reported of deliveries, the spill, and what is safe.
//!
//! Invariant: no thread waits for another under a lock, and none takes a second one but the spill's under the queue's.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use undercurrent_schemas::ids::{Micros, Offset, Sequence, Tick};
use undercurrent_schemas::v1;

use super::super::Recovered;
use super::super::durable::Durable;
use super::super::encoded::Encoded;
use super::super::queue::{GatewayLife, Queue, Room};
use super::delivery::Reports;
use super::spill::Spill;
use super::{KafkaLogError, KafkaOptions};
use crate::clock::EventClock;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: KafkaOptions,
    /// `events`, with its prefix.
    pub(super) topic: String,
    pub(super) clock: Arc<EventClock>,
    pub(super) wake: Condvar,
    pub(super) own: GatewayLife,
    pub(super) ends: Ends,
    pub(super) room: watch::Sender<()>,
    pub(super) recovered: Recovered,
    /// No more is appended: who reads may come to an end.
    pub(super) closed: AtomicBool,
    queue: Mutex<Queue<Encoded>>,
    reports: Mutex<Reports>,
    spill: Mutex<Spill>,
    durable: Mutex<Durable>,
    bound: Mutex<Bound>,
    error: Mutex<Option<String>>,
    is_full: AtomicBool,
}

/// How far ticks are bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    pub(super) last: Option<Tick>,
    pub(super) watermark: Micros,
    pub(super) ends: Vec<Offset>,
}

impl Shared {
    pub(super) fn new(
        options: KafkaOptions,
        own: GatewayLife,
        clock: EventClock,
        queue: Queue<Encoded>,
        spill: Spill,
    ) -> Self {
        let partitions = options.log.partitions;
        Self {
            topic: options.brokers.topic("events"),
            clock: Arc::new(clock),
            wake: Condvar::new(),
            own,
            ends: Ends::new(partitions),
            room: watch::Sender::default(),
            recovered: Recovered::default(),
            closed: AtomicBool::new(false),
            queue: Mutex::new(queue),
            reports: Mutex::default(),
            spill: Mutex::new(spill),
            durable: Mutex::default(),
            bound: Mutex::new(Bound { ends: vec![Offset(0); partitions as usize], ..Bound::default() }),
            error: Mutex::default(),
            is_full: AtomicBool::new(false),
            options,
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue<Encoded>> {
        self.queue.lock().expect("nothing panics under this lock")
    }

    pub(super) fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().expect("nothing panics under this lock")
    }

    pub(super) fn spill(&self) -> MutexGuard<'_, Spill> {
        self.spill.lock().expect("nothing panics under this lock")
    }

    /// Waits until somebody queues something or something is delivered.
    pub(super) fn wait<'a>(
        &self,
        queue: MutexGuard<'a, Queue<Encoded>>,
        wait: Duration,
    ) -> MutexGuard<'a, Queue<Encoded>> {
        self.wake.wait_timeout(queue, wait).expect("nothing panics under this lock").0
    }

    /// Queues something, and wakes the shipper where that makes a difference to it.
    pub(super) fn wake_after<T>(&self, enqueue: impl FnOnce(&mut Queue<Encoded>) -> T) -> T {
        let mut queue = self.queue();
        let was_empty = queue.is_empty();
        let outcome = enqueue(&mut queue);
        let changed = was_empty && !queue.is_empty();
        drop(queue);
        if changed {
            self.wake.notify_all();
        }
        outcome
    }

    pub(super) fn durable_of(&self, life: GatewayLife) -> watch::Receiver<Sequence> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).of(life)
    }

    /// These are delivered or on disk, and all before them.
    pub(super) fn safe<'a>(&self, ids: impl Iterator<Item = &'a v1::EventId>) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            durable.note(GatewayLife::of(id), Sequence(id.sequence));
        }
        durable.publish();
    }

    /// Room in the queue is free again.
    pub(super) fn release(&self, room: Room) {
        if room == Room::default() {
            return;
        }
        self.queue().release(room, &self.clock);
        self.room.send_replace(());
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_bound(&self, bound: Bound) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
    }

    /// All that this process delivered is in ticks.
    pub(super) fn all_is_bound(&self) -> bool {
        self.ends.delivered_ends().zip(self.bound().ends).all(|(delivered, bound)| bound >= delivered)
    }

    /// Keeps the outcome of a write for the status; says it once when it changes.
    pub(super) fn note<T>(&self, outcome: &Result<T, KafkaLogError>) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) if error.take().is_some() => tracing::info!("the log on Kafka writes again"),
            Ok(_) => {}
            Err(failed) if error.is_none() => {
                tracing::error!(
                    error = failed as &dyn std::error::Error,
                    "log on Kafka cannot be written; will try again"
                );
                *error = Some(failed.to_string());
            }
            Err(_) => {}
        }
    }

    /// Notes whether the spill has room left; says it once when it changes.
    pub(super) fn note_full(&self, full: bool) {
        if full && !self.is_full.swap(full, Ordering::Relaxed) {
            let bytes = self.options.spill_bytes_max;
            tracing::error!(bytes, "the spill is full: events are dropped from now on, counted, and a gap says so");
        } else if !full {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// Why events are lost at present, if they are.
    pub(super) fn error(&self) -> Option<String> {
        let full = || "the brokers are away and the spill is full (kafka.spill_bytes_max)".to_owned();
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        error.or_else(|| self.is_full.load(Ordering::Relaxed).then(full))
    }
}

/// Of each partition, how far it goes as far as is known.
#[derive(Debug)]
pub(super) struct Ends {
    /// After the last record that this process delivered.
    delivered: Vec<AtomicI64>,
    /// The end of the topic, as a reader last heard.
    high: Vec<AtomicI64>,
}

impl Ends {
    fn new(partitions: u32) -> Self {
        let zeros = || (0..partitions).map(|_| AtomicI64::new(0)).collect();
        Self { delivered: zeros(), high: zeros() }
    }

    pub(super) fn delivered(&self, partition: i32, offset: i64) {
        grow(&self.delivered, partition, offset + 1);
    }

    pub(super) fn heard(&self, partition: i32, end: i64) {
        grow(&self.high, partition, end);
    }

    fn delivered_ends(&self) -> impl Iterator<Item = Offset> {
        self.delivered.iter().map(|end| Offset(end.load(Ordering::Relaxed).max(0) as u64))
    }

    /// Where each partition ends, by whoever knows better.
    pub(super) fn known(&self) -> Vec<Offset> {
        let high = self.high.iter().map(|end| Offset(end.load(Ordering::Relaxed).max(0) as u64));
        self.delivered_ends().zip(high).map(|(delivered, high)| delivered.max(high)).collect()
    }
}

fn grow(ends: &[AtomicI64], partition: i32, end: i64) {
    if let Some(known) = usize::try_from(partition).ok().and_then(|partition| ends.get(partition)) {
        known.fetch_max(end, Ordering::Relaxed);
    }
}
