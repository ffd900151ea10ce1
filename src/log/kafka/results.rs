//! Derived topics: what the engine made of the events, as JSON, for any program.
//!
//! After a crash the engine goes on from a checkpoint and sends again what came after it; each record has an id in header
//! `id`, the same each time. Not here: what is sent, and when (`app`). Invariant: what [`ResultWriter::settle`] has seen is
//! on the brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::models::{Reported, producer};
use super::options::Brokers;
use super::{KafkaLogError, KafkaOptions};

/// How long a look lasts whether records have been delivered.
const LOOK: Duration = Duration::from_millis(2);

/// Writes results. Waiting for deliveries blocks, so it belongs on a thread of its own.
pub struct ResultWriter {
    brokers: Brokers,
    producer: ThreadedProducer<Reported>,
    /// Something was not delivered.
    failed: Arc<AtomicBool>,
}

/// One result.
#[derive(Clone, Copy, Debug)]
pub struct ResultRecord<'a> {
    /// Without the prefix.
    pub topic: &'a str,
    pub table: &'a str,
    pub key: &'a str,
    pub id: &'a str,
    pub json: &'a [u8],
}

impl std::fmt::Debug for ResultWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultWriter").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl ResultWriter {
    /// Does not wait for the brokers.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn open(options: &KafkaOptions) -> Result<Self, KafkaLogError> {
        let failed = Arc::new(AtomicBool::new(false));
        let producer = producer(&options.brokers, &failed)?;
        Ok(Self { brokers: options.brokers.clone(), producer, failed })
    }

    /// Sends one, without waiting. One that is not taken is told by [`Self::settle`].
    pub fn send(&self, result: ResultRecord<'_>) {
        let topic = self.brokers.topic(result.topic);
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "id", value: Some(result.id) })
            .insert(Header { key: "table", value: Some(result.table) });
        let record = BaseRecord::<str, [u8]>::to(&topic).partition(0).key(result.key).payload(result.json);
        if let Err((error, _)) = self.producer.send(record.headers(headers))
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, topic, id = result.id, "results are not sent; the next start sends them again");
        }
    }

    /// Records that are on their way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Whether all that was ever sent is delivered, waiting for no longer than this and not once `hurries`.
    #[must_use]
    pub fn settle(&self, wait: Duration, hurries: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + wait;
        while self.waiting() > 0 && Instant::now() < deadline && !hurries() {
            std::thread::sleep(LOOK);
        }
        self.waiting() == 0 && !self.failed.load(Ordering::Relaxed)
    }
}
