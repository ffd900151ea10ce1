//! What the gateway adds to a tool call, beside a bare hyper pass-through in the same run.
//!
//! `cargo bench --bench http`. Every role is a process of its own on loopback: an echo MCP server, a bare hyper
//! pass-through (the reference), the gateway without learning on one thread, on many, and by its endpoint of all
//! upstreams, and `undercurrent serve` with learning if that binary has been built; with `UNDERCURRENT_BENCH_MCP_PROXY`,
//! the path of that program, crates.io's `mcp-proxy` too (`make bench-peers`). The load comes from this process. Rounds
//! are short and their order is shuffled; ratios are taken within a round, and the median over the rounds is what counts,
//! so that a noisy machine disturbs all alike.
//!
//! `UNDERCURRENT_BENCH_ROUNDS` (24) and `UNDERCURRENT_BENCH_ROUND_MS` (500) change the effort; with
//! `UNDERCURRENT_BENCH_ONLY`, a target's name, the load goes to that one alone, for a profiler to look at.
#![allow(clippy::print_stdout, reason = "the table is the result")]

#[path = "http/load.rs"]
mod load;
#[path = "http/roles.rs"]
mod roles;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use load::{Endpoint, Measured};
use roles::Process;

/// Added p50 over bare, at most; the same for p99; throughput over bare, at least.
const TARGET_P50: f64 = 1.0;
const TARGET_P99: f64 = 1.5;
const TARGET_THROUGHPUT: f64 = 1.0;
/// Throughput over that of crates.io's `mcp-proxy`, at least.
const TARGET_PEER: f64 = 4.0;
/// What `/mcp` adds to p50, over what the upstream's own endpoint does.
const TARGET_AGGREGATE: f64 = 2.0;
const SERVE: &str = "undercurrent serve";
const PEER: &str = "mcp-proxy";
const MANY: usize = 16;
const SEED: u64 = 0x5eed;

/// A server under load.
struct Target {
    name: &'static str,
    address: SocketAddr,
    endpoint: Endpoint,
    process: Process,
}

/// One target's figures, one entry a round.
#[derive(Default)]
struct Rounds {
    one: Vec<Measured>,
    many: Vec<Measured>,
}

