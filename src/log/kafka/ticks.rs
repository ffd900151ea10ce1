//! The ticks of topic `events`: first those that are bound, then new ones, bound before they are handed out.
//!
//! A tick is closed a moment after something came, at most every `tick`. What a tick is made of is `writer`'s, as in the
//! embedded log. Not here: how bindings are written (`bindings`).
//! Invariant: what was handed out once is handed out again in the same ticks, or reading stops with a reason.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use prost::Message as _;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::v1;

use super::super::writer::{Prepared, Writer};
use super::super::{LogError, Ticks};
use super::bindings::{self, Stored};
use super::events::Events;
use super::shared::{Bound, Shared};
use super::{KafkaLogError, dead_letters, external, kept, topics};
use crate::faults;

/// Bytes of one tick: more than this is the next one's.
const TICK_BYTES_MAX: usize = 16 << 20;
/// How long a log that closes waits for its own last events to come back.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// A reader of the ticks; there is one in a process.
#[derive(Debug)]
pub(super) struct KafkaTicks {
    shared: Arc<Shared>,
    after: Option<Tick>,
    /// `None` until the brokers answer.
    open: Option<Open>,
    is_away: bool,
    closing_since: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    events: Events,
    /// Who the events of topic `telemetry` are from.
    intake: u64,
    /// How far the ticks have come; `None` once all that was bound is handed out.
    stored: Option<Stored>,
    /// A binding whose records have not all come.
    half: Option<v1::Binding>,
    /// Where each partition ended with the binding before.
    bound: Vec<Offset>,
    bindings: bindings::Writer,
    writer: Writer,
    /// A tick whose binding is not written yet.
    unbound: Option<Prepared>,
    /// What is told of its records.
    letters: Vec<v1::DeadRecord>,
    last_bound: Option<Instant>,
}

impl KafkaTicks {
    pub(super) fn new(shared: Arc<Shared>, after: Option<Tick>) -> Self {
        Self { shared, after, open: None, is_away: false, closing_since: None }
    }

    /// Opens everything that reading needs, once the brokers answer.
    fn open(&mut self) -> Result<bool, KafkaLogError> {
        match Open::new(&self.shared, self.after) {
            Ok(open) => {
                if std::mem::take(&mut self.is_away) {
                    tracing::info!("learning goes on: the Kafka brokers answer");
                }
                self.open = Some(open);
                Ok(true)
            }
            Err(error @ (KafkaLogError::Away { .. } | KafkaLogError::Read { .. })) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "learning waits for the Kafka brokers");
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Ticks for KafkaTicks {
    fn next(&mut self, wait: Duration) -> Result<Option<Arc<CommittedTick>>, LogError> {
        let deadline = Instant::now() + wait;
        if self.open.is_none() && !self.open()? {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(50)));
            return Ok(None);
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let mut deadline = deadline;
        if self.shared.closed.load(Ordering::Acquire) && !self.shared.all_is_bound() {
            // Its own last events are on their way back.
            deadline = deadline.max(*self.closing_since.get_or_insert_with(Instant::now) + CLOSE_WAIT);
        }
        let tick = open.next(&self.shared, deadline)?;
        if let Some(tick) = &tick {
            self.after = Some(tick.tick);
            self.shared.set_bound(Bound {
                last: Some(tick.tick),
                watermark: tick.watermark,
                ends: open.writer.ends().to_vec(),
            });
        }
        Ok(tick)
    }

    fn is_ended(&self) -> bool {
        let closed = self.shared.closed.load(Ordering::Acquire);
        let late = self.closing_since.is_some_and(|since| since.elapsed() > CLOSE_WAIT);
        closed && (late || self.open.is_none() || self.shared.all_is_bound())
    }
}

impl Open {
    fn new(shared: &Arc<Shared>, after: Option<Tick>) -> Result<Self, KafkaLogError> {
        topics::ensure(&shared.options)?;
        // Whoever wrote bindings before is refused from here on: what is stored is all there is.
        let bindings = bindings::Writer::take_over(&shared.options.brokers)?;
        shared.recovered.know(Stored::last(&shared.options.brokers)?.map(|last| Tick(last.tick)));
        let partitions = shared.options.log.partitions;
        let no_such_tick = |tick| KafkaLogError::NoSuchTick { tick, prefix: shared.options.brokers.prefix.clone() };
        let (stored, last) = match after {
            None => (Stored::open(&shared.options.brokers)?, None),
            Some(tick) => {
                let found = Stored::after(&shared.options.brokers, tick)?;
                found.map(|(stored, last)| (stored, Some(last))).ok_or_else(|| no_such_tick(tick))?
            }
        };
        let mut writer = Writer::new(partitions, last.as_ref(), heard_by(last.as_ref()));
        let from: Vec<_> = (0..).map(Partition).zip(writer.ends().iter().copied()).collect();
        let events = Events::open(&shared.options.brokers, &from, Some(shared))?;
        let (firsts, bound) = (events.next(), writer.ends().to_vec());
        if let Some(tick) = after.filter(|_| !kept::are_there(&bound, &firsts)) {
            return Err(no_such_tick(tick));
        }
        if let Some((partition, offset)) =
            events.partitions().zip(&firsts).find(|(_, first)| first.0 > 0 && after.is_none())
        {
            tracing::warn!(
                %partition, %offset,
                "older records are no longer in the topic: what they taught is not learned again"
            );
        }
        writer.skip_to(&firsts);
        Ok(Self {
            events,
            intake: external::intake(&shared.options.brokers),
            stored: Some(stored),
            half: None,
            bound,
            bindings,
            writer,
            unbound: None,
            letters: Vec::new(),
            last_bound: None,
        })
    }

