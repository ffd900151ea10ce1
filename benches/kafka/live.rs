//! How long after a gateway knows that an event is durable a model is live that has it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use prost::Message as _;
use undercurrent::engine::{Engine, Resume};
use undercurrent::log::{EventLog, KafkaLog, OwnerLog as _};
use undercurrent_dataflows::model::Publisher;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1;

use crate::options;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::traffic::{edge, graph, pass};

/// Two messages each.
const CALLS_PER_S: u64 = 5_000;
const LASTING: Duration = Duration::from_secs(12);
/// Until the brokers are met, what they run on has compiled what it runs, and the first models are there.
const WARM_UP: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(50);

/// Percentiles over all events, in milliseconds.
pub(crate) fn measure(kafka: &Kafka, dir: &Path) -> Result<(f64, f64)> {
    let log = Arc::new(KafkaLog::open(dir, options(kafka.servers(), &topic_prefix("bench-live"), TICK))?);
    let (publisher, slot) = Publisher::new();
    let (live, lives) = channel();
    let engine = Engine::start(1, graph(), slot.clone(), publisher, Resume::Anew, move |tick, _, _| {
        // Whoever waited for it has gone.
        let _ = live.send((tick, Instant::now()));
    })?;
    let mut ticks = log.ticks(None);
    let reader = std::thread::spawn(move || -> Result<()> {
        while !ticks.is_ended() {
            if let Some(tick) = ticks.next(Duration::from_millis(100))? {
                engine.feed(&tick)?;
            }
        }
        Ok(engine.stop()?)
    });
    let mut durable = log.durable();
    let watcher = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut seen = vec![];
        runtime.block_on(async {
            while durable.changed().await.is_ok() {
                seen.push((*durable.borrow_and_update(), Instant::now()));
            }
        });
        std::io::Result::Ok(seen)
    });
    let edge = edge(Arc::clone(&log) as Arc<dyn EventLog>, slot)?;
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < LASTING {
        let due = (started.elapsed().as_secs_f64() * CALLS_PER_S as f64) as u64;
        while n < due {
            pass(&edge, n, log.clock().now());
            n += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(edge);
    log.close()?;
    reader.join().map_err(|_| anyhow::anyhow!("the reader died"))??;
    drop(log);
    let durable = watcher.join().map_err(|_| anyhow::anyhow!("the watcher died"))??;
    let mut took = Vec::new();
    for (tick, live) in lives {
        for record in tick.batches.iter().flat_map(|batch| &batch.records) {
            let id = v1::EventHead::decode(record.as_slice())?.id.context("events have ids")?;
            let at = durable.partition_point(|(durable, _)| *durable < Sequence(id.sequence));
            let Some((_, durable)) = durable.get(at).filter(|(_, at)| at.duration_since(started) > WARM_UP) else {
                continue;
            };
            took.push(live.saturating_duration_since(*durable).as_secs_f64() * 1e3);
        }
    }
    took.sort_by(f64::total_cmp);
    anyhow::ensure!(!took.is_empty(), "nothing was measured");
    Ok((took[took.len() / 2], took[took.len() * 99 / 100]))
}
