//! An MCP server that says back what it was told, and can be killed, restarted, slowed down and struck dumb.
//!
//! It keeps no sessions, so that a restart loses nothing but what was open.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::{Value, json};

use super::fake;
use super::http::Message;

/// How it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Slow,
    /// Takes requests and connections, and says nothing.
    Dumb,
    /// Nobody listens.
    Dead,
    /// As if it had lost power and come back: who connects anew is served, what was connected before is never answered,
    /// and nothing says so.
    HalfOpen,
}

#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    mood: Mutex<Mood>,
    open: Mutex<Vec<TcpStream>>,
    sessions: AtomicU64,
    /// Grows with each loss of power.
    life: AtomicU64,
}

const SLOW: Duration = Duration::from_millis(300);

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            port: address.port(),
            mood: Mutex::new(Mood::Good),
            open: Mutex::default(),
            sessions: AtomicU64::new(0),
            life: AtomicU64::new(0),
        });
        let echo = Self { address, shared };
        echo.listen(listener);
        echo
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Sessions that were opened at it.
    pub(crate) fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// From now on it is like this.
    pub(crate) fn be(&self, mood: Mood) {
        let before = std::mem::replace(&mut *self.shared.mood.lock().expect("whole"), mood);
        if mood == Mood::HalfOpen {
            self.shared.life.fetch_add(1, Ordering::Relaxed);
        }
        if mood == Mood::Dead {
            for socket in self.shared.open.lock().expect("whole").drain(..) {
                let _ = socket.shutdown(Shutdown::Both);
            }
            // Wakes the listener, which then sees that it is dead.
            let _ = TcpStream::connect(self.address);
        } else if before == Mood::Dead {
            let listener = super::wait::wait_for("its port is free again", || TcpListener::bind(self.address).ok());
            self.listen(listener);
        }
    }

    fn listen(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if shared.mood() == Mood::Dead {
                    return;
                }
                shared.open.lock().expect("whole").extend(socket.try_clone());
                let shared = Arc::clone(&shared);
                let born = shared.life.load(Ordering::Relaxed);
                let serve = move || {
                    fake::serve(socket, &|request, socket| {
                        if shared.life.load(Ordering::Relaxed) == born {
                            shared.answer(request, socket);
                        }
                    });
                };
                thread::Builder::new().stack_size(128 << 10).spawn(serve).expect("start a thread");
            }
        });
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.be(Mood::Dead);
    }
}

impl Shared {
    fn mood(&self) -> Mood {
        *self.mood.lock().expect("whole")
    }

    fn answer(&self, request: &Message, socket: &mut TcpStream) {
        match self.mood() {
            Mood::Good | Mood::HalfOpen => {}
            Mood::Slow => sleep(SLOW),
            Mood::Dumb | Mood::Dead => return,
        }
        if request.method() == "GET" {
            // A stream that stays open, and silent.
            let _ = socket.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n",
            );
            return;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let whole = |result: Value| json!({"jsonrpc": "2.0", "id": body["id"], "result": result}).to_string();
        match body["method"].as_str() {
            Some("initialize") => {
                let number = self.sessions.fetch_add(1, Ordering::Relaxed);
                let session = format!("Mcp-Session-Id: echo-{}-{number}\r\n", self.port);
                let result = json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "echo", "version": "1"}});
                fake::respond(socket, "200 OK", &session, &whole(result));
            }
            Some("tools/call") => {
                let content = json!([{"type": "text", "text": body["params"]["arguments"]["text"]}]);
                fake::respond(socket, "200 OK", "", &whole(json!({"content": content})));
            }
            Some(_) => fake::respond(socket, "202 Accepted", "", ""),
            None => fake::respond(socket, "200 OK", "", ""),
        }
    }
}
