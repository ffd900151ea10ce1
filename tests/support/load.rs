//! Load: several sessions at once, each calling a tool as fast as it is answered, or at a pace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::keep_alive::KeepAlive;
use super::raw::HttpSession;
use super::wait::wait_until;

/// Calls in flight; stops when told to, or when the gateway is gone.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicU64>>,
    sessions: Vec<JoinHandle<u64>>,
}

/// The tool and its arguments.
pub(crate) fn plain_call() -> (&'static str, Value) {
    ("get_balance", json!({}))
}

impl Load {
    /// Starts `sessions` sessions with the demo server behind `path`. Ids count from 1 in each.
    #[track_caller]
    pub(crate) fn start(address: SocketAddr, path: &str, sessions: usize) -> Self {
        Self::bounded(address, path, sessions, u64::MAX)
    }

    /// As [`Load::start`], but each session ends itself after so many calls.
    #[track_caller]
    pub(crate) fn bounded(address: SocketAddr, path: &str, sessions: usize, calls: u64) -> Self {
        Self::paced(address, path, sessions, calls, Duration::ZERO)
    }

    /// As [`Load::bounded`], but each session begins no call sooner than `every` after the one before: what takes all
    /// of the processors takes them from the parts that are tested too.
    #[track_caller]
    pub(crate) fn paced(address: SocketAddr, path: &str, sessions: usize, calls: u64, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered: Vec<Arc<AtomicU64>> = (0..sessions).map(|_| Arc::default()).collect();
        let sessions = answered
            .iter()
            .map(|answered| {
                let session = HttpSession::connect(address, path);
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(answered));
                thread::spawn(move || call_until(&session, calls, every, &stop, &answered))
            })
            .collect();
        Self { stop, answered, sessions }
    }

    /// Answered calls, all sessions together.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.iter().map(|answered| answered.load(Ordering::Relaxed)).sum()
    }

    /// Waits until each session has had so many answers more.
    #[track_caller]
    pub(crate) fn advance(&self, calls: u64) {
        let goals: Vec<u64> = self.answered.iter().map(|answered| answered.load(Ordering::Relaxed) + calls).collect();
        wait_until(&format!("{calls} more calls in each session"), || {
            self.answered.iter().zip(&goals).all(|(answered, goal)| answered.load(Ordering::Relaxed) >= *goal)
        });
    }

    /// Ends it and gives the calls that were sent, all sessions together; those of the end may be unanswered.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until all sessions have made their calls, and gives how many they were.
    pub(crate) fn join(self) -> u64 {
        self.sessions.into_iter().map(|session| session.join().expect("a session does not panic")).sum()
    }
}

/// Gives the calls sent.
fn call_until(session: &HttpSession, calls: u64, every: Duration, stop: &AtomicBool, answered: &AtomicU64) -> u64 {
    let (tool, arguments) = plain_call();
    let mut connection = KeepAlive::open(session);
    let mut sent = 0;
    while sent < calls && !stop.load(Ordering::Relaxed) {
        sent += 1;
        let began = Instant::now();
        if connection.call(sent, tool, &arguments).is_err() {
            return sent;
        }
        answered.store(sent, Ordering::Relaxed);
        thread::sleep(every.saturating_sub(began.elapsed()));
    }
    // The gateway may be gone; then there is no session to end.
    let _ = connection.end();
    sent
}
