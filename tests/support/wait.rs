//! Waiting for something to become true, with a deadline and a reason.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for two loaded cores, short enough to notice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none after [`PATIENCE`], naming `what`.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        sleep(PAUSE);
    }
}

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// A port of the loopback that nobody listens on now, and that was not given before: the kernel deals them at random.
/// Another process may still take it before it is used.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address.port()) {
            return address;
        }
    }
}

/// Waits until somebody listens.
#[track_caller]
pub(crate) fn wait_for_listener(what: &str, address: SocketAddr) {
    wait_until(&format!("{what} listens on {address}"), || TcpStream::connect(address).is_ok());
}
