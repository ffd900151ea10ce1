//! Windows: sums of panes, told to history when they are full and again when late calls change them.
//!
//! On worker 0 alone, where the collection's differences arrive. A window is full when the watermark passes its end,
//! and final when it has passed that by the lateness: nothing can change it then, and it is let go.

use std::collections::BTreeMap;
use std::sync::Arc;

use differential_dataflow::difference::{Abelian as _, Semigroup as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use undercurrent_schemas::ids::{Micros, stable_hash};
use undercurrent_schemas::rows::{EntityKind, FeatureRow, Source};
use undercurrent_schemas::text::Text;

use super::aggregate::Aggregate;
use super::panes::PaneKey;
use super::sum::Sum;
use crate::image::{Run, put};
use crate::sessions::Measure;
use crate::shards::{Shards, Written};

/// A kind of window: `size_us` long, one every `hop_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub size_us: i64,
    pub hop_us: i64,
}

/// Which windows there are, and how late a call may be known and still change one.
#[derive(Clone, Debug)]
pub struct WindowSettings {
    pub windows: Arc<[Window]>,
    /// Calls count by the time of their request: to lose none, this is their timeout and the lateness of messages.
    pub lateness_us: i64,
}

const SECOND: i64 = 1_000_000;

impl Default for WindowSettings {
    /// 10 s every 5 s, 1 min, 1 h; 330 s late.
    fn default() -> Self {
        let window = |size: i64, hop: i64| Window { size_us: size * SECOND, hop_us: hop * SECOND };
        Self { windows: Arc::new([window(10, 5), window(60, 60), window(3_600, 3_600)]), lateness_us: 330 * SECOND }
    }
}

impl WindowSettings {
    /// The longest stretch of time that divides every window and hop.
    pub(super) fn pane_us(&self) -> i64 {
        let gcd = |mut a: i64, mut b: i64| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let sizes = self.windows.iter().flat_map(|window| [window.size_us, window.hop_us]);
        sizes.reduce(gcd).unwrap_or(SECOND)
    }

    /// The windows that a time is in: start and size.
    pub(crate) fn of(&self, ts: Micros) -> impl Iterator<Item = (Micros, i64)> + '_ {
        self.windows.iter().flat_map(move |window| {
            let last = ts.0.div_euclid(window.hop_us) * window.hop_us;
            let starts = (0..window.size_us / window.hop_us).map(move |hops| Micros(last - hops * window.hop_us));
            starts.map(|start| (start, window.size_us))
        })
    }
}

/// Who or what features are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityKey {
    pub kind: EntityKind,
    /// Stable hash of tenant, kind and name.
    pub id: u64,
}

impl EntityKey {
    /// The key of an entity whose name has these parts.
    #[must_use]
    pub fn of(tenant: &str, kind: EntityKind, name: &[u8]) -> Self {
        Self { kind, id: stable_hash(&[tenant.as_bytes(), kind.as_str().as_bytes(), name]) }
    }
}

/// An entity in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entity {
    pub tenant: Text,
    pub name: Text,
}

/// One entity in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    pub start: Micros,
    pub size_us: i64,
    pub entity: EntityKey,
}

impl WindowKey {
    /// Event time at which the window is full.
    #[must_use]
    pub const fn end(&self) -> Micros {
        self.start.plus(self.size_us)
    }
}

/// What an entity does right now: its newest window of each size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveFeatures {
    pub entity: Arc<Entity>,
    pub windows: Vec<(WindowKey, Arc<Aggregate>)>,
}

/// What a tick's changes of panes did to windows.
#[derive(Debug, Default)]
pub(super) struct WindowChanges {
    pub(super) rows: Vec<FeatureRow>,
    pub(super) live: Vec<(EntityKey, Option<LiveFeatures>)>,
}

/// All windows that are not final.
#[derive(Deserialize)]
pub(super) struct Windows {
    /// Of this run: a checkpoint may be of another.
    #[serde(skip)]
    settings: WindowSettings,
    /// Only looked up: no order of it reaches a result.
    entities: Shards<EntityKey, EntityWindows>,
    /// Of the last tick.
    watermark: Micros,
    /// Whose windows are full at a time, or final: the windows themselves tell which.
    #[serde(skip)]
    due: BTreeMap<Micros, Vec<EntityKey>>,
}

struct EntityWindows {
    entity: Arc<Entity>,
    windows: Vec<OpenWindow>,
}

