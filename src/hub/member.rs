//! The event log of a process that does not own DATA: keeps its events until the owner has made them durable.
//!
//! Upstream: the edge, which knows only [`EventLog`]. Downstream: the owner, over the socket or, once this process is
//! the owner itself, its own [`OwnerLog`]. The id of the process stays the same through all of that, and with it
//! the edge's handle.
//! Invariant: an event leaves memory only when it is durable; each owner gets all that are not, in order.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, timeout};
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1::{self, from_owner, to_owner};

use super::address::Address;
use super::frames::{FRAME_BYTES_MAX, Reader, Writer};
use super::{Claim, HubError, OwnerLock, PROTOCOL, claim};
use crate::clock::EventClock;
use crate::log::queue::{Drained, Queue, QueueLimits, Room};
use crate::log::{EventLog, GatewayLife, LogFull, OwnerLog, forward_when_room};

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How much a member keeps while no owner takes it.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    pub events_max: usize,
    pub bytes_max: usize,
}

impl Default for MemberLimits {
    fn default() -> Self {
        Self { events_max: 16_384, bytes_max: 16 << 20 }
    }
}

/// An event log that another process writes.
#[derive(Debug)]
pub struct MemberLog {
    life: GatewayLife,
    outbox: Mutex<Outbox>,
    clock: Arc<EventClock>,
    durable: watch::Sender<Sequence>,
    /// There is something to send.
    wake: Notify,
}

/// Events that are not known to be durable.
#[derive(Debug)]
struct Outbox {
    /// Not sent yet.
    queue: Queue<v1::Event>,
    /// Sent, as they were sent. Together they are what the queue's limits bound.
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    events: Arc<Vec<v1::Event>>,
    last: Sequence,
    room: Room,
}

impl MemberLog {
    /// An empty log with an id of its own.
    ///
    /// # Errors
    /// The operating system gives no random number.
    pub fn new(limits: MemberLimits, clock: Arc<EventClock>) -> Result<Self, HubError> {
        let gateway = getrandom::u64().map_err(|error| HubError::Socket(error.into()))?;
        let life = GatewayLife { gateway, epoch: 1 };
        // What is sent at once has to fit into one message.
        let bytes_max = limits.bytes_max.min(FRAME_BYTES_MAX / 2);
        let limits = QueueLimits { events_max: limits.events_max, bytes_max };
        let outbox = Outbox { queue: Queue::new(limits, life, HashMap::new()), kept: VecDeque::new() };
        let durable = watch::Sender::new(Sequence(0));
        Ok(Self { life, outbox: Mutex::new(outbox), clock, durable, wake: Notify::new() })
    }

    /// The id under which this process's events are in the log.
    #[must_use]
    pub const fn life(&self) -> GatewayLife {
        self.life
    }

