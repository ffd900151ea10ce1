//! The history on a thread of its own: a bounded queue of ticks in, a watch on what is covered out.
//!
//! A full queue makes its sender wait ([`HistoryQueue::send`]) or choose ([`HistoryQueue::try_send`]): ticks are never
//! dropped here. Errors that time may heal are retried, with growing pauses, for as long as the process runs; a stop
//! gives them a few more tries and then ends: the log still has what is missing, and the next start writes it.
//!
//! Invariant: ticks reach the [`History`] in the order in which they were queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use undercurrent_schemas::ids::Tick;

use super::keeper::{Keeper, KeeperThread, Kept};
use super::uploader::{Sent, Uploader, UploaderThread};
use super::{History, HistoryError, TickRows};

/// How often and how long the thread tries again.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    pub pause_first: Duration,
    pub pause_max: Duration,
    /// Tries after a stop was asked for.
    pub tries_when_stopping: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self { pause_first: Duration::from_millis(100), pause_max: Duration::from_secs(10), tries_when_stopping: 3 }
    }
}

impl Retries {
    pub(super) fn pause(self, failures: u32) -> Duration {
        let doubled = self.pause_first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.pause_max)
    }
}

/// The thread has ended: it failed for good, or was stopped. The rows come back.
#[derive(Debug, thiserror::Error)]
#[error("the history has stopped")]
pub struct Stopped(pub TickRows);

enum Order {
    Write(Box<TickRows>),
    Stop,
}

/// The sending end; cheap to clone.
#[derive(Clone, Debug)]
pub struct HistoryQueue {
    orders: SyncSender<Order>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    depth: AtomicUsize,
    failing: AtomicBool,
    stopping: AtomicBool,
}

/// Owner of the thread.
#[derive(Debug)]
pub struct HistoryWriter {
    queue: HistoryQueue,
    covered: watch::Receiver<Option<Tick>>,
    thread: JoinHandle<Result<(), HistoryError>>,
    keeper: KeeperThread,
    uploader: Option<UploaderThread>,
    kept: Arc<Kept>,
    sent: Arc<Sent>,
}

impl HistoryQueue {
    /// Queues the rows of a tick; waits while the queue is full.
    pub fn send(&self, rows: TickRows) -> Result<(), Box<Stopped>> {
        self.state.depth.fetch_add(1, Ordering::Relaxed);
        self.orders.send(Order::Write(Box::new(rows))).map_err(|refused| self.stopped(refused.0))
    }

    /// Queues the rows of a tick, or gives them back if the queue is full.
    pub fn try_send(&self, rows: TickRows) -> Result<Option<TickRows>, Box<Stopped>> {
        self.state.depth.fetch_add(1, Ordering::Relaxed);
        match self.orders.try_send(Order::Write(Box::new(rows))) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(order)) => {
                self.state.depth.fetch_sub(1, Ordering::Relaxed);
                Ok(Some(order.into_rows()))
            }
            Err(TrySendError::Disconnected(order)) => Err(self.stopped(order)),
        }
    }

    /// Ticks that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.state.depth.load(Ordering::Relaxed)
    }

    /// The last try to write failed: files are behind, nothing is lost.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Relaxed)
    }

    fn stopped(&self, order: Order) -> Box<Stopped> {
        self.state.depth.fetch_sub(1, Ordering::Relaxed);
        Box::new(Stopped(order.into_rows()))
    }
}

impl Order {
    fn into_rows(self) -> TickRows {
        match self {
            Self::Write(rows) => *rows,
            Self::Stop => unreachable!("a stop is never sent through `send`"),
        }
    }
}

impl HistoryWriter {
    /// Starts the thread, with room for `ticks_max` ticks in its queue, and those that look after its files.
    pub fn spawn(history: History, ticks_max: usize, retries: Retries) -> Result<Self, HistoryError> {
        let (orders, waiting) = sync_channel(ticks_max);
        let (published, covered) = watch::channel(history.covered());
        let state = Arc::new(State::default());
        let dir = history.dir.clone();
        let (kept, sent) = (Arc::<Kept>::default(), Arc::<Sent>::default());
        let keeper = Keeper::new(&history, Arc::clone(&kept))?;
        let uploader = Uploader::new(&history, retries, Arc::clone(&sent))?;
        let worker = Worker { history, retries, state: Arc::clone(&state), published };
        let thread = thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || worker.run(&waiting))
            .map_err(HistoryError::io("start the thread that writes", &dir))?;
        let (keeper, uploader) = (keeper.spawn()?, uploader.map(Uploader::spawn).transpose()?);
        Ok(Self { queue: HistoryQueue { orders, state }, covered, thread, keeper, uploader, kept, sent })
    }

    /// Another sending end.
    #[must_use]
    pub fn queue(&self) -> HistoryQueue {
        self.queue.clone()
    }

    /// The last tick whose rows are safe in files.
    #[must_use]
    pub fn covered(&self) -> watch::Receiver<Option<Tick>> {
        self.covered.clone()
    }

    /// What became of files after they were written.
    #[must_use]
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// What another store was given, if there is one.
    #[must_use]
    pub fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    /// Writes all that was queued before, ends the roll, and waits for the threads to end.
    pub fn finish(self) -> Result<(), HistoryError> {
        self.queue.state.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Fails only if the thread has ended by itself; then its result says why.
        let _ = self.queue.orders.send(Order::Stop);
        let written = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.keeper.stop();
        if let Some(uploader) = self.uploader {
            uploader.stop();
        }
        written
    }
}

struct Worker {
    history: History,
    retries: Retries,
    state: Arc<State>,
    published: watch::Sender<Option<Tick>>,
}

impl Worker {
    fn run(mut self, waiting: &Receiver<Order>) -> Result<(), HistoryError> {
        // Ends with a stop, or when nobody can send any more.
        while let Ok(Order::Write(rows)) = waiting.recv() {
            self.state.depth.fetch_sub(1, Ordering::Relaxed);
            let written = self.history.write(*rows);
            self.settle(written)?;
        }
        let flushed = self.history.flush();
        self.settle(flushed)
    }

    /// Tries again until it succeeds, or until it makes no sense.
    fn settle(&mut self, mut outcome: Result<(), HistoryError>) -> Result<(), HistoryError> {
        let (mut failures, mut last_tries) = (0, 0);
        while let Err(error) = outcome {
            if failures == 0 {
                tracing::error!(%error, "history cannot be written; nothing is lost, trying again");
            }
            failures += 1;
            self.state.failing.store(true, Ordering::Relaxed);
            if self.state.stopping.load(Ordering::Acquire) {
                last_tries += 1;
            }
            if !error.is_transient() || last_tries >= self.retries.tries_when_stopping {
                return Err(error);
            }
            thread::park_timeout(self.retries.pause(failures));
            outcome = self.history.settle();
        }
        if failures > 0 {
            tracing::info!(failures, "history is written again");
            self.state.failing.store(false, Ordering::Relaxed);
        }
        self.published.send_if_modified(|covered| {
            let before = std::mem::replace(covered, self.history.covered());
            before != *covered
        });
        Ok(())
    }
}
