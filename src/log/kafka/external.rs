//! Topic `telemetry`: what any producer reports, read by the engine, record by record.
//!
//! How far it was taken is committed for the group `PREFIXtelemetry`, by partition, once what came of it is durable; a
//! record that is read again after a crash gives events with the same ids. Not here: what a report is (`schemas::otlp`).
//! Invariant: nobody else is in the group; there is no rebalance, partitions are assigned by hand.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Offset as At, TopicPartitionList};
use undercurrent_schemas::ids::stable_hash;

use super::client::Plain;
use super::options::Brokers;
use super::{KafkaLogError, KafkaOptions};

/// How long a question to the brokers may take: a stop waits for it.
const ASK: Duration = Duration::from_secs(2);

/// A record of the topic.
#[derive(Clone, Debug)]
pub struct ExternalReport {
    pub partition: u32,
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// Header `signal`, where the record has it.
    pub signal: String,
}

/// Reads them. Blocks, so it belongs on a thread of its own.
pub struct ReportReader {
    brokers: Brokers,
    topic: String,
    /// `None` until the brokers answer.
    consumer: Option<BaseConsumer<Plain>>,
}

impl std::fmt::Debug for ReportReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportReader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Who the events of these records are from: not a gateway, so it holds no watermark back.
pub(super) fn intake(brokers: &Brokers) -> u64 {
    stable_hash(&[brokers.topic("telemetry").as_bytes()])
}

impl ReportReader {
    #[must_use]
    pub fn new(options: &KafkaOptions) -> Self {
        let topic = options.brokers.topic("telemetry");
        Self { brokers: options.brokers.clone(), topic, consumer: None }
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The gateway in the ids of what comes of these records.
    #[must_use]
    pub fn intake(&self) -> u64 {
        intake(&self.brokers)
    }

    /// The next record; `None` where none comes within `wait`.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn next(&mut self, wait: Duration) -> Result<Option<ExternalReport>, KafkaLogError> {
        let Some(consumer) = &self.consumer else {
            match self.open() {
                Ok(consumer) => self.consumer = Some(consumer),
                Err(error @ (KafkaLogError::Away { .. } | KafkaLogError::Read { .. })) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "reports wait for the Kafka brokers");
                    std::thread::sleep(wait);
                }
                Err(error) => return Err(error),
            }
            return Ok(None);
        };
        let deadline = Instant::now() + wait;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match consumer.poll(rest) {
                Some(Ok(message)) => return Ok(Some(report(&message))),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => tracing::debug!(%error, "reports go on when the brokers are back"),
                None if rest.is_zero() => return Ok(None),
                None => {}
            }
        }
    }

    /// All records before this offset were taken, for good. What is not noted is read again by the next life.
    pub fn taken(&self, partition: u32, before: u64) {
        let Some(consumer) = &self.consumer else { return };
        let mut offsets = TopicPartitionList::new();
        let noted = offsets
            .add_partition_offset(&self.topic, partition as i32, At::Offset(before as i64))
            .and_then(|()| consumer.commit(&offsets, CommitMode::Async));
        if let Err(error) = noted {
            tracing::debug!(%error, topic = self.topic, "how far reports were taken is noted later");
        }
    }

    fn open(&self) -> Result<BaseConsumer<Plain>, KafkaLogError> {
        let mut config = self.brokers.consumer();
        // A report that is gone cannot be taken any more.
        config.set("group.id", &self.topic).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer<Plain> = config.create_with_context(Plain).map_err(KafkaLogError::client)?;
        let away = |source| KafkaLogError::Away { servers: self.brokers.servers.clone(), source };
        let failed = |source| KafkaLogError::Read { topic: self.topic.clone(), source };
        let metadata = consumer.fetch_metadata(Some(&self.topic), ASK).map_err(away)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if partitions == 0 {
            return Err(failed(KafkaError::NoMessageReceived));
        }
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition(&self.topic, partition as i32);
        }
        let noted = consumer.committed_offsets(asked, ASK).map_err(away)?;
        let mut assignment = TopicPartitionList::new();
        for partition in noted.elements() {
            let from = match partition.offset() {
                At::Offset(offset) => At::Offset(offset),
                _ => At::Beginning,
            };
            assignment.add_partition_offset(&self.topic, partition.partition(), from).map_err(failed)?;
        }
        consumer.assign(&assignment).map_err(failed)?;
        Ok(consumer)
    }
}

fn report(message: &BorrowedMessage<'_>) -> ExternalReport {
    let signal = message.headers().and_then(|headers| headers.iter().find(|header| header.key == "signal"));
    let signal = signal.and_then(|header| header.value).map(String::from_utf8_lossy).unwrap_or_default();
    ExternalReport {
        partition: message.partition().unsigned_abs(),
        offset: message.offset().unsigned_abs(),
        bytes: message.payload().unwrap_or_default().to_vec(),
        signal: signal.into_owned(),
    }
}
