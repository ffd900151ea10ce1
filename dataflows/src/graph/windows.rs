//! Stages 3 and 4: windowed features, by (entity, window), as one differential count over an Abelian aggregate.
//!
//! A local combiner hands differential one `+sum` a tick and key now, and one `-sum` when the watermark closes the
//! window: aggregates, never events. Until then a late call changes the window: the old values go, the new ones come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use undercurrent_schemas::ids::{Micros, stable_hash};
use undercurrent_schemas::rows::EntityKind;

use super::sessions::Measured;
use super::sketch::Sketch;
use crate::sessions::Measure;

/// A kind of window: `size_us` long, one every `hop_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub size_us: i64,
    pub hop_us: i64,
}

/// Which windows there are, and how late a call may be and still change one.
#[derive(Clone, Debug)]
pub struct WindowSettings {
    pub windows: Arc<[Window]>,
    pub lateness_us: i64,
}

impl Default for WindowSettings {
    /// 10 s every 5 s, 1 min, 1 h; 30 s late.
    fn default() -> Self {
        const SECOND: i64 = 1_000_000;
        let window = |size: i64, hop: i64| Window { size_us: size * SECOND, hop_us: hop * SECOND };
        Self { windows: Arc::new([window(10, 5), window(60, 60), window(3_600, 3_600)]), lateness_us: 30 * SECOND }
    }
}

/// One entity in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    pub start: Micros,
    pub size_us: i64,
    pub kind: EntityKind,
    /// Stable hash of tenant and entity.
    pub entity: u64,
}

impl WindowKey {
    /// Event time at which the window is full.
    #[must_use]
    pub const fn end(&self) -> Micros {
        self.start.plus(self.size_us)
    }
}

/// What a window is about, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entity {
    pub tenant: String,
    pub name: String,
}

/// Features of one entity in one window: integer sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    pub calls: i64,
    pub errors: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    /// Calls with an answer.
    pub answered: i64,
    pub latency_sum_us: i64,
    pub latency_us: Sketch,
}

impl Aggregate {
    /// Of one call.
    #[must_use]
    pub fn of(call: &Measure) -> Self {
        Self {
            calls: 1,
            errors: i64::from(call.is_error),
            request_bytes: call.request_bytes as i64,
            response_bytes: call.response_bytes as i64,
            answered: i64::from(call.latency_us.is_some()),
            latency_sum_us: call.latency_us.unwrap_or(0),
            latency_us: call.latency_us.map(|us| Sketch::of(us as u64)).unwrap_or_default(),
        }
    }

    fn sums(&mut self) -> [&mut i64; 6] {
        [
            &mut self.calls,
            &mut self.errors,
            &mut self.request_bytes,
            &mut self.response_bytes,
            &mut self.answered,
            &mut self.latency_sum_us,
        ]
    }
}

impl IsZero for Aggregate {
    fn is_zero(&self) -> bool {
        self == &Self::default()
    }
}

impl Semigroup for Aggregate {
    fn plus_equals(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.answered += other.answered;
        self.latency_sum_us += other.latency_sum_us;
        self.latency_us.plus_equals(&other.latency_us);
    }
}

impl Monoid for Aggregate {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Aggregate {
    fn negate(&mut self) {
        for sum in self.sums() {
            *sum = -*sum;
        }
        self.latency_us.negate();
    }
}

/// The windows that a call at this time is in.
pub(crate) fn windows_of(settings: &WindowSettings, ts: Micros) -> impl Iterator<Item = (Micros, Window)> + '_ {
    settings.windows.iter().flat_map(move |window| {
        let last = ts.0.div_euclid(window.hop_us) * window.hop_us;
        let starts = (0..window.size_us / window.hop_us).map(move |hops| Micros(last - hops * window.hop_us));
        starts.map(move |start| (start, *window))
    })
}

/// The entities that a call belongs to.
pub(crate) fn entities_of(call: &Measure) -> [(EntityKind, u64, Arc<str>); 4] {
    let entity = |kind: EntityKind, name: Arc<str>| {
        (kind, stable_hash(&[call.tenant.as_bytes(), kind.as_str().as_bytes(), name.as_bytes()]), name)
    };
    [
        entity(EntityKind::Server, Arc::clone(&call.server)),
        entity(EntityKind::Tool, format!("{}/{}", call.server, call.tool).into()),
        entity(EntityKind::Principal, Arc::clone(&call.principal)),
        entity(EntityKind::Session, Arc::clone(&call.session_id)),
    ]
}

