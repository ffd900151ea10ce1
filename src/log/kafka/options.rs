//! The settings of a log on Kafka.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::Properties;
use crate::log::LogOptions;
use crate::telemetry::KafkaMetrics;

/// How a log on Kafka is opened.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    pub brokers: Brokers,
    /// Copies of each record.
    pub replication: u16,
    /// Bytes that wait in DATA at most while the brokers are away.
    pub spill_bytes_max: u64,
    /// How long a record waits for its broker before what waits goes to DATA.
    pub spill_after: Duration,
    /// Topics that results go to, without the prefix.
    pub derived_topics: Vec<&'static str>,
    /// Whether this process says that time passes: whoever takes messages from clients does.
    pub heartbeats: bool,
    /// Partitions, ticks and the bounds of the queue.
    pub log: LogOptions,
    pub metrics: Option<Arc<KafkaMetrics>>,
}

/// Where the brokers are, and how they are spoken to.
#[derive(Clone, PartialEq, Eq)]
pub struct Brokers {
    /// `HOST:PORT,…`.
    pub servers: String,
    /// What the name of each topic starts with.
    pub prefix: String,
    /// For librdkafka, as they are.
    pub properties: Properties,
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brokers").field("servers", &self.servers).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Brokers {
    pub(super) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What all clients have in common.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        client.set("client.id", "undercurrent").set("reconnect.backoff.max.ms", "1000");
        client.set("socket.nagle.disable", "true");
        for (name, value) in &self.properties.0 {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.servers);
        client
    }

    /// A producer whose records arrive once and in order, however long that takes.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client.set("enable.idempotence", "true").set("acks", "all").set("message.timeout.ms", "0");
        for (name, value) in [
            // The queue in front of it is the bound.
            ("queue.buffering.max.messages", "0"),
            ("queue.buffering.max.kbytes", "2147483647"),
            ("message.max.bytes", super::topics::RECORD_BYTES_MAX),
            ("compression.type", "lz4"),
            ("linger.ms", "2"),
        ] {
            if !self.properties.0.contains_key(name) {
                client.set(name, value);
            }
        }
        client
    }

    /// A consumer that belongs to no group: it is told its partitions and offsets.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", format!("{}none", self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed");
        for (name, value) in
            [("fetch.wait.max.ms", "20"), ("queued.max.messages.kbytes", "32768"), ("fetch.queue.backoff.ms", "5")]
        {
            if !self.properties.0.contains_key(name) {
                client.set(name, value);
            }
        }
        client
    }
}
