//! The share of one process of several: the ticks that the first one binds, with the records of this one's partitions.
//!
//! It binds nothing and writes nothing; bindings are read as they come. Not here: which workers are where (`engine`).
//! Invariant: every tick that is bound is handed out, in order, with all records of these partitions, and checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::v1;

use super::super::writer::{block_hash, encode_block};
use super::super::{LogError, Ticks};
use super::bindings::Stored;
use super::events::Events;
use super::{Brokers, KafkaLogError, kept};

/// A reader of some partitions.
#[derive(Debug)]
pub struct SharedTicks {
    brokers: Brokers,
    partitions: u32,
    mine: Vec<Partition>,
    after: Option<Tick>,
    /// `None` until the brokers answer.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stored: Stored,
    /// Every partition is known, so that it is known which ticks are gone; only `mine` are read.
    events: Events,
    /// Where each partition ended with the binding before, and where its first record is.
    bound: Vec<Offset>,
    firsts: Vec<Offset>,
    half: Option<v1::Binding>,
}

impl SharedTicks {
    /// Reads those of `partitions` that `is_mine`, from the tick after `after` on.
    #[must_use]
    pub fn new(brokers: Brokers, partitions: u32, is_mine: impl Fn(Partition) -> bool, after: Option<Tick>) -> Self {
        let mine = (0..partitions).map(Partition).filter(|partition| is_mine(*partition)).collect();
        Self { brokers, partitions, mine, after, open: None }
    }

    fn open(&self) -> Result<Open, KafkaLogError> {
        let firsts = Events::firsts(&self.brokers, self.partitions)?;
        let (stored, bound) = match self.after {
            None => (Stored::open(&self.brokers)?, vec![Offset(0); firsts.len()]),
            Some(tick) => {
                let found = Stored::after(&self.brokers, tick)?.map(|(stored, last)| (stored, kept::ends_of(&last)));
                let found = found.filter(|(_, ends)| kept::are_there(ends, &firsts));
                found.ok_or_else(|| KafkaLogError::NoSuchTick { tick, prefix: self.brokers.prefix.clone() })?
            }
        };
        let from: Vec<_> = self.mine.iter().map(|mine| (*mine, bound[mine.0 as usize])).collect();
        let events = Events::open(&self.brokers, &from, None)?;
        Ok(Open { stored, events, bound, firsts, half: None })
    }
}

impl Ticks for SharedTicks {
    fn next(&mut self, wait: Duration) -> Result<Option<Arc<CommittedTick>>, LogError> {
        let deadline = Instant::now() + wait;
        if self.open.is_none() {
            match self.open() {
                Ok(open) => self.open = Some(open),
                Err(error @ (KafkaLogError::Away { .. } | KafkaLogError::Read { .. })) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "learning waits for the Kafka brokers");
                    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        Ok(open.next(&self.mine, deadline)?)
    }

    fn is_ended(&self) -> bool {
        false
    }
}

impl Open {
    fn next(&mut self, mine: &[Partition], deadline: Instant) -> Result<Option<Arc<CommittedTick>>, KafkaLogError> {
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let binding = match self.half.take() {
                Some(binding) => binding,
                None => match self.stored.come(rest)? {
                    Some(binding) => binding,
                    None => return Ok(None),
                },
            };
            let ends: Vec<_> = binding.partitions.iter().map(|bound| Offset(bound.end_offset)).collect();
            let is_gone = binding.partitions.iter().zip(&self.bound).zip(&self.firsts);
            let is_gone = is_gone.into_iter().any(|((bound, from), first)| bound.hash != 0 && first > from);
            let Some(records) = self.records(mine, &ends, deadline)? else {
                self.half = Some(binding);
                return Ok(None);
            };
            let tick = Tick(binding.tick);
            let mut batches = Vec::new();
            for (partition, records) in mine.iter().zip(records) {
                let index = partition.0 as usize;
                let bound = binding.partitions.get(index).map_or(0, |bound| bound.hash);
                let hash = if records.is_empty() { 0 } else { block_hash(&encode_block(&records)) };
                if hash != bound && !is_gone {
                    let topic = self.events.topic().to_owned();
                    return Err(KafkaLogError::NotAsBound {
                        topic,
                        partition: *partition,
                        offset: self.bound[index],
                        tick,
                    });
                }
                if !records.is_empty() {
                    batches.push(LogBatch { partition: *partition, first_offset: self.bound[index], records });
                }
            }
            self.bound = ends;
            if !is_gone {
                return Ok(Some(Arc::new(CommittedTick { tick, watermark: Micros(binding.watermark_us), batches })));
            }
        }
    }

    /// The records of these partitions up to where they end; `None` where they have not all come.
    fn records(
        &mut self,
        mine: &[Partition],
        ends: &[Offset],
        deadline: Instant,
    ) -> Result<Option<Vec<Vec<Vec<u8>>>>, KafkaLogError> {
        let starts = self.events.next();
        let mut records = vec![Vec::new(); mine.len()];
        for (at, partition) in mine.iter().enumerate() {
            let end = ends.get(partition.0 as usize).copied().unwrap_or_default();
            if end <= starts[at] {
                continue;
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.events.up_to(at, end, wait)? {
                Some(read) => records[at] = read,
                None => {
                    self.events.put_back(records);
                    return Ok(None);
                }
            }
        }
        Ok(Some(records))
    }
}
