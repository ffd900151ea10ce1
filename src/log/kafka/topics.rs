//! The topics: made where they are missing, and looked at where they are there.
//!
//! Not here: what is in them. Invariant: nothing is changed on a topic that is there; what does not fit is said with its
//! remedy, and what would break an invariant of ours is refused.

use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::client::Plain;
use super::{KafkaLogError, KafkaOptions};

/// How long a question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);
/// Changes of the model: a gateway that was away for longer takes the whole one.
const CHANGES_KEPT: Duration = Duration::from_secs(86_400);
/// Records that are no events, for people to look at.
const LETTERS_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// What others report, until the engine has read it; it has it from the log then.
const REPORTS_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// What the engine made of the events, for whoever reads along; the history has it for good.
const RESULTS_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// A day: what is removed leaves the brokers' disks with the file that it is in, once that is no longer written to.
const SEGMENT_MS: &str = "86400000";
/// The largest record: an event whose payload is kept.
pub(super) const RECORD_BYTES_MAX: &str = "10485760";

/// What a topic has to be like.
struct Topic {
    name: String,
    /// Of a topic whose records have no order among themselves, as many as it is made with.
    partitions: u32,
    is_ordered: bool,
    compacted: bool,
    retention: Option<Duration>,
}

fn topics(options: &KafkaOptions) -> Vec<Topic> {
    let topic = |name: &str, partitions, compacted, retention| Topic {
        name: options.brokers.topic(name),
        partitions,
        is_ordered: true,
        compacted,
        retention,
    };
    let derived = options.derived_topics.iter().map(|name| topic(name, 1, false, Some(RESULTS_KEPT)));
    let ours = [
        // The engine removes what no checkpoint needs (`kept`); brokers do not know what that is.
        topic("events", options.log.partitions, false, None),
        topic("bindings", 1, false, None),
        topic("models", 1, true, None),
        topic("dead_letters", 1, false, Some(LETTERS_KEPT)),
        topic("model_updates", 1, false, Some(CHANGES_KEPT)),
        Topic { is_ordered: false, ..topic("telemetry", 1, false, Some(REPORTS_KEPT)) },
    ];
    ours.into_iter().chain(derived).collect()
}

/// Makes the topics that are missing and checks all. Blocks.
pub(super) fn ensure(options: &KafkaOptions) -> Result<(), KafkaLogError> {
    let admin: AdminClient<Plain> =
        options.brokers.client().create_with_context(Plain).map_err(KafkaLogError::client)?;
    let topics = topics(options);
    let away = |source| KafkaLogError::Away { servers: options.brokers.servers.clone(), source };
    let metadata = admin.inner().fetch_metadata(None, ASK).map_err(away)?;
    let there = |name: &str| metadata.topics().iter().any(|topic| topic.name() == name);
    let missing: Vec<_> = topics.iter().filter(|topic| !there(&topic.name)).collect();
    if !missing.is_empty() {
        create(&admin, options, &missing)?;
    }
    for topic in &topics {
        check_shape(&admin, options, topic)?;
    }
    check_settings(&admin, &topics)
}

fn create(admin: &AdminClient<Plain>, options: &KafkaOptions, missing: &[&Topic]) -> Result<(), KafkaLogError> {
    let retention: Vec<_> = missing.iter().map(|topic| retention_ms(topic.retention)).collect();
    // Two copies have to be written where there are three, so that one broker can go.
    let in_sync = if options.replication >= 3 { "2" } else { "1" };
    let new = missing.iter().zip(&retention).map(|(topic, retention)| {
        let replication = TopicReplication::Fixed(i32::from(options.replication));
        let new = NewTopic::new(&topic.name, topic.partitions as i32, replication)
            .set("min.insync.replicas", in_sync)
            .set("max.message.bytes", RECORD_BYTES_MAX);
        if topic.compacted {
            new.set("cleanup.policy", "compact").set("min.compaction.lag.ms", "600000")
        } else {
            new.set("cleanup.policy", "delete").set("retention.ms", retention).set("segment.ms", SEGMENT_MS)
        }
    });
    let new: Vec<_> = new.collect();
    let asked = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
    let away = |source| KafkaLogError::Away { servers: options.brokers.servers.clone(), source };
    for result in block_on(admin.create_topics(&new, &asked)).map_err(away)? {
        match result {
            Ok(topic) => tracing::info!(topic, "topic created"),
            // Another process was quicker.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(KafkaLogError::Create { topic, what: code.to_string() }),
        }
    }
    Ok(())
}

