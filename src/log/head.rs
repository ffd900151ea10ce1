//! The newest end of the log in memory: how far it is committed, and the ticks just before that, for live tails.
//!
//! Invariant: `recent` holds every tick after `floor` up to `last`, without holes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use undercurrent_schemas::ids::{Micros, Offset, Tick};
use undercurrent_schemas::log::CommittedTick;

/// Ticks that one look takes from memory.
const TAKE_MAX: usize = 64;

/// What there is after a tick.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    /// The next ticks, from memory.
    Recent(Vec<Arc<CommittedTick>>),
    /// They are on disk alone.
    Older,
}

/// What is committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Committed {
    pub(super) last: Option<Tick>,
    pub(super) watermark: Micros,
    /// Of each partition: the first offset that is not committed.
    pub(super) ends: Vec<Offset>,
}

#[derive(Debug)]
struct State {
    committed: Committed,
    /// The last tick that is no longer (or never was) in `recent`.
    floor: Option<Tick>,
    recent: VecDeque<(Arc<CommittedTick>, usize)>,
    recent_bytes: usize,
    ended: bool,
}

#[derive(Debug)]
pub(super) struct Head {
    state: Mutex<State>,
    changed: Condvar,
    recent_bytes_max: usize,
}

impl Head {
    pub(super) fn new(committed: Committed, recent_bytes_max: usize) -> Self {
        let floor = committed.last;
        let state = State { committed, floor, recent: VecDeque::new(), recent_bytes: 0, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), recent_bytes_max }
    }

    /// Makes a tick that is safe in the log visible to the tails.
    pub(super) fn publish(&self, tick: Arc<CommittedTick>, ends: Vec<Offset>) {
        let bytes = tick_bytes(&tick);
        let mut state = self.lock();
        state.committed = Committed { last: Some(tick.tick), watermark: tick.watermark, ends };
        state.recent.push_back((tick, bytes));
        state.recent_bytes += bytes;
        while state.recent_bytes > self.recent_bytes_max {
            let Some((oldest, bytes)) = state.recent.pop_front() else { break };
            state.floor = Some(oldest.tick);
            state.recent_bytes -= bytes;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// No more ticks will come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    pub(super) fn committed(&self) -> Committed {
        self.lock().committed.clone()
    }

    /// All was handed out up to `after`, and nothing more will come.
    pub(super) fn is_ended(&self, after: Option<Tick>) -> bool {
        let state = self.lock();
        state.ended && state.committed.last <= after
    }

    /// Waits until there is something after `after`, the log has ended, or `wait` is over.
    pub(super) fn wait(&self, after: Option<Tick>, wait: Duration) -> After {
        let deadline = Instant::now().checked_add(wait);
        let mut state = self.lock();
        while state.committed.last <= after && !state.ended {
            let rest = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => wait,
            };
            if rest.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, rest).expect("nothing panics under this lock").0;
        }
        if state.committed.last <= after {
            return After::Nothing;
        }
        if state.floor > after {
            return After::Older;
        }
        let first = state.recent.partition_point(|(tick, _)| Some(tick.tick) <= after);
        After::Recent(state.recent.iter().skip(first).take(TAKE_MAX).map(|(tick, _)| Arc::clone(tick)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

/// About what a tick takes in memory.
pub(super) fn tick_bytes(tick: &CommittedTick) -> usize {
    let record_bytes = |record: &Vec<u8>| record.len() + size_of::<Vec<u8>>();
    size_of::<CommittedTick>()
        + tick.batches.iter().map(|batch| batch.records.iter().map(record_bytes).sum::<usize>()).sum::<usize>()
}
