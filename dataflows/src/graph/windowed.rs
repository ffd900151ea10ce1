//! The windows without what they are usually fed by: reports go in, windows come out as they are full.
//!
//! The same operators as in the whole dataflow, so that what they cost can be measured beside other engines
//! (`benches/windows.rs`).

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::input::Input as _;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::{Inspect as _, Probe as _};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::rows::FeatureRow;

use super::panes::{Combiner, Opened, PaneKey, pane_features};
use super::sessions::Measured;
use super::sum::Sum;
use super::windows::{WindowSettings, Windows};
use crate::reports::Reported;

/// Windows over reports, on one worker.
pub struct Windowed {
    input: InputHandle<u64, CapacityContainerBuilder<Vec<Measured>>>,
    probe: ProbeHandle<u64>,
    opened: Rc<RefCell<Vec<Opened>>>,
    panes: Rc<RefCell<Vec<(PaneKey, Sum, isize)>>>,
    windows: Windows,
}

impl std::fmt::Debug for Windowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Windowed").finish_non_exhaustive()
    }
}

impl Windowed {
    /// Builds them on a worker that has no others.
    pub fn build(worker: &mut Worker, settings: &WindowSettings) -> Self {
        let (mut input, probe) = (InputHandle::new(), ProbeHandle::new());
        let (opened, panes) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
        let combiner = Rc::new(RefCell::new(Combiner::new(settings, Micros(i64::MIN))));
        worker.dataflow_named("Windowed", |scope| {
            let nothing = scope.new_collection().1;
            let (openings, changes) = pane_features(input.to_stream(scope), combiner, nothing);
            let (to_opened, to_panes) = (Rc::clone(&opened), Rc::clone(&panes));
            openings.inspect(move |news: &Opened| to_opened.borrow_mut().push(news.clone())).probe_with(&probe);
            let changes = changes.inspect(move |((pane, sum), _, diff)| {
                to_panes.borrow_mut().push((*pane, sum.clone(), *diff));
            });
            changes.inner.probe_with(&probe);
        });
        Self { input, probe, opened, panes, windows: Windows::new(settings.clone()) }
    }

    /// Takes the reports of a tick, after which the watermark is at `watermark`; what windows became of it.
    pub fn step(
        &mut self,
        worker: &mut Worker,
        tick: Tick,
        watermark: Micros,
        reported: Vec<Reported>,
    ) -> Vec<FeatureRow> {
        self.input.advance_to(tick.0);
        self.input.send(Measured { watermark, measures: Vec::new(), reported });
        self.input.advance_to(tick.0 + 1);
        worker.step_or_park_while(None, || self.probe.less_than(&(tick.0 + 1)));
        self.opened.take().into_iter().for_each(|opened| self.windows.name(opened.entities));
        self.windows.take(self.panes.take(), &[], watermark).rows
    }
}