fn main() -> Result<()> {
    if let Some(role) = roles::asked() {
        return roles::play(role);
    }
    let rounds = setting("UNDERCURRENT_BENCH_ROUNDS", 24)?;
    let round = Duration::from_millis(setting("UNDERCURRENT_BENCH_ROUND_MS", 500)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let targets = targets()?;
    if let Ok(only) = std::env::var("UNDERCURRENT_BENCH_ONLY") {
        return profiled(&runtime, &targets, &only, round * u32::try_from(rounds)?);
    }
    let mut all: Vec<Rounds> = targets.iter().map(|_| Rounds::default()).collect();
    for target in &targets {
        runtime.block_on(load::run(target.address, target.endpoint, MANY, round / 2)).context(target.name)?;
    }
    let mut order: Vec<usize> = (0..targets.len()).collect();
    let mut random = SEED;
    for _ in 0..rounds {
        shuffle(&mut order, &mut random);
        for &at in &order {
            let target = &targets[at];
            let run = |connections| runtime.block_on(load::run(target.address, target.endpoint, connections, round));
            all[at].one.push(run(1).context(target.name)?);
            all[at].many.push(run(MANY).context(target.name)?);
        }
    }
    report(&targets, &all);
    report_aggregate(&targets, &all);
    report_peer(&targets, &all);
    if let Some(admin) = targets.iter().find_map(|target| target.process.admin) {
        let (took, calls) = runtime.block_on(load::drained(admin))?;
        println!(
            "\nthe log was drained {:.1} s after the last call; {calls} calls are in published ticks",
            took.as_secs_f64()
        );
    }
    Ok(())
}

/// One target under load from many connections, then from one.
fn profiled(runtime: &tokio::runtime::Runtime, targets: &[Target], only: &str, time: Duration) -> Result<()> {
    let target = targets.iter().find(|target| target.name == only);
    let target = target.with_context(|| format!("no target is named `{only}`"))?;
    for connections in [MANY, 1] {
        let measured = runtime.block_on(load::run(target.address, target.endpoint, connections, time))?;
        println!("{connections:>4} connections: {measured:?}");
    }
    Ok(())
}

/// Direct first, bare second, whatever is compared with bare behind them.
fn targets() -> Result<Vec<Target>> {
    let echo = Process::role("echo", &[])?;
    let direct = echo.address;
    let url = format!("http://{direct}/mcp");
    let bare = Process::role("bare", &[&url])?;
    let gateway = Process::role("gateway", &[&url])?;
    let threads = Process::role("gateway-threads", &[&url])?;
    let aggregate = Process::role("gateway-aggregate", &[&url])?;
    let own = |path| Endpoint { path, tool: "echo", makes_sessions: false };
    let all = Endpoint { path: "/mcp", tool: "bench__echo", makes_sessions: true };
    let mut targets = vec![
        Target { name: "direct", address: direct, endpoint: own("/mcp"), process: echo },
        Target { name: "bare hyper", address: bare.address, endpoint: own("/mcp"), process: bare },
        Target { name: "gateway, 1 thread", address: gateway.address, endpoint: own("/mcp/bench"), process: gateway },
        Target { name: "gateway, threads", address: threads.address, endpoint: own("/mcp/bench"), process: threads },
        Target { name: "gateway, /mcp", address: aggregate.address, endpoint: all, process: aggregate },
    ];
    match Process::undercurrent(&url) {
        Ok(serve) => {
            targets.push(Target { name: SERVE, address: serve.address, endpoint: own("/mcp/bench"), process: serve })
        }
        Err(error) => println!("without `undercurrent serve`: {error:#}\n"),
    }
    if let Some(program) = std::env::var_os("UNDERCURRENT_BENCH_MCP_PROXY") {
        let peer = Process::mcp_proxy(program.as_ref(), &url).context("start mcp-proxy")?;
        let endpoint = Endpoint { path: "/", tool: "bench/echo", makes_sessions: true };
        targets.push(Target { name: PEER, address: peer.address, endpoint, process: peer });
    }
    Ok(targets)
}

fn report(targets: &[Target], all: &[Rounds]) {
    let [direct, bare, ..] = all else { unreachable!("direct and bare are always there") };
    println!("{:<20}{:>12}{:>12}{:>14}", "", "p50, 1 conn", "p99, 1 conn", "calls/s, 16");
    for (target, rounds) in targets.iter().zip(all) {
        let p50 = median(rounds.one.iter().map(|m| m.p50_us));
        let p99 = median(rounds.one.iter().map(|m| m.p99_us));
        let rate = median(rounds.many.iter().map(|m| m.calls_per_second));
        println!("{:<20}{p50:>9.1} µs{p99:>9.1} µs{rate:>14.0}", target.name);
    }
    println!("\nrelative to the bare pass-through (medians of the rounds' own ratios)");
    println!("{:<20}{:>24}{:>24}{:>24}", "", "added p50", "added p99", "throughput, 16");
    for (target, rounds) in targets.iter().zip(all).skip(2) {
        let added = |of: fn(&Measured) -> f64| {
            let added = |m: &Measured, direct: &Measured| of(m) - of(direct);
            let pairs = rounds.one.iter().zip(&bare.one).zip(&direct.one);
            median(pairs.map(|((m, bare), direct)| added(m, direct) / added(bare, direct)))
        };
        let (p50, p99) = (added(|m| m.p50_us), added(|m| m.p99_us));
        let both = rounds.many.iter().zip(&bare.many);
        let throughput = median(both.map(|(m, bare)| m.calls_per_second / bare.calls_per_second));
        println!(
            "{:<20}{:>24}{:>24}{:>24}",
            target.name,
            verdict(p50, p50 <= TARGET_P50, &format!("≤ {TARGET_P50}")),
            verdict(p99, p99 <= TARGET_P99, &format!("≤ {TARGET_P99}")),
            verdict(throughput, throughput >= TARGET_THROUGHPUT, &format!("≥ {TARGET_THROUGHPUT}")),
        );
    }
}

/// `/mcp` beside `/mcp/NAME`, both on one thread.
fn report_aggregate(targets: &[Target], all: &[Rounds]) {
    let rounds = |name: &str| targets.iter().zip(all).find(|(target, _)| target.name == name).map(|(_, rounds)| rounds);
    let (Some(own), Some(aggregate), [direct, ..]) = (rounds("gateway, 1 thread"), rounds("gateway, /mcp"), all) else {
        return;
    };
    let added = own.one.iter().zip(&aggregate.one).zip(&direct.one);
    let added = median(added.map(|((own, m), direct)| (m.p50_us - direct.p50_us) / (own.p50_us - direct.p50_us)));
    let verdict = verdict(added, added <= TARGET_AGGREGATE, &format!("≤ {TARGET_AGGREGATE}"));
    println!("\nadded p50 of /mcp over that of /mcp/NAME: {verdict}");
}

/// Both with learning on, in the case of ours.
fn report_peer(targets: &[Target], all: &[Rounds]) {
    let rounds = |name: &str| targets.iter().zip(all).find(|(target, _)| target.name == name).map(|(_, rounds)| rounds);
    let (Some(own), Some(peer)) = (rounds(SERVE), rounds(PEER)) else { return };
    let both = own.many.iter().zip(&peer.many);
    let times = median(both.map(|(own, peer)| own.calls_per_second / peer.calls_per_second));
    let verdict = verdict(times, times >= TARGET_PEER, &format!("≥ {TARGET_PEER}"));
    println!("\nthroughput of {SERVE} over {PEER}: {verdict}");
}

fn verdict(value: f64, met: bool, target: &str) -> String {
    format!("{value:.2} ({} {target})", if met { "met:" } else { "MISSED:" })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Fisher-Yates over splitmix64: the order must differ from round to round, and be the same in every run.
fn shuffle(order: &mut [usize], state: &mut u64) {
    for i in (1..order.len()).rev() {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        order.swap(i, ((z ^ (z >> 31)) % (i as u64 + 1)) as usize);
    }
}

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("read {name}")))
}
