//! Load that outlives its gateway, and what the gateway said was durable last.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::load::Load;
use crate::support::status::Status;
use crate::support::wait::wait_until;

const SESSIONS: usize = 3;

/// Load in spells, so that sessions end and others come.
pub(super) struct Pressure(JoinHandle<()>, Arc<AtomicBool>, Arc<Mutex<Spells>>);

#[derive(Default)]
struct Spells {
    now: Option<Load>,
    /// Answers of those that are over.
    answered: u64,
}

impl Pressure {
    pub(super) fn start(listen: SocketAddr) -> Self {
        let (stop, load) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Spells::default())));
        let (stopping, shared) = (Arc::clone(&stop), Arc::clone(&load));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                // Where the gateway has gone before a session began, there is no load.
                let begin = || Load::start(listen, "/mcp/demo", SESSIONS);
                let Ok(begun) = catch_unwind(AssertUnwindSafe(begin)) else { return };
                shared.lock().expect("no panic").now = Some(begun);
                thread::sleep(Duration::from_millis(400));
                let over = {
                    let mut spells = shared.lock().expect("no panic");
                    let over = spells.now.take();
                    spells.answered += over.as_ref().map_or(0, Load::answered);
                    over
                };
                over.map(Load::stop);
            }
        });
        Self(thread, stop, load)
    }

    /// Waits until there were so many answers, or the load is over.
    pub(super) fn advance(&self, answers: u64) {
        wait_until("there are answers", || {
            let spells = self.2.lock().expect("no panic");
            spells.answered + spells.now.as_ref().map_or(0, Load::answered) >= answers || self.0.is_finished()
        });
    }

    pub(super) fn stop(self) {
        self.1.store(true, Ordering::Relaxed);
        self.0.join().expect("the load does not panic");
    }
}

/// The offsets that were said to be durable last, by partition.
pub(super) struct Durable(JoinHandle<()>, Arc<Mutex<Vec<(u64, u64)>>>);

impl Durable {
    pub(super) fn watch(admin: SocketAddr) -> Self {
        let last = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&last);
        let thread = thread::spawn(move || {
            // Until nobody answers any more.
            while let Ok(status) = catch_unwind(|| Status::ask(admin)) {
                *shared.lock().expect("no panic") =
                    status.partitions.iter().map(|at| (at.partition, at.durable)).collect();
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self(thread, last)
    }

    pub(super) fn stop(self) -> Vec<(u64, u64)> {
        self.0.join().expect("the watch does not panic");
        self.1.lock().expect("no panic").clone()
    }
}
