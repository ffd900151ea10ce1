//! The engine: timely worker threads that take the log's ticks through the dataflow, one after the other.
//!
//! Upstream: a tail of the log. Downstream: the cache (the model, through its publisher) and whoever is given the
//! outputs (history, the hub). Not here: what the dataflow computes.
//! Invariant: ticks go in and come out in order, each once; a dead worker is seen by `feed`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use timely::WorkerConfig;
use tokio::sync::watch;
use undercurrent_dataflows::graph::{self, Graph, GraphSettings, TickOutput};
use undercurrent_dataflows::image::{Draft, Image};
use undercurrent_dataflows::model::{ModelSlot, Publisher};
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::log::CommittedTick;

/// Ticks that may wait for each worker: the log is the buffer, this only hides the hand-over.
const TICKS_WAITING: usize = 64;

/// For how long an image is drawn between two ticks, and how much of it between two looks at the clock: never less than a
/// shard.
const SLICE: Duration = Duration::from_millis(5);
const PIECE_BYTES: usize = 64 << 10;

/// Where the workers are.
#[derive(Clone, Debug)]
pub struct Workers {
    /// In each process.
    pub threads: usize,
    /// `None`: there is one process.
    pub cluster: Option<Cluster>,
}

impl From<usize> for Workers {
    fn from(threads: usize) -> Self {
        Self { threads, cluster: None }
    }
}

/// What the workers go on with.
#[derive(Debug, Default)]
pub enum Resume {
    /// They begin with the first tick; in a process that is not the first, or with what that one deals.
    #[default]
    Anew,
    /// One for each, all of them in this process.
    Dealt(Vec<graph::Start>),
    /// This process is the first of several and deals it to all.
    Among(Box<Image>),
}

impl From<Vec<graph::Start>> for Resume {
    fn from(starts: Vec<graph::Start>) -> Self {
        Self::Dealt(starts)
    }
}

/// Several processes that are one engine. What they say to each other is neither encrypted nor authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `HOST:PORT` of every process, the same list in each.
    pub hosts: Vec<String>,
    /// This one's place in the list.
    pub process: usize,
}

impl Workers {
    /// In all processes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads * self.cluster.as_ref().map_or(1, |cluster| cluster.hosts.len())
    }

    fn communication(&self) -> timely::CommunicationConfig {
        match &self.cluster {
            None => timely::CommunicationConfig::Process(self.threads),
            Some(Cluster { hosts, process }) => timely::CommunicationConfig::Cluster {
                threads: self.threads,
                process: *process,
                addresses: hosts.clone(),
                report: false,
                zerocopy: false,
            },
        }
    }
}

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

/// What a worker is told, in order.
#[derive(Clone)]
enum Order {
    Tick(Arc<CommittedTick>),
    /// Say what is kept after the last tick.
    Image(Arc<Collector>),
}

/// Brings an image together as the workers hand in their parts.
struct Collector {
    tick: Tick,
    watermark: Micros,
    parts: Mutex<Parts>,
    /// Is given the image, and for how long a worker did nothing else, at most; must not block.
    done: Box<dyn Fn(Drawn, Duration) + Send + Sync>,
}

#[derive(Default)]
struct Parts {
    missing: usize,
    draft: Draft,
    pause: Duration,
}

impl Collector {
    fn hand_in(&self, draft: Draft, pause: Duration) {
        let mut parts = self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        parts.draft.append(draft);
        parts.pause = parts.pause.max(pause);
        parts.missing -= 1;
        if parts.missing == 0 {
            let draft = std::mem::take(&mut parts.draft);
            (self.done)(Drawn { tick: self.tick, watermark: self.watermark, draft }, parts.pause);
        }
    }
}

/// An image that was drawn between ticks. To put it together takes as long as it is large, so whoever gets it does that.
#[derive(Debug)]
pub struct Drawn {
    tick: Tick,
    watermark: Micros,
    draft: Draft,
}

impl Drawn {
    /// The image.
    #[must_use]
    pub fn image(self) -> Image {
        self.draft.image(self.tick, self.watermark)
    }
}

/// What a worker has to do with an image under way.
#[derive(Default)]
struct Drawing {
    /// Who is given it.
    collector: Option<Arc<Collector>>,
    /// For how long it held up this worker at most.
    pause: Duration,
}

