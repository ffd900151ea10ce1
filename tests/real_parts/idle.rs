//! What it costs to be there: streams on which nothing comes, and sessions that have ended.

use serde_json::json;
use tempfile::TempDir;

use crate::support::echo::Echo;
use crate::support::gateway::Serve;
use crate::support::memory::{MIB, resident};
use crate::support::raw::{initialize, tools_call};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;

const STREAMS: usize = 1_000;
const STREAMS_GROWTH_MAX: u64 = 64 * MIB;

/// Rounds of so many sessions each; `make soak` says five times as many.
const SESSIONS: usize = 1_000;
/// Between the first round, after which all is warm, and the last, for each session: what it taught is kept while it can be
/// unlearned, and its windows while they can change.
const SESSION_GROWTH_MAX: u64 = 16 << 10;

/// Three sockets for each stream are in this process and two in the gateway, which inherits the limit.
#[cfg(unix)]
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("raise the soft limit to the hard one");
    assert!(limit.maximum.is_none_or(|most| most >= 4 * STREAMS as u64), "raise `ulimit -Hn` to {}", 4 * STREAMS);
}

#[test]
fn a_thousand_idle_streams() {
    #[cfg(unix)]
    allow_many_files();
    let data = TempDir::new().expect("a temporary directory");
    let echo = Echo::start();
    let gateway = Serve::new(data.path()).upstream("echo", &echo.url()).start();
    let stream = |at: usize| {
        let mut wire = Wire::open(gateway.listen, "/mcp/echo").expect("the gateway listens");
        wire.send("GET", Some(&format!("idle-{at}")), b"").expect("the gateway reads");
        assert!(wire.has_begun().expect("a response"), "stream {at}");
        wire
    };
    // What the first ones bring along stays.
    let first: Vec<Wire> = (0..10).map(stream).collect();
    let before = resident(gateway.process.id());
    let streams: Vec<Wire> = (10..STREAMS + 10).map(stream).collect();
    let grown = resident(gateway.process.id()).saturating_sub(before);
    println!("{STREAMS} idle streams: {} KiB each", (grown >> 10) / STREAMS as u64);
    assert!(grown <= STREAMS_GROWTH_MAX, "{} MiB for {STREAMS} streams", grown / MIB);
    let open = "undercurrent_gateway_connections";
    wait_until("all are open at once", || gateway.metrics().sum(open) >= (STREAMS + first.len()) as f64);
    drop((first, streams));
    wait_until("all are closed", || gateway.metrics().sum(open) == 0.0);
    gateway.stop();
}

#[test]
fn sessions_that_have_ended() {
    let times = std::env::var("UNDERCURRENT_SOAK_SECONDS").map_or(1, |_| 5);
    let data = TempDir::new().expect("a temporary directory");
    let echo = Echo::start();
    let gateway = Serve::new(data.path())
        .upstream("echo", &echo.url())
        .setting("ENGINE__SESSION_IDLE_S", "1")
        .setting("ENGINE__LATENESS_S", "1")
        .setting("HISTORY__ROLL_SECONDS", "1")
        .start();
    let mut wire = Wire::open(gateway.listen, "/mcp/echo").expect("the gateway listens");
    let mut round = || {
        for _ in 0..SESSIONS * times {
            let opened = wire.exchange("POST", None, initialize(0).to_string().as_bytes()).expect("an answer");
            let session = opened.header("mcp-session-id").expect("a session").to_owned();
            let call = tools_call(1, "echo", &json!({"text": "here and gone"})).to_string();
            let answer = wire.exchange("POST", Some(&session), call.as_bytes()).expect("an answer");
            assert_eq!(answer.json()["result"]["content"][0]["text"], "here and gone");
            wire.exchange("DELETE", Some(&session), b"").expect("an answer");
        }
        gateway.settle();
        wait_until("the edge has let go of them", || gateway.metrics().sum("undercurrent_edge_sessions") <= 2.0);
        wait_until("the engine has closed them", || gateway.metrics().sum("undercurrent_sessions_open") <= 2.0);
        resident(gateway.process.id())
    };
    let warm = round();
    let grown = round().saturating_sub(warm);
    let each = grown / (SESSIONS * times) as u64;
    println!("{} sessions more: {} MiB, {each} bytes each", SESSIONS * times, grown / MIB);
    assert!(each <= SESSION_GROWTH_MAX, "{each} bytes for each session more");
    gateway.stop();
}