struct OpenWindow {
    start: Micros,
    size_us: i64,
    /// One for all windows that have the same: most entities do little, and their windows differ only in size.
    now: Sum,
    /// What history was told, once the window was full.
    told: Sum,
}

impl OpenWindow {
    fn is(&self, key: &WindowKey) -> bool {
        (self.start, self.size_us) == (key.start, key.size_us)
    }

    const fn end(&self) -> Micros {
        self.start.plus(self.size_us)
    }

    const fn key(&self, entity: EntityKey) -> WindowKey {
        WindowKey { start: self.start, size_us: self.size_us, entity }
    }
}

/// A window as an image has it: by the numbers of sums that stand before it, each once.
#[derive(Serialize, Deserialize)]
struct WrittenWindow {
    start: Micros,
    size_us: i64,
    now: usize,
    told: Option<usize>,
}

impl Serialize for EntityWindows {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut sums: Vec<&Sum> = Vec::new();
        let mut number = |sum| {
            sums.iter().position(|known| *known == sum).unwrap_or_else(|| {
                sums.push(sum);
                sums.len() - 1
            })
        };
        let mut written = Vec::with_capacity(self.windows.len());
        for OpenWindow { start, size_us, now, told } in &self.windows {
            let (now, told) = (number(now), told.get().map(|_| number(told)));
            written.push(WrittenWindow { start: *start, size_us: *size_us, now, told });
        }
        (&*self.entity, sums, written).serialize(to)
    }
}

impl<'de> Deserialize<'de> for EntityWindows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (entity, sums, written) = <(Entity, Vec<Sum>, Vec<WrittenWindow>)>::deserialize(from)?;
        let sum = |number: usize| sums.get(number).cloned().ok_or_else(|| D::Error::custom("a window of no sum"));
        let mut windows = Vec::with_capacity(written.len());
        for WrittenWindow { start, size_us, now, told } in written {
            windows.push(OpenWindow {
                start,
                size_us,
                now: sum(now)?,
                told: told.map_or_else(|| Ok(Sum::default()), sum)?,
            });
        }
        Ok(Self { entity: Arc::new(entity), windows })
    }
}

impl Written<EntityKey> for EntityWindows {
    fn write(&self, key: &EntityKey, to: &mut Vec<u8>) {
        put(&(key, self), to);
    }
}

impl Windows {
    /// What was read from an image, made to go on under these settings.
    pub(super) fn resumed(mut self, settings: WindowSettings) -> Self {
        self.settings = settings;
        let (mut due, lateness_us) = (Vec::new(), self.settings.lateness_us);
        for (entity, of_entity) in self.entities.iter() {
            let ends = of_entity.windows.iter().map(OpenWindow::end);
            due.extend(ends.map(|end| (if end < self.watermark { end.plus(lateness_us) } else { end }, *entity)));
        }
        due.into_iter().for_each(|(at, entity)| self.due.entry(at).or_default().push(entity));
        self
    }

    /// Begins an image of what there is now; the runs that follow the entities.
    pub(super) fn begin_image(&mut self) -> Run {
        let Self { settings: _, entities, watermark, due: _ } = self;
        entities.begin();
        Run::of(watermark)
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(super) fn go_on(&mut self, bytes: &mut usize) -> bool {
        self.entities.go_on(bytes)
    }

    /// The entities that there were when the image began. What came of [`Self::begin_image`] is next.
    pub(super) fn finish_image(&mut self) -> Run {
        Run::sorted(self.entities.finish())
    }

    /// The features that every entity has now.
    pub(super) fn all_live(&self) -> Vec<(EntityKey, Option<LiveFeatures>)> {
        let mut keys: Vec<_> = self.entities.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| Some((key, Some(self.live(key)?)))).collect()
    }

    pub(super) fn new(settings: WindowSettings) -> Self {
        Self { settings, entities: Shards::default(), watermark: Micros(i64::MIN), due: BTreeMap::new() }
    }

    /// The names of entities of which something opened.
    pub(super) fn name(&mut self, entities: Vec<(EntityKey, Entity)>) {
        for (key, entity) in entities {
            let windows = Vec::new();
            self.entities.get_or_insert_with(key, || EntityWindows { entity: Arc::new(entity), windows });
        }
    }

