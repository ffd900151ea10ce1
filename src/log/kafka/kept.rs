//! What the topics still hold, and what they lose: nobody else removes records of `events` and `bindings`.
//!
//! Records go by DeleteRecords up to where a tick ended; its binding stays, so that reading can go on after it. Not here:
//! what is still needed; that is for whoever keeps checkpoints.
//! Invariant: bindings go after the records that they bind: a record whose binding is gone would be bound to another tick.

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as At, TopicPartitionList};
use undercurrent_schemas::ids::{Micros, Offset, Tick};
use undercurrent_schemas::v1;

use super::bindings::{ASK, Stored};
use super::client::Plain;
use super::events::Events;
use super::options::Brokers;
use super::{KafkaLogError, KafkaOptions};
use crate::config::DERIVED_TOPICS;
use crate::faults;

/// Where each partition ended with this tick; `None` where its binding or records after it are gone.
pub(super) fn ends_at(options: &KafkaOptions, tick: Tick) -> Result<Option<Vec<Offset>>, KafkaLogError> {
    let Some((_, binding)) = Stored::after(&options.brokers, tick)? else { return Ok(None) };
    let firsts = Events::firsts(&options.brokers, options.log.partitions)?;
    Ok(Some(ends_of(&binding)).filter(|ends| are_there(ends, &firsts)))
}

/// Whether all records from these offsets on are there.
pub(super) fn are_there(from: &[Offset], firsts: &[Offset]) -> bool {
    from.len() == firsts.len() && from.iter().zip(firsts).all(|(from, first)| first <= from)
}

/// The first tick whose binding is there, if records are gone.
pub(super) fn floor(options: &KafkaOptions) -> Result<Option<Tick>, KafkaLogError> {
    let firsts = Events::firsts(&options.brokers, options.log.partitions)?;
    if firsts.iter().all(|first| first.0 == 0) {
        return Ok(None);
    }
    let first = Stored::open(&options.brokers)?.next()?;
    Ok(Some(first.map_or(Tick(0), |binding| Tick(binding.tick))))
}

/// Removes the records of every tick that was bound before `since`, but nothing after `needed`; says the tick after
/// which the topics begin now, if that has changed.
pub(super) fn retain(options: &KafkaOptions, since: Micros, needed: Tick) -> Result<Option<Tick>, KafkaLogError> {
    let brokers = &options.brokers;
    let aged = Stored::since(brokers, since)?.filter(|(_, binding)| binding.tick < needed.0);
    let found = match aged {
        Some(aged) => Some(aged),
        None => Stored::after(brokers, needed)?,
    };
    let Some((stored, binding)) = found else { return Ok(None) };
    if stored.is_first() {
        return Ok(None);
    }
    remove(brokers, &stored, &binding).map(|()| Some(Tick(binding.tick)))
}

/// Removes the records of every tick up to this one, and all results; false where its binding is not there.
pub(super) fn remove_through(options: &KafkaOptions, tick: Tick) -> Result<bool, KafkaLogError> {
    let Some((stored, binding)) = Stored::after(&options.brokers, tick)? else { return Ok(false) };
    remove(&options.brokers, &stored, &binding)?;
    remove_results(&options.brokers).map(|()| true)
}

/// Whose each result is, is not looked at: the history has those of others for good. Also on topics that results no longer
/// go to.
fn remove_results(brokers: &Brokers) -> Result<(), KafkaLogError> {
    let consumer: BaseConsumer<Plain> = brokers.consumer().create_with_context(Plain).map_err(KafkaLogError::client)?;
    let away = |source| KafkaLogError::Away { servers: brokers.servers.clone(), source };
    let metadata = consumer.fetch_metadata(None, ASK).map_err(away)?;
    for topic in DERIVED_TOPICS.map(|name| brokers.topic(name)) {
        if metadata.topics().iter().any(|found| found.name() == topic) {
            let (_, end) = consumer.fetch_watermarks(&topic, 0, ASK).map_err(away)?;
            delete(brokers, &topic, std::iter::once(end))?;
        }
    }
    Ok(())
}

fn remove(brokers: &Brokers, stored: &Stored, binding: &v1::Binding) -> Result<(), KafkaLogError> {
    let (events, bindings) = (brokers.topic("events"), brokers.topic("bindings"));
    let ends = ends_of(binding);
    delete(brokers, &events, ends.iter().map(|end| end.0 as i64))?;
    faults::point("retention-half").map_err(KafkaLogError::Thread)?;
    delete(brokers, &bindings, std::iter::once(stored.place()))
}

/// Removes records before these offsets, one for each partition.
fn delete(brokers: &Brokers, topic: &str, before: impl Iterator<Item = i64>) -> Result<(), KafkaLogError> {
    let failed = |source| KafkaLogError::Delete { topic: topic.to_owned(), source };
    let admin: AdminClient<Plain> = brokers.client().create_with_context(Plain).map_err(KafkaLogError::client)?;
    let mut offsets = TopicPartitionList::new();
    for (partition, before) in (0..).zip(before) {
        offsets.add_partition_offset(topic, partition, At::Offset(before)).map_err(failed)?;
    }
    let asked = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
    let deleted = block_on(admin.delete_records(&offsets, &asked)).map_err(failed)?;
    deleted.elements().iter().try_for_each(|partition| partition.error().map_err(failed))
}

pub(super) fn ends_of(binding: &v1::Binding) -> Vec<Offset> {
    binding.partitions.iter().map(|bound| Offset(bound.end_offset)).collect()
}
