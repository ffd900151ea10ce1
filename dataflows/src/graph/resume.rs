//! What outlives a tick, of all operators of one worker: how it becomes a part of an image, and how an image is dealt
//! over the workers that there are now.
//!
//! An operator that keeps anything keeps it in [`Kept`], and nowhere else. The differential collections are in no image:
//! they are fed again from what was put into them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use undercurrent_schemas::ids::{Micros, Partition, Tick};

use super::GraphSettings;
use super::panes::{Combiner, PaneKey, Panes};
use super::publish::{Begun, Published, State, Sums};
use super::sessions::PartitionState;
use super::sum::Sum;
use crate::clusters::Cell;
use crate::image::{Draft, Image, ImageError, Kind, Run, Section};
use crate::model::{Entry, ModelChange, Part, Publisher};

/// The state of one worker's operators.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) partitions: Rc<RefCell<Vec<PartitionState>>>,
    pub(super) combiner: Rc<RefCell<Combiner>>,
    /// On worker 0.
    pub(super) published: Option<Rc<RefCell<State>>>,
}

/// What differential is given before the first tick.
#[derive(Default)]
pub(super) struct Seeds {
    pub(super) cells: Vec<(Cell, isize)>,
    pub(super) panes: Vec<(PaneKey, Sum)>,
}

/// One worker's part of an image under way.
pub(super) struct Imaging {
    worker: u32,
    /// Of each partition, the runs that follow its sessions.
    partitions: Vec<Vec<Run>>,
    published: Option<Begun>,
}

impl Kept {
    /// Begins this worker's part of an image of what there is now.
    pub(super) fn begin_image(&self, worker: u32) -> Imaging {
        let Self { partitions, combiner, published } = self;
        combiner.borrow_mut().begin_image();
        Imaging {
            worker,
            partitions: partitions.borrow_mut().iter_mut().map(PartitionState::begin_image).collect(),
            published: published.as_ref().map(|state| state.borrow_mut().begin_image()),
        }
    }

    /// Writes about so many bytes more; true once all is written.
    pub(super) fn go_on(&self, mut bytes: usize) -> bool {
        let Self { partitions, combiner, published } = self;
        let bytes = &mut bytes;
        // First what changes with nearly every call.
        combiner.borrow_mut().go_on(bytes)
            && published.as_ref().is_none_or(|state| state.borrow_mut().go_on(bytes))
            && partitions.borrow_mut().iter_mut().all(|partition| partition.go_on(bytes))
    }

    /// What there was when the image began; whatever is not written yet is now.
    pub(super) fn finish_image(&self, imaging: Imaging) -> Draft {
        let Imaging { worker, partitions, published } = imaging;
        let mut draft = Draft::default();
        for (state, after) in self.partitions.borrow_mut().iter_mut().zip(partitions) {
            let runs = std::iter::once(state.finish_image()).chain(after).collect();
            draft.push(Kind::Partition, state.partition().0, runs);
        }
        draft.push(Kind::Panes, worker, self.combiner.borrow_mut().finish_image());
        if let Some((state, begun)) = self.published.as_ref().zip(published) {
            state.borrow_mut().finish_image(begun, &mut draft);
        }
        draft
    }
}

/// What one worker goes on with.
pub struct Start {
    pub(super) tick: Tick,
    pub(super) watermark: Micros,
    partitions: Vec<PartitionState>,
    panes: Vec<Panes>,
    /// Of worker 0, as the model is.
    published: Option<Box<Published>>,
    sums: Option<Sums>,
    /// The model, of a worker that keeps a copy of it.
    copy: Option<Sums>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("tick", &self.tick).finish_non_exhaustive()
    }
}

impl Start {
    /// The tick after which it goes on.
    #[must_use]
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// Deals an image over so many workers: one start for each, in their order.
    ///
    /// # Errors
    /// The image is not of this log, or of no form that this program knows.
    pub fn deal(image: &Image, settings: &GraphSettings, workers: usize) -> Result<Vec<Self>, ImageError> {
        let Image { tick, .. } = *image;
        let numbers: Vec<_> = image.of_kind(Kind::Partition).map(|section| section.number).collect();
        if numbers != (0..settings.partitions).collect::<Vec<_>>() {
            return Err(ImageError::Partitions { tick, found: numbers.len(), asked: settings.partitions });
        }
        let decoded = decoded(image, settings, |_| true)?;
        let mut starts: Vec<_> = (0..workers).map(|_| Self::empty(image)).collect();
        decoded.into_iter().for_each(|(section, part)| starts[place(section, workers)].put(part));
        starts.into_iter().enumerate().map(|(worker, start)| start.whole(image, worker)).collect()
    }

    /// One worker's; the image needs to have no sections but its own.
    fn share(image: &Image, settings: &GraphSettings, worker: usize, workers: usize) -> Result<Self, ImageError> {
        let mut start = Self::empty(image);
        let decoded = decoded(image, settings, |section| place(section, workers) == worker)?;
        decoded.into_iter().for_each(|(_, part)| start.put(part));
        start.whole(image, worker)
    }

    fn empty(image: &Image) -> Self {
        let Image { tick, watermark, sections: _ } = *image;
        Self { tick, watermark, partitions: vec![], panes: vec![], published: None, sums: None, copy: None }
    }

    fn put(&mut self, decoded: Decoded) {
        match decoded {
            Decoded::Partition(state) => self.partitions.push(*state),
            Decoded::Panes(panes) => self.panes.push(panes),
            Decoded::Published(published) => self.published = Some(published),
            Decoded::Model(sums) => self.sums = Some(sums),
        }
    }

