//! What librdkafka says of itself, in our words and levels.
//!
//! A broker that is away is said once by whoever notices what it means; every attempt to reach it is a detail.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// The context of clients that only ask and read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plain;

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        complain(&error, reason);
    }
}

impl ConsumerContext for Plain {}

pub(super) fn say(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "kafka client: {message}");
        }
        _ => tracing::debug!(facility, "kafka client: {message}"),
    }
}

pub(super) fn complain(error: &KafkaError, reason: &str) {
    tracing::debug!(%error, "kafka client: {reason}");
}
