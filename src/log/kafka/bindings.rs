//! Topic `bindings`: which records are in which tick. Written before a tick is handed out, read again at each start.
//!
//! Each binding is a transaction of one producer id for all engines on these topics: the brokers refuse an engine whose
//! place was taken, so there is one order of ticks. They also refuse one whose transaction they ended because it took too
//! long; so an engine says when it takes the place, and one that was refused looks who said so last.
//! Not here: what is bound (`ticks`).
//! Invariant: a binding that [`Writer::append`] has taken is there for every reader, and none is there twice.

use std::time::{Duration, Instant};

use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Message as _, Offset as At, TopicPartitionList};
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::v1;

use super::client::Plain;
use super::options::Brokers;
use super::{KafkaLogError, dead_letters};
use crate::faults;

/// How long a question to the brokers may take.
pub(super) const ASK: Duration = Duration::from_secs(10);
/// How long one step of a transaction may take before it is tried again.
const STEP: Duration = Duration::from_secs(2);

impl ProducerContext for Plain {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Writes bindings for as long as no other engine does.
pub(super) struct Writer {
    brokers: Brokers,
    topic: String,
    producer: BaseProducer<Plain>,
    /// This life of this engine.
    engine: u64,
    /// Where it said that it takes the place, or a little before.
    claimed_at: i64,
    /// Where the binding that is being written stands.
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    /// In a transaction that is not known to have ended.
    Committing,
    Aborting,
    /// The producer is of no use any more.
    Broken,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("topic", &self.topic).field("step", &self.step).finish_non_exhaustive()
    }
}

impl Writer {
    /// Takes the place of whichever engine wrote last; what that one had begun has ended with this.
    pub(super) fn take_over(brokers: &Brokers) -> Result<Self, KafkaLogError> {
        let topic = brokers.topic("bindings");
        let engine = getrandom::u64().map_err(KafkaLogError::Random)?;
        // Said before the place is taken: whoever is refused from then on finds it.
        let claimed_at = claim(brokers, &topic, engine)?;
        let producer = producer(brokers)?;
        Ok(Self { brokers: brokers.clone(), topic, producer, engine, claimed_at, step: Step::Idle })
    }

    /// Writes a binding, and with it what is told of its records; false where the brokers do not answer: then it has to be called again with the same one.
    pub(super) fn append(&mut self, binding: &v1::Binding, letters: &[v1::DeadRecord]) -> Result<bool, KafkaLogError> {
        if self.step == Step::Broken {
            self.producer = producer(&self.brokers)?;
            self.step = Step::Idle;
            // The brokers have decided by now what became of the last transaction.
            let last = Stored::last(&self.brokers)?;
            if last.is_some_and(|last| last.tick >= binding.tick) {
                return Ok(true);
            }
        }
        let stepped = match self.step {
            Step::Aborting => self.producer.abort_transaction(STEP).map(|()| false),
            Step::Committing => self.commit().map(|()| true),
            Step::Idle | Step::Broken => self.begin(binding, letters).and_then(|()| self.commit()).map(|()| true),
        };
        match stepped {
            Ok(done) => {
                self.step = Step::Idle;
                Ok(done)
            }
            Err(error) => self.failed(binding, error),
        }
    }

    fn begin(&mut self, binding: &v1::Binding, letters: &[v1::DeadRecord]) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        self.step = Step::Committing;
        let bytes = v1::Binding { engine: self.engine, ..binding.clone() }.encode_to_vec();
        let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(0).payload(&bytes);
        self.producer.send(record).map_err(|(error, _)| error)?;
        let topic = self.brokers.topic("dead_letters");
        for letter in letters {
            let (key, bytes) = (dead_letters::key(letter), letter.encode_to_vec());
            let record = BaseRecord::<str, [u8]>::to(&topic).partition(0).key(&key).payload(&bytes);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        faults::passed("bind-half");
        Ok(())
    }

    fn commit(&self) -> Result<(), KafkaError> {
        // A flush by librdkafka's binding looks every 100 ms.
        let started = Instant::now();
        while self.producer.in_flight_count() > 0 && started.elapsed() < STEP {
            self.producer.poll(Duration::from_millis(1));
        }
        self.producer.commit_transaction(STEP)
    }

