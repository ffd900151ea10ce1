//! What an engine on Kafka keeps beside the topics: it goes on from its checkpoints wherever it was killed, on any number
//! of workers, and the topics need not be whole any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use undercurrent::config::{Properties, Retention};
use undercurrent::log::{Brokers, Continues, KafkaLog, KafkaOptions, LogOptions, OwnerLog as _};
use undercurrent_schemas::ids::Tick;

use crate::support::gateway::{Gateway, Serve};
use crate::support::history::History;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::HttpServer;
use crate::support::wait::wait_until;

pub(crate) fn on(kafka: &Kafka, prefix: &str, data: &Path) -> Serve {
    Serve::new(data)
        .setting("LOG__BACKEND", "kafka")
        .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
        .setting("KAFKA__TOPIC_PREFIX", prefix)
        .setting("ENGINE__CHECKPOINT_INTERVAL_S", "1")
        .setting("ENGINE__SESSION_IDLE_S", "1")
        .setting("ENGINE__LATENESS_S", "0")
        .setting("HISTORY__ROLL_SECONDS", "1")
}

/// The checkpoints that count, oldest first: tick and file.
fn checkpoints(data: &Path) -> Vec<(u64, PathBuf)> {
    let dir = data.join("state/checkpoints");
    let Ok(manifest) = fs::read(dir.join("MANIFEST.json")) else { return Vec::new() };
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let entries = manifest["checkpoints"].as_array().expect("a list").iter();
    let entry =
        |entry: &Value| (entry["tick"].as_u64().expect("a tick"), dir.join(entry["file"].as_str().expect("a name")));
    entries.map(entry).collect()
}

/// Waits until so many checkpoints are there, all of ticks after `tick`.
#[track_caller]
fn checkpointed(data: &Path, count: usize, tick: u64) {
    wait_until("checkpoints are written", || checkpoints(data).iter().filter(|(at, _)| *at > tick).count() >= count);
}

/// The log as a program sees it that neither relays nor learns.
fn log(kafka: &Kafka, prefix: &str, dir: &Path) -> KafkaLog {
    let options = KafkaOptions {
        brokers: Brokers {
            servers: kafka.servers().to_owned(),
            prefix: prefix.to_owned(),
            properties: Properties::default(),
        },
        replication: 1,
        spill_bytes_max: 1 << 20,
        spill_after: Duration::from_secs(1),
        heartbeats: false,
        log: LogOptions { partitions: 8, ..LogOptions::default() },
        metrics: None,
    };
    KafkaLog::open(dir, options).expect("the topics are there")
}

/// All rows of a table in an order of their own, as many as the other history has at most.
fn contents(history: &History, table: &str) -> Vec<Value> {
    if !history.has(table) {
        return Vec::new();
    }
    history.rows(&format!("SELECT * FROM {table} ORDER BY tick, partition, ordinal"))
}

/// The two histories are the same as far as both go: one reader went on for longer than the other.
#[track_caller]
fn assert_same(left: &History, right: &History) {
    for table in ["calls", "sessions", "models", "features", "tools"] {
        let (mut left, mut right) = (contents(left, table), contents(right, table));
        let both = left.len().min(right.len());
        assert!(both > 0 || table == "features", "no rows of {table}");
        left.truncate(both);
        right.truncate(both);
        assert_eq!(left, right, "{table}");
    }
}

struct Life {
    _directory: TempDir,
    kafka: Arc<Kafka>,
    prefix: String,
    root: PathBuf,
    gateway: Gateway,
}

impl Life {
    fn begin(name: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix(name));
        let root = directory.path().to_owned();
        let gateway = on(&kafka, &prefix, &root.join("gateway")).gateway().upstream("demo", &server.url()).start();
        Self { _directory: directory, kafka, prefix, root, gateway }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn engine(&self, name: &str, workers: usize) -> Serve {
        on(&self.kafka, &self.prefix, &self.data(name)).engine().setting("ENGINE__WORKERS", &workers.to_string())
    }

    fn load(&self, sessions: usize, calls: u64) {
        assert_eq!(Load::bounded(self.gateway.listen, "/mcp/demo", sessions, calls).join(), sessions as u64 * calls);
    }
}

#[test]
fn a_killed_engine_goes_on_from_its_checkpoint_on_other_workers_without_the_records_before_it() {
    let life = Life::begin("resume");
    let data = life.data("engine");
    let engine = life.engine("engine", 1).start();
    life.load(4, 30);
    engine.settle_calls(120);
    checkpointed(&data, 2, 0);
    let seen = checkpoints(&data)[1].0;
    life.load(2, 20);
    checkpointed(&data, 2, seen);
    // What comes after the last checkpoint is read again.
    life.load(2, 10);
    engine.kill();
    life.load(2, 10);

    // An unbroken reader of the whole topics.
    let whole = life.engine("whole", 1).start();
    whole.settle_calls(200);
    whole.settle();
    let whole = whole.stop();

    // Nothing before the older checkpoint is there any more.
    let kept = checkpoints(&data);
    let [(oldest, _), .., (_, newest)] = &kept[..] else { panic!("{kept:?}") };
    let topics = log(&life.kafka, &life.prefix, &life.data("spill"));
    assert_eq!(topics.floor().expect("an answer"), None);
    let now = Retention { age: Some(Duration::ZERO), bytes: None };
    assert_eq!(topics.retain(&now, Tick(*oldest)).expect("removed"), Some(Tick(*oldest)));
    assert_eq!(topics.floor().expect("an answer"), Some(Tick(*oldest)));
    assert!(matches!(topics.after(Tick(*oldest)), Ok(Continues::At(_))));
    assert_eq!(topics.after(Tick(*oldest - 1)).expect("an answer"), Continues::No);
    assert_eq!(topics.retain(&now, Tick(*oldest)).expect("asked"), None, "there is no more to remove");
    let hour = Retention { age: Some(Duration::from_secs(3_600)), bytes: None };
    assert_eq!(topics.retain(&hour, Tick(u64::MAX)).expect("asked"), None, "all of it is young");
    topics.close().expect("closed");

    // And the newest is damaged.
    let mut bytes = fs::read(newest).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(newest, bytes).expect("written");

    let engine = life.engine("engine", 3).start();
    life.load(1, 10);
    wait_until("it has learned the rest", || engine.metrics().sum("undercurrent_kafka_lag_records") == 0.0);
    engine.settle();
    let said = engine.process.stderr();
    assert!(said.contains("the damaged checkpoint was set aside"), "{said}");
    assert!(data.join("state/checkpoints/damaged.image").is_file());
    assert!(!said.contains("older records are no longer in the topic"), "{said}");
    let history = engine.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls"), 210);
    assert_same(&history, &whole);
    assert_eq!(contents(&history, "sessions").len().min(9), 9, "sessions have closed");
    life.gateway.stop_without_history();
}
