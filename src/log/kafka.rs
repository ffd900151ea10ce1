//! The log on Kafka: for gateways and engines on several machines.
//!
//! Events go to topic `events`, in the partition of their session; what is read of it is bound to ticks in topic
//! `bindings` before it is handed out. While the brokers are away, events wait in DATA and are sent in their order.
//! Upstream: the edge (through [`EventLog`]), the hub. Downstream: whoever takes [`Ticks`].
//! Invariant: appending waits for nothing. An event that is said to be durable is on the brokers or on this disk.

mod bindings;
mod client;
mod dead_letters;
mod delivery;
mod error;
mod events;
mod external;
mod kept;
mod model_parts;
mod models;
mod options;
mod reader;
mod results;
mod share;
mod shared;
mod shipper;
mod spill;
mod ticks;
mod topics;
mod window;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;
use undercurrent_schemas::ids::{Micros, Sequence, Tick};
use undercurrent_schemas::v1;

pub use error::KafkaLogError;
pub use external::{ExternalReport, ReportReader};
pub use models::{ModelReader, ModelWriter};
pub use options::{Brokers, KafkaOptions};
pub use reader::TopicReader;
pub use results::{ResultRecord, ResultWriter};
pub use share::SharedTicks;

use self::delivery::Delivery;
use self::shared::Shared;
use self::spill::Spill;
use self::ticks::KafkaTicks;
use super::encoded::Encoded;
use super::queue::{Forwarded, GatewayLife, Queue, QueueLimits, gap_event};
use super::{Continues, EventLog, LogError, LogFull, LogStatus, OwnerLog, Recovered, Ticks};
use crate::clock::EventClock;
use crate::config::Retention;

/// An event log on Kafka brokers.
#[derive(Debug)]
pub struct KafkaLog {
    shared: Arc<Shared>,
    shipper: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaLog {
    /// Opens the log. The brokers need not be there: events wait for them in `dir`.
    ///
    /// # Errors
    /// `dir` is held by another process or cannot be written, a setting is wrong, or the topics do not fit.
    pub fn open(dir: &Path, options: KafkaOptions) -> Result<Self, LogError> {
        match topics::ensure(&options) {
            Ok(()) => {}
            Err(error @ KafkaLogError::Away { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "starting without the Kafka brokers");
            }
            Err(error) => return Err(error.into()),
        }
        let spill = Spill::open(dir)?;
        let before = spill.before()?;
        let own = begin(&spill, before.state, &options)?;
        let clock = EventClock::starting_at(before.stamp.max(options.log.clock_floor));
        let limits = QueueLimits { events_max: options.log.queue_events_max, bytes_max: options.log.queue_bytes_max };
        let mut queue: Queue<Encoded> = Queue::new(limits, own, HashMap::new());
        if before.state.is_some() && !before.clean {
            let gap = gap_event(v1::gap::Reason::UncleanStop, 0, &clock);
            let _ = queue.append(gap.into(), &clock);
        }
        let shared = Arc::new(Shared::new(options, own, clock, queue, spill));
        let producer = shipper::producer(&shared.options, Delivery::new(&shared))?;
        let thread = {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("log-shipper".to_owned());
            thread.spawn(move || shipper::run(shared, producer)).map_err(KafkaLogError::Thread)?
        };
        Ok(Self { shared, shipper: Mutex::new(Some(thread)) })
    }
}

/// Starts the gateway's next life on these topics.
fn begin(spill: &Spill, before: Option<v1::LogState>, options: &KafkaOptions) -> Result<GatewayLife, KafkaLogError> {
    let partitions = options.log.partitions;
    let state = match before {
        Some(state) => v1::LogState { partitions, epoch: state.epoch + 1, ..state },
        None => {
            let gateway = options.log.gateway.map_or_else(getrandom::u64, Ok).map_err(KafkaLogError::Random)?;
            v1::LogState { partitions, gateway, epoch: 1 }
        }
    };
    spill.begin(state)?;
    Ok(GatewayLife { gateway: state.gateway, epoch: state.epoch })
}

impl EventLog for KafkaLog {
    /// An event that has its id already is taken as [`OwnerLog::forward`] does.
    fn append(&self, mut event: v1::Event) -> Result<Sequence, LogFull> {
        if event.ts_us == 0 {
            event.ts_us = self.shared.clock.now().0;
        }
        if let Some(id) = event.id {
            return self.forward(&event).map(|_| Sequence(id.sequence));
        }
        let encoded = Encoded::from(event);
        self.shared.wake_after(|queue| queue.append(encoded, &self.shared.clock))
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        self.shared.durable_of(self.shared.own)
    }
}

impl OwnerLog for KafkaLog {
    fn forward(&self, event: &v1::Event) -> Result<Forwarded, LogFull> {
        let encoded = Encoded::of(event);
        self.shared.wake_after(|queue| queue.forward(encoded, event.id.unwrap_or_default()))
    }

