//! What learning and deciding cost: the engine from the embedded log, alone and with the history behind it, how soon what
//! is durable is live, and a decision on the request path.
//!
//! `cargo bench --bench engine`. Traffic is synthetic and seeded: sessions of 8 calls over 4 servers and 16 tools, one
//! argument in four from an earlier result, as the edge's own facts see it, each call with the verdict of the model that
//! was live. `UNDERCURRENT_BENCH_CALLS` (200000), `UNDERCURRENT_BENCH_TICK` calls a tick (1000: 20,000 calls/s).
#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use undercurrent::clock::EventClock;
use undercurrent::config::Payload;
use undercurrent::edge::{Edge, EdgeSettings, SessionKey, SessionRef, Transport};
use undercurrent::engine::Engine;
use undercurrent::history::{History, HistoryOptions, HistoryWriter, Retries};
use undercurrent::log::{EmbeddedLog, EventLog, LogOptions};
use undercurrent::policy::{Asked, Policy, decide};
use undercurrent::pump::rows_of;
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
const OPEN_SESSIONS: u64 = 1_000;
const START_US: i64 = 1_760_000_000_000_000;
/// Targets: calls/s on one worker, and microseconds.
const TARGET_RATE: f64 = 150_000.0;
const TARGET_DECIDE_US: (f64, f64) = (2.0, 10.0);
/// A tick and 20 ms.
const TARGET_FRESH_MS: f64 = 70.0;
/// Of the traffic whose freshness is measured.
const FRESH_CALLS_PER_S: u64 = 20_000;
const FRESH_FOR: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let calls = number("UNDERCURRENT_BENCH_CALLS", 200_000)?;
    let calls_per_tick = number("UNDERCURRENT_BENCH_TICK", 1_000)?.max(1);
    let dir = tempfile::tempdir()?;
    let log = Arc::new(EmbeddedLog::open(&dir.path().join("log"), LogOptions::replay())?);
    fill(&log, calls, calls_per_tick)?;
    println!("log          {calls} calls, {calls_per_tick} a tick, each with its verdict");
    let (models, alone) = learn(&log, None)?;
    let speed = rate(calls, alone);
    println!("engine       {speed:.0} calls/s on one worker, everything on but files (target {TARGET_RATE:.0})");
    let history = History::open(&dir.path().join("history"), HistoryOptions::replay())?;
    let (_, written) = learn(&log, Some(history))?;
    let speed = rate(calls, written);
    println!("with history {speed:.0} calls/s, every table written as Parquet by a second thread");
    let (p50, p99) = freshness(&dir.path().join("fresh"))?;
    println!(
        "freshness    p50 {p50:.1} ms, p99 {p99:.1} ms from durable to live at {FRESH_CALLS_PER_S} calls/s (target {TARGET_FRESH_MS})"
    );
    let (p50, p99) = decisions(&models)?;
    let (target_p50, target_p99) = TARGET_DECIDE_US;
    println!("decide       p50 {p50:.2} us, p99 {p99:.2} us, facts to verdict (targets {target_p50} and {target_p99})");
    Ok(())
}

fn number(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is a number")),
        Err(_) => Ok(usual),
    }
}

fn rate(calls: u64, took: Duration) -> f64 {
    calls as f64 / took.as_secs_f64()
}

/// The session of the n-th call, and whether it is its last. A thousand are open at a time, and of a thousand calls one in
/// eight is a session's last: were it all of them at once, how soon what is durable is live would be told by that tick.
fn session_of(n: u64) -> (u64, bool) {
    let (place, round) = (n % OPEN_SESSIONS, n / OPEN_SESSIONS + n % OPEN_SESSIONS % CALLS_PER_SESSION);
    let session = round / CALLS_PER_SESSION * OPEN_SESSIONS + place;
    (session, round % CALLS_PER_SESSION == CALLS_PER_SESSION - 1)
}

