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

use super::keeper::Keeper;
use super::model_topics::{Following, Outlet};
use super::models::Feed;
use super::progress::Progress;
use super::recovery::{self, Resumed};
use super::reports_topic::{ReportsTopic, Said};
use super::results::Results;
use super::settings;
use super::{background, node};
use crate::cache::Cache;
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::engine::{Engine, EngineError, Resume, Workers};
use crate::history::{History, HistoryWriter, Retries, TickRows};
use crate::hub::{ModelFeed, OwnerLock, Server};
use crate::log::{EmbeddedLog, KafkaLog, KafkaOptions, OwnerLog, ReportReader, Ticks};
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
    pub(super) log: Arc<dyn OwnerLog>,
    pub(super) cache: Arc<Cache>,
    pub(super) progress: Arc<Progress>,
    pub(super) feed: Arc<Feed>,
    learning: Learning,
    hub: TaskHandle<()>,
    /// Last of all to go.
    _lock: OwnerLock,
}

/// Who learns from the log.
#[derive(Debug)]
enum Learning {
    Here(Box<Here>),
    /// An engine; its models are followed.
    Elsewhere(Following),
}

/// What learning in this process runs.
#[derive(Debug)]
struct Here {
    history: HistoryWriter,
    snapshots: Option<Snapshots>,
    feeder: JoinHandle<Result<(), FeedError>>,
    reports: Option<ReportsTopic>,
    results: Option<Results>,
    stopping: Arc<AtomicBool>,
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
    pub(super) fn start(
        lock: OwnerLock,
        data: &DataDir,
        config: &Config,
        metrics: &Metrics,
        place: &node::Learning,
    ) -> anyhow::Result<Self> {
        let cluster = match place {
            node::Learning::Alone(cluster) => cluster.clone(),
            node::Learning::Here | node::Learning::Elsewhere => None,
        };
        let workers = Workers { threads: config.engine.workers, cluster };
        let log = open_log(data, config, metrics, *place == node::Learning::Here)?;
        let recovered = log.recovered();
        let mut history = History::open(&data.history_dir(), settings::history(config))?;
        if let Some(store) = settings::history_store(config)? {
            history = history.mirrored(store);
        }
        let covered = history.covered();
        let history = background::started(|| HistoryWriter::spawn(history, HISTORY_TICKS, Retries::default()))?;

        let mut checkpoints = Checkpoints::open(&data.checkpoints_dir())?;
        let resumed = recovery::resume(&mut checkpoints, &*log, covered, &graph(config), &workers)?;
        let (publisher, rebuilding) = Publisher::new();
        let (mut follower, live) = Follower::new();
        let feed = Arc::new(Feed::new(live.clone()));
        let kafka = config.log.kafka.as_ref().map(|kafka| settings::kafka(config, kafka, metrics));
        let mut outlet = kafka.as_ref().map(|options| Outlet::open(options, live.clone())).transpose()?;
        let results = kafka.as_ref().map(Results::start).transpose()?.flatten();
        let results_queue = results.as_ref().map(Results::queue);
        let cache = Arc::new(Cache::new(live));
        let progress = Arc::new(Progress::new(config.log.partitions, recovered.clone(), history.covered()));
        let (after, from) = match resumed {
            Some(Resumed { tick, watermark, ends, from }) => {
                tracing::info!(%tick, "learning goes on after a checkpoint");
                progress.resumed(&CommittedTick { tick, watermark, batches: Vec::new() }, &ends);
                (Some(tick), from)
            }
            None => (None, Resume::Anew),
        };
        let engine = {
            let (cache, progress, feed) = (Arc::clone(&cache), Arc::clone(&progress), Arc::clone(&feed));
            let (queue, metrics, results) = (history.queue(), metrics.clone(), results_queue.clone());
            let mut showing = recovered.is_reached(None);
            let slot = rebuilding.clone();
            let on_output = move |tick: Arc<CommittedTick>, mut output: TickOutput, took: Duration| {
                metrics.engine.tick_duration.observe(took.as_secs_f64());
                metrics.engine.counted(&output.counters, output.open_sessions);
                metrics.engine.alerted(&output.alerts, output.open_alerts);
                if !showing && recovered.is_reached(Some(output.tick)) {
                    showing = true;
                    follower.follow(&slot);
                    feed.replaced();
                    outlet.iter_mut().for_each(Outlet::replaced);
                } else if showing && !output.change.is_empty() {
                    follower.follow(&slot);
                    feed.changed(&output.change);
                    outlet.iter_mut().for_each(|outlet| outlet.changed(&output.change));
                    metrics.engine.model_published(output.change.version);
                }
                cache.update_features(std::mem::take(&mut output.live));
                progress.learned(&tick, &output);
                let is_covered = Some(output.tick) <= covered;
                if is_covered && results.is_none() {
                    return;
                }
                let rows = rows_of(&tick, output);
                // Of ticks after the checkpoint it is not known whether their results were sent.
                results.iter().for_each(|results| results.send(&rows));
                if !is_covered {
                    // A history that has stopped has said so; learning goes on.
                    metrics.history.handed(&rows_by_table(&rows));
                    let _ = queue.send(rows);
                }
            };
            background::started(|| Engine::start(workers, graph(config), rebuilding, publisher, from, on_output))?
        };
        let snapshots = config.snapshot_interval.map(|interval| {
            let (dir, cache) = (data.state_dir().join("snapshot"), Arc::clone(&cache));
            background::started(|| Snapshots::spawn(dir, cache, interval))
        });
        let snapshots = snapshots.transpose()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let feeder = {
            let (ticks, stopping, progress) = (log.ticks(after), Arc::clone(&stopping), Arc::clone(&progress));
            let settings = (config.engine.checkpoint_interval, settings::retention(config));
            let keeper =
                Keeper::start(checkpoints, Arc::clone(&log), progress.coverage(), results_queue, settings, metrics)?;
            std::thread::Builder::new()
                .name("feeder".to_owned())
                .spawn(move || feed_engine(engine, ticks, keeper, &stopping, &progress))
                .context("start the engine's feeder")?
        };
        let reports = kafka.as_ref().map(|options| {
            ReportsTopic::start(ReportReader::new(options), Arc::clone(&log), Said::of(config, data.digest_key()))
        });
        let reports = reports.transpose()?;
        let members: Arc<dyn ModelFeed> = Arc::clone(&feed) as _;
        let hub = tokio::spawn(Server::bind(&lock, Arc::clone(&log), members)?.run());
        let learning = Learning::Here(Box::new(Here { history, snapshots, feeder, reports, results, stopping }));
        Ok(Self { log, cache, progress, feed, learning, hub, _lock: lock })
    }

