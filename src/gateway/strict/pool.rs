//! Connections to one plain upstream: lent to one exchange at a time, and kept between exchanges for a while.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::Uri;
use tokio::net::TcpStream;

use crate::gateway::config::Timeouts;

/// Unused connections kept of one upstream; more are closed.
const IDLE_MAX: usize = 256;

/// Connections that nobody uses right now.
#[derive(Debug)]
pub(crate) struct Pool {
    host: String,
    port: u16,
    connect: Duration,
    keep: Duration,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Last used last.
    connections: Vec<(TcpStream, Instant)>,
    /// Somebody closes what has been unused for too long.
    watched: bool,
}

impl Pool {
    pub(crate) fn new(uri: &Uri, timeouts: &Timeouts) -> Arc<Self> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let (connect, keep) = (timeouts.connect, timeouts.upstream_idle);
        Arc::new(Self { host, port: uri.port_u16().unwrap_or(80), connect, keep, idle: Mutex::default() })
    }

    /// A connection that is open as far as one can know, or a new one.
    pub(crate) async fn take(&self) -> io::Result<TcpStream> {
        while let Some((connection, since)) = self.lock().connections.pop() {
            // An upstream that has said something, its end included, unasked: nothing that follows would be an answer.
            let quiet =
                matches!(connection.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if quiet && since.elapsed() < self.keep {
                return Ok(connection);
            }
        }
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let connection =
            tokio::time::timeout(self.connect, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        connection.set_nodelay(true)?;
        Ok(connection)
    }

    /// Takes back a connection whose exchange has ended cleanly.
    pub(crate) fn give_back(self: &Arc<Self>, connection: TcpStream) {
        let mut idle = self.lock();
        if idle.connections.len() >= IDLE_MAX {
            return;
        }
        idle.connections.push((connection, Instant::now()));
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self), self.keep));
        }
    }

    /// Closes what has been unused for too long; `false` = nothing is left.
    fn sweep(&self) -> bool {
        let mut idle = self.lock();
        idle.connections.retain(|(_, since)| since.elapsed() < self.keep);
        idle.watched = !idle.connections.is_empty();
        idle.watched
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs while there is something to close.
async fn watch(pool: Weak<Pool>, keep: Duration) {
    loop {
        tokio::time::sleep(keep.max(Duration::from_millis(100))).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}