    fn next(&mut self, shared: &Shared, deadline: Instant) -> Result<Option<Arc<CommittedTick>>, KafkaLogError> {
        while self.stored.is_some() {
            match self.again(shared, deadline)? {
                Again::Tick(tick) => return Ok(Some(tick)),
                Again::Wait => return Ok(None),
                Again::Skipped => {}
                Again::End => self.stored = None,
            }
        }
        self.bind(shared, deadline)
    }

    /// The next tick that is bound already.
    fn again(&mut self, shared: &Shared, deadline: Instant) -> Result<Again, KafkaLogError> {
        let Some(binding) = self.half.take() else {
            let Some(stored) = &mut self.stored else { return Ok(Again::End) };
            self.half = stored.next()?;
            return Ok(if self.half.is_some() { Again::Skipped } else { Again::End });
        };
        let starts = self.events.next();
        let mut records = vec![Vec::new(); starts.len()];
        for (index, bound) in binding.partitions.iter().enumerate().take(starts.len()) {
            let end = Offset(bound.end_offset);
            if end > starts[index] {
                let wait = deadline.saturating_duration_since(Instant::now());
                let Some(read) = self.events.up_to(index, end, wait)? else {
                    self.events.put_back(records);
                    self.half = Some(binding);
                    return Ok(Again::Wait);
                };
                records[index] = read;
            }
        }
        // A tick is learned from whole or not at all.
        let is_gone =
            |(bound, (start, from)): (&v1::PartitionBinding, (&Offset, &Offset))| bound.hash != 0 && start > from;
        if binding.partitions.iter().zip(starts.iter().zip(&self.bound)).any(is_gone) {
            self.writer.skip(&binding);
            self.bound = self.writer.ends().to_vec();
            return Ok(Again::Skipped);
        }
        let tick = Tick(binding.tick);
        let prepared = self.writer.bind(&self.heard(&records), records, tick, Some(Micros(binding.watermark_us)));
        let found = &prepared.binding.partitions;
        if let Some(index) = (0..starts.len()).find(|index| found.get(*index) != binding.partitions.get(*index)) {
            let (topic, partition) = (shared.topic.clone(), Partition(index as u32));
            return Err(KafkaLogError::NotAsBound { topic, partition, offset: starts[index], tick });
        }
        self.bound = self.writer.ends().to_vec();
        Ok(Again::Tick(prepared.tick))
    }