/// Partitions and copies. A topic that was just made is known to each broker a little later.
fn check_shape(admin: &AdminClient<Plain>, options: &KafkaOptions, topic: &Topic) -> Result<(), KafkaLogError> {
    let away = |source| KafkaLogError::Away { servers: options.brokers.servers.clone(), source };
    let mut tries = 0;
    let (partitions, copies) = loop {
        let metadata = admin.inner().fetch_metadata(Some(&topic.name), ASK).map_err(away)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.name && found.error().is_none());
        if let Some(shape) = found.map(shape).filter(|(partitions, _)| *partitions > 0) {
            break shape;
        }
        tries += 1;
        if tries > 50 {
            let what = "is not known to the brokers".to_owned();
            return Err(KafkaLogError::Topic {
                topic: topic.name.clone(),
                what,
                remedy: "create it by hand".to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if topic.is_ordered && partitions != topic.partitions as usize {
        return Err(KafkaLogError::Topic {
            topic: topic.name.clone(),
            what: format!("has {partitions} partitions, asked for {}", topic.partitions),
            remedy: if topic.partitions == 1 {
                "its records have one order: delete it, or use another kafka.topic_prefix".to_owned()
            } else {
                format!("set log.partitions = {partitions}, or use another kafka.topic_prefix")
            },
        });
    }
    if copies < usize::from(options.replication) {
        let asked = options.replication;
        tracing::warn!(
            topic = topic.name,
            "topic has {copies} copies of each record, kafka.replication_factor asks for {asked}: a lost broker may take \
             records with it; raise it with kafka-reassign-partitions, or lower the setting"
        );
    }
    Ok(())
}

/// Partitions, and copies of the one that has the fewest.
fn shape(topic: &MetadataTopic) -> (usize, usize) {
    let copies = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
    (topic.partitions().len(), copies.unwrap_or(0))
}

/// How long records are kept. A user who may not ask is believed.
fn check_settings(admin: &AdminClient<Plain>, topics: &[Topic]) -> Result<(), KafkaLogError> {
    let specifiers: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let asked = AdminOptions::new().request_timeout(Some(ASK));
    let described = match block_on(admin.describe_configs(&specifiers, &asked)) {
        Ok(described) => described,
        Err(error) => {
            tracing::warn!(%error, "the settings of the topics could not be looked at");
            return Ok(());
        }
    };
    for (topic, described) in topics.iter().zip(described) {
        match described {
            Ok(found) => check_found(topic, &found)?,
            Err(error) => tracing::warn!(topic = topic.name, %error, "the topic's settings could not be looked at"),
        }
    }
    Ok(())
}

fn check_found(topic: &Topic, found: &ConfigResource) -> Result<(), KafkaLogError> {
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let policy = value("cleanup.policy");
    let asked = if topic.compacted { "compact" } else { "delete" };
    if !policy.is_empty() && policy != asked {
        return Err(KafkaLogError::Topic {
            topic: topic.name.clone(),
            what: format!(
                "has cleanup.policy={policy}, which {}",
                if topic.compacted {
                    "would remove models that gateways start with"
                } else {
                    "would remove records from the middle of the log"
                }
            ),
            remedy: format!("set it with kafka-configs --alter --add-config cleanup.policy={asked}"),
        });
    }
    let (kept, retention) = (value("retention.ms"), retention_ms(topic.retention));
    if !topic.compacted && !kept.is_empty() && is_shorter(&kept, &retention) {
        tracing::warn!(
            topic = topic.name,
            "topic keeps records for retention.ms={kept}, and should for {retention}: what is gone cannot be learned from \
             again; set it with kafka-configs --alter --add-config retention.ms={retention}"
        );
    }
    Ok(())
}

fn retention_ms(retention: Option<Duration>) -> String {
    retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string())
}

fn is_shorter(found: &str, asked: &str) -> bool {
    let ms = |text: &str| text.parse::<i64>().ok().map(|ms| if ms < 0 { i64::MAX } else { ms });
    ms(found) < ms(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_ever_is_longer_than_anything() {
        assert!(is_shorter("86400000", "-1"));
        assert!(!is_shorter("-1", "86400000"));
        assert!(!is_shorter("86400000", "86400000"));
        assert_eq!(retention_ms(Some(Duration::from_secs(3_600))), "3600000");
    }
}
