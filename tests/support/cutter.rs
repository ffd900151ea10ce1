//! A TCP relay that cuts a connection once: in both directions, right behind some words of the server's.
//!
//! Not here: what a client does about it. Every other connection is relayed to its end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[derive(Debug)]
pub(crate) struct Cutter {
    address: SocketAddr,
    has_cut: Arc<AtomicBool>,
    open: Arc<AtomicBool>,
}

impl Cutter {
    /// Listens on a free port, relays to `to`, and cuts behind the chunk in which `words` end.
    pub(crate) fn behind(words: &'static str, to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (has_cut, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let (cut, still_open) = (Arc::clone(&has_cut), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().take_while(|_| still_open.load(Ordering::Relaxed)).flatten() {
                relay(client, to, words, &cut);
            }
        });
        Self { address, has_cut, open }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::Relaxed)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is closed.
        let _ = TcpStream::connect(self.address);
    }
}

fn relay(client: TcpStream, to: SocketAddr, words: &'static str, cut: &Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(to) else { return };
    let (client_back, server_back) = (client.try_clone(), server.try_clone());
    let (Ok(client_back), Ok(server_back)) = (client_back, server_back) else { return };
    thread::spawn(move || pump(client, server, |_| false));
    let cut = Arc::clone(cut);
    let mut said = Vec::new();
    thread::spawn(move || {
        pump(server_back, client_back, |bytes| {
            said.extend_from_slice(bytes);
            let heard = said.windows(words.len()).any(|window| window == words.as_bytes());
            // What is left are the words' beginnings.
            said.drain(..said.len().saturating_sub(words.len()));
            heard && !cut.swap(true, Ordering::Relaxed)
        });
    });
}

/// Moves bytes until either end closes, or `enough` says so of those that were moved last; then closes both.
fn pump(mut from: TcpStream, mut to: TcpStream, mut enough: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() || enough(&buffer[..read]) {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