    /// Who stamped these records when: gateways. What is no event was stamped by nobody, and what came of topic
    /// `telemetry` tells nothing of how far gateways are.
    fn heard(&self, records: &[Vec<Vec<u8>>]) -> Vec<(v1::EventId, Micros)> {
        let head = |record: &Vec<u8>| v1::EventHead::decode(record.as_slice()).ok();
        let stamped = |head: v1::EventHead| Some((head.id?, Micros(head.ts_us)));
        let is_gateway = |(id, _): &(v1::EventId, Micros)| id.gateway != self.intake;
        records.iter().flatten().filter_map(head).filter_map(stamped).filter(is_gateway).collect()
    }

    /// The next tick that nobody has bound.
    fn bind(&mut self, shared: &Shared, deadline: Instant) -> Result<Option<Arc<CommittedTick>>, KafkaLogError> {
        if self.unbound.is_none() {
            let Some(records) = self.gather(shared, deadline)? else { return Ok(None) };
            let tick = self.writer.next_tick(shared.clock.now(), shared.options.log.tick_us());
            let mut prepared = self.writer.bind(&self.heard(&records), records, tick, None);
            prepared.binding.heard = self.writer.heard();
            self.letters = dead_letters::of(&shared.topic, &prepared);
            if let Some(letter) = self.letters.first() {
                let (partition, offset, letters) = (letter.partition, letter.offset, self.letters.len());
                tracing::warn!(partition, offset, letters, "records that are no events; topic dead_letters has them");
            }
            self.unbound = Some(prepared);
            faults::passed("bind-begun");
        }
        let started = Instant::now();
        loop {
            let Some(unbound) = &self.unbound else { return Ok(None) };
            match self.bindings.append(&unbound.binding, &self.letters) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error @ KafkaLogError::Away { .. }) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "binding waits for the Kafka brokers");
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(metrics) = &shared.options.metrics {
            metrics.bound(started.elapsed());
        }
        faults::passed("bind-done");
        self.last_bound = Some(started);
        Ok(self.unbound.take().map(|bound| bound.tick))
    }

    /// What has come by the time at which a tick is due; `None` where nothing has by the deadline.
    fn gather(&mut self, shared: &Shared, deadline: Instant) -> Result<Option<Vec<Vec<Vec<u8>>>>, KafkaLogError> {
        let tick = shared.options.log.tick;
        let mut gathered = self.events.come(TICK_BYTES_MAX)?;
        while gathered.iter().all(Vec::is_empty) {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(None);
            }
            self.events.wait(rest.min(Duration::from_millis(20)));
            gathered = self.events.come(TICK_BYTES_MAX)?;
        }
        // The lone event at once, many on a beat.
        let now = Instant::now();
        let due = self.last_bound.map_or(now, |last| last + tick * 4 / 5).max(now + tick / 40);
        loop {
            let bytes: usize = gathered.iter().flatten().map(Vec::len).sum();
            let rest = due.saturating_duration_since(Instant::now());
            if rest.is_zero() || bytes >= TICK_BYTES_MAX {
                return Ok(Some(gathered));
            }
            std::thread::sleep(rest.min(Duration::from_millis(5)));
            for (all, more) in gathered.iter_mut().zip(self.events.come(TICK_BYTES_MAX - bytes)?) {
                all.extend(more);
            }
        }
    }
}

/// What became of the look for a bound tick.
enum Again {
    Tick(Arc<CommittedTick>),
    /// Its records have not all come.
    Wait,
    /// Look again.
    Skipped,
    /// All that was bound is handed out.
    End,
}

/// Who had been heard when this was bound: the watermark of the next tick depends on it.
fn heard_by(binding: Option<&v1::Binding>) -> Vec<v1::GatewayMark> {
    binding.map_or_else(Vec::new, |binding| binding.heard.clone())
}
