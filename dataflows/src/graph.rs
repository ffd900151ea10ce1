//! The dataflow: from the log's ticks to rows, windowed features and the next model.
//!
//! ```text
//!                     ┌─ rows ──────────────────────────────────────────┐
//! ticks ─► Sessions ──┼─ sums (differences) ────────────────────────────┼─► Publish ─► TickOutput, Model
//!                     ├─ cells ───► count ─► dense ─► iterate ──────────┤
//!          (partition)└─ measures ► Windows ► count (differential) ─────┘   (worker 0)
//! ```
//!
//! Partition p is handled on worker p mod workers. A tick is opened when the model of the tick before is live, so that
//! every worker scores with the same model and the result does not depend on their number. Workers of other processes
//! score with a copy of it, which is live there before the tick is over (`copies`).
//! Invariant: a tick's output is a function of the ticks up to it, for any number of workers.

mod aggregate;
mod clusters;
mod copies;
mod dedupe;
mod panes;
mod post;
mod publish;
mod resume;
mod sessions;
mod sketch;
mod sum;
mod windowed;
mod windows;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection as _;
use timely::dataflow::operators::Probe;
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::log::CommittedTick;

pub use aggregate::Aggregate;
pub use clusters::cell_components;
pub use post::dealt;
pub use publish::TickOutput;
pub use resume::Start;
pub(crate) use resume::{merged_panes, model_of};
pub use sketch::Sketch;
pub use sum::Sum;
pub use windowed::Windowed;
pub use windows::{Entity, EntityKey, LiveFeatures, Window, WindowKey, WindowSettings};

use crate::clusters::ClusterSettings;
use crate::image::{Draft, Section};
use crate::model::{ModelSlot, Publisher};
use crate::sessions::Settings;
use resume::{Imaging, Kept};

/// What a worker's graph is told once.
#[derive(Clone, Debug)]
pub struct GraphSettings {
    pub partitions: u32,
    pub sessions: Settings,
    pub windows: WindowSettings,
    pub clusters: ClusterSettings,
}

/// One worker's end of the dataflow: ticks go in, and on worker 0 outputs come out.
pub struct Graph {
    input: InputHandle<u64, timely::container::CapacityContainerBuilder<Vec<Arc<CommittedTick>>>>,
    probe: ProbeHandle<u64>,
    outputs: Rc<RefCell<VecDeque<TickOutput>>>,
    kept: Kept,
    /// Where there are several processes.
    post: Option<post::Post>,
    gathered: Option<(Tick, Micros, Draft)>,
    /// An image under way, and, where there are several processes, who is to have it.
    imaging: Option<Imaging>,
    asked: Option<(Tick, Micros)>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

impl Graph {
    /// Builds the dataflow on this worker, to begin with the first tick or to go on after an image's; all workers are in
    /// this process. Worker 0 brings the right to publish.
    pub fn build(
        worker: &mut Worker,
        settings: &GraphSettings,
        slot: &ModelSlot,
        publisher: Option<Publisher>,
        start: Option<Start>,
    ) -> Self {
        let threads = worker.peers();
        Self::build_among(worker, settings, slot, publisher, start, threads)
    }

