//! The log: the ground state. Everything else can be rebuilt from it.
//!
//! Writers only ever `append`; offsets exist on the tail side alone. Appending never waits for a disk or a broker.
//! There are two: [`EmbeddedLog`] in DATA, and [`KafkaLog`] for several machines. Whoever owns DATA takes either as an
//! [`OwnerLog`]. Upstream: the edge, replay and the hub. Downstream: the engine and the history, through [`Ticks`].
//!
//! Invariant: what a tail has handed out is never taken back; a tick is there with all of its records or not at all.

mod committer;
mod durable;
mod embedded;
mod encoded;
mod error;
mod head;
mod journal;
mod kafka;
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
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use undercurrent_schemas::ids::{Micros, Offset, Sequence, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::v1;

use crate::clock::EventClock;
use crate::config::Retention;

pub use embedded::EmbeddedLog;
pub use error::LogError;
pub use kafka::{
    Brokers, ExternalReport, KafkaLog, KafkaLogError, KafkaOptions, ModelReader, ModelWriter, ReportReader,
    ResultRecord, ResultWriter, SharedTicks, TopicReader,
};
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

/// A log as the owner of DATA keeps it: its own events, those of other processes, and the ticks that come of them.
pub trait OwnerLog: EventLog {
    /// Queues an event that another process gave its id; one that was queued before is dropped.
    ///
    /// # Errors
    /// The queue is full: the sender keeps the event and tries again once [`Self::room`] changes.
    fn forward(&self, event: &v1::Event) -> Result<Forwarded, LogFull>;

    /// When it changes there is room in the queue again.
    fn room(&self) -> watch::Receiver<()>;

    /// The sequence up to which all events of one life of a gateway are safe.
    fn durable_of(&self, life: GatewayLife) -> watch::Receiver<Sequence>;

    /// Every tick after `after`, from the beginning without it.
    fn ticks(&self, after: Option<Tick>) -> Box<dyn Ticks>;

    /// What was in the log when it was opened.
    fn recovered(&self) -> Recovered;

    /// Whether reading can go on after this tick.
    fn after(&self, tick: Tick) -> Result<Continues, LogError>;

    /// The first tick that is still here; `None` = the log is whole, or cannot be asked.
    fn floor(&self) -> Result<Option<Tick>, LogError>;

    /// Removes what is older or more than `retention` allows, but nothing that going on after `needed` needs. Says where
    /// the log begins now, if that has changed.
    fn retain(&self, retention: &Retention, needed: Tick) -> Result<Option<Tick>, LogError>;

    /// What the log takes on this machine's disk, if that is where it is.
    fn bytes(&self) -> Result<Option<u64>, LogError>;

    /// Whether others learn from it, too, so that who never did may begin where it begins.
    fn is_shared(&self) -> bool;

    /// How the log is doing.
    fn status(&self) -> LogStatus;

    /// False while it cannot be written, and for good if the thread that writes it has died.
    fn healthy(&self) -> bool;

    /// The clock that stamps this log's events.
    fn clock(&self) -> &Arc<EventClock>;

    /// Takes what is queued to where it is safe. What is in the log by then can still be read to its end.
    ///
    /// # Errors
    /// Some events could not be kept: the next to open the log will say so in a gap event.
    fn close(&self) -> Result<(), LogError>;
}

/// As [`OwnerLog::forward`], waiting for room. Dropping the wait leaves the event with the sender.
pub async fn forward_when_room(log: &(impl OwnerLog + ?Sized), event: &v1::Event) -> Forwarded {
    if let Ok(outcome) = log.forward(event) {
        return outcome;
    }
    let mut room = log.room();
    loop {
        if let Ok(outcome) = log.forward(event) {
            return outcome;
        }
        if room.changed().await.is_err() {
            // The log is gone: its sender keeps the event for the next one.
            std::future::pending::<()>().await;
        }
    }
}

/// The ticks of a log, in order, each once. Blocks, so it belongs on a thread of its own.
pub trait Ticks: Send + Debug {
    /// The next tick, or `None` if there is none within `wait`; at once where none will ever come.
    ///
    /// # Errors
    /// A tick that cannot be read or is not what was bound; the reader stays before it.
    fn next(&mut self, wait: Duration) -> Result<Option<Arc<CommittedTick>>, LogError>;

    /// All was handed out, and nothing more will come.
    fn is_ended(&self) -> bool;
}

/// The last tick that was in the log when it was opened: what was learned is rebuilt up to there. A log on other
/// machines may be opened before it can be asked.
#[derive(Clone, Debug, Default)]
pub struct Recovered(Arc<OnceLock<Option<Tick>>>);

impl Recovered {
    fn known(last: Option<Tick>) -> Self {
        Self(Arc::new(OnceLock::from(last)))
    }

    fn know(&self, last: Option<Tick>) {
        // Whoever reads the log again finds what this process itself has bound since.
        let _ = self.0.set(last);
    }

    /// Whether it can be told.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether all of it is there once `last` is.
    #[must_use]
    pub fn is_reached(&self, last: Option<Tick>) -> bool {
        self.0.get().is_some_and(|recovered| last >= *recovered)
    }
}

/// A log that this process neither writes nor binds.
pub trait QuietLog: Debug {
    /// The last tick.
    fn last(&self) -> Result<Option<Tick>, LogError>;

    /// The first tick that is still here; `None` = the log is whole.
    fn floor(&self) -> Result<Option<Tick>, LogError>;

    /// Every tick after `after`, from the beginning without it.
    fn ticks(&self, after: Option<Tick>) -> Box<dyn Ticks>;

    /// Removes every record up to this tick and of it; its binding stays, so that the log goes on after it. Whoever begins
    /// needs a checkpoint of this tick.
    fn remove_through(&self, tick: Tick) -> Result<(), LogError>;
}

/// Whether a log goes on after a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continues {
    /// Each partition ended here with the tick, and all that came after it is there.
    At(Vec<Offset>),
    /// The tick, or something that came after it, is not there.
    No,
    /// The log cannot be asked at present.
    Unknown,
}

/// How a log is doing.
#[derive(Clone, Debug, Default)]
pub struct LogStatus {
    /// Of each partition: the first offset that is not safe.
    pub ends: Vec<Offset>,
    /// Of each partition: the first offset that is in no tick.
    pub bound: Vec<Offset>,
    /// The last tick.
    pub last_tick: Option<Tick>,
    pub watermark: Micros,
    /// Queued, being written, or waiting on this machine's disk for the brokers.
    pub queued_events: usize,
    pub queued_bytes: usize,
    /// Own events that found no room, since the log was opened.
    pub dropped_events: u64,
    /// Why it cannot be written at present.
    pub error: Option<String>,
}
