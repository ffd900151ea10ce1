//! What an engine on Kafka keeps beside the topics: it goes on from its checkpoints wherever it was killed, on any number
//! of workers, and the topics need not be whole any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use undercurrent::config::{Properties, Retention};
use undercurrent::log::{Brokers, Continues, KafkaLog, KafkaOptions, LogOptions, OwnerLog as _};
use undercurrent_schemas::ids::Tick;

use crate::support::command::Words;
use crate::support::gateway::{Gateway, Serve};
use crate::support::history::History;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::{HttpServer, python_answer, python_script, root, undercurrent};
use crate::support::process::Process;
use crate::support::raw::read_all;
use crate::support::wait::{free_address, wait_until};

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
        derived_topics: Vec::new(),
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
    for table in ["calls", "sessions", "models", "features"] {
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
    _server: HttpServer,
}

impl Life {
    fn begin(name: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix(name));
        let root = directory.path().to_owned();
        let gateway = on(&kafka, &prefix, &root.join("gateway")).gateway().upstream("demo", &server.url()).start();
        Self { _directory: directory, kafka, prefix, root, gateway, _server: server }
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

impl Life {
    /// An engine of so many processes: the first, which has the data, and the others.
    #[track_caller]
    fn engines(&self, name: &str, processes: usize, workers: usize) -> (Gateway, Vec<Gateway>) {
        let hosts = self.root.join(format!("{processes}.hosts"));
        let addresses: Vec<String> = (0..processes).map(|_| free_address().to_string()).collect();
        fs::write(&hosts, addresses.join("\n")).expect("write the hosts");
        let one = |process: usize| {
            let name = if process == 0 { name.to_owned() } else { format!("{name}-{process}") };
            let engine = self.engine(&name, workers).with("--hosts", hosts.to_str().expect("a path in UTF-8"));
            engine.with("--process", &process.to_string())
        };
        let others = (1..processes).map(|process| one(process).spawn()).collect();
        (one(0).start(), others)
    }

