//! The log: the ground state. Everything else can be rebuilt from it.
//!
//! Writers only ever `append`; offsets exist on the tail side alone. Appending never waits for a disk or a broker.
//! Upstream: the edge, replay and the hub. Downstream: the engine and the history, each with its own [`Tail`].
//!
//! Invariant: what a tail has handed out is never taken back; a tick is there with all of its records or not at all.

mod committer;
mod embedded;
mod encoded;
mod error;
mod head;
mod journal;
mod options;
pub(crate) mod queue;
mod reader;
mod retention;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::Debug;

use tokio::sync::watch;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1;

pub use embedded::{EmbeddedLog, LogStatus};
pub use error::LogError;
pub use options::{Commit, LogOptions};
pub use queue::{Forwarded, GatewayLife};
pub use reader::LogReader;
pub use tail::Tail;

/// The bounded queue to the log is full: the event was counted and dropped, and a gap record will say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("queue to the log is full")]
pub struct LogFull;

/// Where gateways put what they saw.
pub trait EventLog: Send + Sync + Debug {
    /// Gives the event its id and queues it. Accepted is not durable: see [`EventLog::durable`].
    fn append(&self, event: v1::Event) -> Result<Sequence, LogFull>;

    /// The sequence up to which all of this gateway's events are safe.
    fn durable(&self) -> watch::Receiver<Sequence>;
}
