//! A TCP relay that keeps every byte: put before and behind the gateway, it shows what was sent and what arrived.
//!
//! It changes nothing, so it needs to know nothing; the streams are taken apart afterwards (`http`).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::exchange::Exchange;
use super::http::{Side, messages};

/// A relay to one address.
#[derive(Debug)]
pub(crate) struct Tee {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<Arc<Mutex<Connection>>>>>,
    open: Arc<AtomicBool>,
}

/// Both sides of one connection.
#[derive(Debug, Default)]
struct Connection {
    sent: Vec<u8>,
    received: Vec<u8>,
    response_ended: bool,
}

impl Tee {
    /// Listens on a free port and relays to `to`.
    pub(crate) fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let kept = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicBool::new(true));
        let (connections, still_open) = (Arc::clone(&kept), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().take_while(|_| still_open.load(Ordering::Relaxed)).flatten() {
                let connection = Arc::new(Mutex::new(Connection::default()));
                lock(&connections).push(Arc::clone(&connection));
                relay(client, to, &connection);
            }
        });
        Self { address, kept, open }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, each with its response, connection by connection.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        for connection in lock(&self.kept).iter() {
            let connection = lock(connection);
            let requests = messages(Side::Client, &connection.sent, true);
            let mut responses = messages(Side::Server, &connection.received, connection.response_ended).into_iter();
            exchanges.extend(requests.into_iter().map(|request| Exchange { request, response: responses.next() }));
        }
        exchanges
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is closed.
        let _ = TcpStream::connect(self.address);
    }
}

fn relay(client: TcpStream, to: SocketAddr, connection: &Arc<Mutex<Connection>>) {
    let Ok(server) = TcpStream::connect(to) else {
        let _ = client.shutdown(Shutdown::Both);
        return;
    };
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a socket can be told not to delay");
    }
    let (client_back, server_back) = (client.try_clone(), server.try_clone());
    let (Ok(client_back), Ok(server_back)) = (client_back, server_back) else { return };
    let (up, down) = (Arc::clone(connection), Arc::clone(connection));
    thread::spawn(move || {
        pump(client, server, |bytes| lock(&up).sent.extend_from_slice(bytes));
    });
    thread::spawn(move || {
        pump(server_back, client_back, |bytes| lock(&down).received.extend_from_slice(bytes));
        lock(&down).response_ended = true;
    });
}

/// Moves bytes until either end closes, then closes both: HTTP/1.1 needs no half-open connections.
fn pump(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().expect("no relay panics while it keeps")
}
