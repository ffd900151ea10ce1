//! The owner of DATA: log, engine, history and hub of one process.
//!
//! Invariant: nobody sees a model of the recovery; the first that is shown holds all that the log held at the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle as TaskHandle;
use undercurrent_dataflows::graph::{GraphSettings, TickOutput};
use undercurrent_dataflows::model::{Follower, ModelSlot, Publisher};
use undercurrent_schemas::log::CommittedTick;

use super::background;
use super::keeper::Keeper;
use super::models::Feed;
use super::progress::Progress;
use super::recovery::{self, Resumed};
use super::settings;
use crate::cache::Cache;
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::engine::{Engine, EngineError};
use crate::history::{History, HistoryWriter, Retries, TickRows};
use crate::hub::{ModelFeed, OwnerLock, Server};
use crate::log::{EmbeddedLog, Tail};
use crate::pump::rows_of;
use crate::snapshot::Snapshots;
use crate::telemetry::{HistoryMetrics, Metrics};

/// Ticks whose rows may wait for the disk; then the engine waits, and the log keeps what comes.
const HISTORY_TICKS: usize = 256;

/// How long the engine's feeder sleeps at most before it looks whether it should stop.
const TAIL_WAIT: Duration = Duration::from_millis(200);

/// A running owner.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) log: Arc<EmbeddedLog>,
    pub(super) cache: Arc<Cache>,
    pub(super) progress: Arc<Progress>,
    pub(super) feed: Arc<Feed>,
    history: HistoryWriter,
    snapshots: Option<Snapshots>,
    feeder: JoinHandle<Result<(), FeedError>>,
    hub: TaskHandle<()>,
    stopping: Arc<AtomicBool>,
    /// Last of all to go.
    _lock: OwnerLock,
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Owner {
    /// Opens everything in DATA and begins to learn. Needs a tokio runtime.
    pub(super) fn start(lock: OwnerLock, data: &DataDir, config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let log = Arc::new(EmbeddedLog::open(&data.log_dir(), settings::log(config, metrics))?);
        let recovered = log.status().last_tick;
        let mut history = History::open(&data.history_dir(), settings::history(config))?;
        if let Some(store) = settings::history_store(config)? {
            history = history.mirrored(store);
        }
        let covered = history.covered();
        let history = background::started(|| HistoryWriter::spawn(history, HISTORY_TICKS, Retries::default()))?;

        let checkpoints = Checkpoints::open(&data.checkpoints_dir())?;
        let resumed = recovery::resume(&checkpoints, &log, covered, &graph(config), config.engine.workers)?;
        let (publisher, rebuilding) = Publisher::new();
        let (mut follower, live) = Follower::new();
        let feed = Arc::new(Feed::new(live.clone()));
        let cache = Arc::new(Cache::new(live));
        let progress = Arc::new(Progress::new(config.log.partitions, recovered, history.covered()));
        let (after, starts) = match resumed {
            Some(Resumed { tick, watermark, ends, starts }) => {
                progress.resumed(&CommittedTick { tick, watermark, batches: Vec::new() }, &ends);
                (Some(tick), starts)
            }
            None => (None, Vec::new()),
        };
        let engine = {
            let (cache, progress, feed) = (Arc::clone(&cache), Arc::clone(&progress), Arc::clone(&feed));
            let (queue, metrics) = (history.queue(), metrics.clone());
            let mut showing = recovered.is_none();
            let slot = rebuilding.clone();
            let on_output = move |tick: Arc<CommittedTick>, mut output: TickOutput, took: Duration| {
                metrics.engine.tick_duration.observe(took.as_secs_f64());
                metrics.engine.counted(&output.counters, output.open_sessions);
                metrics.engine.alerted(&output.alerts, output.open_alerts);
                if !showing && Some(output.tick) >= recovered {
                    showing = true;
                    follower.follow(&slot);
                    feed.replaced();
                } else if showing && !output.change.is_empty() {
                    follower.follow(&slot);
                    feed.changed(&output.change);
                    metrics.engine.model_published(output.change.version);
                }
                cache.update_features(std::mem::take(&mut output.live));
                progress.learned(&tick, &output);
                if Some(output.tick) > covered {
                    // A history that has stopped has said so; learning goes on.
                    let rows = rows_of(&tick, output);
                    metrics.history.handed(&rows_by_table(&rows));
                    let _ = queue.send(rows);
                }
            };
            background::started(|| {
                Engine::start(config.engine.workers, graph(config), rebuilding, publisher, starts, on_output)
            })?
        };
        let snapshots = config.snapshot_interval.map(|interval| {
            let (dir, cache) = (data.state_dir().join("snapshot"), Arc::clone(&cache));
            background::started(|| Snapshots::spawn(dir, cache, interval))
        });
        let snapshots = snapshots.transpose()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let feeder = {
            let (tail, stopping, progress) = (log.tail(after), Arc::clone(&stopping), Arc::clone(&progress));
            let settings = (config.engine.checkpoint_interval, config.log.retention);
            let keeper = Keeper::start(checkpoints, Arc::clone(&log), progress.coverage(), settings, metrics)?;
            std::thread::Builder::new()
                .name("feeder".to_owned())
                .spawn(move || feed_engine(engine, tail, keeper, &stopping, &progress))
                .context("start the engine's feeder")?
        };
        let members: Arc<dyn ModelFeed> = Arc::clone(&feed) as _;
        let hub = tokio::spawn(Server::bind(&lock, Arc::clone(&log), members)?.run());
        Ok(Self { log, cache, progress, feed, history, snapshots, feeder, hub, stopping, _lock: lock })
    }

    /// Where the live model is.
    pub(super) fn models(&self) -> &ModelSlot {
        self.cache.models()
    }

    /// Why learning has stopped, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        self.feeder.is_finished().then(|| "the engine has stopped; see the log".to_owned())
    }

    /// Rows that wait for the disk, and whether the disk refuses them.
    pub(super) fn history_state(&self) -> (usize, bool) {
        let queue = self.history.queue();
        (queue.depth(), queue.is_failing())
    }

    /// What became of files after they were written, as far as the counters do not say so yet.
    pub(super) fn count_history(&self, metrics: &HistoryMetrics) {
        let (kept, sent) = (self.history.kept(), self.history.sent());
        for (counter, total) in [
            (&metrics.merged, &kept.merged_files),
            (&metrics.expired, &kept.expired_files),
            (&metrics.keeping_errors, &kept.failures),
            (&metrics.store_files, &sent.files),
            (&metrics.store_bytes, &sent.bytes),
            (&metrics.store_errors, &sent.failures),
        ] {
            counter.inc_by(total.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
        metrics.replaced.set(kept.aside_files.load(Ordering::Relaxed) as i64);
        metrics.store_waiting.set(sent.waiting_bytes.load(Ordering::Relaxed) as i64);
    }

    /// Takes what was accepted to the log, the engine and the history, then lets DATA go. Blocks.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.hub.abort();
        let closed = self.log.close().context("close the log");
        self.stopping.store(true, Ordering::Release);
        let fed = self.feeder.join().map_err(|_| anyhow::anyhow!("the engine's feeder has died"))?;
        if let Some(snapshots) = self.snapshots {
            snapshots.finish();
        }
        let written = self.history.finish().context("finish the history");
        closed?;
        fed.context("finish learning")?;
        written
    }
}

