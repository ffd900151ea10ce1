//! The log on Kafka, with real brokers: the same rows as from the embedded log, and nothing lost or twice when brokers or
//! gateways go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Serve};
use crate::support::history::History;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::{HttpServer, python_script, root};
use crate::support::process::Process;
use crate::support::raw::read_all;
use crate::support::wait::wait_until;

fn serve(data: &Path, server: &HttpServer, kafka: &Kafka, prefix: &str) -> Serve {
    Serve::new(data)
        .upstream("demo", &server.url())
        .setting("LOG__BACKEND", "kafka")
        .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
        .setting("KAFKA__TOPIC_PREFIX", prefix)
}

/// Teaches, then has a session scored by what was taught: one at a time, so that the live scores do not depend on timing.
fn traffic(gateway: &Gateway) {
    assert_eq!(Load::bounded(gateway.listen, "/mcp/demo", 1, 60).join(), 60);
    gateway.settle();
    assert_eq!(Load::bounded(gateway.listen, "/mcp/demo", 1, 20).join(), 20);
    gateway.settle();
}

#[test]
fn the_same_traffic_gives_the_same_rows_as_with_the_embedded_log() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("same"));
    let gateway = Serve::new(&directory.path().join("embedded")).upstream("demo", &server.url()).start();
    traffic(&gateway);
    let embedded = gateway.stop();
    let gateway = serve(&directory.path().join("kafka"), &server, &kafka, &prefix).start();
    traffic(&gateway);
    let history = gateway.stop();

    // Sessions have ids of their own, and ticks are the clock's: what they say of the calls is the same.
    let calls = "SELECT jsonrpc_id, tool, score, verdict, [r.text for r in reasons] AS reasons, count(*) AS n \
                 FROM calls GROUP BY ALL ORDER BY ALL";
    assert_eq!(history.rows(calls), embedded.rows(calls));
    assert!(history.number("SELECT count(*) FROM calls WHERE score IS NOT NULL") >= 20, "the later calls are scored");
    let messages =
        "SELECT body, method, kind, count(*) AS n FROM messages WHERE body <> 'heartbeat' GROUP BY ALL ORDER BY ALL";
    assert_eq!(history.rows(messages), embedded.rows(messages));

    // Another machine that has nothing but the topics comes to the same rows.
    let again = serve(&directory.path().join("again"), &server, &kafka, &prefix).start();
    again.settle_calls(80);
    let again = again.stop();
    for table in ["calls", "sessions", "models"] {
        assert_eq!(beginning(&history, &again, table), contents(&history, table), "{table}");
    }
    read_from_outside(&kafka, &prefix, &history);
}

/// As many rows of the second history as the first has: its reader went on for longer.
fn beginning(first: &History, second: &History, table: &str) -> Vec<Value> {
    let mut rows = contents(second, table);
    rows.truncate(contents(first, table).len());
    rows
}

/// All rows of a table in an order of their own.
fn contents(history: &History, table: &str) -> Vec<Value> {
    history.rows(&format!("SELECT * FROM {table} ORDER BY tick, partition, ordinal"))
}

/// A Python program with the project's .proto sees what the history has.
#[track_caller]
fn read_from_outside(kafka: &Kafka, prefix: &str, history: &History) {
    let script = python_script("kafka_events.py").and(kafka.servers()).and(format!("{prefix}events"));
    let mut command = script.and(root().join("schemas/proto")).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start("kafka_events.py", command);
    let output = read_all(process.take_stdout());
    assert!(process.wait().success(), "{}", process.stderr());
    let events: Vec<Value> = serde_json::from_str(&output.join().expect("no panic")).expect("it prints JSON");

    let mut of_session: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for event in &events {
        assert!(ids.insert(event["id"].to_string()), "an event is there once: {event}");
        let session = event["session_id"].as_str().expect("a text");
        assert_eq!(event["key"], session, "records are keyed by session");
        of_session.entry(session).or_default().insert(event["partition"].as_u64().expect("a number"));
    }
    of_session.remove("");
    assert!(of_session.len() >= 2 && of_session.values().all(|partitions| partitions.len() == 1), "{of_session:?}");
    let calls = events.iter().filter(|event| event["method"] == "tools/call").count() as u64;
    assert_eq!(history.number("SELECT count(*) FROM messages WHERE method = 'tools/call'"), calls);
}

/// Asserts that each call of the load has one row, and each event.
#[track_caller]
fn assert_each_once(history: &History, calls: std::ops::RangeInclusive<u64>) {
    let rows = history.number("SELECT count(*) FROM calls");
    assert!(calls.contains(&rows), "{rows} rows, {calls:?} calls");
    let per_call = "SELECT count(*) FROM (SELECT DISTINCT session_id, jsonrpc_id FROM calls)";
    assert_eq!(history.number(per_call), rows, "a call is recorded once");
    let broken = "SELECT count(*) FROM (SELECT session_id FROM calls GROUP BY ALL \
                  HAVING max(CAST(jsonrpc_id AS INTEGER)) <> count(*))";
    assert_eq!(history.number(broken), 0, "a session has holes");
    let doubles =
        "SELECT count(*) FROM (SELECT gateway, epoch, sequence FROM messages GROUP BY ALL HAVING count(*) > 1)";
    assert_eq!(history.number(doubles), 0, "an event is recorded once");
}