    /// Takes one tick's differences of the panes, then the calls of sessions that were forgotten, and then its watermark.
    pub(super) fn take(
        &mut self,
        panes: Vec<(PaneKey, Sum, isize)>,
        withdrawn: &[Measure],
        watermark: Micros,
    ) -> WindowChanges {
        let mut to_tell = Vec::new();
        let mut touched = Vec::with_capacity(panes.len());
        for (pane, delta) in deltas(panes) {
            touched.push(pane.entity);
            self.add(pane, &delta, watermark, &mut to_tell);
        }
        for call in withdrawn {
            touched.extend(self.withdraw(call, watermark, &mut to_tell));
        }
        let (mut finals, lateness_us) = (Vec::new(), self.settings.lateness_us);
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() < watermark) {
            let (at, mut due) = first.remove_entry();
            due.sort_unstable();
            due.dedup();
            for entity in due {
                let windows = self.entities.get(&entity).map_or(&[][..], |of_entity| &of_entity.windows);
                for window in windows {
                    let (key, is_final_at) = (window.key(entity), window.end().plus(lateness_us));
                    if window.end() == at {
                        to_tell.push(key);
                    }
                    if is_final_at == at {
                        finals.push(key);
                    } else if window.end() == at {
                        self.due.entry(is_final_at).or_default().push(entity);
                    }
                }
            }
        }
        self.watermark = self.watermark.max(watermark);
        let mut changes = WindowChanges { rows: self.tell(to_tell), live: Vec::new() };
        finals.sort_unstable();
        for key in finals {
            if self.let_go(&key) {
                changes.live.push((key.entity, None));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let left = touched.into_iter().filter(|entity| self.entities.contains_key(entity));
        changes.live.extend(left.map(|entity| (entity, self.live(entity))));
        changes
    }

    fn add(&mut self, pane: PaneKey, delta: &Sum, watermark: Micros, to_tell: &mut Vec<WindowKey>) {
        let Some(of_entity) = self.entities.get_mut(&pane.entity) else { return };
        let mut grown = Grown { delta, shared: Vec::new() };
        for (start, size_us) in self.settings.of(pane.start) {
            let key = WindowKey { start, size_us, entity: pane.entity };
            // The newest are last, and most calls are new.
            let at = of_entity.windows.iter().rposition(|window| window.is(&key)).unwrap_or_else(|| {
                self.due.entry(key.end()).or_default().push(pane.entity);
                of_entity.windows.push(OpenWindow { start, size_us, now: Sum::default(), told: Sum::default() });
                of_entity.windows.len() - 1
            });
            grown.grow(&mut of_entity.windows[at].now);
            if key.end() < watermark {
                to_tell.push(key);
            }
        }
    }

    /// Whether a call was in time for its windows when it was settled.
    pub(super) fn counted(&self, call: &Measure) -> bool {
        let pane_us = self.settings.pane_us();
        let pane_end = Micros((call.ts.0.div_euclid(pane_us) + 1) * pane_us);
        pane_end.plus(self.settings.lateness_us) >= call.settled_at
    }

    /// Whether the window of this size that ends first after this time is final.
    pub(super) fn is_final(&self, ts: Micros, size_us: i64) -> bool {
        let end = Micros((ts.0.div_euclid(size_us) + 1) * size_us);
        end.plus(self.settings.lateness_us) < self.watermark
    }

    /// Takes a call out of every window that is not final; whose windows those are. The panes keep it until they are
    /// final themselves: windows follow their changes alone.
    fn withdraw(&mut self, call: &Measure, watermark: Micros, to_tell: &mut Vec<WindowKey>) -> Vec<EntityKey> {
        let mut less = Sum::of(Aggregate::of(call));
        less.negate();
        let mut touched = Vec::new();
        for entity in call.entities {
            let mut grown = Grown { delta: &less, shared: Vec::new() };
            let Some(of_entity) = self.entities.get_mut(&entity) else { continue };
            for (start, size_us) in self.settings.of(call.ts) {
                let key = WindowKey { start, size_us, entity };
                let Some(window) = of_entity.windows.iter_mut().find(|window| window.is(&key)) else { continue };
                grown.grow(&mut window.now);
                touched.push(entity);
                if key.end() < watermark {
                    to_tell.push(key);
                }
            }
        }
        touched
    }

    /// Rows of what history does not know yet, in order of the windows.
    fn tell(&mut self, mut keys: Vec<WindowKey>) -> Vec<FeatureRow> {
        keys.sort_unstable();
        keys.dedup();
        let mut rows = Vec::new();
        for key in keys {
            let Some(of_entity) = self.entities.get_mut(&key.entity) else { continue };
            let Some(window) = of_entity.windows.iter_mut().find(|window| window.is(&key)) else { continue };
            // A window of which everything was withdrawn is as if it had never been.
            if window.told == window.now {
                continue;
            }
            let row = |of: &Arc<Aggregate>, diff| feature_row(&key, &of_entity.entity, of, diff);
            rows.extend(window.told.get().map(|old| row(old, -1)));
            rows.extend(window.now.get().map(|now| row(now, 1)));
            window.told = window.now.clone();
        }
        rows
    }

    /// `true` = it was the entity's last.
    fn let_go(&mut self, key: &WindowKey) -> bool {
        let Some(of_entity) = self.entities.get_mut(&key.entity) else { return false };
        of_entity.windows.retain(|window| !window.is(key));
        of_entity.windows.is_empty() && self.entities.remove(&key.entity).is_some()
    }

    fn live(&self, entity: EntityKey) -> Option<LiveFeatures> {
        let of_entity = self.entities.get(&entity)?;
        let windows = self.settings.windows.iter().filter_map(|kind| {
            let of_kind = of_entity.windows.iter().filter(|window| window.size_us == kind.size_us);
            let of_kind = of_kind.filter_map(|window| Some((window.key(entity), Arc::clone(window.now.get()?))));
            of_kind.max_by_key(|(window, _)| window.start)
        });
        let windows: Vec<_> = windows.collect();
        (!windows.is_empty()).then(|| LiveFeatures { entity: Arc::clone(&of_entity.entity), windows })
    }
}

/// Adds one delta to windows of an entity: to those that share a sum once.
struct Grown<'a> {
    delta: &'a Sum,
    /// Sums that were shared, before and after.
    shared: Vec<(Sum, Sum)>,
}

