//! Windowed aggregation alone: from a CSV file of reports (`server,ts_us,latency_us`, by time) to the calls and their
//! latency for each server and 10 s, as differences that later reports may take back.
//!
//! `cargo bench --bench windows -- FILE`. Parsing is included; ticks are of 10 000 reports. What other engines need for the
//! same is in `benches/peers`.
#![allow(clippy::print_stdout, reason = "the line is the result")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use undercurrent_dataflows::graph::{EntityKey, Window, WindowSettings, Windowed};
use undercurrent_dataflows::reports::Reported;
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::rows::{EntityKind, ReportedSums};

/// As in the binary: what is measured is what runs.
#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TEN_SECONDS_US: i64 = 10_000_000;
/// Reports of one tick.
const TICK: usize = 10_000;

fn main() {
    let Some(path) = std::env::args().nth(1).filter(|argument| !argument.starts_with("--")) else {
        return println!("windows      give it a file of reports: benches/peers/run.sh makes one");
    };
    let settings = WindowSettings {
        windows: Arc::new([Window { size_us: TEN_SECONDS_US, hop_us: TEN_SECONDS_US }]),
        lateness_us: 20_000_000,
    };
    timely::execute_directly(move |worker| {
        let mut windows = Windowed::build(worker, &settings);
        let mut rows = BTreeMap::new();
        let started = Instant::now();
        let text = std::fs::read_to_string(&path).expect("a file of reports");
        let mut reports = text.lines().skip(1).map(reported);
        let tenant: Arc<str> = "default".into();
        let (mut tick, mut watermark, mut count) = (Tick(1), Micros(0), 0);
        loop {
            let of_tick: Vec<_> = reports.by_ref().take(TICK).map(|parsed| of_server(&tenant, parsed)).collect();
            count += of_tick.len();
            let is_last = of_tick.is_empty();
            watermark = of_tick.last().map_or(Micros(i64::MAX), |last| last.ts).max(watermark);
            for row in windows.step(worker, tick, watermark, of_tick) {
                let key = (row.entity.clone(), row.window_start);
                if row.diff > 0 {
                    rows.insert(key, row.reported);
                } else {
                    rows.remove(&key);
                }
            }
            tick = Tick(tick.0 + 1);
            if is_last {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let (calls, latency) = rows.values().fold((0, 0), |(n, us), sums| (n + sums.calls, us + sums.latency_sum_us));
        println!(
            "undercurrent     {seconds:8.2} s {:12.0} reports/s   {} windows, {calls} calls, {latency} us",
            count as f64 / seconds,
            rows.len()
        );
    });
}

fn reported(line: &str) -> (&str, i64, i64) {
    let mut columns = line.split(',');
    let mut next = || columns.next().expect("three columns");
    let (server, ts, latency) = (next(), next(), next());
    (server, ts.parse().expect("a time"), latency.parse().expect("a latency"))
}

fn of_server(tenant: &Arc<str>, (server, ts, latency_sum_us): (&str, i64, i64)) -> Reported {
    Reported {
        ts: Micros(ts),
        tenant: Arc::clone(tenant),
        server: server.into(),
        entity: EntityKey::of(tenant, EntityKind::Server, server.as_bytes()),
        sums: ReportedSums { points: 1, calls: 1, latency_sum_us, ..ReportedSums::default() },
    }
}
