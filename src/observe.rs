//! What operators can have of each exchange, if they ask: a line in the access log, a span at a collector.
//!
//! Upstream: the gateway, which opens an [`Exchange`] and closes it once. Downstream: a file and an OTLP collector, each
//! behind a bounded queue and on a thread of its own. Invariant: with both off nothing is made or copied; with either on
//! the request path never waits, and what finds its queue full is dropped and counted. No argument, result, token or raw
//! session id enters an exchange. Not here: learning, and metrics of requests.

mod access_log;
mod exchange;
mod spans;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::access_log::AccessLogError;
pub use self::exchange::{Closing, Exchange, Opening};
pub use self::spans::SpansError;

use self::access_log::AccessLog;
use self::spans::Spans;
use crate::clock::EventClock;
use crate::config;
use crate::telemetry::ObserverMetrics;

/// Who wants to know of exchanges; cheap to clone. The default: nobody.
#[derive(Clone, Debug, Default)]
pub struct Observers {
    on: Option<Arc<On>>,
}

#[derive(Debug)]
struct On {
    clock: EventClock,
    access_log: Option<AccessLog>,
    spans: Option<Spans>,
}

/// Why there can be no observers.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    #[error(transparent)]
    Spans(#[from] SpansError),
}

impl Observers {
    /// Opens what was asked for. `listen`: where clients reach the gateway.
    pub fn start(
        access_log: Option<&config::AccessLog>,
        tracing: Option<&config::Tracing>,
        listen: SocketAddr,
        metrics: &Arc<ObserverMetrics>,
    ) -> Result<Self, ObserveError> {
        if access_log.is_none() && tracing.is_none() {
            return Ok(Self::default());
        }
        let access_log = access_log.map(|settings| AccessLog::start(settings, Arc::clone(metrics))).transpose()?;
        let spans = tracing.map(|settings| Spans::start(settings, listen, Arc::clone(metrics))).transpose()?;
        Ok(Self { on: Some(Arc::new(On { clock: EventClock::default(), access_log, spans })) })
    }

    #[must_use]
    pub fn are_on(&self) -> bool {
        self.on.is_some()
    }

    /// The record of an exchange, if anybody wants one.
    pub fn open(&self, opening: impl FnOnce() -> Opening) -> Option<Exchange> {
        let on = self.on.as_ref()?;
        Some(Exchange::new(on.clock.now(), opening()))
    }

    /// Hands an exchange that has ended to whoever wants it.
    pub fn close(&self, mut exchange: Exchange, closing: &Closing) {
        let Some(on) = &self.on else { return };
        exchange.close(closing);
        if let Some(spans) = &on.spans {
            exchange.trace = spans.context_of(&exchange);
        }
        let exchange = Arc::new(exchange);
        if let Some(spans) = on.spans.as_ref().filter(|_| exchange.trace.is_some()) {
            spans.send(Arc::clone(&exchange));
        }
        if let Some(access_log) = &on.access_log {
            access_log.send(exchange);
        }
    }

    /// A request that was refused before it was read to its end.
    pub fn refused(&self, asked: impl FnOnce() -> Opening, reason: &'static str, status: u16, bytes_out: usize) {
        if let Some(mut exchange) = self.open(asked) {
            exchange.status = Some(status);
            exchange.bytes_out = bytes_out as u64;
            self.close(exchange, &Closing { outcome: reason, error: Some(reason), duration: Duration::ZERO });
        }
    }

    /// Opens the access log's file anew: after a rotation it is another one. Waits for a place in the queue.
    pub fn reopen(&self) {
        if let Some(access_log) = self.on.as_ref().and_then(|on| on.access_log.as_ref()) {
            access_log.reopen();
        }
    }

    /// Writes and sends what is queued. Blocks, at most for a collector's time limit.
    pub fn finish(&self) {
        let Some(on) = &self.on else { return };
        if let Some(access_log) = &on.access_log {
            access_log.finish();
        }
        if let Some(spans) = &on.spans {
            spans.finish();
        }
    }
}
