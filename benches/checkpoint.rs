//! What a checkpoint costs: for how long a worker does nothing else, what the ticks feel of it that are taken meanwhile, and
//! how long a start takes that goes on from one.
//!
//! `cargo bench --bench checkpoint`. So many sessions are open at once, each with two answered calls; then 5,000 calls/s go
//! on, for a while without a checkpoint and until one is drawn. Traffic is synthetic.
//! `UNDERCURRENT_BENCH_SESSIONS` (100000,1000000), `UNDERCURRENT_BENCH_WORKERS` (1).
#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use prost::Message as _;
use undercurrent::checkpoint::Checkpoints;
use undercurrent::engine::Engine;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::{DigestKey, Limits, SessionFacts};
use undercurrent_dataflows::graph::{GraphSettings, Start, WindowSettings};
use undercurrent_dataflows::model::Publisher;
use undercurrent_dataflows::sessions::Settings;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick, partition_of};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::v1::{self, Direction, event::Body};

/// As in the binary: what is measured is what runs.
#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PARTITIONS: u32 = 8;
const SESSIONS_PER_TICK: u64 = 1_000;
const START_US: i64 = 1_760_000_000_000_000;
/// All sessions begin within this time: none is idle for long enough to end.
const SPREAD_US: i64 = 60_000_000;
/// The traffic that goes on: so many sessions make a call or two in each tick.
const TICK: Duration = Duration::from_millis(50);
const SESSIONS_GOING_ON: u64 = 125;
/// Ticks without a checkpoint.
const TICKS_BEFORE: usize = 100;
const TARGET_PAUSE_MS: f64 = 20.0;
const TARGET_RECOVERY_S: f64 = 10.0;

fn main() -> Result<()> {
    let sessions = std::env::var("UNDERCURRENT_BENCH_SESSIONS").unwrap_or_else(|_| "100000,1000000".to_owned());
    let workers = std::env::var("UNDERCURRENT_BENCH_WORKERS").unwrap_or_else(|_| "1".to_owned());
    let workers = workers.parse().context("UNDERCURRENT_BENCH_WORKERS is a number")?;
    for sessions in sessions.split(',') {
        one(sessions.trim().parse().context("UNDERCURRENT_BENCH_SESSIONS are numbers")?, workers)?;
    }
    Ok(())
}

fn settings() -> GraphSettings {
    GraphSettings {
        partitions: PARTITIONS,
        sessions: Settings::default(),
        windows: WindowSettings::default(),
        clusters: ClusterSettings::default(),
    }
}

fn one(sessions: u64, workers: usize) -> Result<()> {
    let (publisher, slot) = Publisher::new();
    let (opened, last_open) = channel();
    let engine = Engine::start(workers, settings(), slot, publisher, Vec::new(), move |_, output, _| {
        // The bench has gone where nobody listens.
        let _ = opened.send(output.open_sessions);
    })?;
    let (template, mut offsets) = (messages()?, [0_u64; PARTITIONS as usize]);
    let mut last = None;
    for n in 0..sessions.div_ceil(SESSIONS_PER_TICK) {
        let of_tick = n * SESSIONS_PER_TICK..sessions.min((n + 1) * SESSIONS_PER_TICK);
        let at = START_US + i64::try_from(of_tick.start)? * SPREAD_US / i64::try_from(sessions)?;
        let tick = Arc::new(tick(Tick(n + 1), of_tick, at, &template, &mut offsets));
        engine.feed(&tick)?;
        last = Some(tick);
    }
    let last = last.context("at least one session")?;
    engine.wait_for(last.tick)?;
    let open = last_open.try_iter().last().context("a tick has an output")?;

    let mut going_on = GoingOn { engine: &engine, last, sessions, template, offsets };
    let without = going_on.ticks(|n| n < TICKS_BEFORE)?;
    // A few, as the first has to find its memory.
    let (mut pauses, mut image, mut with, mut drawing) = (Vec::new(), None, Vec::new(), Duration::ZERO);
    for _ in 0..3 {
        let (made, making) = channel();
        let started = Instant::now();
        let done = move |drawn, pause| drop(made.send((drawn, pause, Instant::now())));
        engine.image(&going_on.last, done)?;
        let mut drawn = None;
        with.extend(going_on.ticks(|_| {
            drawn = drawn.take().or_else(|| making.try_recv().ok());
            drawn.is_none()
        })?);
        let (made, pause, at) = drawn.context("the engine has died")?;
        drawing = drawing.max(at - started);
        pauses.push(pause);
        image = Some(made);
    }
    engine.stop()?;
    let started = Instant::now();
    let image = image.context("three were made")?.image();
    let joined = started.elapsed();
    let bytes: usize = image.sections.iter().map(|section| section.bytes.len()).sum();
    let dir = tempfile::tempdir()?;
    let started = Instant::now();
    let entry = Checkpoints::open(dir.path())?.write(&image, None)?;
    let written = started.elapsed();
    drop(image);

    let started = Instant::now();
    let image = Checkpoints::look(dir.path())?.read(&entry)?;
    let read = started.elapsed();
    let starts = Start::deal(&image, &settings(), workers)?;
    let dealt = started.elapsed();
    let (publisher, slot) = Publisher::new();
    let engine = Engine::start(workers, settings(), slot, publisher, starts, |_, _, _| {})?;
    engine.wait_for(entry.tick)?;
    let recovered = started.elapsed();
    engine.stop()?;

    let worst = pauses.iter().max().copied().unwrap_or_default();
    println!(
        "{open} open sessions, {workers} workers: {} MiB of state, {} MiB on disk",
        bytes >> 20,
        entry.bytes >> 20
    );
    println!("  pause      {:.1} ms, the longest of three checkpoints (target {TARGET_PAUSE_MS} ms)", millis(worst));
    for (name, mut ticks) in [("without", without), ("meanwhile", with)] {
        ticks.sort_unstable();
        let (p50, p99, longest) = (ticks[ticks.len() / 2], ticks[ticks.len() * 99 / 100], ticks[ticks.len() - 1]);
        println!(
            "  {name:<10} p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms for a tick, of {}",
            millis(p50),
            millis(p99),
            millis(longest),
            ticks.len()
        );
    }
    println!(
        "  drawn      in {:.2} s between the ticks, put together in {:.2} s and written in {:.2} s on another thread",
        drawing.as_secs_f64(),
        joined.as_secs_f64(),
        written.as_secs_f64()
    );
    println!(
        "  recovery   {:.2} s from the file to live again (target {TARGET_RECOVERY_S} s): read {:.2}, taken apart {:.2}, begun {:.2}",
        recovered.as_secs_f64(),
        read.as_secs_f64(),
        (dealt - read).as_secs_f64(),
        (recovered - dealt).as_secs_f64()
    );
    Ok(())
}

