//! The admin listener: metrics, health, status, and a small console. Read only.
//!
//! It knows no component: `app` implements [`StatusSource`]. Invariant: every route checks `Host` and `Origin`, so a web
//! page that rebinds its name to this address gets nothing. Not here: anything that writes.

mod console;
mod guard;
mod routes;
mod server;
mod status;

use std::sync::Arc;

use prometheus::Registry;

pub use self::routes::router;
pub use self::server::serve;
pub use self::status::{
    BusyTool, Check, FlaggedSession, HistoryStatus, Learned, ModelStatus, PartitionStatus, Status, StatusSource,
    UpstreamStatus,
};
use crate::config::HostRules;

/// What the routes answer from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdminState {
    pub source: Arc<dyn StatusSource>,
    pub registry: Registry,
    pub hosts: Arc<HostRules>,
}

#[cfg(test)]
mod tests;
