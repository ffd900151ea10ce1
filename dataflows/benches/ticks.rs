//! What learning costs without log and files: a closed tick, an assessment, and the memory of open sessions.
//!
//! `cargo bench --bench ticks`. Traffic is synthetic and seeded, as in the binary's `engine` bench: sessions of 8 calls
//! over 4 servers and 16 tools, every call with a verdict of the live model. `UNDERCURRENT_BENCH_TICKS` (200) of 1,000
//! calls; `UNDERCURRENT_BENCH_SESSIONS` (1000000) that are open at once.
#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use timely::worker::Worker;
use undercurrent_dataflows::assess::{Assessment, assess};
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::{DigestKey, Limits, SessionFacts};
use undercurrent_dataflows::graph::{Graph, GraphSettings, WindowSettings};
use undercurrent_dataflows::model::{ModelSlot, Publisher, name_hash};
use undercurrent_dataflows::session::{CallFact, Past, none};
use undercurrent_dataflows::sessions::Settings;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick, partition_of, stable_hash};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::v1::{self, Direction, event::Body};

/// As in the binary: what is measured is what runs.
#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PARTITIONS: u32 = 8;
const CALLS_PER_SESSION: u64 = 8;
const CALLS_PER_TICK: u64 = 1_000;
const START_US: i64 = 1_760_000_000_000_000;
/// Recorded time of a tick: 20,000 calls a second.
const TICK_US: i64 = 50_000;

fn main() {
    // `cargo test --benches` only wants to see it start.
    let full = std::env::args().any(|argument| argument == "--bench");
    let number = |name: &str, of: u64| match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => of,
    };
    let ticks = if full { number("UNDERCURRENT_BENCH_TICKS", 200) } else { 2 };
    let sessions = if full { number("UNDERCURRENT_BENCH_SESSIONS", 1_000_000) } else { 1_000 };
    timely::execute_directly(move |worker| closed_ticks(worker, ticks));
    if sessions > 0 {
        timely::execute_directly(move |worker| open_sessions(worker, sessions));
    }
}

/// A worker's graph, and what is in front of it.
struct Learner {
    graph: Graph,
    slot: ModelSlot,
    traffic: Traffic,
}

impl Learner {
    fn new(worker: &mut Worker) -> Self {
        let settings = GraphSettings {
            partitions: PARTITIONS,
            sessions: Settings::default(),
            windows: WindowSettings::default(),
            clusters: ClusterSettings::default(),
        };
        let (publisher, slot) = Publisher::new();
        let graph = Graph::build(worker, &settings, &slot, Some(publisher), None);
        Self { graph, slot, traffic: Traffic::default() }
    }
}

/// The edge of this bench: events by partition, as a log has them.
#[derive(Default)]
struct Traffic {
    sequence: u64,
    records: Vec<Vec<Vec<u8>>>,
    ends: Vec<u64>,
    assessed_us: Vec<f64>,
}

impl Traffic {
    fn say(&mut self, session: u64, ts: i64, body: Body) {
        self.sequence += 1;
        let session_id = format!("session-{session}");
        let partition = partition_of(&session_id, PARTITIONS).0 as usize;
        let event = v1::Event {
            id: Some(v1::EventId { gateway: 1, epoch: 1, sequence: self.sequence }),
            ts_us: ts,
            tenant: "default".to_owned(),
            principal: format!("principal-{}", session % 100),
            session_id,
            server: format!("server-{}", session % 4),
            digest_key: 0,
            body: Some(body),
        };
        self.records.resize(PARTITIONS as usize, Vec::new());
        self.records[partition].push(event.encode_to_vec());
    }

    /// The nth call of all, by a session, and its answer.
    fn exchange(&mut self, n: u64, session: u64, ts: i64, facts: &mut SessionFacts, slot: &ModelSlot) {
        let mix = stable_hash(&[&n.to_le_bytes()]);
        let own = format!("item-{session}-{}", mix % 1_000);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"tool_{}","arguments":{{"key":"{own}","limit":{},"mode":"m{}","note":"the {n}th request"}}}}}}"#,
            mix % 16,
            mix % 50,
            mix % 3,
        );
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{n},"result":{{"content":[{{"type":"text","text":"{{\"key\":\"{own}\",\"owner\":\"user{}@example.com\",\"size\":{}}}"}}]}}}}"#,
            mix % 40,
            mix % 100_000
        );
        for mut message in facts.observe(Direction::ClientToServer, call.as_bytes(), &DigestKey::REPLAY) {
            let assessment = self.assessed(&message, session, ts, slot).into_wire();
            let decision = v1::Decision::Allow.into();
            message.verdict = Some(v1::Verdict { decision, enforced: false, assessment });
            self.say(session, ts, Body::Message(Box::new(message)));
        }
        for message in facts.observe(Direction::ServerToClient, answer.as_bytes(), &DigestKey::REPLAY) {
            self.say(session, ts + 5_000, Body::Message(Box::new(message)));
        }
    }

    fn assessed(&mut self, message: &v1::Message, session: u64, ts: i64, slot: &ModelSlot) -> Assessment {
        let started = Instant::now();
        let model = slot.load();
        let fact = CallFact::of(message, Micros(ts), 0, |_, _| {}).expect("a call");
        let call = message.call.as_ref().expect("a call has facts");
        let before = |at: usize| call.previous_tools.get(at).map_or_else(none, |tool| name_hash(&[tool]));
        let past = Past { previous: before(0), before: before(1), earlier: &call.earlier_tools };
        let names = |hash| model.as_ref().and_then(|model| model.name(hash)).map(|name| Cow::Borrowed(&**name));
        let scope = name_hash(&[&format!("server-{}", session % 4)]);
        let assessment = assess(model.as_deref(), scope, past, &fact, &names);
        if model.is_some() {
            self.assessed_us.push(started.elapsed().as_secs_f64() * 1e6);
        }
        assessment
    }

    fn tick(&mut self, tick: u64) -> Arc<CommittedTick> {
        self.ends.resize(PARTITIONS as usize, 0);
        let mut batches = Vec::new();
        for ((partition, end), records) in (0..).zip(&mut self.ends).zip(&mut self.records) {
            let records = std::mem::take(records);
            let first_offset = Offset(*end);
            *end += records.len() as u64;
            if !records.is_empty() {
                batches.push(LogBatch { partition: Partition(partition), first_offset, records });
            }
        }
        let watermark = Micros(START_US + tick as i64 * TICK_US);
        Arc::new(CommittedTick { tick: Tick(tick), watermark, batches })
    }
}