    /// The first worker has what there is one of.
    fn whole(self, image: &Image, worker: usize) -> Result<Self, ImageError> {
        let missing = |kind| ImageError::Missing { tick: image.tick, kind };
        if worker == 0 {
            self.published.as_ref().ok_or_else(|| missing(Kind::Published))?;
            self.sums.as_ref().ok_or_else(|| missing(Kind::Model))?;
        }
        Ok(self)
    }

    /// As [`Self::share`], of what was dealt to this worker alone.
    pub(super) fn dealt(
        image: &Image,
        settings: &GraphSettings,
        worker: usize,
        workers: usize,
    ) -> Result<Self, ImageError> {
        let mut start = Self::share(image, settings, worker, workers)?;
        if worker > 0 && image.of_kind(Kind::Model).next().is_some() {
            start.copy = Some(image.only(Kind::Model)?);
        }
        Ok(start)
    }

    /// Makes the model live where this worker keeps a copy of it.
    pub(super) fn live_in(&mut self, copy: &mut Option<Publisher>) {
        if let Some((sums, copy)) = self.copy.take().zip(copy.as_mut()) {
            sums.restart(copy);
        }
    }
}

/// A section, taken apart.
enum Decoded {
    Partition(Box<PartitionState>),
    Panes(Panes),
    Published(Box<Published>),
    Model(Sums),
}

impl Decoded {
    fn of(image: &Image, section: &Section, settings: &GraphSettings) -> Result<Self, ImageError> {
        Ok(match section.kind {
            Kind::Partition => Self::Partition(Box::new(image.decode::<PartitionState>(section)?.resumed(settings))),
            Kind::Panes => Self::Panes(image.decode(section)?),
            Kind::Published => Self::Published(image.decode(section)?),
            Kind::Model => Self::Model(image.decode(section)?),
        })
    }
}

/// Some sections of an image, in its order. They take most of the time of a start, so all processors take them apart.
fn decoded<'a>(
    image: &'a Image,
    settings: &GraphSettings,
    which: impl Fn(&Section) -> bool,
) -> Result<Vec<(&'a Section, Decoded)>, ImageError> {
    let mut sections: Vec<_> = image.sections.iter().filter(|section| which(section)).enumerate().collect();
    // The longest first: nobody waits for who began it last.
    sections.sort_by_key(|(_, section)| std::cmp::Reverse(section.bytes.len()));
    let next = AtomicUsize::new(0);
    let some = || -> Result<_, ImageError> {
        let mut parts = Vec::new();
        while let Some((at, section)) = sections.get(next.fetch_add(1, Ordering::Relaxed)) {
            parts.push((*at, *section, Decoded::of(image, section, settings)?));
        }
        Ok(parts)
    };
    let others = std::thread::available_parallelism().map_or(0, |all| all.get() - 1).min(sections.len());
    let mut parts = std::thread::scope(|scope| -> Result<_, ImageError> {
        let others: Vec<_> = (0..others).map(|_| scope.spawn(some)).collect();
        let mut parts = some()?;
        for other in others {
            parts.append(&mut other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(parts)
    })?;
    parts.sort_unstable_by_key(|(at, ..)| *at);
    Ok(parts.into_iter().map(|(_, section, part)| (section, part)).collect())
}

/// The worker that goes on with a section. Whoever withdraws a sum of panes need not have put it in: all that counts is
/// that one does.
pub(super) const fn place(section: &Section, workers: usize) -> usize {
    match section.kind {
        Kind::Partition | Kind::Panes => section.number as usize % workers,
        Kind::Published | Kind::Model => 0,
    }
}

/// What a worker begins with, and what its differential collections are to be given before the first tick.
pub(super) fn begin(
    settings: &GraphSettings,
    publisher: Option<Publisher>,
    start: Option<Start>,
    worker: usize,
    workers: usize,
) -> (Kept, Seeds) {
    let watermark = start.as_ref().map_or(Micros(i64::MIN), |start| start.watermark);
    let mut combiner = Combiner::new(&settings.windows, watermark);
    let mut seeds = Seeds::default();
    let (partitions, published) = match start {
        None => {
            let mine = (0..settings.partitions).filter(|partition| *partition as usize % workers == worker);
            let published = publisher.map(|publisher| State::new(publisher, settings.windows.clone()));
            (mine.map(|partition| PartitionState::new(Partition(partition), settings)).collect(), published)
        }
        Some(Start { tick: _, watermark: _, partitions, panes, published, sums, copy: _ }) => {
            for panes in panes {
                seeds.panes.extend(panes.updates());
                combiner.take_over(panes);
            }
            let published = publisher.zip(published.zip(sums)).map(|(publisher, (published, sums))| {
                let cells = sums.totals.iter().filter(|(entry, _)| entry.part == Part::Cell);
                let cell =
                    |(entry, total): &(Entry, u64)| (Cell { scope: entry.scope, at: entry.key }, *total as isize);
                seeds.cells = cells.map(cell).collect();
                State::resumed(publisher, *published, sums, settings.windows.clone())
            });
            (partitions, published)
        }
    };
    let kept = Kept {
        partitions: Rc::new(RefCell::new(partitions)),
        combiner: Rc::new(RefCell::new(combiner)),
        published: published.map(|state| Rc::new(RefCell::new(state))),
    };
    (kept, seeds)
}

/// The model of an image.
pub(crate) fn model_of(image: &Image) -> Result<ModelChange, ImageError> {
    image.only::<Sums>(Kind::Model).map(Sums::into_change)
}

/// The panes of all workers as one would have written them.
pub(crate) fn merged_panes(image: &Image) -> Result<Section, ImageError> {
    let mut merged = Combiner::new(&super::WindowSettings::default(), image.watermark);
    for section in image.of_kind(Kind::Panes) {
        merged.take_over(image.decode(section)?);
    }
    Ok(Section::encode(Kind::Panes, 0, &merged.panes()))
}
