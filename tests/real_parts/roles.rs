//! Gateways and an engine as processes of their own: models reach every gateway, a gateway outlives its engine, and what
//! gateways saw is in the engine's history once.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Serve};
use crate::support::history::History;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::HttpServer;
use crate::support::wait::{free_address, wait_until};

fn on(kafka: &Kafka, prefix: &str, data: &Path) -> Serve {
    Serve::new(data)
        .setting("LOG__BACKEND", "kafka")
        .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
        .setting("KAFKA__TOPIC_PREFIX", prefix)
}

/// Waits until a gateway has at least the engine's present model.
#[track_caller]
fn follows(gateway: &Gateway, engine: &Gateway) {
    wait_until("the engine has a model", || engine.status().model_version.is_some());
    let version = engine.status().model_version;
    wait_until("the engine's model is the gateway's", || gateway.status().model_version >= version);
}

#[test]
fn models_reach_every_gateway_and_a_gateway_outlives_its_engine() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("roles"));
    let data = |name: &str| directory.path().join(name);
    let gateway = |name: &str| on(&kafka, &prefix, &data(name)).gateway().upstream("demo", &server.url());
    let engine = || on(&kafka, &prefix, &data("engine")).engine();

    let first = gateway("first").start();
    fs::create_dir_all(data("second")).expect("make a directory");
    for file in ["VERSION", "digest.key"] {
        fs::copy(data("first").join(file), data("second").join(file)).expect("copy what gateways share");
    }
    let (second, learner) = (gateway("second").start(), engine().start());
    assert_eq!(Load::bounded(first.listen, "/mcp/demo", 2, 50).join(), 100);
    learner.settle_calls(100);
    wait_until("both sessions have taught", || learner.metrics().sum("undercurrent_sessions_taught_total") >= 2.0);
    follows(&first, &learner);
    follows(&second, &learner);
    assert_eq!(Load::bounded(second.listen, "/mcp/demo", 1, 20).join(), 20);

    // The engine goes: traffic and scores go on.
    learner.kill();
    assert_eq!(Load::bounded(first.listen, "/mcp/demo", 1, 30).join(), 30);
    let version = second.status().model_version;
    second.stop_without_history();
    let second = gateway("second").start();
    assert_eq!(second.status().model_version, version, "the last model is on the disk");
    assert_eq!(Load::bounded(second.listen, "/mcp/demo", 1, 10).join(), 10);

    let learner = engine().start();
    learner.settle_calls(160);
    wait_until("the rebuilt model has all", || learner.status().model_version > version);
    follows(&first, &learner);
    follows(&second, &learner);
    first.stop_without_history();
    second.stop_without_history();
    let history = learner.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls"), 160);
    assert_eq!(history.number("SELECT count(*) FROM (SELECT DISTINCT session_id, jsonrpc_id FROM calls)"), 160);
    // The second gateway scored with what the first one's traffic taught; nothing else could have.
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE score IS NOT NULL"), 60);
}

#[test]
fn an_engine_that_is_replaced_ends_with_a_code_of_its_own() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("replaced"));
    let relay =
        on(&kafka, &prefix, &directory.path().join("gateway")).gateway().upstream("demo", &server.url()).start();
    let mut old = on(&kafka, &prefix, &directory.path().join("old")).engine().start();
    assert_eq!(Load::bounded(relay.listen, "/mcp/demo", 1, 20).join(), 20);
    old.settle_calls(20);
    let new = on(&kafka, &prefix, &directory.path().join("new")).engine().start();
    assert_eq!(Load::bounded(relay.listen, "/mcp/demo", 1, 20).join(), 20);
    assert_eq!(old.process.wait().code(), Some(3), "{}", old.process.stderr());
    assert!(old.process.stderr().contains("another engine has taken over"), "{}", old.process.stderr());
    new.settle_calls(40);
    relay.stop_without_history();
    new.stop();
}

#[test]
fn roles_need_kafka() {
    let directory = TempDir::new().expect("a temporary directory");
    let said = Serve::new(&directory.path().join("data")).engine().refused();
    assert!(said.contains("set log.backend = \"kafka\""), "{said}");
}

