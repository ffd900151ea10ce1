//! The engine: timely worker threads that take the log's ticks through the dataflow, one after the other.
//!
//! Upstream: a tail of the log. Downstream: the cache (the model, through its publisher) and whoever is given the
//! outputs (history, the hub). Not here: what the dataflow computes.
//! Invariant: ticks go in and come out in order, each once; a dead worker is seen by `feed`.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use timely::WorkerConfig;
use tokio::sync::watch;
use undercurrent_dataflows::graph::{Graph, GraphSettings, TickOutput};
use undercurrent_dataflows::model::{ModelSlot, Publisher};
use undercurrent_schemas::ids::Tick;
use undercurrent_schemas::log::CommittedTick;

use crate::background;

/// Ticks that may wait for each worker: the log is the buffer, this only hides the hand-over.
const TICKS_WAITING: usize = 64;

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("start the engine's workers: {0}")]
    Start(String),
    #[error("an engine worker has died; the log keeps everything, restart to rebuild from it")]
    Dead,
}

/// Is told of every tick's output and of the time that it took, on worker 0's thread; may block, which holds the engine
/// back and nothing else.
pub trait OnOutput: FnMut(Arc<CommittedTick>, TickOutput, Duration) + Send + 'static {}
impl<F: FnMut(Arc<CommittedTick>, TickOutput, Duration) + Send + 'static> OnOutput for F {}

/// Running workers.
pub struct Engine {
    feeds: Vec<SyncSender<Arc<CommittedTick>>>,
    learned: watch::Receiver<Option<Tick>>,
    workers: Option<timely::communication::WorkerGuards<()>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("workers", &self.feeds.len()).finish_non_exhaustive()
    }
}

/// What each worker takes when it starts.
struct Start<F> {
    feeds: Vec<Option<Receiver<Arc<CommittedTick>>>>,
    /// Worker 0's.
    publishing: Option<(Publisher, F, watch::Sender<Option<Tick>>)>,
}

impl Engine {
    /// Starts the workers. `publisher` writes the slot that all of them score with.
    pub fn start(
        workers: usize,
        settings: GraphSettings,
        slot: ModelSlot,
        publisher: Publisher,
        on_output: impl OnOutput,
    ) -> Result<Self, EngineError> {
        let (feeds, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(TICKS_WAITING)).unzip();
        let (learned_tx, learned) = watch::channel(None);
        let receivers = receivers.into_iter().map(Some).collect();
        let start = Mutex::new(Start { feeds: receivers, publishing: Some((publisher, on_output, learned_tx)) });
        let config = timely::Config {
            communication: timely::CommunicationConfig::Process(workers),
            worker: WorkerConfig::default(),
        };
        let workers = timely::execute(config, move |worker| {
            background::yield_to_the_relay();
            let (feed, publishing) = {
                let mut start = start.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let feed = start.feeds[worker.index()].take().expect("each worker starts once");
                (feed, if worker.index() == 0 { start.publishing.take() } else { None })
            };
            let (publisher, mut output) = match publishing {
                Some((publisher, on_output, learned)) => (Some(publisher), Some((on_output, learned))),
                None => (None, None),
            };
            let mut graph = Graph::build(worker, &settings, &slot, publisher);
            while let Ok(tick) = feed.recv() {
                let started = Instant::now();
                graph.step(worker, &tick);
                let took = started.elapsed();
                if let Some((on_output, learned)) = &mut output {
                    for output in graph.take_outputs() {
                        on_output(Arc::clone(&tick), output, took);
                    }
                    learned.send_replace(Some(tick.tick));
                }
            }
        })
        .map_err(EngineError::Start)?;
        Ok(Self { feeds, learned, workers: Some(workers) })
    }

    /// Hands a tick to every worker; waits while they are behind.
    pub fn feed(&self, tick: &Arc<CommittedTick>) -> Result<(), EngineError> {
        self.feeds.iter().try_for_each(|feed| feed.send(Arc::clone(tick)).map_err(|_| EngineError::Dead))
    }

    /// The last tick whose results are live and handed on.
    #[must_use]
    pub fn learned(&self) -> watch::Receiver<Option<Tick>> {
        self.learned.clone()
    }

    /// Waits until a tick that was fed is live and handed on.
    pub fn wait_for(&self, tick: Tick) -> Result<(), EngineError> {
        let mut learned = self.learned.clone();
        let wait = learned.wait_for(|learned| *learned >= Some(tick));
        futures_executor::block_on(wait).map(drop).map_err(|_| EngineError::Dead)
    }

    /// Takes what was fed to its end and stops.
    pub fn stop(mut self) -> Result<(), EngineError> {
        self.feeds.clear();
        let guards = self.workers.take().expect("stopped once");
        guards.join().into_iter().try_for_each(|result| result.map_err(|_| EngineError::Dead))
    }
}
