//! The thread that commits in groups: a leading edge for the lone event, then a steady beat under load, and at once
//! where a burst has filled half of the queue.
//!
//! Not here: what a commit consists of (`embedded`). Invariant: a tick that cannot be written is kept and tried again;
//! meanwhile the queue fills, and what no longer fits is counted.

use std::sync::{Arc, Condvar, MutexGuard};
use std::time::{Duration, Instant};

use super::embedded::Inner;
use super::encoded::Encoded;
use super::queue::Queue;

/// How often the log says that time passes.
const HEARTBEAT: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Times of one committer, all derived from the tick.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// What comes together is committed together.
    gather: Duration,
    /// From the start of one commit to the start of the next: leaves time for the disk within a tick.
    interval: Duration,
}

/// Runs until the queue is closing and empty, or a commit fails while closing.
pub(super) fn run(inner: &Arc<Inner>) {
    let tick = Duration::from_micros(inner.options.tick_us());
    let pace = Pace { gather: tick / 40, interval: tick * 4 / 5 };
    let mut last_start: Option<Instant> = None;
    let mut next_heartbeat = Instant::now() + HEARTBEAT;
    loop {
        let queue = wait_for_event(inner, &mut next_heartbeat);
        let now = Instant::now();
        let gathered = now + pace.gather;
        let due = last_start.map_or(gathered, |start| gathered.max(start + pace.interval));
        let mut queue = wait_until(&inner.wake, queue, due, |queue| queue.closing || queue.is_half_full());
        if queue.is_empty() {
            return;
        }
        last_start = Some(Instant::now());
        let drained = queue.drain();
        drop(queue);
        inner.prepare(drained);
        if !commit(inner) {
            return;
        }
    }
}

/// Waits for something to commit, which may be a heartbeat; an empty queue comes back only where the log is closing.
fn wait_for_event<'a>(inner: &'a Inner, next_heartbeat: &mut Instant) -> MutexGuard<'a, Queue<Encoded>> {
    let mut queue = inner.queue();
    loop {
        let now = Instant::now();
        if now >= *next_heartbeat && !queue.closing {
            *next_heartbeat = now + HEARTBEAT;
            queue.heartbeat(&inner.clock);
        }
        if !queue.is_empty() || queue.closing {
            return queue;
        }
        let rest = next_heartbeat.saturating_duration_since(now);
        queue = inner.wake.wait_timeout(queue, rest).expect("nothing panics under this lock").0;
    }
}

fn wait_until<'a>(
    wake: &Condvar,
    mut queue: MutexGuard<'a, Queue<Encoded>>,
    due: Instant,
    is_over: impl Fn(&Queue<Encoded>) -> bool,
) -> MutexGuard<'a, Queue<Encoded>> {
    while !is_over(&queue) {
        let rest = due.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            break;
        }
        queue = wake.wait_timeout(queue, rest).expect("nothing panics under this lock").0;
    }
    queue
}

/// Commits what is prepared, however long it takes; false where the log closes before it succeeds.
fn commit(inner: &Inner) -> bool {
    let mut pause = RETRY_FIRST;
    loop {
        if inner.commit_pending().is_ok() {
            return true;
        }
        let queue = wait_until(&inner.wake, inner.queue(), Instant::now() + pause, |queue| queue.closing);
        if queue.closing {
            drop(queue);
            inner.reopen();
            return inner.commit_pending().is_ok();
        }
        drop(queue);
        pause = (pause * 2).min(RETRY_MAX);
        inner.reopen();
    }
}
