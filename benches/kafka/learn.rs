//! Calls/s of the engine from topics whose ticks are bound: by one process and by two, on one worker each and on two.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as At, TopicPartitionList};
use serde::{Deserialize, Serialize};
use undercurrent::engine::{Cluster, Engine, Resume, Workers};
use undercurrent::log::{EmbeddedLog, GatewayLife, KafkaLog, OwnerLog as _, SharedTicks, Ticks};
use undercurrent_dataflows::model::Publisher;
use undercurrent_schemas::ids::{Partition, Tick};
use undercurrent_schemas::v1;

use crate::support::kafka::{Kafka, topic_prefix};
use crate::traffic::graph;
use crate::{TARGET_ENGINE, median, options};

const PATIENCE: Duration = Duration::from_secs(120);
const WAIT: Duration = Duration::from_millis(100);
/// Ticks are bound as soon as their records are there.
const TICK: Duration = Duration::from_millis(4);
/// What a process of the bench is told to be.
const SHARE: &str = "UNDERCURRENT_BENCH_SHARE";

/// Prints the medians over some rounds; in each, one follows the other.
pub(crate) fn measure(kafka: &Kafka, embedded: &EmbeddedLog, calls: u64, rounds: usize) -> Result<()> {
    let prefix = topic_prefix("bench-learn");
    let (records, last) = fill(kafka, &prefix, embedded)?;
    let of_calls = |took: Duration| calls as f64 / took.as_secs_f64();
    let (mut bare, mut from_disk, mut from_kafka, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let consumed = of_calls(consume(kafka, &prefix, records)?);
        let disk = of_calls(from_embedded(embedded)?);
        let topics = of_calls(Share::alone(kafka, &prefix, 1, last).learn(None)?);
        shares.push(topics / disk.min(consumed));
        bare.push(consumed);
        from_disk.push(disk);
        from_kafka.push(topics);
    }
    println!("consume   {:.0} calls/s by a bare BaseConsumer, two records each", median(&bare)?);
    println!("engine    {:.0} calls/s from the embedded log, one worker", median(&from_disk)?);
    println!(
        "          {:.0} calls/s from Kafka, {:.0} % of the smaller of those (target {:.0} %)",
        median(&from_kafka)?,
        median(&shares)? * 100.0,
        TARGET_ENGINE * 100.0
    );
    for (processes, threads) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let mut rates = Vec::new();
        for _ in 0..rounds.min(3) {
            rates.push(of_calls(together(kafka, &prefix, processes, threads, last)?));
        }
        println!("scale     {:.0} calls/s by {processes} processes of {threads} workers", median(&rates)?);
    }
    Ok(())
}

/// Brings what is in a log to topics, in the same ticks: how many records, and the last tick.
fn fill(kafka: &Kafka, prefix: &str, embedded: &EmbeddedLog) -> Result<(u64, Tick)> {
    let dir = tempfile::tempdir()?;
    let log = KafkaLog::open(dir.path(), options(kafka.servers(), prefix, TICK))?;
    let mut ticks = log.ticks(None);
    let (mut records, mut bound, mut last) = (0, 0, Tick(0));
    let mut tail = embedded.tail(None);
    while let Some(tick) = tail.next(Duration::ZERO)? {
        let mut ends = std::collections::BTreeMap::new();
        for record in tick.batches.iter().flat_map(|batch| &batch.records) {
            let event = v1::Event::decode(record.as_slice())?;
            let id = event.id.unwrap_or_default();
            let end: &mut u64 = ends.entry(GatewayLife::of(&id)).or_default();
            *end = id.sequence.max(*end);
            records += 1;
        }
        let mut events: Vec<_> = Vec::new();
        for record in tick.batches.iter().flat_map(|batch| &batch.records) {
            events.push(v1::Event::decode(record.as_slice())?);
        }
        // Of one life in the order of their numbers: what comes after a later one counts as seen.
        events.sort_by_key(|event| event.id.as_ref().map(|id| id.sequence));
        for event in &events {
            log.forward(event)?;
        }
        for (life, end) in ends {
            let durable = log.durable_of(life);
            while durable.borrow().0 < end {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let started = Instant::now();
        while bound < records {
            anyhow::ensure!(started.elapsed() < PATIENCE, "{records} records were sent, {bound} came");
            if let Some(tick) = ticks.next(WAIT)? {
                bound += tick.batches.iter().map(|batch| batch.records.len() as u64).sum::<u64>();
                last = tick.tick;
            }
        }
    }
    drop(ticks);
    log.close()?;
    Ok((records, last))
}

/// A loop that does nothing else.
fn consume(kafka: &Kafka, prefix: &str, records: u64) -> Result<Duration> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.servers()).set("group.id", "bench").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..options("", "", TICK).log.partitions {
        all.add_partition_offset(&format!("{prefix}events"), partition as i32, At::Beginning)?;
    }
    consumer.assign(&all)?;
    let (started, mut come) = (Instant::now(), 0);
    while come < records {
        anyhow::ensure!(started.elapsed() < PATIENCE, "{records} records are there, {come} came");
        if let Some(message) = consumer.poll(WAIT) {
            message?;
            come += 1;
        }
    }
    Ok(started.elapsed())
}