/// Traffic at a steady pace, by sessions that are open.
struct GoingOn<'a> {
    engine: &'a Engine,
    last: Arc<CommittedTick>,
    sessions: u64,
    template: [v1::Message; 2],
    offsets: [u64; PARTITIONS as usize],
}

impl GoingOn<'_> {
    /// One tick after the other, for as long as it goes on: how long after it was due each is live.
    fn ticks(&mut self, mut goes_on: impl FnMut(usize) -> bool) -> Result<Vec<Duration>> {
        let (mut took, mut due) = (Vec::new(), Instant::now());
        while goes_on(took.len()) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let number = self.last.tick.0 + 1;
            let first =
                number.wrapping_mul(7_919 * SESSIONS_GOING_ON) % self.sessions.saturating_sub(SESSIONS_GOING_ON).max(1);
            let at = self.last.watermark.0 + i64::try_from(TICK.as_micros())?;
            let sessions = first..(first + SESSIONS_GOING_ON).min(self.sessions);
            self.last = Arc::new(tick(Tick(number), sessions, at, &self.template, &mut self.offsets));
            self.engine.feed(&self.last)?;
            self.engine.wait_for(self.last.tick)?;
            took.push(due.elapsed());
            due = (due + TICK).max(Instant::now());
        }
        Ok(took)
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

/// A call and its answer, as the edge sees them.
fn messages() -> Result<[v1::Message; 2]> {
    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_balance","arguments":{"account":"DE89370400440532013000","limit":20}}}"#;
    const ANSWER: &[u8] =
        br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"balance\":1200,\"currency\":\"EUR\"}"}]}}"#;
    let mut facts = SessionFacts::new(Limits::default());
    let mut read = |direction, bytes: &[u8]| {
        facts.observe(direction, bytes, &DigestKey::REPLAY).into_iter().next().context("one message")
    };
    Ok([read(Direction::ClientToServer, CALL)?, read(Direction::ServerToClient, ANSWER)?])
}

/// A tick in which these sessions make two calls each.
fn tick(
    tick: Tick,
    sessions: std::ops::Range<u64>,
    at: i64,
    template: &[v1::Message; 2],
    offsets: &mut [u64; PARTITIONS as usize],
) -> CommittedTick {
    let mut records = vec![Vec::new(); PARTITIONS as usize];
    for session in sessions {
        let session_id = format!("{:032x}", u128::from(session));
        let of = &mut records[partition_of(&session_id, PARTITIONS).0 as usize];
        for (n, message) in (0..).zip(template.iter().cycle().take(4)) {
            let event = v1::Event {
                ts_us: at + n * 1_000,
                tenant: "default".into(),
                principal: format!("principal-{}", session % 1_000),
                session_id: session_id.clone(),
                server: format!("server-{}", session % 4),
                body: Some(Body::Message(Box::new(message.clone()))),
                ..v1::Event::default()
            };
            of.push(event.encode_to_vec());
        }
    }
    let batches = (0..).zip(records).zip(offsets).map(|((partition, records), offset)| {
        let first_offset = Offset(*offset);
        *offset += records.len() as u64;
        LogBatch { partition: Partition(partition), first_offset, records }
    });
    CommittedTick { tick, watermark: Micros(at), batches: batches.filter(|batch| !batch.records.is_empty()).collect() }
}
