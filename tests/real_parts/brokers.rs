//! Brokers that go: one of three, all for a while, all for longer than the disk has room. Traffic flows, and what is not
//! lost for want of room is there once.
//!
//! `UNDERCURRENT_CHAOS_AWAY_S` says for how long they are away (`make chaos` says a minute).

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::HttpServer;
use crate::support::wait::wait_until;

const SESSIONS: usize = 4;

fn serve(data: &Path, server: &HttpServer, kafka: &Kafka, prefix: &str) -> Serve {
    Serve::new(data)
        .upstream("demo", &server.url())
        .setting("LOG__BACKEND", "kafka")
        .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
        .setting("KAFKA__TOPIC_PREFIX", prefix)
        .setting("KAFKA__SPILL_AFTER_MS", "200")
        // A transaction that is open when a broker goes is ended soon.
        .setting("KAFKA__PROPERTIES__TRANSACTION_TIMEOUT_MS", "1000")
}

/// Asserts that so many calls have one row each, in sessions without holes.
#[track_caller]
fn assert_each_once(history: &History, sent: u64) {
    let sql = "SELECT count(*) AS rows, count(DISTINCT (session_id, jsonrpc_id)) AS calls FROM calls";
    let rows = history.rows(sql);
    assert_eq!((rows[0]["rows"].as_u64(), rows[0]["calls"].as_u64()), (Some(sent), Some(sent)));
}

#[test]
fn one_of_three_brokers_is_not_missed() {
    let directory = TempDir::new().expect("a temporary directory");
    let (mut kafka, server) = (Kafka::start(3), HttpServer::demo());
    let serve = serve(&directory.path().join("data"), &server, &kafka, &topic_prefix("three"));
    let gateway = serve.setting("KAFKA__REPLICATION_FACTOR", "3").start();
    // Three brokers that elect and copy need processors too.
    let load = Load::paced(gateway.listen, "/mcp/demo", SESSIONS, u64::MAX, Duration::from_millis(20));
    load.advance(50);
    gateway.settle();
    kafka.kill(1);
    let before = gateway.status();
    load.advance(50);
    assert!(gateway.is_ready(), "traffic flows");
    // Two of three copies are enough.
    wait_until("learning goes on in each partition", || gateway.status().has_gone_on(&before));
    load.advance(20);
    kafka.restart(1);
    load.advance(50);
    let sent = load.stop();
    gateway.settle();
    assert!(gateway.status().model_version >= before.model_version);
    assert_eq!(gateway.metrics().sum("undercurrent_log_events_dropped_total"), 0.0);
    let history = gateway.stop();
    assert_each_once(&history, sent);
    assert_eq!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'"), 0);
}

#[test]
fn brokers_that_are_away_under_load_are_caught_up_with() {
    let away = std::env::var("UNDERCURRENT_CHAOS_AWAY_S").map_or(4, |text| text.parse().expect("seconds"));
    let directory = TempDir::new().expect("a temporary directory");
    let (mut kafka, server) = (Kafka::start(1), HttpServer::demo());
    let gateway = serve(&directory.path().join("data"), &server, &kafka, &topic_prefix("minute")).start();
    let load = Load::start(gateway.listen, "/mcp/demo", SESSIONS);
    load.advance(20);
    kafka.kill(0);
    let (began, before) = (Instant::now(), load.answered());
    thread::sleep(Duration::from_secs(away));
    let (took, calls) = (began.elapsed().as_secs_f64(), load.answered() - before);
    assert!(calls > 0 && gateway.is_ready(), "traffic flows");
    let sent = load.stop();
    kafka.restart(0);
    let began = Instant::now();
    wait_until("what waited is delivered", || gateway.metrics().sum("undercurrent_kafka_spill_events") == 0.0);
    gateway.settle();
    // A call is a request and an answer.
    let rate = 2.0 * calls as f64 / took;
    eprintln!(
        "brokers: away for {took:.0} s at {rate:.0} messages/s, caught up in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(gateway.metrics().sum("undercurrent_log_events_dropped_total"), 0.0);
    let history = gateway.stop();
    assert_each_once(&history, sent);
}

/// More waits than there is room for: what came too late is counted, and stands in the log as a gap.
#[test]
fn what_the_spill_has_no_room_for_is_a_gap_on_record() {
    let directory = TempDir::new().expect("a temporary directory");
    let (mut kafka, server) = (Kafka::start(1), HttpServer::demo());
    let gateway = serve(&directory.path().join("data"), &server, &kafka, &topic_prefix("bound"))
        .setting("KAFKA__SPILL_BYTES_MAX", "1048576")
        .setting("LOG__QUEUE_EVENTS_MAX", "256")
        .setting("LOG__QUEUE_BYTES_MAX", "65536")
        .start();
    let load = Load::start(gateway.listen, "/mcp/demo", SESSIONS);
    load.advance(20);
    kafka.kill(0);
    let dropped = || gateway.metrics().sum("undercurrent_log_events_dropped_total");
    wait_until("there is no room any more", || dropped() > 0.0);
    load.advance(20);
    load.stop();
    kafka.restart(0);
    wait_until("what waited is delivered", || gateway.metrics().sum("undercurrent_kafka_spill_events") == 0.0);
    gateway.settle();
    let dropped = dropped();
    let history = gateway.stop();
    let gaps = history.rows("SELECT count(*) AS gaps, sum(gap.events) AS events FROM messages WHERE body = 'gap'");
    assert!(gaps[0]["gaps"].as_u64() > Some(0), "{gaps:?}");
    let recorded: f64 = gaps[0]["events"].to_string().trim_matches('"').parse().expect("a number");
    assert_eq!(recorded, dropped, "every event that was lost is on record");
    let doubles =
        "SELECT count(*) FROM (SELECT gateway, epoch, sequence FROM messages GROUP BY ALL HAVING count(*) > 1)";
    assert_eq!(history.number(doubles), 0, "an event is recorded once");
}