impl Drawing {
    /// Draws for about so long; hands in what is complete.
    fn go_on(&mut self, graph: &mut Graph, long: Duration) {
        let started = Instant::now();
        let mut is_drawn = graph.go_on_with_image(PIECE_BYTES);
        while !is_drawn && started.elapsed() < long {
            is_drawn = graph.go_on_with_image(PIECE_BYTES);
        }
        let draft = if is_drawn { graph.finish_image() } else { None };
        self.pause = self.pause.max(started.elapsed());
        if let Some(draft) = draft
            && let Some(collector) = self.collector.take()
        {
            collector.hand_in(draft, std::mem::take(&mut self.pause));
        }
    }
}

/// Running workers.
pub struct Engine {
    feeds: Vec<SyncSender<Order>>,
    learned: watch::Receiver<Option<Tick>>,
    workers: Option<timely::communication::WorkerGuards<()>>,
    is_cluster: bool,
    /// Told once what the workers of this process go on after.
    resumed: Mutex<Receiver<Option<Tick>>>,
    /// The last tick that was handed to the workers; 0 = none.
    fed: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("workers", &self.feeds.len()).finish_non_exhaustive()
    }
}

/// What each worker takes when it starts.
struct Start<F> {
    feeds: Vec<Option<Receiver<Order>>>,
    /// Where each goes on; empty for one that begins.
    starts: Vec<Option<graph::Start>>,
    /// What the first worker of several processes deals.
    image: Option<Image>,
    /// Worker 0's.
    publishing: Option<Publishing<F>>,
}

struct Publishing<F> {
    publisher: Publisher,
    on_output: F,
    learned: watch::Sender<Option<Tick>>,
    resumed: SyncSender<Option<Tick>>,
}

