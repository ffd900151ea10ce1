//! The dataflow: from the log's ticks to rows, windowed features and the next model.
//!
//! ```text
//!                     ┌─ rows ──────────────────────────────────────────┐
//! ticks ─► Sessions ──┼─ sums ────► count (differential, by Entry) ─────┼─► Publish ─► TickOutput, Model
//!                     ├─ cells ───► count ─► dense ─► iterate ──────────┤
//!          (partition)└─ measures ► Windows ► count (differential) ─────┘   (worker 0)
//! ```
//!
//! Partition p is handled on worker p mod workers. A tick is opened when the model of the tick before is live, so that
//! every worker scores with the same model and the result does not depend on their number.
//! Invariant: a tick's output is a function of the ticks up to it, for any number of workers.

mod aggregate;
mod clusters;
mod dedupe;
mod panes;
mod publish;
mod sessions;
mod sketch;
mod windows;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::operators::Probe;
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;
use undercurrent_schemas::log::CommittedTick;

pub use aggregate::Aggregate;
pub use clusters::cell_components;
pub use publish::TickOutput;
pub use sketch::Sketch;
pub use windows::{Entity, EntityKey, LiveFeatures, Window, WindowKey, WindowSettings};

use crate::clusters::ClusterSettings;
use crate::model::{ModelSlot, Publisher};
use crate::sessions::Settings;

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
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

impl Graph {
    /// Builds the dataflow on this worker. Worker 0 brings the right to publish.
    pub fn build(
        worker: &mut Worker,
        settings: &GraphSettings,
        slot: &ModelSlot,
        publisher: Option<Publisher>,
    ) -> Self {
        let mut input = InputHandle::new();
        let probe = ProbeHandle::new();
        let outputs = Rc::new(RefCell::new(VecDeque::new()));
        worker.dataflow_named("Undercurrent", |scope| {
            let ticks = input.to_stream(scope);
            let sessions = sessions::sessions(ticks, settings, slot.clone());
            let sums = sessions::model_sums(sessions.sums);
            let cells = cell_components(sessions.cells, settings.clusters);
            let (opened, panes) = panes::pane_features(sessions.measures, &settings.windows);
            let publisher = publisher.map(|publisher| publish::State::new(publisher, settings.windows.clone()));
            let outputs = Rc::clone(&outputs);
            publish::published(sessions.rows, sums, opened, panes, cells, publisher, outputs).probe_with(&probe);
        });
        Self { input, probe, outputs }
    }

    /// Takes one tick through; returns when its results are live everywhere. Every worker must be given every tick.
    pub fn step(&mut self, worker: &mut Worker, tick: &Arc<CommittedTick>) {
        let time = tick.tick.0;
        assert!(*self.input.time() <= time, "ticks only grow");
        self.input.advance_to(time);
        self.input.send(Arc::clone(tick));
        self.input.advance_to(time + 1);
        worker.step_or_park_while(None, || self.probe.less_than(&(time + 1)));
    }

    /// What the ticks gave so far, in their order; empty but on worker 0.
    pub fn take_outputs(&mut self) -> Vec<TickOutput> {
        self.outputs.borrow_mut().drain(..).collect()
    }
}
