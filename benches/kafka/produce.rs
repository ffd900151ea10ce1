//! Records/s from an event that is ready to be encoded to one that is delivered, and those of a bare producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use undercurrent::log::{EmbeddedLog, EventLog as _, KafkaLog, LogOptions, OwnerLog as _};
use undercurrent_schemas::ids::{Partition, Sequence, partition_of};
use undercurrent_schemas::v1;

use crate::support::kafka::{Kafka, topic_prefix};
use crate::{TARGET_PRODUCE, median, options};

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
/// Events between two looks at the room in the queue.
const LOOK_EVERY: usize = 1_024;

/// Prints the medians over some rounds; in each, one follows the other.
pub(crate) fn measure(kafka: &Kafka, embedded: &EmbeddedLog, rounds: usize) -> Result<()> {
    let events = events(embedded)?;
    let bytes = events.iter().map(prost::Message::encoded_len).sum::<usize>() / events.len().max(1);
    let (mut bare, mut ours, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let reference = rate(events.len(), alone(kafka, &events)?);
        let measured = rate(events.len(), through_the_log(kafka, &events)?);
        bare.push(reference);
        ours.push(measured);
        shares.push(measured / reference);
    }
    println!("produce   {:.0} records/s of {bytes} bytes by a bare ThreadedProducer", median(&bare)?);
    println!(
        "          {:.0} records/s through the log, {:.0} % of that (target {TARGET_PRODUCE:.0} records/s)",
        median(&ours)?,
        median(&shares)? * 100.0
    );
    Ok(())
}

fn rate(records: usize, took: Duration) -> f64 {
    records as f64 / took.as_secs_f64()
}

/// Everything that is in a log, without ids: whoever appends it gives it one.
fn events(log: &EmbeddedLog) -> Result<Vec<v1::Event>> {
    let mut events = Vec::new();
    let mut tail = log.tail(None);
    while let Some(tick) = tail.next(Duration::ZERO)? {
        for record in tick.batches.iter().flat_map(|batch| &batch.records) {
            events.push(v1::Event { id: None, ..v1::Event::decode(record.as_slice())? });
        }
    }
    Ok(events)
}

/// Counts what is delivered.
#[derive(Default)]
struct Count(AtomicU64);

struct Counting(Arc<Count>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The same records by a producer with the same promises, in a loop that does nothing else.
fn alone(kafka: &Kafka, events: &[v1::Event]) -> Result<Duration> {
    let prefix = topic_prefix("bench-bare");
    let made = options(kafka.servers(), &prefix, TICK);
    let partitions = made.log.partitions;
    // Makes the topics.
    let dir = tempfile::tempdir()?;
    KafkaLog::open(dir.path(), made)?.close()?;
    let records: Vec<_> = events.iter().map(|event| (event.session_id.as_str(), event.encode_to_vec())).collect();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.servers());
    for (name, value) in [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("compression.type", "lz4"),
        ("linger.ms", "2"),
        ("queue.buffering.max.messages", "0"),
        ("queue.buffering.max.kbytes", "2147483647"),
        ("socket.nagle.disable", "true"),
    ] {
        config.set(name, value);
    }
    let count = Arc::new(Count::default());
    let producer: ThreadedProducer<Counting> = config.create_with_context(Counting(Arc::clone(&count)))?;
    let topic = format!("{prefix}events");
    producer.client().fetch_metadata(Some(&topic), PATIENCE)?;
    let started = Instant::now();
    for (key, record) in &records {
        let partition = if key.is_empty() { Partition(0) } else { partition_of(key, partitions) };
        let record = BaseRecord::to(&topic).partition(partition.0 as i32).key(*key).payload(record.as_slice());
        producer.send(record).map_err(|(error, _)| error)?;
    }
    while count.0.load(Ordering::Relaxed) < records.len() as u64 {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the bare producer delivers no more");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(started.elapsed())
}

/// From `append` to durable, waiting where the queue is full.
fn through_the_log(kafka: &Kafka, events: &[v1::Event]) -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let log = KafkaLog::open(dir.path(), options(kafka.servers(), &topic_prefix("bench-log"), TICK))?;
    let durable = log.durable();
    // The producer has met its brokers before the clock starts.
    let first = log.append(v1::Event { session_id: "first".to_owned(), ..v1::Event::default() })?;
    wait_for(&durable, first)?;
    let events = events.to_vec();
    let started = Instant::now();
    let (mut last, room) = (Sequence(0), LogOptions::default().queue_events_max);
    for (n, event) in events.into_iter().enumerate() {
        // As many as may wait: with half of its room taken, the log would have them wait on the disk.
        while n % LOOK_EVERY == 0 && log.status().queued_events + LOOK_EVERY > room / 2 {
            std::thread::sleep(Duration::from_micros(200));
        }
        last = log.append(event)?;
    }
    wait_for(&durable, last)?;
    let took = started.elapsed();
    log.close()?;
    Ok(took)
}

fn wait_for(durable: &tokio::sync::watch::Receiver<Sequence>, last: Sequence) -> Result<()> {
    let started = Instant::now();
    while *durable.borrow() < last {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the log delivers no more");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
