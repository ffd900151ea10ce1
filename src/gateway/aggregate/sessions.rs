//! Sessions of the aggregated endpoint: each is a session at every upstream that could open one.
//!
//! Not here: the requests that open them (`opening`). Invariant: bounded; a session belongs to the principal that opened
//! it, where principals are verified; an upstream's session is opened by one request at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gateway::call::Client;
use crate::gateway::rescue::Refusal;

/// How long an upstream that failed to open a session is left alone by the same session.
const PAUSE: Duration = Duration::from_secs(5);

/// All of them. They outlive a reload.
#[derive(Debug)]
pub(super) struct Sessions {
    all: Mutex<HashMap<String, Arc<Session>>>,
    idle: Duration,
}

/// One client's.
#[derive(Debug)]
pub(super) struct Session {
    principal: Arc<str>,
    /// What opens a session at an upstream: the client's own `initialize`.
    pub(super) initialize: Bytes,
    used: Mutex<Instant>,
    at_upstreams: Mutex<HashMap<Arc<str>, Arc<AtUpstream>>>,
    /// The client has said `notifications/initialized`.
    pub(super) is_initialized: AtomicBool,
    /// The last `logging/setLevel`, for upstreams that come later.
    pub(super) level: Mutex<Option<Bytes>>,
    listener: Arc<Semaphore>,
    pub(super) ended: CancellationToken,
}

/// A session's part at one upstream.
#[derive(Debug)]
pub(super) struct AtUpstream(watch::Sender<State>);

#[derive(Clone, Debug)]
enum State {
    Closed,
    /// Since when.
    Opening(Instant),
    Open(Arc<Opened>),
    Failed(Instant),
}

/// A session that an upstream has opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Upstreams without sessions give none.
    pub(super) id: Option<String>,
    pub(super) version: String,
    pub(super) capabilities: Value,
    pub(super) instructions: Option<String>,
    /// It was told that the client is initialized.
    pub(super) is_told: AtomicBool,
}

/// What came of asking for an upstream's session.
pub(super) enum Entry {
    Open(Arc<Opened>),
    /// It is the caller's to open it.
    Vacant(Opening),
    /// Somebody has been opening it for longer than one waits.
    Slow,
    /// It failed a moment ago.
    Failed,
}

/// The right to open a session; dropped unused, somebody else may.
#[derive(Debug)]
pub(super) struct Opening(Arc<AtUpstream>);

impl Sessions {
    pub(super) fn new(idle: Duration) -> Self {
        Self { all: Mutex::default(), idle }
    }

    /// Keeps a session, and gives its id. What was idle for too long makes room; its part at upstreams ends as they like.
    pub(super) fn insert(&self, session: Arc<Session>, sessions_max: usize) -> Result<String, Refusal> {
        let id = new_id().map_err(|error| {
            tracing::error!(%error, "make a session id");
            Refusal::NoneAnswered
        })?;
        let mut all = lock(&self.all);
        all.retain(|_, session| session.is_fresh(self.idle));
        if all.len() >= sessions_max {
            return Err(Refusal::TooManySessions);
        }
        all.insert(id.clone(), session);
        Ok(id)
    }

    pub(super) fn get(&self, id: &str, client: &Client) -> Result<Arc<Session>, Refusal> {
        let session = lock(&self.all).get(id).map(Arc::clone);
        let session = session.filter(|session| session.may_be_used_by(client)).ok_or(Refusal::UnknownSession)?;
        if !session.is_fresh(self.idle) {
            self.remove(id);
            return Err(Refusal::UnknownSession);
        }
        *lock(&session.used) = Instant::now();
        Ok(session)
    }

    pub(super) fn remove(&self, id: &str) {
        if let Some(session) = lock(&self.all).remove(id) {
            session.ended.cancel();
        }
    }
}