    /// Opens the log and follows the models of an engine elsewhere. Needs a tokio runtime.
    pub(super) fn follow(lock: OwnerLock, data: &DataDir, config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let kafka = config.log.kafka.as_ref().context("models of an engine elsewhere come over Kafka")?;
        let log = open_log(data, config, metrics, true)?;
        let (publisher, live) = Publisher::new();
        let feed = Arc::new(Feed::new(live.clone()));
        let cache = Arc::new(Cache::new(live));
        let covered = tokio::sync::watch::channel(None).1;
        let progress = Arc::new(Progress::new(config.log.partitions, log.recovered(), covered));
        let options = settings::kafka(config, kafka, metrics);
        let metrics = Arc::clone(&metrics.engine);
        let following = Following::start(&options, &data.state_dir(), publisher, Arc::clone(&feed), metrics)?;
        let members: Arc<dyn ModelFeed> = Arc::clone(&feed) as _;
        let hub = tokio::spawn(Server::bind(&lock, Arc::clone(&log), members)?.run());
        Ok(Self { log, cache, progress, feed, learning: Learning::Elsewhere(following), hub, _lock: lock })
    }

    /// Whether this process learns what becomes of labels.
    pub(super) const fn learns(&self) -> bool {
        matches!(self.learning, Learning::Here(_))
    }

    /// Where the live model is.
    pub(super) fn models(&self) -> &ModelSlot {
        self.cache.models()
    }

    /// Why learning has stopped, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.learning {
            Learning::Here(here) => here.feeder.is_finished().then(|| "the engine has stopped; see the log".to_owned()),
            Learning::Elsewhere(following) => {
                following.is_finished().then(|| "models are followed no more; see the log".to_owned())
            }
        }
    }

    /// Rows that wait for the disk, and whether the disk refuses them.
    pub(super) fn history_state(&self) -> (usize, bool) {
        match &self.learning {
            Learning::Here(here) => {
                let queue = here.history.queue();
                (queue.depth(), queue.is_failing())
            }
            Learning::Elsewhere(_) => (0, false),
        }
    }

    /// What became of files after they were written, as far as the counters do not say so yet.
    pub(super) fn count_history(&self, metrics: &HistoryMetrics) {
        let Learning::Here(here) = &self.learning else { return };
        let (kept, sent) = (here.history.kept(), here.history.sent());
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
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.hub.abort();
        if let Learning::Here(here) = &mut self.learning
            && let Some(reports) = here.reports.take()
        {
            reports.stop();
        }
        let closed = self.log.close().context("close the log");
        match self.learning {
            Learning::Here(here) => here.stop(closed),
            Learning::Elsewhere(following) => following.stop().and(closed),
        }
    }
}

impl Here {
    /// Brings what was fed to its end; `closed`: what became of the log.
    fn stop(self, closed: anyhow::Result<()>) -> anyhow::Result<()> {
        let Self { history, snapshots, feeder, reports: _, results, stopping } = self;
        stopping.store(true, Ordering::Release);
        results.iter().for_each(Results::hurry);
        let fed = feeder.join().map_err(|_| anyhow::anyhow!("the engine's feeder has died"))?;
        if let Some(results) = results {
            results.stop();
        }
        if let Some(snapshots) = snapshots {
            snapshots.finish();
        }
        let written = history.finish().context("finish the history");
        closed?;
        fed.context("finish learning")?;
        written
    }
}

/// The log that the settings ask for.
fn open_log(data: &DataDir, config: &Config, metrics: &Metrics, relays: bool) -> anyhow::Result<Arc<dyn OwnerLog>> {
    let Some(kafka) = &config.log.kafka else {
        return Ok(Arc::new(EmbeddedLog::open(&data.log_dir(), settings::log(config, metrics))?));
    };
    let options = KafkaOptions { heartbeats: relays, ..settings::kafka(config, kafka, metrics) };
    Ok(Arc::new(KafkaLog::open(&data.spill_dir(), options)?))
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
    mut ticks: Box<dyn Ticks>,
    mut keeper: Keeper,
    stopping: &AtomicBool,
    progress: &Progress,
) -> Result<(), FeedError> {
    let mut last = None;
    let fed = loop {
        match ticks.next(TAIL_WAIT) {
            Ok(Some(tick)) => {
                progress.fed(&tick);
                let kept = |()| keeper.fed(&engine, &tick);
                if let Err(dead) = engine.feed(&tick).and_then(kept) {
                    break Err(dead.into());
                }
                last = Some(tick);
            }
            Ok(None) if stopping.load(Ordering::Acquire) || ticks.is_ended() => break Ok(()),
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