    fn room(&self) -> watch::Receiver<()> {
        self.shared.room.subscribe()
    }

    fn durable_of(&self, life: GatewayLife) -> watch::Receiver<Sequence> {
        self.shared.durable_of(life)
    }

    /// The one reader of this process: it is also what binds, and takes the place of any other.
    fn ticks(&self, after: Option<Tick>) -> Box<dyn Ticks> {
        Box::new(KafkaTicks::new(Arc::clone(&self.shared), after))
    }

    fn recovered(&self) -> Recovered {
        self.shared.recovered.clone()
    }

    fn after(&self, tick: Tick) -> Result<Continues, LogError> {
        let ask = || {
            let ends = kept::ends_at(&self.shared.options, tick)?;
            // What is live from here on is told as soon as the last tick is.
            let last = bindings::Stored::last(&self.shared.options.brokers)?;
            self.shared.recovered.know(last.map(|last| Tick(last.tick)));
            Ok(ends.map_or(Continues::No, Continues::At))
        };
        match ask() {
            Err(KafkaLogError::Away { .. } | KafkaLogError::Read { .. }) => Ok(Continues::Unknown),
            asked => Ok(asked?),
        }
    }

    fn floor(&self) -> Result<Option<Tick>, LogError> {
        match kept::floor(&self.shared.options) {
            Err(KafkaLogError::Away { .. } | KafkaLogError::Read { .. }) => Ok(None),
            asked => Ok(asked?),
        }
    }

    /// By the brokers' clocks and by age alone: what topics take on the brokers' disks is theirs to bound.
    fn retain(&self, retention: &Retention, needed: Tick) -> Result<Option<Tick>, LogError> {
        let Some(age) = retention.age else { return Ok(None) };
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Ok(kept::retain(&self.shared.options, Micros(self.shared.clock.now().0.saturating_sub(age)), needed)?)
    }

    fn bytes(&self) -> Result<Option<u64>, LogError> {
        Ok(None)
    }

    /// A machine that joins begins where the topics do.
    fn is_shared(&self) -> bool {
        true
    }

    fn status(&self) -> LogStatus {
        let bound = self.shared.bound();
        let spilled = self.shared.spill().events() as usize;
        let queue = self.shared.queue();
        LogStatus {
            ends: self.shared.ends.known(),
            bound: bound.ends,
            last_tick: bound.last,
            watermark: bound.watermark,
            queued_events: queue.used().events + spilled,
            queued_bytes: queue.used().bytes,
            dropped_events: queue.dropped(),
            error: self.shared.error(),
        }
    }

    fn healthy(&self) -> bool {
        let shipper = self.shipper.lock().unwrap_or_else(PoisonError::into_inner);
        !shipper.as_ref().is_some_and(JoinHandle::is_finished) && self.shared.error().is_none()
    }

    fn clock(&self) -> &Arc<EventClock> {
        &self.shared.clock
    }

    fn close(&self) -> Result<(), LogError> {
        let mut shipper = self.shipper.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut self.shared.queue().closing, true) {
            return Ok(());
        }
        self.shared.wake.notify_all();
        if let Some(thread) = shipper.take() {
            // A panic of the thread shows as a queue that is not empty.
            let _ = thread.join();
        }
        let left = self.shared.queue().used().events;
        let closed = if left == 0 {
            let spill = self.shared.spill();
            spill.stamp(self.shared.clock.now()).and_then(|()| spill.mark_clean())
        } else {
            Err(KafkaLogError::Undelivered { events: left })
        };
        self.shared.closed.store(true, Ordering::Release);
        Ok(closed?)
    }
}