    /// Own events that found no room.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.outbox().queue.dropped()
    }

    /// Events that are not known to be durable.
    #[must_use]
    pub fn unacked_events(&self) -> usize {
        self.outbox().queue.used().events
    }

    /// Serves the owner of `data_dir`, and the one after it, until this process is the owner itself.
    ///
    /// # Errors
    /// The lock cannot be asked for.
    pub async fn run_until_owner(
        &self,
        data_dir: &Path,
        mut on_model: impl FnMut(v1::ModelUpdate) + Send,
    ) -> Result<OwnerLock, HubError> {
        let mut pause = RETRY_FIRST;
        let mut told = false;
        loop {
            if let Claim::Owner(lock) = claim(data_dir)? {
                return Ok(lock);
            }
            match self.run(data_dir, &mut on_model).await {
                // It was there: look at once for the next one.
                Ok(()) => pause = RETRY_FIRST,
                Err(error @ HubError::Refused { .. }) if !told => {
                    tracing::error!(%error, "events are kept until the owner changes");
                    told = true;
                }
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "no owner to talk to"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Sends events to the owner of `data_dir` until it goes (`Ok`).
    ///
    /// # Errors
    /// There is no owner, or it does not understand this process.
    pub async fn run(
        &self,
        data_dir: &Path,
        on_model: &mut (impl FnMut(v1::ModelUpdate) + Send),
    ) -> Result<(), HubError> {
        let (receiver, sender) = tokio::io::split(Address::of(data_dir).connect().await?);
        let (mut receiver, mut sender) = (Reader::new(receiver), Writer::new(sender));
        let GatewayLife { gateway, epoch } = self.life;
        let hello = v1::Hello { protocol: PROTOCOL, gateway, epoch };
        sender.send(&v1::ToOwner { body: Some(to_owner::Body::Hello(hello)) }).await?;
        let answer = timeout(HELLO_TIMEOUT, receiver.next()).await.map_err(|_| HubError::Timeout)??;
        welcomed(answer)?;
        let ended = tokio::select! {
            ended = self.send(&mut sender) => ended,
            ended = self.receive(&mut receiver, on_model) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(error = &error as &dyn std::error::Error, "connection to the owner ended");
        }
        Ok(())
    }

    /// Once this process is the owner: brings all events into its log, forever.
    pub async fn run_into(&self, log: &dyn OwnerLog) {
        let deliver = async {
            let mut heartbeat = heartbeat();
            let mut unsent = self.unacked_batches();
            loop {
                for event in unsent.iter().flat_map(|events| events.iter()) {
                    forward_when_room(log, event).await;
                }
                unsent = self.next_batch(&mut heartbeat).await.into_iter().collect();
            }
        };
        let acknowledge = async {
            let mut durable = log.durable_of(self.life);
            loop {
                self.acknowledge(*durable.borrow_and_update());
                if durable.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::join!(deliver, acknowledge);
    }

    async fn send(&self, sender: &mut Writer<WriteHalf<Stream>, v1::ToOwner>) -> Result<(), HubError> {
        for events in self.unacked_batches() {
            sender.send(&to_events(&events)).await?;
        }
        let mut heartbeat = heartbeat();
        loop {
            if let Some(events) = self.next_batch(&mut heartbeat).await {
                sender.send(&to_events(&events)).await?;
            }
        }
    }

    async fn receive(
        &self,
        receiver: &mut Reader<ReadHalf<Stream>, v1::FromOwner>,
        on_model: &mut (impl FnMut(v1::ModelUpdate) + Send),
    ) -> Result<(), HubError> {
        while let Some(message) = receiver.next().await? {
            match message.body {
                Some(from_owner::Body::Durable(durable)) => self.acknowledge(Sequence(durable.sequence)),
                Some(from_owner::Body::Model(update)) => on_model(update),
                Some(from_owner::Body::Refused(refused)) => return Err(HubError::Refused { reason: refused.reason }),
                Some(from_owner::Body::Welcome(_)) | None => {
                    return Err(HubError::Unexpected { expected: "durable or model" });
                }
            }
        }
        Ok(())
    }

    /// All that is not acknowledged, in order, as the next owner has to get it.
    fn unacked_batches(&self) -> Vec<Arc<Vec<v1::Event>>> {
        let mut outbox = self.outbox();
        outbox.keep();
        outbox.kept.iter().map(|kept| Arc::clone(&kept.events)).collect()
    }

    /// What was appended since the last look; waits for it, or until it is time for a heartbeat.
    async fn next_batch(&self, heartbeat: &mut tokio::time::Interval) -> Option<Arc<Vec<v1::Event>>> {
        tokio::select! {
            () = self.wake.notified() => {}
            _ = heartbeat.tick() => {
                self.outbox().queue.heartbeat(&self.clock);
            }
        }
        self.outbox().keep()
    }

    fn acknowledge(&self, sequence: Sequence) {
        let mut outbox = self.outbox();
        let Outbox { queue, kept } = &mut *outbox;
        let safe = kept.partition_point(|batch| batch.last <= sequence);
        for batch in kept.drain(..safe) {
            queue.release(batch.room, &self.clock);
        }
        let gap = !queue.is_empty();
        drop(outbox);
        if gap {
            self.wake.notify_one();
        }
        self.durable.send_if_modified(|durable| {
            let grown = sequence > *durable;
            *durable = sequence.max(*durable);
            grown
        });
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("nothing panics under this lock")
    }
}

impl EventLog for MemberLog {
    fn append(&self, mut event: v1::Event) -> Result<Sequence, LogFull> {
        if event.ts_us == 0 {
            event.ts_us = self.clock.now().0;
        }
        let outcome = self.outbox().queue.append(event, &self.clock);
        self.wake.notify_one();
        outcome
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        self.durable.subscribe()
    }
}

impl Outbox {
    /// Moves what is queued to what is kept, and returns it.
    fn keep(&mut self) -> Option<Arc<Vec<v1::Event>>> {
        let Drained { events, room } = self.queue.drain();
        let last = Sequence(events.last()?.id.unwrap_or_default().sequence);
        let events = Arc::new(events);
        self.kept.push_back(Kept { events: Arc::clone(&events), last, room });
        Some(events)
    }
}

fn to_events(events: &[v1::Event]) -> v1::ToOwner {
    v1::ToOwner { body: Some(to_owner::Body::Events(v1::Events { events: events.to_vec() })) }
}

fn heartbeat() -> tokio::time::Interval {
    let mut interval = tokio::time::interval(HEARTBEAT);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.reset();
    interval
}

fn welcomed(answer: Option<v1::FromOwner>) -> Result<(), HubError> {
    match answer.and_then(|answer| answer.body) {
        Some(from_owner::Body::Welcome(v1::Welcome { protocol: PROTOCOL })) => Ok(()),
        Some(from_owner::Body::Refused(refused)) => Err(HubError::Refused { reason: refused.reason }),
        _ => Err(HubError::Unexpected { expected: "welcome" }),
    }
}
