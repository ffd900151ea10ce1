//! What learning and deciding cost: the engine from the embedded log, alone and with the history behind it, how soon what
//! is durable is live, and a decision on the request path.
//!
//! `cargo bench --bench engine`. Traffic is synthetic and seeded: sessions of 8 calls over 4 servers and 16 tools, one
//! argument in four from an earlier result, as the edge's own facts see it, each call with the verdict of the model that
//! was live. `UNDERCURRENT_BENCH_CALLS` (200000), `UNDERCURRENT_BENCH_TICK` calls a tick (1000: 20,000 calls/s).
#![allow(clippy::print_stdout, reason = "the table is the result")]

#[path = "support/traffic.rs"]
mod traffic;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use undercurrent::engine::Engine;
use undercurrent::history::{History, HistoryOptions, HistoryWriter, Retries};
use undercurrent::log::{EmbeddedLog, EventLog, LogOptions};
use undercurrent::policy::{Asked, Policy, decide};
use undercurrent::pump::rows_of;
use undercurrent_dataflows::assess::assess;
use undercurrent_dataflows::facts::{DigestKey, Limits, SessionFacts};
use undercurrent_dataflows::model::{ModelSlot, Publisher, name_hash};
use undercurrent_dataflows::session::{CallFact, Past};
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1::Direction;

use traffic::{edge, exchange, fill, graph, number, pass};

/// As in the binary: what is measured is what runs.
#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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

fn rate(calls: u64, took: Duration) -> f64 {
    calls as f64 / took.as_secs_f64()
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
    let edge = edge(Arc::clone(&log) as Arc<dyn EventLog>, slot)?;
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
