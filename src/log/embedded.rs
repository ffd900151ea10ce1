//! The log of one process, in its data directory: the queue, the writer, the store and the head, put together.
//!
//! Upstream: the edge (through [`EventLog`]), replay, the hub. Downstream: [`Tail`]s.
//! Invariant: a commit is published (durable watches, tails, room in the queue) only after it succeeded.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;
use undercurrent_schemas::ids::{Micros, Sequence, Tick};
use undercurrent_schemas::v1;

use super::durable::Durable;
use super::encoded::Encoded;
use super::head::{Committed, Head};
use super::queue::{Drained, Forwarded, GatewayLife, Queue, QueueLimits, gap_event};
use super::retention::Removal;
use super::store::{Meta, Store, Sync};
use super::writer::Writer;
use super::{
    Commit, Continues, EventLog, LogError, LogFull, LogOptions, LogStatus, OwnerLog, Recovered, Tail, Ticks, committer,
    retention,
};
use crate::clock::EventClock;
use crate::config::Retention;

/// An event log on this machine.
#[derive(Debug)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What the appending threads, the committer and the hub share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: LogOptions,
    pub(super) clock: Arc<EventClock>,
    pub(super) wake: Condvar,
    queue: Mutex<Queue<Encoded>>,
    writer: Mutex<Writer>,
    store: Arc<Store>,
    head: Arc<Head>,
    own: GatewayLife,
    /// The last tick when it was opened.
    recovered: Option<Tick>,
    durable: Mutex<Durable>,
    room: watch::Sender<()>,
    error: Mutex<Option<String>>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, or makes one there.
    ///
    /// # Errors
    /// The directory is held by another process, cannot be written, is damaged, or has another number of partitions.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        let store = Store::open(dir)?;
        let meta = store.meta()?;
        let own = begin(&store, &meta, &options)?;
        let unclean = meta.binding.is_some() && !meta.clean;
        let writer = Writer::new(options.partitions.max(1), meta.binding.as_ref(), meta.marks);
        let clock = EventClock::starting_at(writer.last_stamp(own.gateway).max(options.clock_floor));
        let committed = Committed { last: writer.last(), watermark: writer.watermark(), ends: writer.ends().to_vec() };
        let limits = QueueLimits { events_max: options.queue_events_max, bytes_max: options.queue_bytes_max };
        let marks = writer.sequences();
        let mut queue = Queue::new(limits, own, marks.clone());
        if unclean && options.commit == Commit::Group {
            let gap = gap_event(v1::gap::Reason::UncleanStop, 0, &clock);
            let _ = queue.append(gap.into(), &clock);
        }
        let inner = Arc::new(Inner {
            head: Arc::new(Head::new(committed.clone(), options.recent_bytes_max)),
            options,
            clock: Arc::new(clock),
            wake: Condvar::new(),
            queue: Mutex::new(queue),
            writer: Mutex::new(writer),
            store: Arc::new(store),
            own,
            recovered: committed.last,
            durable: Mutex::new(Durable::new(marks)),
            room: watch::Sender::default(),
            error: Mutex::new(None),
        });
        let committer = match inner.options.commit {
            Commit::Group => Some(spawn_committer(&inner)?),
            Commit::Manual => None,
        };
        Ok(Self { inner, committer: Mutex::new(committer) })
    }

    /// Queues an event that another process gave its id; one that was queued before is dropped.
    ///
    /// # Errors
    /// The queue is full: the sender keeps the event and tries again once [`OwnerLog::room`] changes.
    pub fn forward(&self, event: &v1::Event) -> Result<Forwarded, LogFull> {
        let encoded = Encoded::of(event);
        self.inner.wake_after(|queue| queue.forward(encoded, event.id.unwrap_or_default()))
    }

    /// The sequence up to which all events of one life of a gateway are safe.
    #[must_use]
    pub fn durable_of(&self, life: GatewayLife) -> watch::Receiver<Sequence> {
        self.inner.durable.lock().unwrap_or_else(PoisonError::into_inner).of(life)
    }

    /// Commits what is queued as exactly this tick, durable with the next [`Self::sync`]; only for [`Commit::Manual`].
    ///
    /// # Errors
    /// The tick does not grow, or cannot be written: then the log is to be opened anew.
    pub fn commit(&self, tick: Tick, watermark: Micros) -> Result<(), LogError> {
        if self.inner.options.commit != Commit::Manual {
            return Err(LogError::NotManual(tick));
        }
        let mut writer = self.inner.writer();
        if let Some(last) = writer.last().filter(|last| *last >= tick) {
            return Err(LogError::TickNotGrown { last, asked: tick });
        }
        let drained = self.inner.queue().drain();
        writer.pending = Some(writer.prepare(drained, tick, Some(watermark)));
        self.inner.commit_prepared(&mut writer)
    }

    /// Makes all committed ticks durable. A group commit has done so already.
    ///
    /// # Errors
    /// The disk refused.
    pub fn sync(&self) -> Result<(), LogError> {
        self.inner.store.sync()?;
        self.inner.publish_durable();
        Ok(())
    }

    /// A reader of every tick after `after`; from the beginning without it.
    #[must_use]
    pub fn tail(&self, after: Option<Tick>) -> Tail {
        Tail::new(Arc::clone(&self.inner.store), Arc::clone(&self.inner.head), after)
    }

    /// Commits what is queued and marks the log as closed. Tails can still read to its end.
    ///
    /// # Errors
    /// The last commit failed: its events are lost, and the next one to open the log will say so in a gap event.
    pub fn close(&self) -> Result<(), LogError> {
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut self.inner.queue().closing, true) {
            return Ok(());
        }
        self.inner.wake.notify_all();
        if let Some(thread) = committer.take() {
            // A panic of the thread shows as a queue that is not empty.
            let _ = thread.join();
        }
        let left = self.inner.queue().used().events;
        let closed =
            if left == 0 { self.inner.store.mark_clean() } else { Err(LogError::Uncommitted { events: left }) };
        if closed.is_ok() {
            self.inner.publish_durable();
        }
        self.inner.head.end();
        closed
    }

    /// How the log is doing.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        let Committed { last, watermark, ends } = self.inner.head.committed();
        let queue = self.inner.queue();
        LogStatus {
            bound: ends.clone(),
            ends,
            last_tick: last,
            watermark,
            queued_events: queue.used().events,
            queued_bytes: queue.used().bytes,
            dropped_events: queue.dropped(),
            error: self.inner.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// False while commits fail, and for good if the committer died.
    #[must_use]
    pub fn healthy(&self) -> bool {
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = committer.as_ref().is_some_and(JoinHandle::is_finished);
        !dead && self.inner.error.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// This life of this log's gateway.
    #[must_use]
    pub fn life(&self) -> GatewayLife {
        self.inner.own
    }

    /// The clock that stamps this log's events.
    #[must_use]
    pub fn clock(&self) -> &Arc<EventClock> {
        &self.inner.clock
    }

    #[cfg(test)]
    pub(super) fn fail_commits(&self, times: u32) {
        self.inner.store.faults.store(times, std::sync::atomic::Ordering::SeqCst);
    }
}

impl EventLog for EmbeddedLog {
    /// An event that has its id already is taken as [`EmbeddedLog::forward`] does.
    fn append(&self, mut event: v1::Event) -> Result<Sequence, LogFull> {
        if let Some(id) = event.id {
            return self.forward(&event).map(|_| Sequence(id.sequence));
        }
        if event.ts_us == 0 {
            event.ts_us = self.inner.clock.now().0;
        }
        let encoded = Encoded::of(&event);
        self.inner.wake_after(|queue| queue.append(encoded, &self.inner.clock))
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        self.durable_of(self.inner.own)
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "log not closed cleanly");
        }
    }
}