fn rows_by_table(rows: &TickRows) -> [(&'static str, usize); 12] {
    [
        ("messages", rows.messages.len()),
        ("calls", rows.calls.len()),
        ("sessions", rows.sessions.len()),
        ("features", rows.features.len()),
        ("models", rows.models.len()),
        ("labels", rows.labels.len()),
        ("tools", rows.tools.len()),
        ("alerts", rows.alerts.len()),
        ("clusters", rows.clusters.len()),
        ("forecasts", rows.forecasts.len()),
        ("telemetry", rows.telemetry.len()),
        ("dead_letters", rows.dead_letters.len()),
    ]
}

pub(super) fn graph(config: &Config) -> GraphSettings {
    GraphSettings {
        partitions: config.log.partitions,
        sessions: settings::sessions(config),
        windows: settings::windows(config),
        clusters: settings::clusters(config),
    }
}

/// Brings every tick of the log to the engine, until the log has ended.
fn feed_engine(
    engine: Engine,
    mut tail: Tail,
    mut keeper: Keeper,
    stopping: &AtomicBool,
    progress: &Progress,
) -> Result<(), FeedError> {
    let mut last = None;
    let fed = loop {
        match tail.next(TAIL_WAIT) {
            Ok(Some(tick)) => {
                progress.fed(&tick);
                if let Err(dead) = engine.feed(&tick).and_then(|()| keeper.fed(&engine, &tick)) {
                    break Err(dead.into());
                }
                last = Some(tick);
            }
            Ok(None) if stopping.load(Ordering::Acquire) || tail.is_ended() => break Ok(()),
            Ok(None) => {}
            Err(error) => break Err(error.into()),
        }
    };
    if let Err(error) = &fed {
        tracing::error!(%error, "learning stops here; traffic goes on, and the log keeps what can be kept");
    }
    // What is learned at the end of this life is where the next one goes on.
    let kept = last.map_or(Ok(()), |last| keeper.last(&engine, &last));
    let stopped = engine.stop();
    keeper.finish();
    fed.and(kept.and(stopped).map_err(FeedError::from))
}
