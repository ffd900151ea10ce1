//! A process of an engine that is not its first: it learns from its partitions, and has nothing of its own to keep.
//!
//! Its workers exchange with those of the others; what they learn is live, written and published by the first process. It
//! ends when any of them does: timely has no way to go on without one.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use undercurrent_dataflows::model::Publisher;

use super::learn::STOPPED;
use super::owner::graph;
use super::{background, settings, signals};
use crate::config::Config;
use crate::engine::{Cluster, Engine, Resume, Workers};
use crate::log::{SharedTicks, Ticks as _};
use crate::telemetry::Metrics;

/// How long a look for the next tick may take.
const WAIT: Duration = Duration::from_millis(500);

/// How long the first process may take to stop before this one leaves.
const LEAVE: Duration = Duration::from_secs(30);

/// Runs until it is told to stop, or cannot learn.
pub(super) async fn run(config: &Arc<Config>, cluster: Cluster, stopping: &AtomicBool) -> anyhow::Result<ExitCode> {
    let kafka = config.log.kafka.as_ref().context("the processes of an engine meet on Kafka")?;
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    let options = settings::kafka(config, kafka, &metrics);
    let (process, threads) = (cluster.process, config.engine.workers);
    let workers = threads * cluster.hosts.len();
    let is_mine =
        move |partition: undercurrent_schemas::ids::Partition| partition.0 as usize % workers / threads == process;
    tracing::info!(process, workers, "learning with the other processes, once they are there");
    let config = Arc::clone(config);
    let learning = move || -> anyhow::Result<()> {
        let (publisher, slot) = Publisher::new();
        let workers = Workers { threads, cluster: Some(cluster) };
        let engine = background::started(|| {
            Engine::start(workers, graph(&config), slot, publisher, Resume::Anew, |_, _, _| {})
        })?;
        let after = engine.goes_on_after()?;
        let mut ticks = SharedTicks::new(options.brokers, config.log.partitions, is_mine, after);
        loop {
            if let Some(tick) = ticks.next(WAIT)? {
                engine.feed(&tick)?;
            }
        }
    };
    let thread = std::thread::Builder::new().name("feeder".to_owned()).spawn(learning).context("start the feeder")?;
    tokio::select! {
        asked = signals::asked_to_stop() => {
            asked?;
            // The first process is asked to stop, too, and needs the others for the tick that it is in. It goes first.
            stopping.store(true, Ordering::Release);
            tokio::time::sleep(LEAVE).await;
            tracing::warn!("this process leaves, and the others end with it");
            Ok(ExitCode::SUCCESS)
        }
        error = ended(thread) => {
            tracing::error!(error = %format!("{error:#}"), "the engine ends; a supervisor may start it again");
            Ok(ExitCode::from(STOPPED))
        }
    }
}

/// Why learning has ended by itself.
async fn ended(thread: std::thread::JoinHandle<anyhow::Result<()>>) -> anyhow::Error {
    while !thread.is_finished() {
        tokio::time::sleep(WAIT).await;
    }
    match thread.join() {
        Ok(Ok(())) => anyhow::anyhow!("learning has ended"),
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("the engine's feeder has died"),
    }
}
