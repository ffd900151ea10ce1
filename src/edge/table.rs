//! The sessions that the edge remembers, and the bounds on their number and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use undercurrent_schemas::ids::Micros;

use super::session::EdgeSession;
use super::{SessionKey, SessionRef, Shared};

/// Who a session is, to the edge.
type Key = (Arc<str>, SessionKey, Option<Arc<str>>);

#[derive(Debug, Default)]
pub(super) struct Table {
    sessions: DashMap<Key, Arc<EdgeSession>>,
    /// Bytes of all sessions' facts, as they last reported.
    pub(super) held_bytes: AtomicUsize,
}

fn key_of(session: &SessionRef) -> Key {
    // Two clients may name the same trace, so a stateless session is its principal's.
    let principal = matches!(session.key, SessionKey::Stateless { .. }).then(|| Arc::clone(&session.principal));
    (Arc::clone(&session.server), session.key.clone(), principal)
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn get(&self, session: &SessionRef, shared: &Arc<Shared>, now: Micros) -> Arc<EdgeSession> {
        let key = key_of(session);
        if let Some(known) = self.sessions.get(&key) {
            return Arc::clone(&known);
        }
        if self.sessions.len() >= shared.settings.sessions_max {
            self.forget_oldest();
        }
        let made = Arc::clone(&self.sessions.entry(key).or_insert_with(|| EdgeSession::new(session, shared, now)));
        shared.metrics.sessions.set(self.sessions.len() as i64);
        made
    }

    pub(super) fn remove(&self, session: &SessionRef) {
        self.sessions.remove(&key_of(session));
    }

    fn forget_oldest(&self) {
        let oldest = self.sessions.iter().min_by_key(|entry| entry.value().last_seen()).map(|entry| entry.key().clone());
        if let Some((_, session)) = oldest.and_then(|key| self.sessions.remove(&key)) {
            session.release();
        }
    }

    pub(super) fn sweep(&self, shared: &Shared, now: Micros) {
        let idle_us = i64::try_from(shared.settings.session_idle.as_micros()).unwrap_or(i64::MAX);
        let oldest = Micros(now.0.saturating_sub(idle_us));
        self.sessions.retain(|_, session| {
            let keep = session.last_seen() > oldest;
            if !keep {
                session.release();
            }
            keep
        });
        self.forget_values(shared);
        shared.metrics.sessions.set(self.sessions.len() as i64);
        shared.metrics.provenance_bytes.set(self.held_bytes.load(Ordering::Relaxed) as i64);
    }

    /// Brings the sessions' memory back to nine tenths of its bound, oldest idle first.
    pub(super) fn forget_values(&self, shared: &Shared) {
        let bound = shared.settings.provenance_bytes_max;
        if self.held_bytes.load(Ordering::Relaxed) <= bound {
            return;
        }
        let mut sessions: Vec<_> = self.sessions.iter().map(|entry| Arc::clone(entry.value())).collect();
        sessions.sort_by_key(|session| session.last_seen());
        for session in sessions {
            if self.held_bytes.load(Ordering::Relaxed) <= bound / 10 * 9 {
                break;
            }
            session.forget_values();
            shared.metrics.provenance_evictions.inc();
        }
    }
}
