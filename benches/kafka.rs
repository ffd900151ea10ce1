//! What the log on Kafka costs, each beside a bare client of rdkafka in the same run: the way of events to the brokers, the
//! engine from the topics in one process and in two, and how soon what a gateway knows to be durable is live.
//!
//! `cargo bench --bench kafka`. The broker is that of `$KAFKA_BOOTSTRAP`, or one that is started for the bench from what
//! `tests/parts/install.sh` fetched; it runs on the same cores. `UNDERCURRENT_BENCH_CALLS` (100000) and
//! `UNDERCURRENT_BENCH_ROUNDS` (5) change the effort.
#![allow(clippy::print_stdout, reason = "the table is the result")]

#[path = "kafka/learn.rs"]
mod learn;
#[path = "kafka/live.rs"]
mod live;
#[path = "kafka/produce.rs"]
mod produce;
#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "the tests use what the bench does not")]
mod support;
#[path = "support/traffic.rs"]
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use undercurrent::config::Properties;
use undercurrent::log::{Brokers, EmbeddedLog, KafkaOptions, LogOptions};

use support::kafka::Kafka;

/// As in the binary: what is measured is what runs.
#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Calls of a tick: 20,000 calls/s.
const CALLS_PER_TICK: u64 = 1_000;
/// Records/s from encoded to delivered.
const TARGET_PRODUCE: f64 = 200_000.0;
/// Of the smaller of the engine's rate from the embedded log and a bare consumer's.
const TARGET_ENGINE: f64 = 0.6;
/// From durable to live at 10,000 messages/s.
const TARGET_LIVE_MS: f64 = 150.0;

fn main() -> Result<()> {
    if let Some(share) = learn::asked()? {
        return share.run();
    }
    let calls = traffic::number("UNDERCURRENT_BENCH_CALLS", 100_000)?;
    let rounds = traffic::number("UNDERCURRENT_BENCH_ROUNDS", 5)?.max(1) as usize;
    let only = std::env::var("UNDERCURRENT_BENCH_ONLY").ok();
    let is_asked = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let kafka = Kafka::shared();
    let dir = tempfile::tempdir()?;
    if is_asked("produce") || is_asked("engine") {
        let embedded = Arc::new(EmbeddedLog::open(&dir.path().join("embedded"), LogOptions::replay())?);
        traffic::fill(&embedded, calls, CALLS_PER_TICK)?;
        if is_asked("produce") {
            produce::measure(&kafka, &embedded, rounds)?;
        }
        if is_asked("engine") {
            learn::measure(&kafka, &embedded, calls, rounds)?;
        }
    }
    if is_asked("live") {
        let (p50, p99) = live::measure(&kafka, &dir.path().join("live"))?;
        println!(
            "live      p50 {p50:.1} ms, p99 {p99:.1} ms from durable to live at 10,000 messages/s (target {TARGET_LIVE_MS})"
        );
    }
    Ok(())
}

/// The log on these topics.
fn options(servers: &str, prefix: &str, tick: Duration) -> KafkaOptions {
    KafkaOptions {
        brokers: Brokers { servers: servers.to_owned(), prefix: prefix.to_owned(), properties: Properties::default() },
        replication: 1,
        spill_bytes_max: 1 << 30,
        spill_after: Duration::from_secs(10),
        derived_topics: Vec::new(),
        heartbeats: false,
        log: LogOptions { tick, ..LogOptions::default() },
        metrics: None,
    }
}

/// The middle of some figures.
fn median(figures: &[f64]) -> Result<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().context("no figures")
}