impl Grown<'_> {
    fn grow(&mut self, sum: &mut Sum) {
        if sum.is_alone() {
            return sum.plus_equals(self.delta);
        }
        let known = self.shared.iter().position(|(before, _)| before.is(sum));
        let known = known.unwrap_or_else(|| {
            let mut after = sum.clone();
            after.plus_equals(self.delta);
            self.shared.push((sum.clone(), after));
            self.shared.len() - 1
        });
        *sum = self.shared[known].1.clone();
    }
}

/// By how much each pane grew, in order; a pane that only left is final, which changes no window.
fn deltas(mut panes: Vec<(PaneKey, Sum, isize)>) -> Vec<(PaneKey, Sum)> {
    // Of each pane the old value goes before the new one comes.
    panes.sort_by_key(|(pane, _, diff)| (*pane, *diff));
    let mut deltas: Vec<(PaneKey, Sum)> = Vec::new();
    let mut old: Option<(PaneKey, Sum)> = None;
    for (pane, sum, diff) in panes {
        if diff < 0 {
            old = Some((pane, sum));
            continue;
        }
        let delta = match old.take().filter(|(of, _)| *of == pane) {
            Some((_, mut delta)) => {
                delta.negate();
                delta.plus_equals(&sum);
                delta
            }
            None => sum,
        };
        deltas.push((pane, delta));
    }
    deltas
}

fn feature_row(key: &WindowKey, entity: &Entity, sum: &Aggregate, diff: i64) -> FeatureRow {
    FeatureRow {
        source: Source::default(),
        diff,
        kind: key.entity.kind,
        tenant: entity.tenant.clone(),
        entity: entity.name.clone(),
        window_start: key.start,
        window_us: key.size_us,
        calls: sum.calls,
        errors: sum.errors,
        tool_errors: sum.tool_errors,
        // The third kind is a call without an answer.
        rpc_errors: sum.errors - sum.tool_errors - (sum.calls - sum.answered),
        new_hosts: sum.new_hosts,
        hosts: sum.hosts,
        new_tools: sum.new_tools,
        distinct_tools: sum.sketch.distinct_tools(),
        distinct_shapes: sum.sketch.distinct_shapes(),
        arguments: sum.arguments,
        text_arguments: sum.text_arguments,
        sourced_arguments: sum.sourced_arguments,
        shape_millibits: sum.shape_millibits,
        fresh_millibits: sum.fresh_millibits,
        argument_entropy_millibits: sum.argument_entropy_millibits,
        request_bytes: sum.request_bytes,
        response_bytes: sum.response_bytes,
        answered: sum.answered,
        latency_sum_us: sum.latency_sum_us,
        latency_p50_us: sum.sketch.quantile(0.5),
        latency_p95_us: sum.sketch.quantile(0.95),
        reported: sum.reported(),
    }
}