    /// As [`Self::build`], with `threads` workers in each of several processes. The first worker of each brings the right
    /// to publish there.
    pub fn build_among(
        worker: &mut Worker,
        settings: &GraphSettings,
        slot: &ModelSlot,
        publisher: Option<Publisher>,
        mut start: Option<Start>,
        threads: usize,
    ) -> Self {
        let (index, peers) = (worker.index(), worker.peers());
        let resumed = start.as_ref().map(|start| (start.tick, start.watermark));
        let (publisher, mut copy) = if index == 0 { (publisher, None) } else { (None, publisher) };
        start.iter_mut().for_each(|start| start.live_in(&mut copy));
        let (kept, seeds) = resume::begin(settings, publisher, start, index, peers);
        if let Some(published) = &kept.published {
            published.borrow_mut().copied_to(copies::places(peers, threads));
        }
        let (mut panes_seed, mut cells_seed) = (InputHandle::new(), InputHandle::new());
        let mut input = InputHandle::new();
        let probe = ProbeHandle::new();
        let outputs = Rc::new(RefCell::new(VecDeque::new()));
        worker.dataflow_named("Undercurrent", |scope| {
            let ticks = input.to_stream(scope);
            let Kept { partitions, combiner, published } = kept.clone();
            let earlier_panes = panes_seed.to_stream(scope).as_collection();
            let sessions = sessions::sessions(ticks, partitions, slot.clone());
            let earlier_cells = cells_seed.to_stream(scope).as_collection();
            let cells = sessions.cells.as_collection().concat(earlier_cells).inner;
            let cells = cell_components(cells, settings.clusters);
            let (opened, panes) = panes::pane_features(sessions.measures, combiner, earlier_panes);
            let learned = publish::Learned { rows: sessions.rows, sums: sessions.sums, opened, panes, cells };
            let resumed = resumed.map(|(tick, _)| tick);
            let changes = publish::published(learned, published, resumed, Rc::clone(&outputs));
            copies::copied(changes, copy).probe_with(&probe);
        });
        let post = (threads < peers).then(|| post::Post::open(worker));
        let mut graph = Self { input, probe, outputs, kept, post, gathered: None, imaging: None, asked: None };
        if let Some((at, watermark)) = resumed {
            let tick = at.0;
            cells_seed.advance_to(tick);
            seeds.cells.into_iter().for_each(|(cell, total)| cells_seed.send((cell, tick, total)));
            panes_seed.advance_to(tick);
            seeds.panes.into_iter().for_each(|(pane, sum)| panes_seed.send((pane, tick, sum)));
            drop((panes_seed, cells_seed));
            graph.input.advance_to(tick + 1);
            worker.step_or_park_while(None, || graph.probe.less_than(&(tick + 1)));
            if let Some(published) = &graph.kept.published {
                let output = published.borrow().resumed_output(at, watermark);
                graph.outputs.borrow_mut().push_back(output);
            }
        }
        graph
    }

    /// Takes one tick through; returns when its results are live everywhere. Every worker must be given every tick.
    pub fn step(&mut self, worker: &mut Worker, tick: &Arc<CommittedTick>) {
        let time = tick.tick.0;
        assert!(*self.input.time() <= time, "ticks only grow");
        self.input.advance_to(time);
        self.input.send(Arc::clone(tick));
        self.input.advance_to(time + 1);
        let Some(post) = &mut self.post else {
            return worker.step_or_park_while(None, || self.probe.less_than(&(time + 1)));
        };
        post.begin(tick.tick, tick.watermark);
        worker.step_or_park_while(None, || self.probe.less_than(&(time + 1)) || post.is_before(time + 1));
        let (asked, image) = post.take(tick.tick);
        if asked.is_some() {
            self.asked = asked;
            self.imaging = Some(self.kept.begin_image(worker.index() as u32));
        }
        self.gathered = image.or(self.gathered.take());
    }

    /// Asks the workers of all processes what they keep after the next tick: what they say is [`Self::gathered`] some ticks
    /// after it. On worker 0; where there is one process, [`Self::begin_image`] is enough.
    pub fn ask(&mut self) {
        self.post.iter_mut().for_each(post::Post::ask);
    }

    /// What was asked for, once it is there.
    pub const fn gathered(&mut self) -> Option<(Tick, Micros, Draft)> {
        self.gathered.take()
    }

    /// Begins an image of all that this worker keeps after the last tick that it took. Ticks may be taken before it is
    /// written: it is of this moment all the same.
    pub fn begin_image(&mut self, worker: &Worker) {
        self.imaging = Some(self.kept.begin_image(worker.index() as u32));
    }

    /// Writes about so many bytes more of the image under way; true once all is written, or where there is none. Where
    /// there are several processes, sends some of what is written to the first.
    pub fn go_on_with_image(&mut self, bytes: usize) -> bool {
        let is_written = self.imaging.is_none() || self.kept.go_on(bytes);
        if let Some(post) = &mut self.post {
            if is_written && let Some((imaging, at)) = self.imaging.take().zip(self.asked.take()) {
                post.post(at, self.kept.finish_image(imaging));
            }
            post.send();
        }
        is_written
    }

    /// Whether there is an image under way.
    #[must_use]
    pub const fn has_image(&self) -> bool {
        self.imaging.is_some()
    }

    /// This worker's part of the image under way, if there is one; whatever is not written yet is now.
    pub fn finish_image(&mut self) -> Option<Draft> {
        self.imaging.take().map(|imaging| self.kept.finish_image(imaging))
    }

    /// All that this worker keeps after the last tick that it took, at once.
    #[must_use]
    pub fn sections(&mut self, worker: &Worker) -> Vec<Section> {
        self.begin_image(worker);
        self.finish_image().unwrap_or_default().sections()
    }

    /// What the ticks gave so far, in their order; empty but on worker 0.
    pub fn take_outputs(&mut self) -> Vec<TickOutput> {
        self.outputs.borrow_mut().drain(..).collect()
    }
}