    fn failed(&mut self, binding: &v1::Binding, error: KafkaError) -> Result<bool, KafkaLogError> {
        if is_fenced(&error) || self.producer.client().fatal_error().is_some_and(|(code, _)| is_fencing(code)) {
            // Where they ended our transaction because we were away, nobody has claimed the place since.
            if Stored::claimant(&self.brokers, self.claimed_at)? != Some(self.engine) {
                return Err(KafkaLogError::Fenced { tick: Tick(binding.tick), prefix: self.brokers.prefix.clone() });
            }
            tracing::info!(tick = binding.tick, "the brokers ended a transaction that took too long; binding it again");
            self.step = Step::Broken;
            return Ok(false);
        }
        let (mut abort, mut again) = (false, false);
        if let KafkaError::Transaction(error) = &error {
            (abort, again) = (error.txn_requires_abort(), error.is_retriable());
        }
        tracing::debug!(%error, tick = binding.tick, "binding not written; will try again");
        self.step = match error {
            _ if abort => Step::Aborting,
            _ if again => self.step,
            KafkaError::Flush(_) => self.step,
            _ => Step::Broken,
        };
        Ok(false)
    }
}

/// Says that this engine takes the place; from which offset on that can be read.
fn claim(brokers: &Brokers, topic: &str, engine: u64) -> Result<i64, KafkaLogError> {
    let mut config = brokers.producer();
    config.set("linger.ms", "0");
    let producer: BaseProducer<Plain> = config.create_with_context(Plain).map_err(KafkaLogError::client)?;
    let away = |source| KafkaLogError::Away { servers: brokers.servers.clone(), source };
    let (_, before) = producer.client().fetch_watermarks(topic, 0, ASK).map_err(away)?;
    let bytes = v1::Binding { engine, ..v1::Binding::default() }.encode_to_vec();
    let record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&bytes);
    producer.send(record).map_err(|(error, _)| away(error))?;
    // Not read back: it may stand behind a transaction that only taking the place ends.
    producer.flush(ASK).map_err(away)?;
    Ok(before)
}

/// A producer in whose place no other one is.
fn producer(brokers: &Brokers) -> Result<BaseProducer<Plain>, KafkaLogError> {
    let mut config = brokers.producer();
    // Each binding is waited for.
    config.set("linger.ms", "0").remove("message.timeout.ms");
    config.set("transactional.id", brokers.topic("engine"));
    let producer: BaseProducer<Plain> = config.create_with_context(Plain).map_err(KafkaLogError::client)?;
    let away = |source| KafkaLogError::Away { servers: brokers.servers.clone(), source };
    producer.init_transactions(ASK).map_err(away)?;
    Ok(producer)
}

fn is_fenced(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => is_fencing(error.code()),
        error => error.rdkafka_error_code().is_some_and(is_fencing),
    }
}

fn is_fencing(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping)
}