    /// A command on an engine's data: what it said, on success or failure.
    fn run(&self, name: &str, arguments: &[&str]) -> Result<String, String> {
        let words = Words::new(undercurrent()).and_all(arguments).and("--data").and(self.data(name));
        let mut command = words.command();
        command
            .env("UNDERCURRENT__LOG__BACKEND", "kafka")
            .env("UNDERCURRENT__KAFKA__BOOTSTRAP_SERVERS", self.kafka.servers())
            .env("UNDERCURRENT__KAFKA__TOPIC_PREFIX", &self.prefix)
            .env("UNDERCURRENT__ENGINE__SESSION_IDLE_S", "1")
            .env("UNDERCURRENT__ENGINE__LATENESS_S", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::start("undercurrent", command);
        let said = read_all(process.take_stdout());
        let status = process.wait();
        let said = said.join().expect("the reader does not panic");
        if status.success() { Ok(said) } else { Err(format!("{said}{}", process.stderr())) }
    }

    /// Everything on the topics of results.
    fn results(&self) -> String {
        let topics = ["assessments", "alerts", "features", "clusters", "tools", "labels"];
        let arguments = [&[self.kafka.servers(), &self.prefix][..], &topics[..]].concat();
        python_answer("kafka_results.py", &arguments, "")
    }

    /// The sessions of the events that a program from outside finds in the topic.
    fn sessions_on_topic(&self) -> BTreeSet<String> {
        let script = python_script("kafka_events.py").and(self.kafka.servers()).and(format!("{}events", self.prefix));
        let mut command = script.and(root().join("schemas/proto")).command();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start("kafka_events.py", command);
        let output = read_all(process.take_stdout());
        assert!(process.wait().success(), "{}", process.stderr());
        let events: Vec<Value> = serde_json::from_str(&output.join().expect("no panic")).expect("it prints JSON");
        events.iter().map(|event| event["session_id"].as_str().expect("a text").to_owned()).collect()
    }
}

#[test]
fn several_processes_keep_and_deal_what_they_know() {
    let life = Life::begin("deal");
    let data = life.data("engine");
    let (engine, mut others) = life.engines("engine", 2, 1);
    life.load(4, 30);
    engine.settle_calls(120);
    checkpointed(&data, 2, 0);
    let seen = checkpoints(&data)[1].0;
    life.load(4, 10);
    checkpointed(&data, 2, seen);
    life.load(2, 10);
    engine.kill();
    assert_eq!(others.remove(0).process.wait().code(), Some(3), "one process of an engine cannot go on alone");
    life.load(2, 10);
    let whole = life.engine("whole", 1).start();
    whole.settle_calls(200);
    whole.settle();
    let whole = whole.stop();

    let oldest = Tick(checkpoints(&data)[0].0);
    let topics = log(&life.kafka, &life.prefix, &life.data("spill"));
    topics.retain(&Retention { age: Some(Duration::ZERO), bytes: None }, oldest).expect("removed").expect("some");
    topics.close().expect("closed");
    // From two processes to one, and to two of two workers.
    let one = life.engine("engine", 3).start();
    life.load(1, 10);
    one.settle_calls(210);
    let seen = checkpoints(&data).last().expect("a checkpoint").0;
    checkpointed(&data, 1, seen);
    assert!(one.process.stderr().contains("learning goes on after a checkpoint"), "{}", one.process.stderr());
    one.kill();
    let (engine, others) = life.engines("engine", 2, 2);
    life.load(2, 10);
    engine.settle_calls(230);
    engine.settle();
    assert!(engine.process.stderr().contains("learning goes on after a checkpoint"), "{}", engine.process.stderr());
    let history = engine.stop();
    for mut other in others {
        assert_eq!(other.process.wait().code(), Some(3), "{}", other.process.stderr());
    }
    assert_eq!(history.number("SELECT count(*) FROM calls"), 230);
    assert_same(&history, &whole);
    let said = life.run("engine", &["state", "verify"]).expect("the newest is what the topics give");
    assert!(said.contains("is what the log gives from tick"), "{said}");
    life.gateway.stop_without_history();
}

#[test]
fn an_erased_session_is_on_no_topic() {
    let life = Life::begin("erase");
    let data = life.data("engine");
    let engine = life.engine("engine", 2).start();
    life.load(3, 12);
    engine.settle_calls(36);
    checkpointed(&data, 1, 0);
    engine.settle();
    let history = engine.stop();
    let sessions = history.rows("SELECT DISTINCT session_id FROM calls ORDER BY 1");
    let [gone, left] = [0, 1].map(|at: usize| sessions[at]["session_id"].as_str().expect("a session").to_owned());
    let rows = |session: &str| {
        ["messages", "calls", "sessions"]
            .map(|table| history.number(&format!("SELECT count(*) FROM {table} WHERE session_id = '{session}'")))
    };
    let before = rows(&left);
    assert!(life.sessions_on_topic().contains(&gone), "the topic has it");
    assert!(life.results().contains(&gone), "and those of results have it");

    let said = life.run("engine", &["forget", "--session", &gone, "--erase"]).expect("erased");
    assert!(said.contains("unlearned   1 of 1 sessions") && said.contains("removed from the topics"), "{said}");
    assert_eq!(rows(&gone), [0; 3], "no row names it: {said}");
    assert_eq!(rows(&left), before, "the others' rows are there: {said}");
    assert!(!life.sessions_on_topic().contains(&gone), "nobody finds it on the topic: {said}");
    assert!(!life.results().contains(&gone), "nor on those of results: {said}");
    life.run("engine", &["forget", "--session", &gone, "--erase"]).expect("nothing is left to erase");
    let shown = life.run("engine", &["state", "show"]).expect("shown");
    assert!(shown.contains("8 partitions"), "{shown}");

    let engine = life.engine("engine", 1).start();
    life.load(1, 12);
    engine.settle_calls(48);
    let seen = checkpoints(&data).last().expect("a checkpoint").0;
    checkpointed(&data, 1, seen);
    engine.settle();
    let history = engine.stop();
    assert_eq!(history.number("SELECT count(DISTINCT session_id) FROM calls"), 3, "life goes on");
    life.run("engine", &["state", "verify"]).expect("state and history are as they should be");
    life.gateway.stop_without_history();
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
    let oldest = &kept.first().expect("a checkpoint").0;
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

    let engine = life.engine("engine", 3).start();
    life.load(1, 10);
    // What was counted before the checkpoint counts on.
    engine.settle_calls(210);
    assert!(engine.process.stderr().contains("learning goes on after a checkpoint"), "{}", engine.process.stderr());
    engine.stop();

    // The history has all that the newest needs; it is damaged.
    let newest = &checkpoints(&data).last().expect("a checkpoint").1.clone();
    let mut bytes = fs::read(newest).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(newest, bytes).expect("written");

    let engine = life.engine("engine", 2).start();
    life.load(1, 10);
    engine.settle_calls(220);
    engine.settle();
    let said = engine.process.stderr();
    assert!(said.contains("the damaged checkpoint was set aside"), "{said}");
    assert!(data.join("state/checkpoints/damaged.image").is_file());
    assert!(!said.contains("older records are no longer in the topic"), "{said}");
    let history = engine.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls"), 220);
    assert_same(&history, &whole);
    assert_eq!(contents(&history, "sessions").len().min(9), 9, "sessions have closed");
    life.gateway.stop_without_history();
}
