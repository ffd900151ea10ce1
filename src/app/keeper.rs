//! Writes checkpoints while the engine goes on, and lets go of what of the log nobody needs any more.
//!
//! The engine is only asked what it knows; packing, writing and cutting happen on a thread of their own.
//!
//! Invariant: nothing of the log is removed that the oldest usable checkpoint, and so the rebuilding of all that is
//! newer, needs, nor anything whose rows are not in the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::watch;
use undercurrent_dataflows::image::Image;
use undercurrent_schemas::ids::Tick;
use undercurrent_schemas::log::CommittedTick;

use super::background;
use super::results::ResultsQueue;
use crate::checkpoint::Checkpoints;
use crate::config::Retention;
use crate::engine::{Drawn, Engine, EngineError};
use crate::log::OwnerLog;
use crate::telemetry::Metrics;

/// The feeder's end.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None`: there are no more.
    images: SyncSender<Option<Drawn>>,
    /// An image is being made or written.
    busy: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    covered: watch::Receiver<Option<Tick>>,
    interval: Duration,
    asked_at: Instant,
    /// The tick of the newest image that was asked for or found.
    newest: Option<Tick>,
    metrics: Metrics,
}

impl Keeper {
    pub(super) fn start(
        checkpoints: Checkpoints,
        log: Arc<dyn OwnerLog>,
        covered: watch::Receiver<Option<Tick>>,
        results: Option<ResultsQueue>,
        (interval, retention): (Duration, Retention),
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let (images, waiting) = sync_channel(1);
        let (busy, newest) = (Arc::new(AtomicBool::new(false)), checkpoints.newest());
        let mut writer =
            Writer { checkpoints, log, results, covered: covered.clone(), retention, metrics: metrics.clone() };
        let thread = {
            let busy = Arc::clone(&busy);
            let spawn = || {
                std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || writer.run(&waiting, &busy))
            };
            background::started(spawn).context("start the thread that writes checkpoints")?
        };
        let (asked_at, metrics) = (Instant::now(), metrics.clone());
        Ok(Self { images, busy, thread, covered, interval, asked_at, newest, metrics })
    }

    /// A tick was fed: asks for an image if it is time. One that the history has not come to yet is waited for, so that
    /// there are never more than one of those.
    pub(super) fn fed(&mut self, engine: &Engine, tick: &CommittedTick) -> Result<(), EngineError> {
        let due = self.asked_at.elapsed() >= self.interval && self.newest <= *self.covered.borrow();
        if due && !self.busy.swap(true, Ordering::AcqRel) { self.ask(engine, tick) } else { Ok(()) }
    }

    /// The last tick of this life was fed. Of several processes an image comes with a later one, which there is not.
    pub(super) fn last(&mut self, engine: &Engine, tick: &CommittedTick) -> Result<(), EngineError> {
        if self.newest < Some(tick.tick) && !engine.is_cluster() { self.ask(engine, tick) } else { Ok(()) }
    }

    fn ask(&mut self, engine: &Engine, tick: &CommittedTick) -> Result<(), EngineError> {
        (self.asked_at, self.newest) = (Instant::now(), Some(tick.tick));
        let (images, metrics) = (self.images.clone(), Arc::clone(&self.metrics.engine));
        engine.image(tick, move |drawn, pause| {
            metrics.checkpoint_pause.observe(pause.as_secs_f64());
            // Only a last image meets another; then there is nothing left to hold up.
            let _ = images.send(Some(drawn));
        })
    }

    /// Writes what was asked for, and ends. The engine must have stopped.
    pub(super) fn finish(self) {
        // Whoever was asked in vain still holds an end: that alone would not tell.
        let _ = self.images.send(None);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes checkpoints has died; the next start goes on from an older one");
        }
    }
}

/// The thread's end.
struct Writer {
    checkpoints: Checkpoints,
    log: Arc<dyn OwnerLog>,
    results: Option<ResultsQueue>,
    covered: watch::Receiver<Option<Tick>>,
    retention: Retention,
    metrics: Metrics,
}

impl Writer {
    fn run(&mut self, waiting: &Receiver<Option<Drawn>>, busy: &AtomicBool) {
        // The start read one of them; the log is cut up to another.
        if let Err(error) = self.checkpoints.check() {
            tracing::error!(error = %format!("{error:#}"), "a damaged checkpoint was not set aside");
        }
        while let Ok(Some(drawn)) = waiting.recv() {
            if let Err(error) = self.keep(&drawn.image()) {
                self.metrics.engine.checkpoint_errors.inc();
                tracing::error!(error = %format!("{error:#}"), "checkpoint not written, or the log not cut; learning goes on");
            }
            busy.store(false, Ordering::Release);
        }
    }

    fn keep(&mut self, image: &Image) -> anyhow::Result<()> {
        // Who goes on from here does not send again what came before.
        let is_sent = self.results.as_ref().is_none_or(ResultsQueue::settle);
        anyhow::ensure!(is_sent, "results up to it are not on the brokers: see kafka.derived_topics");
        let started = Instant::now();
        let covered = *self.covered.borrow();
        let entry = self.checkpoints.write(image, covered)?;
        let metrics = &self.metrics.engine;
        metrics.checkpoint_duration.observe(started.elapsed().as_secs_f64());
        metrics.checkpoint_bytes.set(i64::try_from(entry.bytes).unwrap_or(i64::MAX));
        metrics.checkpoint_age.start();
        tracing::debug!(tick = %entry.tick, bytes = entry.bytes, "checkpoint written");
        let usable: Vec<_> = self.checkpoints.entries().iter().filter(|kept| Some(kept.tick) <= covered).collect();
        // One alone is no reserve.
        if let [oldest, _, ..] = usable[..]
            && let Some(first) = self.log.retain(&self.retention, oldest.tick)?
        {
            tracing::info!(first_tick = %first, "log cut: what is older is in checkpoints and in the history");
        }
        let gauge = |value: Option<u64>| i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
        self.metrics.log.bytes.set(gauge(self.log.bytes()?));
        self.metrics.log.first_tick.set(gauge(self.log.floor()?.map(|floor| floor.0)));
        Ok(())
    }
}
