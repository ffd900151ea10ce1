//! Reading topic `events`, each partition by itself: up to a bound offset, or whatever has come.
//!
//! Manual assignment, no group: who reads what is decided by the bindings. Not here: which records are a tick's.
//! Invariant: of each partition, records come out in order, and offsets have no holes: where the topic has one (a
//! transaction's mark, for one), a record that is no event stands in its place.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::{Message as _, Offset as At, TopicPartitionList};
use undercurrent_schemas::ids::{Offset, Partition};

use super::KafkaLogError;
use super::client::{Plain, complain, say};
use super::options::Brokers;
use super::shared::Shared;

/// How long a question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);
/// How often the consumer says how far the topic goes.
const STATISTICS_MS: &str = "1000";
/// Field number 0 is in no message: this cannot be decoded.
pub(super) const NO_EVENT: &[u8] = &[0];

pub(super) struct Events {
    topic: String,
    consumer: Arc<BaseConsumer<Reading>>,
    partitions: Vec<Reader>,
    news: Arc<News>,
}

/// One partition.
struct Reader {
    partition: Partition,
    queue: PartitionQueue<Reading>,
    /// The offset of what is handed out next.
    next: Offset,
    /// Read, and not yet asked for.
    ahead: VecDeque<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Events {
    /// Reads these partitions, each from an offset on; where that is gone, from the first that is there. `far` hears how
    /// far the topic goes.
    pub(super) fn open(
        brokers: &Brokers,
        partitions: &[(Partition, Offset)],
        far: Option<&Arc<Shared>>,
    ) -> Result<Self, KafkaLogError> {
        let topic = brokers.topic("events");
        let mut config = brokers.consumer();
        config.set("statistics.interval.ms", STATISTICS_MS);
        let consumer: BaseConsumer<Reading> =
            config.create_with_context(Reading(far.cloned())).map_err(KafkaLogError::client)?;
        let failed = |source| KafkaLogError::Read { topic: topic.clone(), source };
        let (mut assignment, mut firsts) = (TopicPartitionList::new(), Vec::new());
        for (partition, from) in partitions {
            let number = partition.0 as i32;
            let (low, high) = consumer.fetch_watermarks(&topic, number, ASK).map_err(failed)?;
            if let Some(far) = far {
                far.ends.heard(number, high);
            }
            let first = from.0.max(low.max(0) as u64);
            assignment.add_partition_offset(&topic, number, At::Offset(first as i64)).map_err(failed)?;
            firsts.push((*partition, Offset(first)));
        }
        let (consumer, news) = (Arc::new(consumer), Arc::new(News::default()));
        consumer.assign(&assignment).map_err(failed)?;
        // Partitions can only be split once they are assigned. What is fetched before would come out of the consumer's
        // own queue, where nobody reads: a pause makes that outdated, and it is fetched again.
        consumer.pause(&assignment).map_err(failed)?;
        let mut readers = Vec::with_capacity(firsts.len());
        for (partition, next) in firsts {
            let queue = consumer.split_partition_queue(&topic, partition.0 as i32);
            let mut queue = queue.ok_or_else(|| failed(KafkaError::NoMessageReceived))?;
            let told = Arc::clone(&news);
            queue.set_nonempty_callback(move || told.tell());
            readers.push(Reader { partition, queue, next, ahead: VecDeque::new() });
        }
        consumer.resume(&assignment).map_err(failed)?;
        Ok(Self { topic, consumer, partitions: readers, news })
    }

    /// The offset of the first record of each partition.
    pub(super) fn firsts(brokers: &Brokers, partitions: u32) -> Result<Vec<Offset>, KafkaLogError> {
        let topic = brokers.topic("events");
        let consumer: BaseConsumer<Plain> =
            brokers.consumer().create_with_context(Plain).map_err(KafkaLogError::client)?;
        let first = |partition| consumer.fetch_watermarks(&topic, partition as i32, ASK);
        let firsts = (0..partitions).map(|partition| first(partition).map(|(low, _)| Offset(low.max(0) as u64)));
        firsts.collect::<Result<_, _>>().map_err(|source| KafkaLogError::Read { topic: topic.clone(), source })
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Where reading goes on.
    pub(super) fn next(&self) -> Vec<Offset> {
        self.partitions.iter().map(|reader| reader.next).collect()
    }

    /// The records of one partition up to `end`; `None` where they have not all come within `wait`: then nothing is
    /// taken, and they can be asked for again.
    pub(super) fn up_to(
        &mut self,
        index: usize,
        end: Offset,
        wait: Duration,
    ) -> Result<Option<Vec<Vec<u8>>>, KafkaLogError> {
        let deadline = Instant::now() + wait;
        let reader = &mut self.partitions[index];
        while reader.ahead.back().is_none_or(|(offset, _)| offset + 1 < end.0) {
            self.consumer.poll(Duration::ZERO);
            let rest = deadline.saturating_duration_since(Instant::now());
            match reader.queue.poll(rest.min(Duration::from_millis(100))) {
                Some(Ok(message)) => {
                    reader.ahead.push_back((message.offset() as u64, message.payload().unwrap_or_default().to_vec()));
                }
                Some(Err(error)) => gone(&self.topic, error)?,
                None if rest.is_zero() => return Ok(None),
                None => {}
            }
        }
        let count = reader.ahead.partition_point(|(offset, _)| *offset < end.0);
        let taken = reader.ahead.drain(..count);
        Ok(Some(filled(&mut reader.next, taken, Some(end))))
    }

    /// Takes back what [`Self::up_to`] gave last, one list for each partition.
    pub(super) fn put_back(&mut self, records: Vec<Vec<Vec<u8>>>) {
        for (reader, records) in self.partitions.iter_mut().zip(records) {
            let first = reader.next.0 - records.len() as u64;
            for (back, record) in (1..).zip(records.into_iter().rev()) {
                reader.ahead.push_front((reader.next.0 - back, record));
            }
            reader.next = Offset(first);
        }
    }

    /// What has come since the last look, by partition, up to about so many bytes in all.
    pub(super) fn come(&mut self, bytes_max: usize) -> Result<Vec<Vec<Vec<u8>>>, KafkaLogError> {
        self.news.forget();
        self.consumer.poll(Duration::ZERO);
        let mut bytes = 0;
        let mut all = Vec::with_capacity(self.partitions.len());
        for reader in &mut self.partitions {
            while bytes < bytes_max {
                match reader.queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        let record = message.payload().unwrap_or_default().to_vec();
                        bytes += record.len();
                        reader.ahead.push_back((message.offset() as u64, record));
                    }
                    Some(Err(error)) => gone(&self.topic, error)?,
                    None => break,
                }
            }
            let taken = reader.ahead.drain(..);
            all.push(filled(&mut reader.next, taken, None));
        }
        if bytes >= bytes_max {
            self.news.tell();
        }
        Ok(all)
    }