/// The n-th call of the bench, and its answer.
fn exchange(n: u64) -> (SessionRef, Vec<u8>, Vec<u8>) {
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
fn edge(log: &Arc<EmbeddedLog>, slot: ModelSlot) -> Result<Edge> {
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
    let to = Arc::clone(log) as Arc<dyn EventLog>;
    Ok(Edge::new(settings, Policy::default(), to, slot, Arc::new(EventClock::default()), metrics, None))
}

/// The n-th call and its answer pass the edge; of each session the last one ends it.
fn pass(edge: &Edge, n: u64, ts: Micros) {
    let (session, call, answer) = exchange(n);
    let session = edge.session_at(&session, ts);
    // Used up at once, so that the log has the call before its answer.
    drop(session.client_message_at(&call, ts));
    session.server_message_at(&answer, ts.plus(5_000));
    if session_of(n).1 {
        session.end_at(ts.plus(6_000));
    }
}

fn graph() -> GraphSettings {
    GraphSettings {
        partitions: LogOptions::default().partitions,
        sessions: Settings::default(),
        windows: WindowSettings::default(),
        clusters: ClusterSettings::default(),
    }
}

/// Brings the traffic into the log through the edge, tick by tick, while a first engine makes the models that it is
/// assessed by.
fn fill(log: &Arc<EmbeddedLog>, calls: u64, calls_per_tick: u64) -> Result<()> {
    let (publisher, slot) = Publisher::new();
    let engine = Engine::start(1, graph(), slot.clone(), publisher, Vec::new(), |_, _, _| {})?;
    let edge = edge(log, slot)?;
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

/// Takes the whole log through one worker, into a history if there is one.
fn learn(log: &EmbeddedLog, history: Option<History>) -> Result<(ModelSlot, Duration)> {
    let (publisher, slot) = Publisher::new();
    let history = history.map(|history| HistoryWriter::spawn(history, 256, Retries::default())).transpose()?;
    let queue = history.as_ref().map(HistoryWriter::queue);
    let engine = Engine::start(1, graph(), slot.clone(), publisher, Vec::new(), move |tick, output, _| {
        if let Some(queue) = &queue {
            // A history that has stopped says why when it is finished.
            let _ = queue.send(rows_of(&tick, output));
        }
    })?;
    let mut tail = log.tail(None);
    let started = Instant::now();
    while let Some(tick) = tail.next(Duration::ZERO)? {
        engine.feed(&tick)?;
    }
    engine.stop()?;
    if let Some(history) = history {
        history.finish()?;
    }
    Ok((slot, started.elapsed()))
}

/// Percentiles, in milliseconds, of the time from a tick's commit to its model, while traffic comes at a steady pace.
fn freshness(dir: &Path) -> Result<(f64, f64)> {
    let log = Arc::new(EmbeddedLog::open(dir, LogOptions::default())?);
    let (publisher, slot) = Publisher::new();
    let (live, lives) = std::sync::mpsc::channel();
    let engine = Engine::start(1, graph(), slot.clone(), publisher, Vec::new(), move |_, _, _| {
        // Whoever waited for it has gone.
        let _ = live.send(Instant::now());
    })?;
    let mut tail = log.tail(None);
    let reader = std::thread::spawn(move || -> Result<Vec<Instant>> {
        let mut durable = Vec::new();
        while !tail.is_ended() {
            if let Some(tick) = tail.next(Duration::from_millis(100))? {
                durable.push(Instant::now());
                engine.feed(&tick)?;
            }
        }
        engine.stop()?;
        Ok(durable)
    });
    let edge = edge(&log, slot)?;
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < FRESH_FOR {
        let due = (started.elapsed().as_secs_f64() * FRESH_CALLS_PER_S as f64) as u64;
        while n < due {
            pass(&edge, n, log.clock().now());
            n += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    log.close()?;
    let durable = reader.join().map_err(|_| anyhow::anyhow!("the reader died"))??;
    let mut took: Vec<f64> = durable.iter().zip(lives).map(|(from, to)| (to - *from).as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    Ok((took[took.len() / 2], took[took.len() * 99 / 100]))
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
