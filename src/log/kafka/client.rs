//! What librdkafka says of itself, in our words and levels.
//!
//! A broker that is away is said once by whoever notices what it means; every attempt to reach it is a detail.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

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

/// How often a refusal is said at most: it comes back with every attempt.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// A refusal does not heal by itself, as a broker that is away does.
pub(super) fn complain(error: &KafkaError, reason: &str) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let is_refusal =
        matches!(error.rdkafka_error_code(), Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL));
    if is_refusal {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= REFUSED_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!("the Kafka brokers refuse this client, see kafka.properties: {reason}");
            return;
        }
    }
    tracing::debug!(%error, "kafka client: {reason}");
}