/// Which windows one worker opened in one tick.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) windows: Vec<(WindowKey, Entity)>,
    pub(super) too_late: u64,
}

/// The features of every window that is not final yet, and the names of the entities whose windows opened.
pub(super) fn window_features<'scope>(
    measures: StreamVec<'scope, u64, Measured>,
    settings: WindowSettings,
) -> (StreamVec<'scope, u64, Opened>, VecCollection<'scope, u64, (WindowKey, Aggregate)>) {
    let mut builder = OperatorBuilder::new("Windows".to_owned(), measures.scope());
    let mut input = builder.new_input(measures, Pipeline);
    let (opened, opened_stream) = builder.new_output();
    let (updates, updates_stream) = builder.new_output();
    let (mut opened, mut updates) = (OutputBuilder::from(opened), OutputBuilder::from(updates));
    let mut combiner = Combiner::new(settings);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let (mut opened, mut updates) = (opened.activate(), updates.activate());
            input.for_each_stamp(|capability, data| {
                let Some(tick) = capability.least().copied() else { return };
                for measured in data.flat_map(|batch: &mut Vec<Measured>| batch.drain(..)) {
                    let (news, changes) = combiner.tick(&measured);
                    if !news.windows.is_empty() || news.too_late > 0 {
                        opened.session(&capability).give(news);
                    }
                    let changes = changes.into_iter().map(|(key, sum)| (key, tick, sum));
                    updates.session(&capability).give_iterator(changes);
                }
            });
        }
    });
    let features = updates_stream.container::<Vec<(WindowKey, u64, Aggregate)>>().as_collection().count();
    (opened_stream, features)
}

/// Sums calls by (entity, window) before differential sees them, and remembers what to take back when a window closes.
struct Combiner {
    settings: WindowSettings,
    watermark: Micros,
    /// What this worker put into each open window.
    inserted: BTreeMap<WindowKey, Aggregate>,
    closing: BTreeSet<(Micros, WindowKey)>,
}

impl Combiner {
    fn new(settings: WindowSettings) -> Self {
        Self { settings, watermark: Micros(i64::MIN), inserted: BTreeMap::new(), closing: BTreeSet::new() }
    }

    fn tick(&mut self, measured: &Measured) -> (Opened, BTreeMap<WindowKey, Aggregate>) {
        let mut news = Opened::default();
        // By the watermark of the tick before, so that no window is filled and withdrawn in one tick, unseen.
        let mut changes = self.close();
        let settings = self.settings.clone();
        for call in &measured.measures {
            let one = Aggregate::of(call);
            let entities = entities_of(call);
            let mut counted = false;
            for (start, window) in windows_of(&settings, call.ts) {
                if start.plus(window.size_us + settings.lateness_us) < self.watermark {
                    continue;
                }
                counted = true;
                for (kind, entity, name) in &entities {
                    let key = WindowKey { start, size_us: window.size_us, kind: *kind, entity: *entity };
                    self.add(key, &call.tenant, name, &one, &mut news);
                    changes.entry(key).or_default().plus_equals(&one);
                }
            }
            news.too_late += u64::from(!counted);
        }
        self.watermark = self.watermark.max(measured.watermark);
        (news, changes)
    }

    fn add(&mut self, key: WindowKey, tenant: &str, name: &str, one: &Aggregate, news: &mut Opened) {
        let sum = self.inserted.entry(key).or_insert_with(|| {
            news.windows.push((key, Entity { tenant: tenant.to_owned(), name: name.to_owned() }));
            self.closing.insert((key.end().plus(self.settings.lateness_us), key));
            Aggregate::zero()
        });
        sum.plus_equals(one);
    }

    /// Withdraws the windows that are final.
    fn close(&mut self) -> BTreeMap<WindowKey, Aggregate> {
        let mut withdrawn = BTreeMap::new();
        while self.closing.first().is_some_and(|(at, _)| *at < self.watermark) {
            let Some((_, key)) = self.closing.pop_first() else { break };
            if let Some(mut sum) = self.inserted.remove(&key) {
                sum.negate();
                withdrawn.insert(key, sum);
            }
        }
        withdrawn
    }
}