#[test]
fn brokers_that_are_away_for_a_while_cost_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let (mut kafka, server) = (Kafka::start(1), HttpServer::demo());
    let serve = serve(&directory.path().join("data"), &server, &kafka, &topic_prefix("away"));
    // A transaction that is open when the broker goes is ended by it for having taken too long: nobody else took the place.
    let serve = serve.setting("KAFKA__PROPERTIES__TRANSACTION_TIMEOUT_MS", "1000");
    let gateway = serve.setting("KAFKA__SPILL_AFTER_MS", "200").start();
    let load = Load::start(gateway.listen, "/mcp/demo", 4);
    load.advance(100);
    kafka.kill(0);
    let spilled = || gateway.metrics().sum("undercurrent_kafka_spill_events");
    wait_until("events wait in DATA", || spilled() > 0.0);
    load.advance(200);
    assert!(gateway.is_ready(), "traffic flows");
    kafka.restart(0);
    wait_until("what waited is delivered", || spilled() == 0.0);
    load.advance(50);
    let sent = load.stop();
    gateway.settle();
    assert_eq!(gateway.metrics().sum("undercurrent_log_events_dropped_total"), 0.0);
    let history = gateway.stop();
    assert_each_once(&history, sent..=sent);
    assert_eq!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'"), 0);
}

/// Brokers that are not there at all: the gateway starts, and what it took is delivered by its next life.
#[test]
fn what_waited_is_delivered_by_the_next_life() {
    let directory = TempDir::new().expect("a temporary directory");
    let (mut kafka, server, prefix) = (Kafka::start(1), HttpServer::demo(), topic_prefix("later"));
    let serve = serve(&directory.path().join("data"), &server, &kafka, &prefix).setting("KAFKA__SPILL_AFTER_MS", "200");
    kafka.kill(0);
    let gateway = serve.start();
    let sent = Load::bounded(gateway.listen, "/mcp/demo", 2, 50).join();
    // Nothing is on its way to the disk any more: all that is queued waits there.
    let spilled = || gateway.metrics().sum("undercurrent_kafka_spill_events");
    wait_until("all is on the disk", || {
        spilled() >= 2.0 * sent as f64 && gateway.status().queued_events as f64 == spilled()
    });
    gateway.kill();
    kafka.restart(0);
    let gateway = serve.start();
    gateway.settle_calls(sent);
    gateway.settle();
    let history = gateway.stop();
    assert_each_once(&history, sent..=sent);
    assert!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'") >= 1, "the unclean stop is recorded");
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_durable() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("kill"));
    let serve = |data: &Path| serve(data, &server, &kafka, &prefix);
    let gateway = serve(&data).start();
    let load = Load::start(gateway.listen, "/mcp/demo", 4);
    load.advance(200);
    let durable = load.answered();
    // One more each: by then the gateway has taken note of the answers counted.
    load.advance(1);
    gateway.settle();
    load.advance(50);
    let before = gateway.status().model_version;
    gateway.kill();
    let sent = load.stop();

    let gateway = serve(&data).start();
    wait_until("the model is rebuilt", || gateway.status().model_version >= before);
    let second = Load::bounded(gateway.listen, "/mcp/demo", 1, 10).join();
    gateway.settle();
    let history = gateway.stop();
    assert_each_once(&history, durable + second..=sent + second);

    // The topics alone give the same rows again.
    let rebuilt = directory.path().join("rebuilt");
    fs::create_dir_all(&rebuilt).expect("make a directory");
    let gateway = serve(&rebuilt.join("data")).start();
    gateway.settle_calls(history.number("SELECT count(*) FROM calls"));
    let again = gateway.stop();
    for table in ["calls", "sessions", "models"] {
        assert_eq!(beginning(&history, &again, table), contents(&history, table), "{table}");
    }
}

/// Of two engines on the same topics the older one is refused; its traffic goes on.
#[test]
fn an_engine_whose_place_was_taken_is_refused() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("fence"));
    let first = serve(&directory.path().join("first"), &server, &kafka, &prefix).start();
    let load = Load::start(first.listen, "/mcp/demo", 1);
    load.advance(20);
    let second = serve(&directory.path().join("second"), &server, &kafka, &prefix).start();
    wait_until("the first is refused", || first.process.stderr().contains("another engine has taken over the topics"));
    load.advance(20);
    let sent = load.stop();
    second.settle_calls(sent);
    let history = second.stop();
    assert_each_once(&history, sent..=sent);
}

