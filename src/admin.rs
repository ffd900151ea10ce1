//! The admin listener: metrics, health, status, a small console, labels, and what a person has to answer.
//!
//! It knows no component: `app` implements [`StatusSource`], [`Labeller`] and [`Tickets`]. Invariant: every route checks
//! `Host` and `Origin`, so a web page that rebinds its name to this address gets nothing; whatever writes needs the admin
//! token as well.

mod console;
mod guard;
mod holds;
mod labels;
mod routes;
mod server;
mod status;
mod telemetry;
mod token;

use std::sync::Arc;

use prometheus::Registry;

pub use self::holds::{Answered, HeldTicket, HoldAnswer, Tickets};
pub use self::labels::{Labelled, Labeller};
pub use self::routes::router;
pub use self::server::serve;
pub use self::status::{
    BusyTool, Check, FlaggedSession, HistoryStatus, Learned, ModelStatus, OpenAlert, PartitionStatus, Status,
    StatusSource, UpstreamStatus,
};
pub use self::telemetry::{Intake, Taken};
use crate::config::HostRules;
use crate::data_dir::AdminToken;

/// What the routes answer from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdminState {
    pub source: Arc<dyn StatusSource>,
    pub registry: Registry,
    pub hosts: Arc<HostRules>,
    pub labeller: Arc<dyn Labeller>,
    pub tickets: Arc<dyn Tickets>,
    pub intake: Arc<dyn Intake>,
    /// Largest body of what is reported.
    pub report_bytes_max: usize,
    /// What whoever writes must present.
    pub token: AdminToken,
}

#[cfg(test)]
mod tests;
