//! What learning and deciding cost: the engine from the embedded log, and a decision on the request path.
//!
//! `cargo bench --bench engine`. Traffic is synthetic and seeded: sessions of 8 calls over 4 servers and 16 tools, one
//! argument in four from an earlier result, as the edge's own facts see it. `UNDERCURRENT_BENCH_CALLS` (200000).
#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use undercurrent::clock::EventClock;
use undercurrent::config::Payload;
use undercurrent::edge::{Edge, EdgeSettings, SessionKey, SessionRef, Transport};
use undercurrent::engine::Engine;
use undercurrent::log::{EmbeddedLog, EventLog, LogOptions};
use undercurrent::policy::{Asked, Policy, decide};
use undercurrent::telemetry::EdgeMetrics;
use undercurrent_dataflows::assess::{LeftOut, assess};
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::{DigestKey, Limits, SessionFacts};
use undercurrent_dataflows::graph::{GraphSettings, WindowSettings};
use undercurrent_dataflows::model::{ModelSlot, Publisher, name_hash};
use undercurrent_dataflows::session::{CallFact, Past};
use undercurrent_dataflows::sessions::Settings;
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::v1::Direction;

/// As in the binary: what is measured is what runs.
#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CALLS_PER_SESSION: u64 = 8;
const CALLS_PER_TICK: u64 = 1_000;
const START_US: i64 = 1_760_000_000_000_000;
/// Targets: calls/s on one worker, and microseconds.
const TARGET_RATE: f64 = 60_000.0;
const TARGET_DECIDE_US: f64 = 5.0;

fn main() -> Result<()> {
    let calls = match std::env::var("UNDERCURRENT_BENCH_CALLS") {
        Ok(text) => text.parse().context("UNDERCURRENT_BENCH_CALLS is a number")?,
        Err(_) => 200_000,
    };
    let dir = tempfile::tempdir()?;
    let log = EmbeddedLog::open(dir.path(), LogOptions::replay())?;
    let log = Arc::new(log);
    let filled = fill(&log, calls)?;
    println!(
        "log          {calls} calls appended and committed in {:.2} s: {:.0} calls/s",
        filled.as_secs_f64(),
        rate(calls, filled)
    );
    let (models, learned) = learn(&log)?;
    let speed = rate(calls, learned);
    println!("engine       {speed:.0} calls/s on one worker, scoring and learning included (target {TARGET_RATE:.0})");
    let (p50, p99) = decisions(&models)?;
    println!("decide       p50 {p50:.2} us, p99 {p99:.2} us, facts to verdict (target p50 {TARGET_DECIDE_US})");
    Ok(())
}

fn rate(calls: u64, took: Duration) -> f64 {
    calls as f64 / took.as_secs_f64()
}

/// The n-th call of the bench, and its answer.
fn exchange(n: u64) -> (SessionRef, Vec<u8>, Vec<u8>) {
    let mix = undercurrent_schemas::ids::stable_hash(&[&n.to_le_bytes()]);
    // Sessions overlap: a thousand are open at a time.
    let session = n / (CALLS_PER_SESSION * 1_000) * 1_000 + n % 1_000;
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

/// Brings the traffic into the log through the edge, tick by tick.
fn fill(log: &Arc<EmbeddedLog>, calls: u64) -> Result<Duration> {
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
    let clock = Arc::new(EventClock::default());
    let to = Arc::clone(log) as Arc<dyn EventLog>;
    let edge = Edge::new(settings, Policy::default(), to, ModelSlot::default(), clock, metrics, None);
    let started = Instant::now();
    for n in 0..calls {
        let ts = Micros(START_US + (n * 1_000_000 / 20_000) as i64);
        let (session, call, answer) = exchange(n);
        let session = edge.session_at(&session, ts);
        // Used up at once, so that the log has the call before its answer.
        drop(session.client_message_at(&call, ts));
        session.server_message_at(&answer, ts.plus(5_000));
        if n / 1_000 % CALLS_PER_SESSION == CALLS_PER_SESSION - 1 {
            session.end_at(ts.plus(6_000));
        }
        if (n + 1) % CALLS_PER_TICK == 0 {
            log.commit(Tick(n / CALLS_PER_TICK + 1), ts)?;
        }
    }
    log.commit(Tick(calls / CALLS_PER_TICK + 2), Micros(i64::MAX))?;
    Ok(started.elapsed())
}

/// Takes the whole log through one worker.
fn learn(log: &EmbeddedLog) -> Result<(ModelSlot, Duration)> {
    let settings = GraphSettings {
        partitions: LogOptions::default().partitions,
        sessions: Settings::default(),
        windows: WindowSettings::default(),
        clusters: ClusterSettings::default(),
    };
    let (publisher, slot) = Publisher::new();
    let (done, mut rows) = watch::channel(0_usize);
    let engine = Engine::start(1, settings, slot.clone(), publisher, Vec::new(), move |_, output, _| {
        done.send_modify(|rows| *rows += output.calls.len() + output.features.len());
    })?;
    let mut tail = log.tail(None);
    let started = Instant::now();
    while let Some(tick) = tail.next(Duration::ZERO)? {
        engine.feed(&tick)?;
    }
    engine.stop()?;
    let took = started.elapsed();
    println!("             {} rows of calls and features", *rows.borrow_and_update());
    Ok((slot, took))
}

/// Percentiles of a decision, in microseconds: hash the facts, assess by the live model, decide.
fn decisions(models: &ModelSlot) -> Result<(f64, f64)> {
    let policy = Policy::default();
    let mut facts = SessionFacts::new(Limits::default());
    let scope = name_hash(&["server-1"]);
    let mut took = Vec::new();
    for n in 0..100_000 {
        let (_, call, answer) = exchange(n * 4 + 1);
        let messages = facts.observe(Direction::ClientToServer, &call, &DigestKey::REPLAY);
        let message = messages.first().context("one message")?;
        let started = Instant::now();
        let model = models.load();
        let fact = CallFact::of(message, Micros(0), 0, |_, _| {}).context("a call")?;
        let call = message.call.as_ref().context("a call has facts")?;
        let past = Past::of(call);
        let names = |hash| model.as_ref().and_then(|model| model.name(hash)).map(|name| Cow::Borrowed(&**name));
        let assessment = assess(model.as_deref(), scope, past, &fact, &names);
        let asked = Asked {
            principal: "agent",
            server: "server-1",
            tool: &message.target,
            fingerprint: call.fingerprint,
            p_value: assessment.p_value(),
        };
        let decision = decide(&asked, &policy);
        took.push(started.elapsed().as_nanos() as f64 / 1_000.0);
        std::hint::black_box(decision);
        facts.observe(Direction::ServerToClient, &answer, &DigestKey::REPLAY);
    }
    took.sort_by(f64::total_cmp);
    Ok((took[took.len() / 2], took[took.len() * 99 / 100]))
}
