//! Stages 3 and 4: features by (entity, pane), as one differential count over an Abelian aggregate.
//!
//! A pane is the longest stretch of time that no window divides; every window is a sum of panes, so a call changes one
//! pane of each of its entities, and windows are added up where they are read. A local combiner hands differential one
//! `+sum` a tick and key now, and one `-sum` when the watermark makes the pane final: aggregates, never events. Until
//! then a late call changes the pane: the old values go, the new ones come.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use differential_dataflow::difference::{Abelian as _, Semigroup as _};
use differential_dataflow::operators::CountTotal as _;
use differential_dataflow::{AsCollection, VecCollection};
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::EntityKind;
use undercurrent_schemas::text::Text;

use super::aggregate::Aggregate;
use super::sessions::Measured;
use super::sum::Sum;
use super::windows::{Entity, EntityKey, WindowSettings};
use crate::image::{Run, put};
use crate::sessions::Measure;
use crate::shards::{Pieces, Shards, Written};

/// One entity in one pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct PaneKey {
    pub(super) start: Micros,
    pub(super) entity: EntityKey,
}

/// Which panes one worker opened in one tick.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) entities: Vec<(EntityKey, Entity)>,
    pub(super) too_late: u64,
}

/// The features of every pane that is not final yet, and the names of the entities whose panes opened.
pub(super) fn pane_features<'scope>(
    measures: StreamVec<'scope, u64, Measured>,
    combiner: Rc<RefCell<Combiner>>,
    earlier: VecCollection<'scope, u64, PaneKey, Sum>,
) -> (StreamVec<'scope, u64, Opened>, VecCollection<'scope, u64, (PaneKey, Sum)>) {
    let mut builder = OperatorBuilder::new("Panes".to_owned(), measures.scope());
    let mut input = builder.new_input(measures, Pipeline);
    let (opened, opened_stream) = builder.new_output();
    let (updates, updates_stream) = builder.new_output();
    let (mut opened, mut updates) = (OutputBuilder::from(opened), OutputBuilder::from(updates));
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let (mut opened, mut updates) = (opened.activate(), updates.activate());
            let mut combiner = combiner.borrow_mut();
            input.for_each_stamp(|capability, data| {
                let Some(tick) = capability.least().copied() else { return };
                for measured in data.flat_map(|batch: &mut Vec<Measured>| batch.drain(..)) {
                    let (news, changes) = combiner.tick(&measured);
                    if !news.entities.is_empty() || news.too_late > 0 {
                        opened.session(&capability).give(news);
                    }
                    let changes = changes.map(|(key, sum)| (key, tick, sum));
                    updates.session(&capability).give_iterator(changes);
                }
            });
        }
    });
    let updates = updates_stream.container::<Vec<(PaneKey, u64, Sum)>>().as_collection();
    let panes = updates.concat(earlier).count_total();
    (opened_stream, panes)
}

/// Sums of one tick by entity. Their order does not matter: differential sorts what it is given.
type Sums = HashMap<EntityKey, Sum, RandomState>;

/// Sums of a pane.
type Pane = Shards<EntityKey, Sum>;

impl Written<EntityKey> for Sum {
    fn write(&self, entity: &EntityKey, to: &mut Vec<u8>) {
        put(&(entity, self), to);
    }
}

/// Sums calls by (pane, entity) before differential sees them, and remembers what to take back when a pane is final.
pub(super) struct Combiner {
    pane_us: i64,
    lateness_us: i64,
    watermark: Micros,
    /// What this worker put into each pane that is not final.
    inserted: BTreeMap<Micros, Pane>,
    /// Of an image under way: panes that have gone since it began.
    gone: Vec<(Micros, Pieces<EntityKey>)>,
    /// The panes that there were then, in order.
    asked: Vec<Micros>,
}

impl Combiner {
    /// `watermark`: of the tick before the first.
    pub(super) fn new(settings: &WindowSettings, watermark: Micros) -> Self {
        let (pane_us, lateness_us) = (settings.pane_us(), settings.lateness_us);
        Self { pane_us, lateness_us, watermark, inserted: BTreeMap::new(), gone: Vec::new(), asked: Vec::new() }
    }

    /// The changes of one tick, and what they are the first of.
    fn tick(&mut self, measured: &Measured) -> (Opened, impl Iterator<Item = (PaneKey, Sum)>) {
        // By the watermark of the tick before, so that no pane is filled and withdrawn in one tick, unseen.
        let withdrawn = self.close();
        let mut news = Opened::default();
        let mut added: BTreeMap<Micros, Sums> = BTreeMap::new();
        for report in &measured.reported {
            let start = self.pane_of(report.ts);
            if self.is_final(start) {
                news.too_late += 1;
                continue;
            }
            let (known, sums) = (self.inserted.entry(start).or_default(), added.entry(start).or_default());
            let sum = sums.entry(report.entity).or_insert_with(|| {
                if !known.contains_key(&report.entity) {
                    let entity = Entity { tenant: (&report.tenant).into(), name: (&report.server).into() };
                    news.entities.push((report.entity, entity));
                }
                Sum::default()
            });
            sum.plus_equals(&Sum::of(Aggregate::of_report(report.sums)));
        }
        for call in &measured.measures {
            let start = self.pane_of(call.ts);
            if self.is_final(start) {
                news.too_late += 1;
                continue;
            }
            let one = Sum::of(Aggregate::of(call));
            let (known, sums) = (self.inserted.entry(start).or_default(), added.entry(start).or_default());
            for entity in call.entities {
                let sum = sums.entry(entity).or_insert_with(|| {
                    if !known.contains_key(&entity) {
                        news.entities.push((entity, name_of(entity, call)));
                    }
                    Sum::default()
                });
                sum.plus_equals(&one);
            }
        }
        for (start, sums) in &added {
            let inserted = self.inserted.entry(*start).or_default();
            for (entity, sum) in sums {
                inserted.get_or_insert_with(*entity, Sum::default).plus_equals(sum);
            }
        }
        self.watermark = self.watermark.max(measured.watermark);
        (news, flat(withdrawn).chain(flat(added)))
    }