/// What is written, from the first that is there to the end at the time of asking.
pub(super) struct Stored {
    topic: String,
    consumer: BaseConsumer<Plain>,
    low: i64,
    high: i64,
    at: i64,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("topic", &self.topic).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Stored {
    pub(super) fn open(brokers: &Brokers) -> Result<Self, KafkaLogError> {
        Self::open_at(brokers, |low, _| low)
    }

    /// The binding of a tick, and what comes after it. It is mostly near the end.
    pub(super) fn after(brokers: &Brokers, tick: Tick) -> Result<Option<(Self, v1::Binding)>, KafkaLogError> {
        let mut back = 4_096;
        loop {
            let mut stored = Self::open_at(brokers, |low, high| low.max(high.saturating_sub(back)))?;
            let from_low = stored.at == stored.low;
            let mut next = stored.next()?;
            if !from_low && next.as_ref().is_none_or(|first| first.tick > tick.0) {
                back = back.saturating_mul(16);
                continue;
            }
            while let Some(binding) = next {
                if binding.tick >= tick.0 {
                    return Ok((binding.tick == tick.0).then_some((stored, binding)));
                }
                next = stored.next()?;
            }
            return Ok(None);
        }
    }

    /// The first binding that was written at this time or later, and what comes after it.
    pub(super) fn since(brokers: &Brokers, at: Micros) -> Result<Option<(Self, v1::Binding)>, KafkaLogError> {
        let topic = brokers.topic("bindings");
        let away = |source| KafkaLogError::Away { servers: brokers.servers.clone(), source };
        let asker: BaseConsumer<Plain> =
            brokers.consumer().create_with_context(Plain).map_err(KafkaLogError::client)?;
        let mut times = TopicPartitionList::new();
        times.add_partition_offset(&topic, 0, At::Offset(at.0.max(0) / 1_000)).map_err(away)?;
        let found = asker.offsets_for_times(times, ASK).map_err(away)?;
        let Some(At::Offset(first)) = found.find_partition(&topic, 0).map(|found| found.offset()) else {
            return Ok(None);
        };
        let mut stored = Self::open_at(brokers, |low, _| low.max(first))?;
        Ok(stored.next()?.map(|binding| (stored, binding)))
    }

    /// The offset of the binding that was read last.
    pub(super) const fn place(&self) -> i64 {
        self.at - 1
    }

    /// Whether the binding that was read last is the topic's first record.
    pub(super) const fn is_first(&self) -> bool {
        self.place() <= self.low
    }

    /// The last binding of a tick.
    pub(super) fn last(brokers: &Brokers) -> Result<Option<v1::Binding>, KafkaLogError> {
        // Marks of transactions take offsets, too: so many records from the end there is mostly a binding.
        let mut back = 64;
        loop {
            let mut end = Self::open_at(brokers, |low, high| low.max(high - back))?;
            let from_low = end.at == end.low;
            let mut last = None;
            while let Some(binding) = end.next()? {
                last = Some(binding);
            }
            if last.is_some() || from_low {
                return Ok(last);
            }
            back *= 16;
        }
    }

    /// Which engine was the last to say that it takes the place, from this offset on.
    fn claimant(brokers: &Brokers, from: i64) -> Result<Option<u64>, KafkaLogError> {
        let mut since = Self::open_at(brokers, |low, _| low.max(from))?;
        let mut claimant = None;
        while let Some(binding) = since.any()? {
            if binding.tick == 0 {
                claimant = Some(binding.engine);
            }
        }
        Ok(claimant)
    }

    /// Begins where `from` says, given the first offset and the end. A consumer is assigned once: assigning it anew while
    /// it starts makes librdkafka 2.12 end the process.
    fn open_at(brokers: &Brokers, from: impl Fn(i64, i64) -> i64) -> Result<Self, KafkaLogError> {
        let topic = brokers.topic("bindings");
        let consumer: BaseConsumer<Plain> =
            brokers.consumer().create_with_context(Plain).map_err(KafkaLogError::client)?;
        let away = |source| KafkaLogError::Away { servers: brokers.servers.clone(), source };
        let (low, high) = consumer.fetch_watermarks(&topic, 0, ASK).map_err(away)?;
        let at = from(low, high);
        let failed = |source| KafkaLogError::Read { topic: topic.clone(), source };
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&topic, 0, At::Offset(at)).map_err(failed)?;
        consumer.assign(&assignment).map_err(failed)?;
        Ok(Self { topic, consumer, low, high, at })
    }

    /// The next binding, also of those that are written from now on; `None` where none comes within `wait`.
    pub(super) fn come(&mut self, wait: Duration) -> Result<Option<v1::Binding>, KafkaLogError> {
        let deadline = Instant::now() + wait;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(rest) {
                Some(Ok(message)) => {
                    self.at = message.offset() + 1;
                    let binding = v1::Binding::decode(message.payload().unwrap_or_default());
                    let wrong = |_| KafkaLogError::Binding { topic: self.topic.clone(), offset: message.offset() };
                    let binding = binding.map_err(wrong)?;
                    if binding.tick > 0 {
                        return Ok(Some(binding));
                    }
                }
                Some(Err(source)) if is_lasting(&source) => {
                    return Err(KafkaLogError::Read { topic: self.topic.clone(), source });
                }
                Some(Err(_)) => {}
                None if rest.is_zero() => return Ok(None),
                None => {}
            }
        }
    }

    /// The next binding of a tick; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<v1::Binding>, KafkaLogError> {
        loop {
            match self.any()? {
                Some(binding) if binding.tick == 0 => {}
                next => return Ok(next),
            }
        }
    }

    fn any(&mut self) -> Result<Option<v1::Binding>, KafkaLogError> {
        while self.at < self.high {
            match self.consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    self.at = message.offset() + 1;
                    if message.offset() >= self.high {
                        return Ok(None);
                    }
                    let binding = v1::Binding::decode(message.payload().unwrap_or_default());
                    return binding
                        .map(Some)
                        .map_err(|_| KafkaLogError::Binding { topic: self.topic.clone(), offset: message.offset() });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(source)) if is_lasting(&source) => {
                    return Err(KafkaLogError::Read { topic: self.topic.clone(), source });
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(None)
    }
}

/// Whether waiting does not help.
fn is_lasting(error: &KafkaError) -> bool {
    let lasting =
        [Code::AutoOffsetReset, Code::OffsetOutOfRange, Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed];
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || error.rdkafka_error_code().is_some_and(|code| lasting.contains(&code))
}
