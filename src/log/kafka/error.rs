//! What can go wrong with the log on Kafka, in words that say what to do.

use std::path::PathBuf;

use rdkafka::error::KafkaError;
use undercurrent_schemas::ids::{Offset, Partition, Tick};

#[derive(Debug, thiserror::Error)]
pub enum KafkaLogError {
    #[error("set up the Kafka client: {what}; mend kafka.properties")]
    Setting { what: String },

    #[error("set up the Kafka client; look at [kafka] in the settings")]
    Client(#[source] KafkaError),

    #[error("ask the Kafka brokers at {servers}; see that they run and that kafka.bootstrap_servers is right")]
    Away { servers: String, source: KafkaError },

    #[error("create topic `{topic}`: {what}; create it by hand, or let this user create topics")]
    Create { topic: String, what: String },

    #[error("topic `{topic}` {what}; {remedy}")]
    Topic { topic: String, what: String, remedy: String },

    #[error("open spill {}; another process may hold it, or the directory is not writable", path.display())]
    OpenSpill { path: PathBuf, source: fjall::Error },

    #[error("write spill {}; free space on its file system or repair it", path.display())]
    Spill { path: PathBuf, source: fjall::Error },

    #[error("draw a gateway id")]
    Random(#[source] getrandom::Error),

    #[error("start a thread of the log on Kafka")]
    Thread(#[source] std::io::Error),

    #[error("read topic `{topic}`")]
    Read { topic: String, source: KafkaError },

    #[error("write topic `{topic}`")]
    Write { topic: String, source: KafkaError },

    #[error(
        "partition {partition} of topic `{topic}` from offset {offset} on is not what was bound to tick {tick}: somebody \
         wrote to the topic anew or changed it; give this installation another kafka.topic_prefix, or restore the topic"
    )]
    NotAsBound { topic: String, partition: Partition, offset: Offset, tick: Tick },

    #[error(
        "binding at offset {offset} of topic `{topic}` cannot be read; restore the topic, or use another kafka.topic_prefix"
    )]
    Binding { topic: String, offset: i64 },

    #[error(
        "bind tick {tick}: another engine has taken over the topics `{prefix}…`, and this one is refused; stop one of them, \
         or give it another kafka.topic_prefix"
    )]
    Fenced { tick: Tick, prefix: String },

    #[error(
        "go on after tick {tick}: topics `{prefix}…` do not have it, or not all that came after it; start again, so that a \
         checkpoint that they go on from is chosen"
    )]
    NoSuchTick { tick: Tick, prefix: String },

    #[error("remove records of topic `{topic}`; this user needs the right to delete there")]
    Delete { topic: String, source: KafkaError },

    #[error("bind tick {tick} on topic `{topic}`")]
    Bind { tick: Tick, topic: String, source: KafkaError },

    #[error("close the log on Kafka: {events} events could neither be delivered nor be kept in DATA")]
    Undelivered { events: usize },
}

impl KafkaLogError {
    /// A client that could not be made. The value of a property is never told: it may be a secret.
    pub(super) fn client(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, what, key, _) => Self::Setting { what: format!("`{key}`: {what}") },
            error => Self::Client(error),
        }
    }
}