/// A thousand sessions are open at a time; each makes a call a tick, and one in eight begins and ends.
fn closed_ticks(worker: &mut Worker, ticks: u64) {
    let mut learner = Learner::new(worker);
    let mut facts: Vec<_> = (0..CALLS_PER_TICK).map(|_| SessionFacts::new(Limits::default())).collect();
    let (mut took, mut rows) = (Vec::new(), 0);
    for tick in 1..=ticks {
        let Learner { graph, slot, traffic } = &mut learner;
        let ts = START_US + tick as i64 * TICK_US;
        for place in 0..CALLS_PER_TICK {
            let round = tick + place % CALLS_PER_SESSION;
            let session = round / CALLS_PER_SESSION * CALLS_PER_TICK + place;
            let facts = &mut facts[place as usize];
            traffic.exchange(tick * CALLS_PER_TICK + place, session, ts, facts, slot);
            if round % CALLS_PER_SESSION == CALLS_PER_SESSION - 1 {
                traffic.say(session, ts + 6_000, Body::SessionEnd(v1::SessionEnd {}));
                *facts = SessionFacts::new(Limits::default());
            }
        }
        let committed = traffic.tick(tick);
        let started = Instant::now();
        graph.step(worker, &committed);
        drop(committed);
        took.push(started.elapsed().as_secs_f64() * 1e3);
        let outputs = graph.take_outputs();
        rows += outputs
            .iter()
            .map(|output| output.calls.len() + output.features.len() + output.models.len())
            .sum::<usize>();
    }
    // Past the start, when all is new.
    let mut steady = took.split_off(took.len() / 2);
    let mean = steady.iter().sum::<f64>() / steady.len() as f64;
    let (p50, p99) = percentiles(&mut steady);
    println!(
        "tick         of {CALLS_PER_TICK} calls: mean {mean:.2} ms, p50 {p50:.2} ms, p99 {p99:.2} ms (target 5 ms)"
    );
    println!("             = {:.0} calls/s of the dataflow alone; {rows} rows", CALLS_PER_TICK as f64 / mean * 1e3);
    let (p50, p99) = percentiles(&mut learner.traffic.assessed_us);
    println!("assess       p50 {p50:.2} us, p99 {p99:.2} us (targets 2 and 10)");
}

/// Sessions of two calls that stay open.
fn open_sessions(worker: &mut Worker, sessions: u64) {
    let mut learner = Learner::new(worker);
    let before = resident_bytes();
    let Learner { graph, slot, traffic } = &mut learner;
    for tick in 1..=sessions.div_ceil(CALLS_PER_TICK) {
        for session in (tick - 1) * CALLS_PER_TICK..(tick * CALLS_PER_TICK).min(sessions) {
            let mut facts = SessionFacts::new(Limits::default());
            for call in 0..2 {
                traffic.exchange(2 * session + call, session, START_US + tick as i64 * TICK_US, &mut facts, slot);
            }
        }
        graph.step(worker, &traffic.tick(tick));
        let outputs = graph.take_outputs();
        if tick * CALLS_PER_TICK >= sessions {
            println!("open         {} sessions", outputs.last().map_or(0, |output| output.open_sessions));
        }
    }
    let used = resident_bytes().saturating_sub(before) as f64;
    println!(
        "memory       {:.2} GiB = {:.0} bytes an open session of two calls (target 2 GiB for 1000000)",
        used / f64::from(1 << 30),
        used / sessions as f64
    );
}

fn percentiles(of: &mut [f64]) -> (f64, f64) {
    of.sort_by(f64::total_cmp);
    let at = |share: usize| of.get(of.len() * share / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

/// Of this process; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