    /// What there is between two ticks, in an order of its own.
    pub(super) fn panes(&self) -> Panes {
        // Settings are of the run, the watermark of the tick; what is under way is of an image.
        let Self { pane_us: _, lateness_us: _, watermark: _, inserted, gone: _, asked: _ } = self;
        let sorted = |sums: &Pane| {
            let mut sums: Vec<_> = sums.iter().map(|(entity, sum)| (*entity, sum.clone())).collect();
            sums.sort_unstable_by_key(|(entity, _)| *entity);
            sums
        };
        let inserted = inserted.iter().map(|(start, sums)| (*start, sorted(sums))).collect();
        Panes { inserted }
    }

    /// Begins an image of what there is now.
    pub(super) fn begin_image(&mut self) {
        self.asked = self.inserted.keys().copied().collect();
        self.inserted.values_mut().for_each(Shards::begin);
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(super) fn go_on(&mut self, bytes: &mut usize) -> bool {
        self.asked.iter().all(|start| self.inserted.get_mut(start).is_none_or(|pane| pane.go_on(bytes)))
    }

    /// What there was when the image began, in the form of [`Panes`].
    pub(super) fn finish_image(&mut self) -> Vec<Run> {
        let asked = std::mem::take(&mut self.asked);
        let mut gone: BTreeMap<_, _> = std::mem::take(&mut self.gone).into_iter().collect();
        let mut runs = vec![Run::of(&(asked.len() as u64))];
        for start in asked {
            let left = self.inserted.get_mut(&start).map(Shards::finish);
            let pieces = gone.remove(&start).or(left).unwrap_or_default();
            runs.extend([Run::of(&start), Run::sorted(pieces)]);
        }
        runs
    }

    /// Takes over what another worker, or another life of this one, has put into panes.
    pub(super) fn take_over(&mut self, panes: Panes) {
        for (start, sums) in panes.inserted {
            let known = self.inserted.entry(start).or_default();
            for (entity, sum) in sums {
                known.get_or_insert_with(entity, Sum::default).plus_equals(&sum);
            }
        }
    }

    fn pane_of(&self, ts: Micros) -> Micros {
        Micros(ts.0.div_euclid(self.pane_us) * self.pane_us)
    }

    fn is_final(&self, start: Micros) -> bool {
        start.plus(self.pane_us + self.lateness_us) < self.watermark
    }

    /// Withdraws the panes that are final.
    fn close(&mut self) -> BTreeMap<Micros, Sums> {
        let mut withdrawn = BTreeMap::new();
        while let Some(first) = self.inserted.first_entry() {
            let start = *first.key();
            if start.plus(self.pane_us + self.lateness_us) >= self.watermark {
                break;
            }
            let mut pane = first.remove();
            if self.asked.contains(&start) {
                self.gone.push((start, pane.finish()));
            }
            let mut sums: Sums = pane.into_entries().collect();
            sums.values_mut().for_each(Sum::negate);
            withdrawn.insert(start, sums);
        }
        withdrawn
    }
}

/// What a combiner keeps, as an image has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Panes {
    inserted: Vec<(Micros, Vec<(EntityKey, Sum)>)>,
}

impl Panes {
    /// What differential was given of it.
    pub(super) fn updates(&self) -> impl Iterator<Item = (PaneKey, Sum)> + '_ {
        self.inserted.iter().flat_map(|(start, sums)| {
            sums.iter().map(|(entity, sum)| (PaneKey { start: *start, entity: *entity }, sum.clone()))
        })
    }
}

fn flat(panes: BTreeMap<Micros, Sums>) -> impl Iterator<Item = (PaneKey, Sum)> {
    panes
        .into_iter()
        .flat_map(|(start, sums)| sums.into_iter().map(move |(entity, sum)| (PaneKey { start, entity }, sum)))
}

fn name_of(entity: EntityKey, call: &Measure) -> Entity {
    let name = match entity.kind {
        EntityKind::Server => Text::from(&call.server),
        EntityKind::Tool => format!("{}/{}", call.server, call.tool).into(),
        EntityKind::Principal => Text::from(&call.principal),
        EntityKind::Session => Text::from(&call.session_id),
    };
    Entity { tenant: Text::from(&call.tenant), name }
}