    /// Waits until something may have come.
    pub(super) fn wait(&self, wait: Duration) {
        self.consumer.poll(Duration::ZERO);
        self.news.wait(wait);
    }

    /// The partitions that are read, in order.
    pub(super) fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.partitions.iter().map(|reader| reader.partition)
    }
}

/// The records in order, with something in every hole.
fn filled(next: &mut Offset, taken: impl Iterator<Item = (u64, Vec<u8>)>, end: Option<Offset>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for (offset, record) in taken {
        // A record from before where we are was handed out already.
        if offset < next.0 {
            continue;
        }
        while next.0 < offset {
            records.push(NO_EVENT.to_vec());
            next.0 += 1;
        }
        records.push(record);
        next.0 += 1;
    }
    while end.is_some_and(|end| next.0 < end.0) {
        records.push(NO_EVENT.to_vec());
        next.0 += 1;
    }
    records
}

/// An end of a partition is no error, and a broker that is away comes back; an offset that is gone does not.
fn gone(topic: &str, error: KafkaError) -> Result<(), KafkaLogError> {
    use rdkafka::error::RDKafkaErrorCode as Code;
    match (&error, error.rdkafka_error_code()) {
        (KafkaError::PartitionEOF(_), _) => Ok(()),
        (
            _,
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::UnknownTopicOrPartition | Code::UnknownTopic),
        ) => Err(KafkaLogError::Read { topic: topic.to_owned(), source: error }),
        (KafkaError::MessageConsumptionFatal(_), _) => {
            Err(KafkaLogError::Read { topic: topic.to_owned(), source: error })
        }
        _ => {
            tracing::debug!(%error, topic, "reading goes on when the broker is back");
            Ok(())
        }
    }
}

/// Whether something has come.
#[derive(Debug, Default)]
struct News {
    come: Mutex<bool>,
    changed: Condvar,
}

impl News {
    fn tell(&self) {
        *self.come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn forget(&self) {
        *self.come.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn wait(&self, wait: Duration) {
        let come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        if !*come {
            drop(self.changed.wait_timeout(come, wait));
        }
    }
}

/// Hears how far the topic goes.
pub(super) struct Reading(Option<Arc<Shared>>);

impl ClientContext for Reading {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        complain(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(shared) = &self.0 else { return };
        let Some(topic) = statistics.topics.get(&shared.topic) else { return };
        for (partition, of) in &topic.partitions {
            shared.ends.heard(*partition, of.hi_offset);
        }
        if let Some(metrics) = &shared.options.metrics {
            let (ends, bound) = (shared.ends.known(), shared.bound().ends);
            metrics.lag(ends.iter().zip(&bound).map(|(end, bound)| end.0.saturating_sub(bound.0)).sum());
        }
    }
}

impl ConsumerContext for Reading {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(next: u64, taken: &[u64], end: Option<u64>, expect: &[&str]) {
        let mut at = Offset(next);
        let taken = taken.iter().map(|offset| (*offset, offset.to_string().into_bytes()));
        let records = filled(&mut at, taken, end.map(Offset));
        let text = |record: &Vec<u8>| {
            if record == NO_EVENT { "-".to_owned() } else { String::from_utf8(record.clone()).unwrap() }
        };
        assert_eq!(records.iter().map(text).collect::<Vec<_>>(), expect);
        assert_eq!(at.0, next + expect.len() as u64);
    }

    #[test]
    fn holes_are_filled_with_what_is_no_event() {
        check(3, &[3, 4, 5], None, &["3", "4", "5"]);
        check(3, &[4, 6], Some(8), &["-", "4", "-", "6", "-"]);
        check(3, &[1, 2, 3], None, &["3"]);
        check(3, &[], None, &[]);
    }
}