impl OwnerLog for EmbeddedLog {
    fn forward(&self, event: &v1::Event) -> Result<Forwarded, LogFull> {
        Self::forward(self, event)
    }

    fn room(&self) -> watch::Receiver<()> {
        self.inner.room.subscribe()
    }

    fn durable_of(&self, life: GatewayLife) -> watch::Receiver<Sequence> {
        Self::durable_of(self, life)
    }

    fn ticks(&self, after: Option<Tick>) -> Box<dyn Ticks> {
        Box::new(self.tail(after))
    }

    fn recovered(&self) -> Recovered {
        Recovered::known(self.inner.recovered)
    }

    fn after(&self, tick: Tick) -> Result<Continues, LogError> {
        Ok(retention::ends_at(&self.inner.store, tick)?.map_or(Continues::No, Continues::At))
    }

    fn floor(&self) -> Result<Option<Tick>, LogError> {
        Ok(self.inner.store.floor())
    }

    fn retain(&self, retention: &Retention, needed: Tick) -> Result<Option<Tick>, LogError> {
        let watermark = self.inner.head.committed().watermark;
        match retention::first_kept(&self.inner.store, retention, watermark)?.map(|tick| tick.min(needed)) {
            Some(before) if before > self.inner.store.floor().unwrap_or_default() => {
                retention::remove_before(&self.inner.store, before, Removal::WholeFiles)?;
                Ok(Some(before))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn bytes(&self) -> Result<Option<u64>, LogError> {
        retention::bytes(&self.inner.store).map(Some)
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn status(&self) -> LogStatus {
        Self::status(self)
    }

    fn healthy(&self) -> bool {
        Self::healthy(self)
    }

    fn clock(&self) -> &Arc<EventClock> {
        Self::clock(self)
    }

    fn close(&self) -> Result<(), LogError> {
        Self::close(self)
    }
}

impl Inner {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue<Encoded>> {
        self.queue.lock().expect("nothing panics under this lock")
    }

    /// Queues something, and wakes the committer where that makes a difference to it.
    fn wake_after<T>(&self, enqueue: impl FnOnce(&mut Queue<Encoded>) -> T) -> T {
        let mut queue = self.queue();
        let before = (queue.is_empty(), queue.is_half_full());
        let outcome = enqueue(&mut queue);
        let changed = before != (queue.is_empty(), queue.is_half_full());
        drop(queue);
        if changed {
            self.wake.notify_all();
        }
        outcome
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("nothing panics under this lock")
    }

    /// Makes a tick of what was drained, at the wall clock's time.
    pub(super) fn prepare(&self, drained: Drained<Encoded>) {
        let mut writer = self.writer();
        let tick = writer.next_tick(self.clock.now(), self.options.tick_us());
        writer.pending = Some(writer.prepare(drained, tick, None));
    }

    /// Writes the prepared tick and, once that succeeded, tells everyone.
    pub(super) fn commit_pending(&self) -> Result<(), LogError> {
        self.commit_prepared(&mut self.writer())
    }

    fn commit_prepared(&self, writer: &mut Writer) -> Result<(), LogError> {
        let Some(prepared) = &writer.pending else { return Ok(()) };
        let sync = match self.options.commit {
            Commit::Group => Sync::Now,
            Commit::Manual => Sync::Later,
        };
        let started = Instant::now();
        let written = self.store.write(prepared, sync);
        self.note(&written);
        if let Some(metrics) = &self.options.metrics {
            metrics.committed(started.elapsed(), written.is_ok());
        }
        written?;
        let prepared = writer.pending.take().expect("it was just written");
        crate::faults::passed("log-committed");
        // The tails first: whoever learns that an event is durable finds it there.
        self.head.publish(prepared.tick, writer.ends().to_vec());
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        for mark in &prepared.marks {
            durable.note(GatewayLife { gateway: mark.gateway, epoch: mark.epoch }, Sequence(mark.sequence));
        }
        durable.forget(&prepared.forgotten);
        drop(durable);
        if sync == Sync::Now {
            self.publish_durable();
        }
        let mut queue = self.queue();
        queue.forget(&prepared.forgotten);
        queue.release(prepared.room, &self.clock);
        if let Some(metrics) = &self.options.metrics {
            metrics.waiting(!queue.is_empty());
        }
        drop(queue);
        self.room.send_replace(());
        Ok(())
    }

    /// Opens the database again after a failed commit; a failure is found by the next commit.
    pub(super) fn reopen(&self) {
        if let Err(error) = self.store.reopen(self.head.committed().last) {
            tracing::debug!(error = &error as &dyn std::error::Error, "log not reopened");
        }
    }

    fn publish_durable(&self) {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).publish();
    }

    /// Keeps the outcome of a commit for the status; says it once when it changes.
    fn note(&self, outcome: &Result<(), LogError>) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) if error.take().is_some() => tracing::info!(path = %self.store.path().display(), "log writes again"),
            Ok(()) => {}
            // The first failure names the cause; those that follow it say only that it has not gone.
            Err(failed) if error.is_none() => {
                tracing::error!(error = failed as &dyn std::error::Error, "log cannot be written; will try again");
                let cause = std::error::Error::source(failed).map(|cause| format!(": {cause}")).unwrap_or_default();
                *error = Some(format!("{failed}{cause}"));
            }
            Err(_) => {}
        }
    }
}

/// Starts the gateway's next life in this log.
fn begin(store: &Store, meta: &Meta, options: &LogOptions) -> Result<GatewayLife, LogError> {
    let asked = options.partitions.max(1);
    let state = match meta.state {
        Some(state) if state.partitions != asked => {
            return Err(LogError::Partitions { path: store.path().to_owned(), stored: state.partitions, asked });
        }
        // A replay that goes on is the same life: its events get the ids that an unbroken run would give.
        Some(state) if options.commit == Commit::Manual => state,
        Some(state) => v1::LogState { epoch: state.epoch + 1, ..state },
        None => {
            let gateway = options.gateway.map_or_else(getrandom::u64, Ok).map_err(LogError::Random)?;
            v1::LogState { partitions: asked, gateway, epoch: 1 }
        }
    };
    store.begin(state)?;
    Ok(GatewayLife { gateway: state.gateway, epoch: state.epoch })
}

fn spawn_committer(inner: &Arc<Inner>) -> Result<JoinHandle<()>, LogError> {
    let inner = Arc::clone(inner);
    let thread = std::thread::Builder::new().name("log-committer".to_owned());
    thread.spawn(move || committer::run(&inner)).map_err(LogError::Thread)
}
