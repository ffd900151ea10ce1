//! Topics `models` and `model_updates`: what the engine learned, on its way to every gateway.
//!
//! The engine writes the whole model now and then, and each change at once; a gateway starts with the newest whole one
//! and follows. Not here: what a model is, and when a whole one is due (`app`).
//! Invariant: a reader hands out only what can be taken as it comes (`model_parts`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prost::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{Message as _, Offset as At, TopicPartitionList};
use undercurrent_schemas::v1;

use super::client::{Plain, complain, say};
use super::model_parts::{Assembly, parts_of};
use super::options::Brokers;
use super::{KafkaLogError, KafkaOptions};
use crate::faults;

/// How long a question to the brokers may take.
const ASK: Duration = Duration::from_secs(5);

/// The engine's end.
pub struct ModelWriter {
    brokers: Brokers,
    producer: ThreadedProducer<Reported>,
    /// Something was not delivered: readers miss it.
    failed: Arc<AtomicBool>,
}

/// Notes that something was not delivered.
pub(super) struct Reported(Arc<AtomicBool>);

impl ClientContext for Reported {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        complain(&error, reason);
    }
}

impl ProducerContext for Reported {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for ModelWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelWriter").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl ModelWriter {
    /// Does not wait for the brokers.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn open(options: &KafkaOptions) -> Result<Self, KafkaLogError> {
        let failed = Arc::new(AtomicBool::new(false));
        let producer = producer(&options.brokers, &failed)?;
        Ok(Self { brokers: options.brokers.clone(), producer, failed })
    }

    /// Sends a whole model.
    ///
    /// # Errors
    /// The producer takes nothing more: it is made anew, and the model is to be sent again.
    pub fn whole(&mut self, whole: &v1::ModelUpdate) -> Result<(), KafkaLogError> {
        if self.failed.swap(false, Ordering::Relaxed) {
            self.producer = producer(&self.brokers, &self.failed)?;
        }
        let topic = self.brokers.topic("models");
        // Every change after this model is sent after this question.
        let updates = self.brokers.topic("model_updates");
        let from = self.producer.client().fetch_watermarks(&updates, 0, ASK).map_or(0, |(_, high)| high);
        for part in parts_of(whole, from) {
            let key = part.part.to_string();
            let value = part.encode_to_vec();
            let record = BaseRecord::<str, [u8]>::to(&topic).partition(0).key(&key).payload(&value);
            self.send(record)?;
            faults::passed("publish-half");
        }
        Ok(())
    }

    /// Sends a change; false where a whole model is due instead, because something before it got lost.
    ///
    /// # Errors
    /// The producer takes nothing more.
    pub fn change(&mut self, change: &v1::ModelUpdate) -> Result<bool, KafkaLogError> {
        if self.failed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        faults::passed("publish-change");
        let topic = self.brokers.topic("model_updates");
        let value = change.encode_to_vec();
        self.send(BaseRecord::<str, [u8]>::to(&topic).partition(0).payload(&value))?;
        Ok(true)
    }

    /// Waits until all is delivered, for a while.
    pub fn flush(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(&self, record: BaseRecord<'_, str, [u8]>) -> Result<(), KafkaLogError> {
        let topic = record.topic.to_owned();
        self.producer.send(record).map_err(|(source, _)| {
            self.failed.store(true, Ordering::Relaxed);
            KafkaLogError::Write { topic, source }
        })
    }
}

pub(super) fn producer(
    brokers: &Brokers,
    failed: &Arc<AtomicBool>,
) -> Result<ThreadedProducer<Reported>, KafkaLogError> {
    let mut config = brokers.producer();
    config.set("linger.ms", "0");
    config.create_with_context(Reported(Arc::clone(failed))).map_err(KafkaLogError::client)
}

/// A gateway's end. Blocks, so it belongs on a thread of its own.
pub struct ModelReader {
    brokers: Brokers,
    assembly: Assembly,
    /// `None` until the brokers answer.
    consumer: Option<BaseConsumer<Plain>>,
}

