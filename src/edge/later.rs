//! Messages that are read once they have left: where the policy cannot say no, nobody waits for what it would say.
//!
//! A thread of its own reads them, in the order in which they were handed in, and gives way to the relay: while that
//! needs the processors the queue grows. When it is full, whoever hands in another message reads with it.
//! Invariant: each message is read once, after all that were handed in before it. Who must read one at once catches up
//! first, so the order holds for all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use super::Shared;
use crate::telemetry::EdgeMetrics;

/// How long messages gather before they are read. To wake a thread for each costs the relay more than all the rest.
const GATHER: Duration = Duration::from_millis(1);

/// Times that nothing came before the thread sleeps until it is woken.
const IDLE_ROUNDS: u32 = 64;

/// Messages that are read before the turn is up for somebody else.
const TURN: usize = 16;

/// What a waiting message costs besides its bytes.
const OVERHEAD_BYTES: usize = 256;

type Read = Box<dyn FnOnce() + Send>;

/// Messages that wait to be read.
pub(super) struct Later {
    sender: Sender<(Read, usize)>,
    /// Held while messages are read: one reader at a time.
    turn: Mutex<Receiver<(Read, usize)>>,
    /// Handed in and not read to the end.
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    bytes_max: usize,
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
    stopping: AtomicBool,
    metrics: Arc<EdgeMetrics>,
}

/// The thread that reads. When it is dropped, what is left has been read, and from then on nothing waits.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(shared: Arc<Shared>, bytes_max: usize) -> std::io::Result<Self> {
        let later = Arc::new(Later::new(bytes_max, Arc::clone(&shared.metrics)));
        let thread = {
            let later = Arc::clone(&later);
            std::thread::Builder::new().name("edge-reader".to_owned()).spawn(move || later.run())?
        };
        let _ = later.thread.set(thread.thread().clone());
        shared.later.store(Some(later));
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(later) = self.shared.later.swap(None) else { return };
        later.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Should it have died all the same, what it left is read here.
            let _ = thread.join();
        }
        later.catch_up();
    }
}

impl Later {
    fn new(bytes_max: usize, metrics: Arc<EdgeMetrics>) -> Self {
        let (sender, receiver) = channel();
        Self {
            sender,
            turn: Mutex::new(receiver),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            bytes_max,
            thread: OnceLock::new(),
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            metrics,
        }
    }

    /// Hands in something that holds on to so many bytes.
    pub(super) fn push(&self, bytes: usize, read: impl FnOnce() + Send + 'static) {
        // A buffer that grew while it was read into is up to twice as large as what is in it.
        let bytes = 2 * bytes + OVERHEAD_BYTES;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // The receiver lives as long as this does.
        let _ = self.sender.send((Box::new(read), bytes));
        if held > self.bytes_max {
            self.metrics.unread_full.inc();
            self.catch_up();
        } else if self.stopping.load(Ordering::SeqCst) {
            // The thread may have looked for the last time.
            self.catch_up();
        } else if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Handed in and not read to the end.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reads what was handed in before this call, or waits for who does.
    pub(super) fn catch_up(&self) {
        let mut left = self.waiting.load(Ordering::SeqCst);
        while left > 0 {
            let read = self.read(left.min(TURN));
            if read == 0 {
                return;
            }
            left -= read.min(left);
        }
    }

    /// Reads up to so many messages; how many it were.
    fn read(&self, most: usize) -> usize {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        while count < most {
            let Ok((read, bytes)) = turn.try_recv() else { break };
            // A message that nobody can read must not keep the others from being read; the panic has been printed.
            let _ = catch_unwind(AssertUnwindSafe(read));
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            count += 1;
        }
        count
    }

    fn run(&self) {
        let mut idle = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            if self.read(TURN) == TURN {
                continue;
            }
            let waiting = self.waiting.load(Ordering::SeqCst);
            self.metrics.unread_bytes.set(i64::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
            idle = if waiting == 0 { idle + 1 } else { 0 };
            if idle <= IDLE_ROUNDS {
                std::thread::sleep(GATHER);
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) == 0 && !self.stopping.load(Ordering::SeqCst) {
                std::thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("waiting", &self.waiting).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
