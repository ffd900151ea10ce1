//! What operators see: metrics on a registry that is passed in, and logs on standard error.
//!
//! Each component gets the struct of its own metrics; nothing is global. Open to all components, and knows none of them.
//! The gateway registers its own `mcp_server_*` metrics on the same registry.

mod age;
mod edge;
mod engine;
mod history;
mod holds;
mod kafka;
mod log;
pub mod names;
mod observers;
mod register;
mod reload;
mod tracing_init;

use std::sync::Arc;

use prometheus::Registry;

pub use self::age::Age;
pub use self::edge::EdgeMetrics;
pub use self::engine::EngineMetrics;
pub use self::history::HistoryMetrics;
pub use self::holds::HoldMetrics;
pub use self::kafka::KafkaMetrics;
pub use self::log::LogMetrics;
pub use self::observers::ObserverMetrics;
pub use self::reload::ReloadMetrics;
pub use self::tracing_init::{LogFormat, TracingError, init_tracing};

/// The metrics of every component.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub edge: Arc<EdgeMetrics>,
    pub log: Arc<LogMetrics>,
    pub kafka: Arc<KafkaMetrics>,
    pub engine: Arc<EngineMetrics>,
    pub history: Arc<HistoryMetrics>,
    pub observers: Arc<ObserverMetrics>,
}

impl Metrics {
    /// Registers all of them; an error means that some name is registered there already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            edge: Arc::new(EdgeMetrics::register(registry)?),
            log: Arc::new(LogMetrics::register(registry)?),
            kafka: Arc::new(KafkaMetrics::register(registry)?),
            engine: Arc::new(EngineMetrics::register(registry)?),
            history: Arc::new(HistoryMetrics::register(registry)?),
            observers: Arc::new(ObserverMetrics::register(registry)?),
        })
    }
}

#[cfg(test)]
mod tests;