impl std::fmt::Debug for ModelReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelReader").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl ModelReader {
    /// Starts with a model of this version; 0 is none.
    #[must_use]
    pub fn new(options: &KafkaOptions, version: u64) -> Self {
        Self { brokers: options.brokers.clone(), assembly: Assembly::starting_at(version), consumer: None }
    }

    /// What is to be taken next, in order; empty where nothing came within `wait`.
    ///
    /// # Errors
    /// A setting is wrong, or the topics cannot be read.
    pub fn next(&mut self, wait: Duration) -> Result<Vec<v1::ModelUpdate>, KafkaLogError> {
        let Some(consumer) = &self.consumer else {
            match self.open() {
                Ok(consumer) => self.consumer = Some(consumer),
                Err(error @ (KafkaLogError::Away { .. } | KafkaLogError::Read { .. })) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "models wait for the Kafka brokers");
                    std::thread::sleep(wait);
                }
                Err(error) => return Err(error),
            }
            return Ok(Vec::new());
        };
        let deadline = Instant::now() + wait;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match consumer.poll(rest) {
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    let taken = if message.topic() == self.brokers.topic("models") {
                        v1::ModelPart::decode(payload).map(|part| self.assembly.part(part))
                    } else {
                        v1::ModelUpdate::decode(payload).map(|change| self.assembly.change(change))
                    };
                    match taken {
                        Ok(taken) if taken.is_empty() => {}
                        Ok(taken) => return Ok(taken),
                        Err(error) => {
                            tracing::warn!(%error, topic = message.topic(), "a record is no model; it is left")
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => tracing::debug!(%error, "models go on when the brokers are back"),
                None if rest.is_zero() => return Ok(Vec::new()),
                None => {}
            }
        }
    }

    fn open(&self) -> Result<BaseConsumer<Plain>, KafkaLogError> {
        let (models, updates) = (self.brokers.topic("models"), self.brokers.topic("model_updates"));
        let consumer: BaseConsumer<Plain> = {
            let mut config = self.brokers.consumer();
            // Whole models are compacted away and changes expire: what is gone is of no use here.
            config.set("auto.offset.reset", "earliest");
            config.create_with_context(Plain).map_err(KafkaLogError::client)?
        };
        let away = |source| KafkaLogError::Away { servers: self.brokers.servers.clone(), source };
        let (low, high) = consumer.fetch_watermarks(&models, 0, ASK).map_err(away)?;
        let (first, _) = consumer.fetch_watermarks(&updates, 0, ASK).map_err(away)?;
        let from = updates_from(&self.brokers, &models, low, high)?.map_or(first, |from| from.max(first));
        let failed = |source| KafkaLogError::Read { topic: models.clone(), source };
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&models, 0, At::Offset(low)).map_err(failed)?;
        assignment.add_partition_offset(&updates, 0, At::Offset(from)).map_err(failed)?;
        consumer.assign(&assignment).map_err(failed)?;
        Ok(consumer)
    }
}

/// From where changes of the newest whole model are, if there is one.
fn updates_from(brokers: &Brokers, topic: &str, low: i64, high: i64) -> Result<Option<i64>, KafkaLogError> {
    let failed = |source| KafkaLogError::Read { topic: topic.to_owned(), source };
    // One of its own: a consumer is assigned once.
    let consumer: BaseConsumer<Plain> = brokers.consumer().create_with_context(Plain).map_err(KafkaLogError::client)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, At::Offset(low)).map_err(failed)?;
    consumer.assign(&assignment).map_err(failed)?;
    let (mut wholes, mut from) = (Assembly::default(), None);
    let deadline = Instant::now() + ASK;
    let mut at = low;
    while at < high && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                at = message.offset() + 1;
                if let Ok(part) = v1::ModelPart::decode(message.payload().unwrap_or_default()) {
                    let updates = part.updates_from;
                    from = if wholes.part(part).is_empty() { from } else { Some(updates) };
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(_)) | None => {}
        }
    }
    Ok(from)
}
