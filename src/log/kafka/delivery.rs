//! What becomes of each event that was given to the producer, as the brokers report it.
//!
//! Runs on the producer's own thread, so it notes and no more: the shipper takes the notes.

use std::sync::Arc;

use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::client::{complain, say};
use super::shared::Shared;

pub(super) struct Delivery(Arc<Shared>);

impl Delivery {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

impl ClientContext for Delivery {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        complain(&error, reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let number = number as u64;
        let mut reports = self.0.reports();
        let is_first = reports.is_empty();
        match result {
            Ok(message) => {
                self.0.ends.delivered(message.partition(), message.offset());
                reports.delivered.push(number);
            }
            Err((error, _)) if is_refused(error) => reports.refused.push(number),
            // The producer was dropped: whoever dropped it sends them again.
            Err((error, _)) if is_purged(error) => return,
            Err((error, _)) => _ = reports.failed.get_or_insert_with(|| error.to_string()),
        }
        drop(reports);
        if is_first {
            self.0.wake.notify_all();
        }
    }
}

/// What was reported since the last look; events by their numbers in the window, which bounds them.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) delivered: Vec<u64>,
    /// No broker takes these.
    pub(super) refused: Vec<u64>,
    /// A delivery failed in a way that only a new producer mends.
    pub(super) failed: Option<String>,
}

impl Reports {
    fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.refused.is_empty() && self.failed.is_none()
    }
}

/// Whether a record will never be taken, by any producer.
pub(super) fn is_refused(error: &KafkaError) -> bool {
    let refused = [Code::MessageSizeTooLarge, Code::InvalidMessage, Code::InvalidMessageSize, Code::InvalidRecord];
    error.rdkafka_error_code().is_some_and(|code| refused.contains(&code))
}

fn is_purged(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight))
}