fn from_embedded(log: &EmbeddedLog) -> Result<Duration> {
    let (publisher, slot) = Publisher::new();
    let engine = Engine::start(1, graph(), slot, publisher, Resume::Anew, |_, _, _| {})?;
    let mut tail = log.tail(None);
    let started = Instant::now();
    while let Some(tick) = tail.next(Duration::ZERO)? {
        engine.feed(&tick)?;
    }
    engine.stop()?;
    Ok(started.elapsed())
}

/// From the first tick to the last by several processes, of which this is one.
fn together(kafka: &Kafka, prefix: &str, processes: usize, threads: usize, last: Tick) -> Result<Duration> {
    if processes == 1 {
        return Share::alone(kafka, prefix, threads, last).learn(None);
    }
    let ports: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let hosts = ports.iter().map(|port| Ok(port.local_addr()?.to_string())).collect::<Result<Vec<_>>>()?;
    drop(ports);
    let share = |process| Share { process, hosts: hosts.clone(), ..Share::alone(kafka, prefix, threads, last) };
    let mut others = Vec::new();
    for process in 1..processes {
        let mut command = Command::new(std::env::current_exe()?);
        others.push(command.env(SHARE, serde_json::to_string(&share(process))?).spawn()?);
    }
    let took = share(0).learn(Some(&mut others));
    // Timely's threads have no other way to end than to say that the others are gone.
    std::panic::set_hook(Box::new(|_| {}));
    for mut other in others {
        let _ = other.kill();
        other.wait()?;
    }
    took
}

/// One process's part of the work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    servers: String,
    prefix: String,
    hosts: Vec<String>,
    process: usize,
    threads: usize,
    last: u64,
}

/// What this process was told to be, if it was.
pub(crate) fn asked() -> Result<Option<Share>> {
    let Ok(share) = std::env::var(SHARE) else { return Ok(None) };
    serde_json::from_str(&share).map(Some).context("what a process of the bench is told")
}

impl Share {
    fn alone(kafka: &Kafka, prefix: &str, threads: usize, last: Tick) -> Self {
        let (servers, prefix) = (kafka.servers().to_owned(), prefix.to_owned());
        Self { servers, prefix, hosts: Vec::new(), process: 0, threads, last: last.0 }
    }

    /// As a process that is not the first.
    pub(crate) fn run(&self) -> Result<()> {
        self.learn(None).map(drop)
    }

    /// Takes all ticks through the engine. The first process reads as `undercurrent engine` does, the others their share.
    fn learn(&self, others: Option<&mut Vec<Child>>) -> Result<Duration> {
        let cluster = || Cluster { hosts: self.hosts.clone(), process: self.process };
        let workers = Workers { threads: self.threads, cluster: (self.hosts.len() > 1).then(cluster) };
        let (of, count, threads, process) = (self.process, workers.count(), self.threads, self.process);
        let (publisher, slot) = Publisher::new();
        let engine = Engine::start(workers, graph(), slot, publisher, Resume::Anew, |_, _, _| {})?;
        let dir = tempfile::tempdir()?;
        let options = options(&self.servers, &self.prefix, TICK);
        let partitions = options.log.partitions;
        let (log, mut ticks): (_, Box<dyn Ticks>) = if of == 0 {
            let log = KafkaLog::open(dir.path(), options)?;
            let ticks = log.ticks(None);
            (Some(log), ticks)
        } else {
            let is_mine = move |partition: Partition| partition.0 as usize % count / threads == process;
            (None, Box::new(SharedTicks::new(options.brokers, partitions, is_mine, None)))
        };
        // The clock starts with the first tick: what it takes to meet the brokers is no rate.
        let (mut started, mut at) = (None, Tick(0));
        while at < Tick(self.last) {
            let Some(tick) = ticks.next(WAIT)? else { continue };
            started.get_or_insert_with(Instant::now);
            at = tick.tick;
            engine.feed(&tick)?;
        }
        if others.is_some() || self.hosts.is_empty() {
            engine.wait_for(at)?;
        }
        let took = started.context("no tick came")?.elapsed();
        drop(ticks);
        if let Some(log) = log {
            log.close()?;
        }
        if self.hosts.is_empty() {
            engine.stop()?;
        } else if of > 0 {
            // The others need this one until they are through; who started it ends it.
            std::thread::sleep(PATIENCE);
        } else {
            std::mem::forget(engine);
        }
        Ok(took)
    }
}