impl Session {
    pub(super) fn new(client: &Client, initialize: Bytes) -> Self {
        Self {
            principal: Arc::clone(&client.principal),
            initialize,
            used: Mutex::new(Instant::now()),
            at_upstreams: Mutex::default(),
            is_initialized: AtomicBool::new(false),
            level: Mutex::default(),
            listener: Arc::new(Semaphore::new(1)),
            ended: CancellationToken::new(),
        }
    }

    fn may_be_used_by(&self, client: &Client) -> bool {
        !client.authenticated || *self.principal == *client.principal
    }

    fn is_fresh(&self, idle: Duration) -> bool {
        self.listener.available_permits() == 0 || lock(&self.used).elapsed() < idle
    }

    pub(super) fn at(&self, upstream: &Arc<str>) -> Arc<AtUpstream> {
        let mut all = lock(&self.at_upstreams);
        let new = || Arc::new(AtUpstream(watch::Sender::new(State::Closed)));
        Arc::clone(all.entry(Arc::clone(upstream)).or_insert_with(new))
    }

    /// The place of the one stream that listens; `None` while it is taken.
    pub(super) fn listen(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.listener).try_acquire_owned().ok()
    }
}

impl AtUpstream {
    pub(super) fn now(&self) -> Option<Arc<Opened>> {
        match &*self.0.borrow() {
            State::Open(opened) => Some(Arc::clone(opened)),
            State::Closed | State::Opening(_) | State::Failed(_) => None,
        }
    }

    /// The session, once whoever opens it has done so, within patience.
    pub(super) async fn entry(self: &Arc<Self>, patience: Duration) -> Entry {
        let mut changes = self.0.subscribe();
        loop {
            let claimed = self.0.send_if_modified(|state| {
                let vacant = match state {
                    State::Closed => true,
                    State::Failed(at) => at.elapsed() >= PAUSE,
                    State::Opening(_) | State::Open(_) => false,
                };
                if vacant {
                    *state = State::Opening(Instant::now());
                }
                vacant
            });
            if claimed {
                return Entry::Vacant(Opening(Arc::clone(self)));
            }
            let since = match &*changes.borrow_and_update() {
                State::Open(opened) => return Entry::Open(Arc::clone(opened)),
                State::Failed(_) => return Entry::Failed,
                State::Opening(since) => *since,
                State::Closed => continue,
            };
            match tokio::time::timeout_at(since + patience, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Entry::Failed,
                Err(_) => return Entry::Slow,
            }
        }
    }

    /// The upstream no longer knows it.
    pub(super) fn lose(&self, lost: &Arc<Opened>) {
        self.0.send_if_modified(|state| {
            let same = matches!(state, State::Open(opened) if Arc::ptr_eq(opened, lost));
            if same {
                *state = State::Closed;
            }
            same
        });
    }

    /// Waits for a session other than the last one; for ever, if there never is one.
    pub(super) async fn opened(&self, last: Option<&Arc<Opened>>) -> Arc<Opened> {
        let mut changes = self.0.subscribe();
        loop {
            if let State::Open(opened) = &*changes.borrow_and_update()
                && last.is_none_or(|last| !Arc::ptr_eq(last, opened))
            {
                return Arc::clone(opened);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Opening {
    pub(super) fn open(self, opened: Opened) -> Arc<Opened> {
        let opened = Arc::new(opened);
        self.0.0.send_replace(State::Open(Arc::clone(&opened)));
        opened
    }

    pub(super) fn fail(self) {
        self.0.0.send_replace(State::Failed(Instant::now()));
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|state| {
            let unused = matches!(state, State::Opening(_));
            if unused {
                *state = State::Closed;
            }
            unused
        });
    }
}

impl Opened {
    /// Whether whoever asks is the one to tell it.
    pub(super) fn takes_telling(&self) -> bool {
        !self.is_told.swap(true, Ordering::AcqRel)
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id is all that a client needs to use a session, so it must not be guessed.
fn new_id() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?))
}
