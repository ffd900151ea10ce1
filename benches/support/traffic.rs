//! Synthetic, seeded traffic: sessions of 8 calls over 4 servers and 16 tools, one argument in four from an earlier result,
//! as the edge's own facts see it, each call with the verdict of the model that was live.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use undercurrent::clock::EventClock;
use undercurrent::config::Payload;
use undercurrent::edge::{Edge, EdgeSettings, SessionKey, SessionRef, Transport};
use undercurrent::engine::Engine;
use undercurrent::log::{EmbeddedLog, EventLog, LogOptions};
use undercurrent::policy::Policy;
use undercurrent::telemetry::EdgeMetrics;
use undercurrent_dataflows::assess::LeftOut;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::{DigestKey, Limits};
use undercurrent_dataflows::graph::{GraphSettings, WindowSettings};
use undercurrent_dataflows::model::{ModelSlot, Publisher};
use undercurrent_dataflows::sessions::Settings;
use undercurrent_schemas::ids::{Micros, Tick};

const CALLS_PER_SESSION: u64 = 8;
const OPEN_SESSIONS: u64 = 1_000;
const START_US: i64 = 1_760_000_000_000_000;

/// A setting of the bench, from the environment.
pub(crate) fn number(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is a number")),
        Err(_) => Ok(usual),
    }
}

/// The session of the n-th call, and whether it is its last. A thousand are open at a time, and of a thousand calls one in
/// eight is a session's last: were it all of them at once, how soon what is durable is live would be told by that tick.
fn session_of(n: u64) -> (u64, bool) {
    let (place, round) = (n % OPEN_SESSIONS, n / OPEN_SESSIONS + n % OPEN_SESSIONS % CALLS_PER_SESSION);
    let session = round / CALLS_PER_SESSION * OPEN_SESSIONS + place;
    (session, round % CALLS_PER_SESSION == CALLS_PER_SESSION - 1)
}

/// The n-th call of the bench, and its answer.
pub(crate) fn exchange(n: u64) -> (SessionRef, Vec<u8>, Vec<u8>) {
    let mix = undercurrent_schemas::ids::stable_hash(&[&n.to_le_bytes()]);
    let (session, _) = session_of(n);
    let (server, tool) = (session % 4, mix % 16);
    let own = format!("item-{}-{}", session, mix % 1_000);
    let sourced = format!(
        "item-{}-{}",
        session,
        undercurrent_schemas::ids::stable_hash(&[&n.saturating_sub(1_000).to_le_bytes()]) % 1_000
    );
    let value = if mix.is_multiple_of(4) { &sourced } else { &own };
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"tool_{tool}","arguments":{{"key":"{value}","limit":{},"mode":"m{}","note":"the {}th request"}}}}}}"#,
        mix % 50,
        mix % 3,
        n
    );
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":{n},"result":{{"content":[{{"type":"text","text":"{{\"key\":\"{own}\",\"owner\":\"user{}@example.com\",\"size\":{}}}"}}]}}}}"#,
        mix % 40,
        mix % 100_000
    );
    let session = SessionRef {
        server: format!("server-{server}").into(),
        key: SessionKey::Recorded(format!("session-{session}")),
        principal: format!("principal-{}", session % 100).into(),
        transport: Transport::Tcp,
    };
    (session, call.into_bytes(), answer.into_bytes())
}

/// The edge in front of a log.
pub(crate) fn edge(log: Arc<dyn EventLog>, slot: ModelSlot) -> Result<Edge> {
    let settings = EdgeSettings {
        tenant: "default".into(),
        key: DigestKey::REPLAY,
        limits: Limits::default(),
        provenance_bytes_max: 256 << 20,
        sessions_max: usize::MAX,
        session_idle: Duration::from_secs(300),
        payload: Payload::None,
        left_out: LeftOut::default(),
    };
    let metrics = Arc::new(EdgeMetrics::register(&prometheus::Registry::new())?);
    Ok(Edge::new(settings, Policy::default(), log, slot, Arc::new(EventClock::default()), metrics, None))
}

/// The n-th call and its answer pass the edge; of each session the last one ends it.
pub(crate) fn pass(edge: &Edge, n: u64, ts: Micros) {
    let (session, call, answer) = exchange(n);
    let session = edge.session_at(&session, ts);
    // Used up at once, so that the log has the call before its answer.
    drop(session.client_message_at(&call, ts));
    session.server_message_at(&answer, ts.plus(5_000));
    if session_of(n).1 {
        session.end_at(ts.plus(6_000));
    }
}

pub(crate) fn graph() -> GraphSettings {
    GraphSettings {
        partitions: LogOptions::default().partitions,
        sessions: Settings::default(),
        windows: WindowSettings::default(),
        clusters: ClusterSettings::default(),
    }
}

/// Brings the traffic into the log through the edge, tick by tick, while a first engine makes the models that it is
/// assessed by.
pub(crate) fn fill(log: &Arc<EmbeddedLog>, calls: u64, calls_per_tick: u64) -> Result<()> {
    let (publisher, slot) = Publisher::new();
    let engine = Engine::start(1, graph(), slot.clone(), publisher, Vec::new(), |_, _, _| {})?;
    let edge = edge(Arc::clone(log) as Arc<dyn EventLog>, slot)?;
    let mut tail = log.tail(None);
    for n in 0..calls {
        let ts = Micros(START_US + (n * 1_000_000 / 20_000) as i64);
        pass(&edge, n, ts);
        if (n + 1) % calls_per_tick == 0 {
            let tick = Tick(n / calls_per_tick + 1);
            log.commit(tick, ts)?;
            engine.feed(&tail.next(Duration::ZERO)?.context("a tick")?)?;
            engine.wait_for(tick)?;
        }
    }
    log.commit(Tick(calls / calls_per_tick + 2), Micros(i64::MAX))?;
    engine.stop()?;
    Ok(())
}