impl Engine {
    /// Starts the workers, where an image was dealt to them or at the first tick; in a cluster, once all processes are
    /// there. `publisher` writes the slot that the workers of this process score with.
    pub fn start(
        workers: impl Into<Workers>,
        settings: GraphSettings,
        slot: ModelSlot,
        publisher: Publisher,
        resume: impl Into<Resume>,
        on_output: impl OnOutput,
    ) -> Result<Self, EngineError> {
        let workers = workers.into();
        let (threads, is_cluster) = (workers.threads, workers.cluster.is_some());
        let (starts, image) = match resume.into() {
            Resume::Anew => (Vec::new(), None),
            Resume::Dealt(starts) => (starts, None),
            Resume::Among(image) => (Vec::new(), Some(*image)),
        };
        let mut starts: Vec<_> = starts.into_iter().map(Some).collect();
        starts.resize_with(threads, || None);
        let (feeds, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| sync_channel(TICKS_WAITING)).unzip();
        let (learned_tx, learned) = watch::channel(None);
        let (resumed_tx, resumed) = sync_channel(1);
        let receivers = receivers.into_iter().map(Some).collect();
        let publishing = Publishing { publisher, on_output, learned: learned_tx, resumed: resumed_tx };
        let start = Mutex::new(Start { feeds: receivers, starts, image, publishing: Some(publishing) });
        let config = timely::Config { communication: workers.communication(), worker: WorkerConfig::default() };
        let workers = timely::execute(config, move |worker| {
            let (feed, from, image, publishing) = {
                let mut start = start.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let index = worker.index() % threads;
                let feed = start.feeds[index].take().expect("each worker starts once");
                let from = start.starts[index].take();
                let (image, publishing) =
                    if index == 0 { (start.image.take(), start.publishing.take()) } else { (None, None) };
                (feed, from, image, publishing)
            };
            let from = if is_cluster {
                graph::dealt(worker, &settings, threads, image).expect("the first process has read the image it deals")
            } else {
                from
            };
            let (publisher, mut output) = match publishing {
                Some(Publishing { publisher, on_output, learned, resumed }) => {
                    // Mostly nobody asks.
                    let _ = resumed.send(from.as_ref().map(graph::Start::tick));
                    (Some(publisher), Some((on_output, learned)))
                }
                None => (None, None),
            };
            let mut drawing = Drawing::default();
            let mut graph = Graph::build_among(worker, &settings, &slot, publisher, from, threads);
            if let Some((on_output, learned)) = &mut output {
                // What an image holds is live before the first tick after it.
                for resumed in graph.take_outputs() {
                    let (tick, watermark) = (resumed.tick, resumed.watermark);
                    let nothing = CommittedTick { tick, watermark, batches: Vec::new() };
                    on_output(Arc::new(nothing), resumed, Duration::ZERO);
                    learned.send_replace(Some(tick));
                }
            }
            loop {
                let order = if graph.has_image() { feed.try_recv() } else { feed.recv().map_err(Into::into) };
                let started = Instant::now();
                let tick = match order {
                    Ok(Order::Tick(tick)) => tick,
                    Ok(Order::Image(collector)) if is_cluster => {
                        // Those of other processes are reached with the next tick.
                        if worker.index() == 0 {
                            graph.ask();
                            drawing.collector = Some(collector);
                        }
                        continue;
                    }
                    Ok(Order::Image(collector)) => {
                        // There is one at a time, but for the last.
                        drawing.go_on(&mut graph, Duration::MAX);
                        graph.begin_image(worker);
                        drawing = Drawing { collector: Some(collector), pause: started.elapsed() };
                        continue;
                    }
                    Err(TryRecvError::Empty) => {
                        drawing.go_on(&mut graph, SLICE);
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => break,
                };
                graph.step(worker, &tick);
                let took = started.elapsed();
                if let Some((on_output, learned)) = &mut output {
                    for output in graph.take_outputs() {
                        on_output(Arc::clone(&tick), output, took);
                    }
                    learned.send_replace(Some(tick.tick));
                }
                // Whoever waits for the tick's results need not wait for the slice.
                drawing.go_on(&mut graph, SLICE);
                if let Some((tick, watermark, draft)) = graph.gathered()
                    && let Some(collector) = drawing.collector.take()
                {
                    (collector.done)(Drawn { tick, watermark, draft }, std::mem::take(&mut drawing.pause));
                }
            }
            drawing.go_on(&mut graph, Duration::MAX);
        })
        .map_err(EngineError::Start)?;
        let resumed = Mutex::new(resumed);
        Ok(Self { feeds, learned, workers: Some(workers), is_cluster, resumed, fed: AtomicU64::new(0) })
    }

    /// Whether there are other processes, with which it ends.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// The tick after which the workers go on; waits until the first process has said so. It is told once.
    pub fn goes_on_after(&self) -> Result<Option<Tick>, EngineError> {
        let resumed = self.resumed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        resumed.recv().map_err(|_| EngineError::Dead)
    }

    /// Hands a tick to every worker; waits while they are behind.
    pub fn feed(&self, tick: &Arc<CommittedTick>) -> Result<(), EngineError> {
        self.fed.store(tick.tick.0, Ordering::Relaxed);
        self.tell(&Order::Tick(Arc::clone(tick)))
    }

    /// Asks every worker what it keeps after this tick, which was the last one fed, or, where there are several processes,
    /// after the next one. They write it between the ticks that follow, a slice at a time. `done` is told on a worker's
    /// thread, with the longest time for which a worker did nothing else, and must not block.
    pub fn image(
        &self,
        last: &CommittedTick,
        done: impl Fn(Drawn, Duration) + Send + Sync + 'static,
    ) -> Result<(), EngineError> {
        let parts = Mutex::new(Parts { missing: self.feeds.len(), ..Parts::default() });
        let (tick, watermark) = (last.tick, last.watermark);
        self.tell(&Order::Image(Arc::new(Collector { tick, watermark, parts, done: Box::new(done) })))
    }

    fn tell(&self, order: &Order) -> Result<(), EngineError> {
        self.feeds.iter().try_for_each(|feed| feed.send(order.clone()).map_err(|_| EngineError::Dead))
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
        let guards = self.workers.take().expect("stopped once");
        if self.is_cluster {
            // To close this process's inputs would be to say that nothing is missing. The others end with this process.
            match self.fed.load(Ordering::Relaxed) {
                0 => {}
                last => self.wait_for(Tick(last))?,
            }
            std::mem::forget((guards, std::mem::take(&mut self.feeds)));
            return Ok(());
        }
        self.feeds.clear();
        guards.join().into_iter().try_for_each(|result| result.map_err(|_| EngineError::Dead))
    }
}
