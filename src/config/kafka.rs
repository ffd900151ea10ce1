//! The log on Kafka: where the brokers are, and how they are spoken to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::error::ConfigError;
use super::mcp_json::expand;
use super::raw::RawConfig;
use super::resolve::{Check, millis, quoted};

/// The log on Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// `HOST:PORT,…`.
    pub servers: String,
    /// What the name of each topic starts with.
    pub prefix: String,
    /// Copies of each record.
    pub replication: u16,
    /// `None`: records are kept for ever.
    pub retention: Option<Duration>,
    /// Bytes that wait in DATA at most while the brokers are away.
    pub spill_bytes_max: u64,
    /// How long a record waits for its broker before what waits goes to DATA.
    pub spill_after: Duration,
    /// Topics that results go to, without the prefix.
    pub derived_topics: Vec<&'static str>,
    pub properties: Properties,
}

/// Settings of librdkafka, by name. Their values are often secrets and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What exactness rests on, and what is set by a key of its own.
const OURS: [&str; 13] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "isolation.level",
    "group.id",
    "enable.auto.commit",
    "auto.offset.reset",
    "enable.partition.eof",
];

/// Topics that results can go to.
pub const DERIVED_TOPICS: [&str; 6] = ["assessments", "alerts", "features", "clusters", "tools", "labels"];

/// A value that is this and a path stands for the file's text.
const FILE: &str = "file:";

pub(super) fn resolve(
    check: &Check<'_>,
    raw: &RawConfig,
    env: &BTreeMap<String, String>,
) -> Result<Option<Kafka>, ConfigError> {
    let from = &raw.kafka;
    let number = |key: &str, value, range| check.number(&format!("kafka.{key}"), value, range);
    let hours = number("retention_hours", from.retention_hours, 0..=876_000)? as u64;
    let kafka = Kafka {
        servers: from.bootstrap_servers.trim().to_owned(),
        prefix: from.topic_prefix.clone(),
        replication: number("replication_factor", from.replication_factor, 1..=32)? as u16,
        retention: (hours > 0).then(|| Duration::from_secs(hours * 3_600)),
        spill_bytes_max: number("spill_bytes_max", from.spill_bytes_max, 1 << 20..=1 << 50)? as u64,
        spill_after: millis(number("spill_after_ms", from.spill_after_ms, 10..=600_000)?),
        derived_topics: derived_topics(check, &from.derived_topics)?,
        properties: properties(check, &from.properties, env)?,
    };
    let is_server = |server: &str| server.trim().rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !kafka.servers.split(',').all(is_server) {
        let remedy = "give HOST:PORT of some brokers, such as \"kafka-1:9092,kafka-2:9092\"";
        return Err(check.wrong("kafka.bootstrap_servers", quoted(&kafka.servers), "not a list of brokers", remedy));
    }
    let in_topics = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if kafka.prefix.len() > 200 || !kafka.prefix.chars().all(in_topics) {
        let remedy = "use letters, digits, `.`, `_` and `-`";
        return Err(check.wrong("kafka.topic_prefix", quoted(&kafka.prefix), "not a part of a topic's name", remedy));
    }
    match raw.log.backend.as_str() {
        "embedded" => Ok(None),
        "kafka" => Ok(Some(kafka)),
        other => Err(check.wrong("log.backend", quoted(other), "unknown", "give \"embedded\" or \"kafka\"")),
    }
}

fn derived_topics(check: &Check<'_>, asked: &[String]) -> Result<Vec<&'static str>, ConfigError> {
    let mut topics = BTreeSet::new();
    for name in asked {
        let Some(known) = DERIVED_TOPICS.into_iter().find(|known| known == name) else {
            let remedy = format!("give some of {}", DERIVED_TOPICS.join(", "));
            return Err(check.wrong("kafka.derived_topics", quoted(name), "no such topic", &remedy));
        };
        topics.insert(known);
    }
    Ok(topics.into_iter().collect())
}

fn properties(
    check: &Check<'_>,
    raw: &BTreeMap<String, String>,
    env: &BTreeMap<String, String>,
) -> Result<Properties, ConfigError> {
    let mut properties = BTreeMap::new();
    for (name, value) in raw {
        // A variable's name has no dots, and librdkafka's names have no underscores.
        let name = name.replace('_', ".");
        let wrong = |problem: &str, remedy: &str| check.wrong("kafka.properties", quoted(&name), problem, remedy);
        if OURS.contains(&name.as_str()) {
            return Err(wrong("undercurrent sets this itself", "leave it out"));
        }
        let value = expand(value, env).map_err(|variable| {
            wrong(&format!("`{variable}` in its value is not known here"), "set that environment variable")
        })?;
        let value = match value.strip_prefix(FILE) {
            Some(path) => std::fs::read_to_string(Path::new(path))
                .map_err(|error| wrong(&format!("its file {path}: {error}"), "name a file that can be read"))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => value,
        };
        properties.insert(name, value);
    }
    Ok(Properties(properties))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn kafka(text: &str) -> Result<super::Kafka, String> {
        let config = Config::of_text(text).map_err(|error| error.to_string())?;
        config.log.kafka.ok_or_else(|| "embedded".to_owned())
    }

    #[test]
    fn one_key_changes_the_log() {
        assert_eq!(kafka("").unwrap_err(), "embedded");
        let kafka = kafka("[log]\nbackend = \"kafka\"").unwrap();
        assert_eq!((kafka.servers.as_str(), kafka.retention), ("127.0.0.1:9092", None));
    }

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let path = file.display().to_string().replace('\\', "/");
        let text =
            format!("[log]\nbackend = \"kafka\"\n[kafka]\nproperties = {{ \"sasl.password\" = \"file:{path}\" }}");
        let kafka = kafka(&text).unwrap();
        assert_eq!(kafka.properties.0["sasl.password"], "s3cret");
        assert!(!format!("{kafka:?}").contains("s3cret"));
    }

    #[test]
    fn what_exactness_rests_on_cannot_be_set() {
        for text in ["acks = \"1\"", "enable_idempotence = \"false\"", "\"group.id\" = \"mine\""] {
            let error = kafka(&format!("[kafka]\nproperties = {{ {text} }}")).unwrap_err();
            assert!(error.contains("undercurrent sets this itself"), "{error}");
        }
        let error = kafka("[kafka]\nderived_topics = [\"alert\"]").unwrap_err();
        assert!(error.contains("\"alert\"") && error.contains("give some of assessments, alerts"), "{error}");
        assert!(kafka("[kafka]\nbootstrap_servers = \"here\"").unwrap_err().contains("HOST:PORT"));
        assert!(kafka("[log]\nbackend = \"kafak\"").unwrap_err().contains("embedded"));
    }
}
