//! Models between an engine and its gateways on Kafka: the engine publishes what is live, a gateway follows, and keeps the
//! last one on its disk to start with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prost::Message as _;
use undercurrent_dataflows::model::{ModelChange, ModelSlot, Publisher};
use undercurrent_schemas::v1;

use super::models::{self, Feed};
use crate::log::{KafkaLogError, KafkaOptions, ModelReader, ModelWriter};
use crate::telemetry::EngineMetrics;

/// How often the whole model is sent, while it changes: what a gateway that starts has to read beside it stays small.
const WHOLE_EVERY: Duration = Duration::from_secs(300);
const WHOLE_EVERY_CHANGES: u32 = 10_000;
/// How long the last models may take to leave at a stop.
const FLUSH: Duration = Duration::from_secs(5);
/// How often a gateway's model goes to its disk, while it changes.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How long a reader sleeps at most before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(100);

/// Publishes for the engine; on worker 0's thread, so it waits for nothing but a question now and then.
#[derive(Debug)]
pub(super) struct Outlet {
    writer: ModelWriter,
    live: ModelSlot,
    /// The version that went out last.
    last: u64,
    changes: u32,
    whole_at: Option<Instant>,
}

impl Outlet {
    pub(super) fn open(options: &KafkaOptions, live: ModelSlot) -> Result<Self, KafkaLogError> {
        Ok(Self { writer: ModelWriter::open(options)?, live, last: 0, changes: 0, whole_at: None })
    }

    /// The live model is another now, whatever gateways have.
    pub(super) fn replaced(&mut self) {
        let whole = models::whole(&self.live);
        self.whole_at = Some(Instant::now());
        self.changes = 0;
        if whole.version == 0 {
            return;
        }
        self.last = whole.version;
        if let Err(error) = self.writer.whole(&whole) {
            tracing::warn!(error = &error as &dyn std::error::Error, "model not published; the next one is");
            self.whole_at = None;
        }
    }

    /// The live model is another now, by this change.
    pub(super) fn changed(&mut self, change: &ModelChange) {
        self.changes += 1;
        let recent = self.whole_at.is_some_and(|at| at.elapsed() < WHOLE_EVERY) && self.changes < WHOLE_EVERY_CHANGES;
        let update = v1::ModelUpdate { previous: self.last, ..models::to_wire(change, false) };
        match self.writer.change(&update) {
            Ok(true) => self.last = update.version,
            // Something before it got lost.
            Ok(false) => return self.replaced(),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "change of the model not published");
                return self.replaced();
            }
        }
        if !recent {
            self.replaced();
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.writer.flush(FLUSH);
    }
}

/// A gateway that follows.
#[derive(Debug)]
pub(super) struct Following {
    reader: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
}

impl Following {
    /// Makes the model on the disk live, then whatever comes.
    pub(super) fn start(
        options: &KafkaOptions,
        state_dir: &Path,
        mut publisher: Publisher,
        feed: Arc<Feed>,
        metrics: Arc<EngineMetrics>,
    ) -> anyhow::Result<Self> {
        let file = state_dir.join("model.bin");
        if let Some(kept) = read(&file) {
            tracing::info!(version = kept.version, "starting with the model that was live last");
            models::take(&mut publisher, kept);
            feed.replaced();
        }
        let reader = ModelReader::new(options, publisher.live().version().0);
        let stopping = Arc::new(AtomicBool::new(false));
        let follower = Follower { reader, publisher, feed, metrics, file, saved: Instant::now(), unsaved: false };
        let thread = {
            let stopping = Arc::clone(&stopping);
            let thread = std::thread::Builder::new().name("models".to_owned());
            thread.spawn(move || follower.run(&stopping)).context("start the thread that follows the model")?
        };
        Ok(Self { reader: thread, stopping })
    }

    /// Whether it has stopped by itself.
    pub(super) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.stopping.store(true, Ordering::Release);
        self.reader.join().map_err(|_| anyhow::anyhow!("the thread that follows the model has died"))
    }
}

struct Follower {
    reader: ModelReader,
    publisher: Publisher,
    feed: Arc<Feed>,
    metrics: Arc<EngineMetrics>,
    file: PathBuf,
    saved: Instant,
    unsaved: bool,
}

impl Follower {
    fn run(mut self, stopping: &AtomicBool) {
        while !stopping.load(Ordering::Acquire) {
            match self.reader.next(WAIT) {
                Ok(updates) => updates.into_iter().for_each(|update| self.take(update)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "models are followed no more; the last one stays live");
                    break;
                }
            }
            if self.unsaved && self.saved.elapsed() >= SAVE_EVERY {
                self.save();
            }
        }
        if self.unsaved {
            self.save();
        }
    }

    fn take(&mut self, update: v1::ModelUpdate) {
        models::take(&mut self.publisher, update.clone());
        self.metrics.model_published(self.publisher.live().version());
        self.feed.relayed(update);
        self.unsaved = true;
    }

    fn save(&mut self) {
        let whole = models::to_wire(&self.publisher.live().as_change(), true);
        if let Err(error) = write(&self.file, &whole.encode_to_vec()) {
            tracing::warn!(%error, file = %self.file.display(), "model not kept on the disk; it will be tried again");
        }
        (self.unsaved, self.saved) = (false, Instant::now());
    }
}

/// The model that was kept; a file that cannot be read is as none, since the topics have it all.
fn read(file: &Path) -> Option<v1::ModelUpdate> {
    let bytes = std::fs::read(file).ok()?;
    let whole = v1::ModelUpdate::decode(bytes.as_slice());
    whole.inspect_err(|error| tracing::warn!(%error, file = %file.display(), "the kept model is left")).ok()
}

/// Whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = file.with_extension("new");
    std::fs::write(&unfinished, bytes)?;
    std::fs::File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, file)
}
