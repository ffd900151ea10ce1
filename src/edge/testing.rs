//! An edge for unit tests: its log is a list.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use undercurrent_dataflows::assess::LeftOut;
use undercurrent_dataflows::facts::{DigestKey, Limits};
use undercurrent_dataflows::model::ModelSlot;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1;

use super::{Edge, EdgeSettings};
use crate::clock::EventClock;
use crate::config::Payload;
use crate::log::{EventLog, LogFull};
pub(crate) use crate::policy::{Access, AccessRule, Policy};
use crate::telemetry::EdgeMetrics;

/// Keeps every event, in order.
#[derive(Debug, Default)]
pub(crate) struct ListLog(Mutex<Vec<v1::Event>>);

impl ListLog {
    pub(crate) fn events(&self) -> Vec<v1::Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventLog for ListLog {
    fn append(&self, event: v1::Event) -> Result<Sequence, LogFull> {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        Ok(Sequence(events.len() as u64))
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        watch::channel(Sequence(0)).1
    }
}

/// An edge without a model, and its log.
pub(crate) fn edge() -> (Edge, Arc<ListLog>) {
    let log = Arc::new(ListLog::default());
    let settings = EdgeSettings {
        tenant: "default".into(),
        key: DigestKey::REPLAY,
        limits: Limits::default(),
        provenance_bytes_max: 1 << 20,
        sessions_max: 100,
        session_idle: Duration::from_secs(300),
        payload: Payload::None,
        left_out: LeftOut::default(),
    };
    let metrics = EdgeMetrics::register(&prometheus::Registry::new()).expect("a new registry");
    let edge = Edge::new(
        settings,
        Policy::default(),
        Arc::clone(&log) as Arc<dyn EventLog>,
        ModelSlot::default(),
        Arc::new(EventClock::default()),
        Arc::new(metrics),
        None,
    );
    (edge, log)
}