/// What somebody else wrote into the topic is told with its place, once, and changes nothing.
#[test]
fn records_that_are_no_events_become_dead_letters() {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("letters"));
    let gateway = serve(&directory.path().join("data"), &server, &kafka, &prefix).start();
    assert_eq!(Load::bounded(gateway.listen, "/mcp/demo", 1, 10).join(), 10);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka.servers()).set("group.id", "letters");
    let producer: BaseProducer = client.create().expect("a producer");
    let events = format!("{prefix}events");
    producer.send(BaseRecord::<(), str>::to(&events).partition(3).payload("nonsense")).expect("it is queued");
    producer.flush(Duration::from_secs(10)).expect("it is delivered");
    assert_eq!(Load::bounded(gateway.listen, "/mcp/demo", 1, 10).join(), 10);
    gateway.settle_calls(20);
    wait_until("it is told", || gateway.process.stderr().contains("records that are no events"));
    gateway.settle();
    assert_eq!(gateway.stop().number("SELECT count(*) FROM calls"), 20);

    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(&format!("{prefix}dead_letters"), 0, Offset::Beginning).expect("an offset");
    consumer.assign(&all).expect("an assignment");
    let letter = consumer.poll(Duration::from_secs(30)).expect("a letter comes").expect("it is read");
    let key = String::from_utf8_lossy(letter.key().unwrap_or_default()).into_owned();
    assert!(key.starts_with(&format!("{events}/3/")), "{key}");
    assert!(consumer.poll(Duration::from_secs(1)).is_none(), "it is told once");
}

/// TLS and a password are passed through; a wrong one is said, and traffic flows meanwhile.
#[test]
fn brokers_that_want_tls_and_a_password_get_both() {
    let directory = TempDir::new().expect("a temporary directory");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("make a certificate");
    let (authority, keystore) = (directory.path().join("ca.pem"), directory.path().join("keystore.pem"));
    fs::write(&authority, made.cert.pem()).expect("write the certificate");
    fs::write(&keystore, made.signing_key.serialize_pem() + &made.cert.pem()).expect("write the key");
    let kafka = Kafka::secured(&keystore, "s3cret");
    let (server, prefix) = (HttpServer::demo(), topic_prefix("secured"));
    let password = directory.path().join("password");
    let start = || {
        serve(&directory.path().join("data"), &server, &kafka, &prefix)
            .setting("KAFKA__BOOTSTRAP_SERVERS", &kafka.secured_server())
            .setting("KAFKA__PROPERTIES__SECURITY_PROTOCOL", "sasl_ssl")
            .setting("KAFKA__PROPERTIES__SSL_CA_LOCATION", &authority.display().to_string())
            .setting("KAFKA__PROPERTIES__SASL_MECHANISM", "SCRAM-SHA-512")
            .setting("KAFKA__PROPERTIES__SASL_USERNAME", "undercurrent")
            .setting("KAFKA__PROPERTIES__SASL_PASSWORD", &format!("file:{}", password.display()))
            .start()
    };
    fs::write(&password, "wr0ng\n").expect("write a password");
    let gateway = start();
    assert_eq!(Load::bounded(gateway.listen, "/mcp/demo", 1, 10).join(), 10);
    wait_until("the refusal is said", || gateway.process.stderr().contains("refuse this client, see kafka.properties"));
    let said = gateway.process.stderr();
    assert!(!said.contains("wr0ng"), "{said}");
    let spilled = || gateway.metrics().sum("undercurrent_kafka_spill_events");
    wait_until("all is on the disk", || spilled() >= 20.0 && gateway.status().queued_events as f64 == spilled());
    gateway.kill();

    fs::write(&password, "s3cret\n").expect("write a password");
    let gateway = start();
    assert_eq!(Load::bounded(gateway.listen, "/mcp/demo", 1, 10).join(), 10);
    gateway.settle_calls(20);
    gateway.settle();
    assert!(!gateway.process.stderr().contains("s3cret"));
    assert_eq!(gateway.stop().number("SELECT count(*) FROM calls"), 20, "what waited is there, too");
}

/// Topics that do not fit are refused with the remedy.
#[test]
fn topics_that_do_not_fit_are_refused() {
    let directory = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("fit"));
    serve(&directory.path().join("a"), &server, &kafka, &prefix).start().stop();
    let said = serve(&directory.path().join("b"), &server, &kafka, &prefix).setting("LOG__PARTITIONS", "4").refused();
    assert!(said.contains("has 8 partitions, asked for 4") && said.contains("set log.partitions = 8"), "{said}");
    let secret = serve(&directory.path().join("c"), &server, &kafka, &prefix)
        .setting("KAFKA__PROPERTIES__SASL_PASSWORD", "s3cret")
        .setting("KAFKA__PROPERTIES__SASL_PASWORD", "s3cret")
        .refused();
    assert!(secret.contains("sasl.pasword") && !secret.contains("s3cret"), "{secret}");
}
