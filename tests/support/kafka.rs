//! Apache Kafka brokers as processes, from the jars that `tests/parts/install.sh` fetched; or those of `$KAFKA_BOOTSTRAP`.
//!
//! Each test has topics of its own by their prefix. A broker ends with the last test that holds it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tempfile::TempDir;

use super::parts::part;
use super::process::Process;
use super::wait::{free_address, wait_until};

/// Brokers that answer.
#[derive(Debug)]
pub(crate) struct Kafka {
    nodes: Vec<Node>,
    servers: String,
    /// Where the only broker wants TLS and a password.
    secured: Option<SocketAddr>,
    /// Goes last.
    _directory: Option<TempDir>,
}

#[derive(Debug)]
struct Node {
    settings: std::path::PathBuf,
    process: Option<Process>,
}

/// Shared by the tests that leave it as it is.
static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

impl Kafka {
    /// One broker, shared with other tests: of `$KAFKA_BOOTSTRAP`, else started.
    #[track_caller]
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let kafka = Arc::new(match std::env::var("KAFKA_BOOTSTRAP") {
                Ok(servers) if !servers.is_empty() => {
                    Self { nodes: Vec::new(), servers, secured: None, _directory: None }
                }
                _ => Self::start(1),
            });
            *shared = Arc::downgrade(&kafka);
            kafka
        })
    }

    /// So many brokers of one's own, which may be stopped.
    #[track_caller]
    pub(crate) fn start(count: usize) -> Self {
        Self::started(count, None)
    }

    /// A broker with a second listener, for which `keystore` is its private key and certificate (PEM) and `password` the
    /// password of user `undercurrent`, by SCRAM-SHA-512.
    #[track_caller]
    pub(crate) fn secured(keystore: &Path, password: &str) -> Self {
        Self::started(1, Some((keystore, password)))
    }

    #[track_caller]
    fn started(count: usize, secured: Option<(&Path, &str)>) -> Self {
        let secured = secured.map(|(keystore, password)| (free_address(), keystore, password));
        let directory = TempDir::new().expect("a temporary directory");
        let ports: Vec<_> = (0..count).map(|_| (free_address(), free_address())).collect();
        let cluster = java(&["kafka.tools.StorageTool", "random-uuid"]).output().expect("run java");
        let cluster = String::from_utf8_lossy(&cluster.stdout).trim().to_owned();
        assert!(!cluster.is_empty(), "Apache Kafka does not start: run tests/parts/install.sh");
        let mut nodes = Vec::new();
        for id in 1..=count {
            let settings = directory.path().join(format!("node-{id}.properties"));
            let listener = secured.map(|(address, keystore, _)| (address, keystore));
            fs::write(&settings, properties(id, &ports, directory.path(), listener)).expect("write the settings");
            let mut format = java(&["kafka.tools.StorageTool", "format", "-t", &cluster, "-c"]);
            format.arg(&settings);
            if let Some((_, _, password)) = secured {
                format.args(["--add-scram", &format!("SCRAM-SHA-512=[name=undercurrent,password={password}]")]);
            }
            let format = format.output().expect("run java");
            assert!(format.status.success(), "format: {}", String::from_utf8_lossy(&format.stderr));
            nodes.push(Node { settings, process: None });
        }
        let servers = ports.iter().map(|(broker, _)| broker.to_string()).collect::<Vec<_>>().join(",");
        let secured = secured.map(|(address, ..)| address);
        let mut kafka = Self { nodes, servers, secured, _directory: Some(directory) };
        for node in 0..count {
            kafka.run(node);
        }
        kafka.wait(count);
        kafka
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// Where it wants TLS and a password.
    pub(crate) fn secured_server(&self) -> String {
        self.secured.expect("it was started with such a listener").to_string()
    }

    /// Stops a broker without warning.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].process.take().expect("it runs").kill();
    }

    /// Starts a stopped broker again, with what it had.
    #[track_caller]
    pub(crate) fn restart(&mut self, node: usize) {
        self.run(node);
        self.wait(self.nodes.iter().filter(|node| node.process.is_some()).count());
    }

    fn run(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let mut command = java(&["kafka.Kafka"]);
        command.arg(&node.settings).stdin(Stdio::null()).stdout(Stdio::null());
        node.process = Some(Process::start("Apache Kafka", command));
    }

    /// The port answers before the brokers can serve: waits until they know each other.
    #[track_caller]
    fn wait(&mut self, count: usize) {
        let mut config = ClientConfig::new();
        let client: BaseConsumer =
            config.set("bootstrap.servers", &self.servers).set("group.id", "wait").create().expect("a client");
        wait_until("Apache Kafka serves", || {
            for node in &mut self.nodes {
                if let Some(process) = &mut node.process {
                    assert!(process.is_running(), "the broker ended: {}", process.stderr());
                }
            }
            client.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|found| found.brokers().len() >= count)
        });
    }
}

/// A prefix of topics that no other test has.
pub(crate) fn topic_prefix(test: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{test}-{}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn java(arguments: &[&str]) -> Command {
    let mut command = Command::new(part("bin/java"));
    let libraries = part("kafka/libs");
    command
        .args(["-Xmx400m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
        .arg(libraries.join("*"))
        .args(arguments);
    command
}

fn properties(
    id: usize,
    ports: &[(SocketAddr, SocketAddr)],
    directory: &Path,
    secured: Option<(SocketAddr, &Path)>,
) -> String {
    let (broker, controller) = ports[id - 1];
    let voters: Vec<_> = (1..).zip(ports).map(|(id, (_, controller))| format!("{id}@{controller}")).collect();
    let copies = if ports.len() >= 3 { 3 } else { 1 };
    let in_sync = if copies == 3 { 2 } else { 1 };
    let mut text = String::new();
    let too = secured.map(|(address, _)| format!(",SECURED://{address}")).unwrap_or_default();
    if let Some((_, keystore)) = secured {
        for (key, value) in [
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512".to_owned()),
            (
                "listener.name.secured.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
            ),
            ("listener.name.secured.ssl.keystore.type", "PEM".to_owned()),
            ("listener.name.secured.ssl.keystore.location", keystore.display().to_string()),
        ] {
            writeln!(text, "{key}={value}").expect("a string takes it");
        }
    }
    for (key, value) in [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", id.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("listeners", format!("PLAINTEXT://{broker},CONTROLLER://{controller}{too}")),
        ("advertised.listeners", format!("PLAINTEXT://{broker}{too}")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL".to_owned()),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        ("log.dirs", directory.join(format!("node-{id}")).display().to_string()),
        ("offsets.topic.replication.factor", copies.to_string()),
        ("transaction.state.log.replication.factor", copies.to_string()),
        ("transaction.state.log.min.isr", in_sync.to_string()),
        ("transaction.state.log.num.partitions", "4".to_owned()),
        ("offsets.topic.num.partitions", "1".to_owned()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
    ] {
        writeln!(text, "{key}={value}").expect("a string takes it");
    }
    text
}