/// The processes of one engine, and the first of them.
#[derive(Debug)]
struct Processes {
    first: Gateway,
    others: Vec<Gateway>,
}

/// Starts an engine of so many processes, each with so many workers.
#[track_caller]
fn engine_of(kafka: &Kafka, prefix: &str, directory: &Path, processes: usize, workers: usize) -> Processes {
    let data = |process: usize| directory.join(format!("{processes}x{workers}-{process}"));
    fs::create_dir_all(data(0)).expect("make a directory");
    let hosts = directory.join(format!("{processes}x{workers}.hosts"));
    let addresses: Vec<String> = (0..processes).map(|_| free_address().to_string()).collect();
    fs::write(&hosts, addresses.join("\n")).expect("write the hosts");
    let one = |process: usize| {
        on(kafka, prefix, &data(process).join("data"))
            .engine()
            .setting("ENGINE__WORKERS", &workers.to_string())
            .with("--hosts", hosts.to_str().expect("a path in UTF-8"))
            .with("--process", &process.to_string())
    };
    let others = (1..processes).map(|process| one(process).spawn()).collect();
    Processes { first: one(0).start(), others }
}

impl Processes {
    /// Stops the first, with which the others end.
    #[track_caller]
    fn stop(self) -> History {
        let history = self.first.stop();
        for mut other in self.others {
            assert_eq!(other.process.wait().code(), Some(3), "one process of an engine cannot go on alone");
        }
        history
    }
}

/// All rows of a table in an order of their own.
fn contents(history: &History, table: &str) -> Vec<Value> {
    history.rows(&format!("SELECT * FROM {table} ORDER BY tick, partition, ordinal"))
}

#[test]
fn any_number_of_processes_and_workers_gives_the_same_rows() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("cluster"));
    let relay =
        on(&kafka, &prefix, &directory.path().join("gateway")).gateway().upstream("demo", &server.url()).start();
    // Live: both processes learn as it comes, and score with one model.
    let live = engine_of(&kafka, &prefix, directory.path(), 2, 1);
    assert_eq!(Load::bounded(relay.listen, "/mcp/demo", 4, 30).join(), 120);
    live.first.settle_calls(120);
    follows(&relay, &live.first);
    assert_eq!(Load::bounded(relay.listen, "/mcp/demo", 8, 20).join(), 160);
    live.first.settle_calls(280);
    relay.stop_without_history();
    live.first.settle();
    let live = live.stop();
    assert_eq!(live.number("SELECT count(*) FROM calls"), 280);
    assert!(live.number("SELECT count(*) FROM sessions WHERE score IS NOT NULL") >= 8, "sessions are scored");
    assert!(live.number("SELECT count(DISTINCT partition) FROM sessions") > 1, "both processes had some");

    for (processes, workers) in [(1, 1), (1, 2), (2, 2)] {
        let again = engine_of(&kafka, &prefix, directory.path(), processes, workers);
        again.first.settle_calls(280);
        again.first.settle();
        let again = again.stop();
        // A quick run has no full window.
        for table in ["calls", "sessions", "models", "features"].into_iter().filter(|table| live.has(table)) {
            assert_eq!(contents(&again, table), contents(&live, table), "{table}, {processes} x {workers}");
        }
    }
}

/// A process that is killed takes the others with it; started again, they go on.
#[test]
fn an_engine_that_lost_a_process_starts_again() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("lost"));
    let relay =
        on(&kafka, &prefix, &directory.path().join("gateway")).gateway().upstream("demo", &server.url()).start();
    let mut engine = engine_of(&kafka, &prefix, directory.path(), 2, 1);
    let load = Load::start(relay.listen, "/mcp/demo", 4);
    load.advance(50);
    engine.others.remove(0).kill();
    assert_eq!(engine.first.process.wait().code(), Some(3), "the first ends with it");
    load.advance(50);
    let engine = engine_of(&kafka, &prefix, directory.path(), 2, 1);
    load.advance(20);
    let sent = load.stop();
    engine.first.settle_calls(sent);
    relay.stop_without_history();
    let history = engine.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls"), sent);
    assert_eq!(history.number("SELECT count(*) FROM (SELECT DISTINCT session_id, jsonrpc_id FROM calls)"), sent);
}
