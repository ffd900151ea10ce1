//! Stage 9: a tick that the frontier has passed becomes one output and, where sums changed, the next live model.
//!
//! On worker 0 alone. The tick's capability is held until its model is live: whoever sees the probe pass a tick may
//! load that tick's model.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::consolidation::consolidate;
use serde::Deserialize;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use undercurrent_schemas::ids::{Micros, ModelVersion, Offset, Partition, Tick};
use undercurrent_schemas::rows::{
    AlertRow, CallRow, ClusterRow, DeadLetterRow, FeatureRow, ForecastRow, LabelOutcome, LabelRow, MessageRow,
    ModelRow, SessionRow, Source, TelemetryRow, ToolRow,
};

use super::copies::Copy;
use super::panes::{Opened, PaneKey};
use super::sessions::Rows;
use super::sum::Sum;
use super::windows::{EntityKey, LiveFeatures, WindowSettings, Windows};
use crate::alerts::Alerts;
use crate::behaviour::Behaviours;
use crate::catalogue::Catalogue;
use crate::clusters::{Cell, CellChanges, Clusters};
use crate::forecast::{Forecasts, MINUTE_US};
use crate::image::{Draft, Kind, Run};
use crate::model::{Entry, Model, ModelChange, Part, Publisher};
use crate::sessions::{Counters, FORGET};

/// Everything that one tick gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TickOutput {
    pub tick: Tick,
    pub watermark: Micros,
    /// The events of the tick, in the order of their records; `None` where workers of other processes read some.
    pub messages: Option<Vec<MessageRow>>,
    pub calls: Vec<CallRow>,
    pub sessions: Vec<SessionRow>,
    pub features: Vec<FeatureRow>,
    pub models: Vec<ModelRow>,
    pub labels: Vec<LabelRow>,
    pub tools: Vec<ToolRow>,
    pub alerts: Vec<AlertRow>,
    pub clusters: Vec<ClusterRow>,
    pub forecasts: Vec<ForecastRow>,
    /// Alerts that are open.
    pub open_alerts: usize,
    pub telemetry: Vec<TelemetryRow>,
    pub dead_letters: Vec<DeadLetterRow>,
    /// What the model of this tick changed; empty = the model before is still the live one.
    pub change: ModelChange,
    /// The entities whose features changed; `None` = all of its windows are final and gone.
    pub live: Vec<(EntityKey, Option<LiveFeatures>)>,
    /// Records whose event was there before.
    pub repeats: Vec<(Partition, Offset)>,
    pub counters: Counters,
    pub open_sessions: usize,
}

/// What has arrived of a tick.
struct Stash {
    /// Held until the tick's model is live.
    capability: Capability<u64>,
    rows: Vec<Rows>,
    opened: Vec<Opened>,
    sums: Vec<(Entry, isize)>,
    panes: Vec<(PaneKey, Sum, isize)>,
    cells: Vec<((Cell, Cell), isize)>,
}

impl Stash {
    fn new(capability: Capability<u64>) -> Self {
        Self { capability, rows: vec![], opened: vec![], sums: vec![], panes: vec![], cells: vec![] }
    }
}

/// Everything that workers give for a tick.
pub(super) struct Learned<'scope> {
    pub(super) rows: StreamVec<'scope, u64, Rows>,
    pub(super) sums: VecCollection<'scope, u64, Entry>,
    pub(super) opened: StreamVec<'scope, u64, Opened>,
    pub(super) panes: VecCollection<'scope, u64, (PaneKey, Sum)>,
    /// Dense cells and their components.
    pub(super) cells: VecCollection<'scope, u64, (Cell, Cell)>,
}

/// What each tick changed in the model, for the other processes; the frontier passes a tick when its results are live in
/// this one.
pub(super) fn published<'scope>(
    learned: Learned<'scope>,
    state: Option<Rc<RefCell<State>>>,
    resumed: Option<Tick>,
    outputs: Rc<RefCell<VecDeque<TickOutput>>>,
) -> StreamVec<'scope, u64, Copy> {
    let Learned { rows, sums, opened, panes, cells } = learned;
    let workers = rows.scope().peers();
    let mut builder = OperatorBuilder::new("Publish".to_owned(), rows.scope());
    let mut rows = builder.new_input(rows, Exchange::new(|_: &Rows| 0));
    let mut sums = builder.new_input(sums.inner, Exchange::new(|_: &(Entry, u64, isize)| 0));
    let mut opened = builder.new_input(opened, Exchange::new(|_: &Opened| 0));
    let mut panes = builder.new_input(panes.inner, Exchange::new(|_: &((PaneKey, Sum), u64, isize)| 0));
    let mut cells = builder.new_input(cells.inner, Exchange::new(|_: &((Cell, Cell), u64, isize)| 0));
    let (output, stream) = builder.new_output::<Vec<Copy>>();
    let mut output = OutputBuilder::<_, timely::container::CapacityContainerBuilder<Vec<Copy>>>::from(output);
    builder.build(move |_capabilities| {
        let mut stashes: BTreeMap<u64, Stash> = BTreeMap::new();
        move |frontiers| {
            let mut changes = output.activate();
            macro_rules! stash {
                ($input:ident, $take:expr) => {
                    $input.for_each_stamp(|capability, data| {
                        let Some(held) = capability.retain_least(0) else { return };
                        let stash = stashes.entry(*held.time()).or_insert_with(|| Stash::new(held));
                        data.for_each(|batch| batch.drain(..).for_each(|item| $take(&mut *stash, item)));
                    })
                };
            }
            stash!(rows, |stash: &mut Stash, rows| stash.rows.push(rows));
            stash!(opened, |stash: &mut Stash, opened| stash.opened.push(opened));
            stash!(sums, |stash: &mut Stash, (entry, _, diff): (_, u64, isize)| stash.sums.push((entry, diff)));
            stash!(panes, |stash: &mut Stash, ((key, sum), _, diff): (_, u64, isize)| stash
                .panes
                .push((key, sum, diff)));
            stash!(cells, |stash: &mut Stash, (cell, _, diff): (_, u64, isize)| stash.cells.push((cell, diff)));
            while let Some(first) = stashes.first_entry() {
                if frontiers.iter().any(|frontier| frontier.less_equal(first.key())) {
                    break;
                }
                let (tick, stash) = first.remove_entry();
                // What was fed from an image is known: it comes once more, as the totals of the image's own tick.
                let Some(state) = state.as_ref().filter(|_| resumed.is_none_or(|resumed| resumed.0 < tick)) else {
                    continue;
                };
                // A process that left closes its inputs: what it has not told must not look as if there were nothing.
                assert_eq!(stash.rows.len(), workers, "a worker left in the middle of tick {tick}");
                let mut state = state.borrow_mut();
                let capability = stash.capability.clone();
                let output = state.close(Tick(tick), stash);
                changes.session(&capability).give_iterator(Copy::of(&output.change, &state.copies));
                outputs.borrow_mut().push_back(output);
            }
        }
    });
    stream
}

/// What worker 0 keeps between ticks.
pub(super) struct State {
    publisher: Publisher,
    /// Names that come with the next model: alone they make none.
    names: BTreeMap<u64, String>,
    windows: Windows,
    catalogue: Catalogue,
    alerts: Alerts,
    clusters: Clusters,
    behaviours: Behaviours,
    forecasts: Forecasts,
    /// Of all ticks.
    totals: Counters,
    open_sessions: usize,
    /// The workers that have a copy of the model.
    copies: Vec<u64>,
}

/// Of [`State`], what an image has beside the model.
#[derive(Deserialize)]
pub(super) struct Published {
    names: BTreeMap<u64, String>,
    windows: Windows,
    catalogue: Catalogue,
    alerts: Alerts,
    totals: Counters,
    open_sessions: usize,
    clusters: Clusters,
    behaviours: Behaviours,
    forecasts: Forecasts,
}

/// The model as an image has it.
#[derive(Deserialize)]
pub(super) struct Sums {
    version: ModelVersion,
    /// Sorted by entry.
    pub(super) totals: Vec<(Entry, u64)>,
    /// Sorted by hash.
    names: Vec<(u64, Box<str>)>,
}

/// Of an image under way, what was written at once.
pub(super) struct Begun {
    before_windows: Run,
    after_entities: Run,
    after_windows: Run,
    version: Run,
    names: Run,
}

impl Sums {
    /// Makes the model live; none is where none was.
    pub(super) fn restart(self, publisher: &mut Publisher) {
        let whole = self.into_change();
        if whole.version > ModelVersion::default() {
            publisher.restart(whole);
        }
    }

    pub(super) fn into_change(self) -> ModelChange {
        let Self { version, totals, names } = self;
        ModelChange { version, totals, names: names.into_iter().map(|(hash, name)| (hash, name.into())).collect() }
    }
}

impl State {
    pub(super) fn new(publisher: Publisher, windows: WindowSettings) -> Self {
        Self {
            publisher,
            copies: Vec::new(),
            names: BTreeMap::new(),
            windows: Windows::new(windows),
            catalogue: Catalogue::default(),
            alerts: Alerts::default(),
            clusters: Clusters::default(),
            behaviours: Behaviours::default(),
            forecasts: Forecasts::default(),
            totals: Counters::default(),
            open_sessions: 0,
        }
    }

    /// What an image has, under these settings; its model is live at once.
    pub(super) fn resumed(
        mut publisher: Publisher,
        published: Published,
        sums: Sums,
        settings: WindowSettings,
    ) -> Self {
        sums.restart(&mut publisher);
        let Published { names, windows, catalogue, alerts, totals, open_sessions, clusters, behaviours, forecasts } =
            published;
        Self {
            publisher,
            names,
            windows: windows.resumed(settings),
            catalogue,
            alerts,
            totals,
            open_sessions,
            clusters,
            behaviours,
            forecasts,
            copies: Vec::new(),
        }
    }

    /// The workers that have a copy of the model.
    pub(super) fn copied_to(&mut self, copies: Vec<u64>) {
        self.copies = copies;
    }

    /// As if the tick of the image had just been closed: what is live, and what was counted so far.
    pub(super) fn resumed_output(&self, tick: Tick, watermark: Micros) -> TickOutput {
        let (live, counters, open_sessions) = (self.windows.all_live(), self.totals, self.open_sessions);
        let open_alerts = self.alerts.open();
        TickOutput { tick, watermark, live, counters, open_sessions, open_alerts, ..TickOutput::default() }
    }

    /// Begins an image of what there is between two ticks; what is small is written at once.
    pub(super) fn begin_image(&mut self) -> Begun {
        let Self { publisher, names, windows, catalogue, alerts, totals, open_sessions, clusters, .. } = self;
        let (behaviours, forecasts) = (&self.behaviours, &self.forecasts);
        publisher.begin_image();
        let (model, known) = (publisher.live(), publisher.live().names());
        let of_model: Vec<_> = known.iter().map(|(hash, name)| (*hash, &**name)).collect();
        // In the order of `Published` and of `Sums`.
        Begun {
            before_windows: Run::of(names),
            after_entities: windows.begin_image(),
            after_windows: Run::of(&(catalogue, alerts, totals, open_sessions, clusters, behaviours, forecasts)),
            version: Run::of(&model.version()),
            names: Run::of(&of_model),
        }
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(super) fn go_on(&mut self, bytes: &mut usize) -> bool {
        self.windows.go_on(bytes) && self.publisher.go_on(bytes)
    }

    /// What there was when the image began.
    pub(super) fn finish_image(&mut self, begun: Begun, draft: &mut Draft) {
        let Begun { before_windows, after_entities, after_windows, version, names } = begun;
        let published = vec![before_windows, self.windows.finish_image(), after_entities, after_windows];
        draft.push(Kind::Published, 0, published);
        draft.push(Kind::Model, 0, vec![version, Run::sorted(self.publisher.finish_image()), names]);
    }

    fn close(&mut self, tick: Tick, stash: Stash) -> TickOutput {
        let mut output = TickOutput { tick, ..TickOutput::default() };
        let mut names = BTreeMap::new();
        let (mut met, mut signals, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new());
        let mut messages = Vec::new();
        for mut rows in stash.rows {
            output.watermark = output.watermark.max(rows.watermark);
            // The first one's are taken as they are: mostly there is one worker.
            if messages.is_empty() {
                messages = rows.messages;
            } else {
                messages.append(&mut rows.messages);
            }
            output.calls.append(&mut rows.calls);
            output.sessions.append(&mut rows.sessions);
            output.labels.append(&mut rows.labels);
            output.telemetry.append(&mut rows.telemetry);
            output.dead_letters.append(&mut rows.dead_letters);
            met.append(&mut rows.met);
            signals.append(&mut rows.signals);
            withdrawn.append(&mut rows.withdrawn);
            output.repeats.append(&mut rows.repeats);
            output.counters.add(&rows.counters);
            output.open_sessions += rows.open_sessions;
            names.extend(rows.names);
        }
        messages.sort_by_key(|row| row.partition);
        output.messages = self.copies.is_empty().then_some(messages);
        output.calls.sort_by_key(|row| row.source.partition);
        output.sessions.sort_by_key(|row| row.source.partition);
        output.labels.sort_by_key(|row| row.source.partition);
        number(&mut output.calls, tick, |row| &mut row.source);
        number(&mut output.sessions, tick, |row| &mut row.source);
        number(&mut output.labels, tick, |row| &mut row.source);
        output.telemetry.sort_by_key(|row| row.source.partition);
        output.dead_letters.sort_by_key(|row| row.source.partition);
        output.repeats.sort_unstable();
        number(&mut output.telemetry, tick, |row| &mut row.source);
        number(&mut output.dead_letters, tick, |row| &mut row.source);
        output.tools = self.catalogue.take(met, &mut signals);
        output.tools.sort_by_key(|row| row.source.partition);
        number(&mut output.tools, tick, |row| &mut row.source);
        // Held against the model that scored them, not the one that they teach.
        self.behaviours.take(&output.calls, self.publisher.live(), &mut signals);
        self.behaviours.withdraw(&withdrawn);
        self.publish(tick, stash.sums, names, &mut output);
        self.cluster(stash.cells, &mut output);
        for opened in stash.opened {
            output.counters.too_late_for_windows += opened.too_late;
            self.windows.name(opened.entities);
        }
        // What came too late for windows is in none.
        withdrawn.retain(|call| self.windows.counted(call));
        let final_minutes: Vec<_> =
            withdrawn.iter().filter(|call| self.windows.is_final(call.ts, MINUTE_US)).cloned().collect();
        let changes = self.windows.take(stash.panes, &withdrawn, output.watermark);
        (output.features, output.live) = (changes.rows, changes.live);
        number(&mut output.features, tick, |row| &mut row.source);
        output.forecasts = self.forecasts.take(&output.features, &final_minutes, &mut signals, &mut output.counters);
        number(&mut output.forecasts, tick, |row| &mut row.source);
        output.alerts = self.alerts.take(signals, output.watermark);
        output.open_alerts = self.alerts.open();
        number(&mut output.alerts, tick, |row| &mut row.source);
        self.totals.add(&output.counters);
        self.open_sessions = output.open_sessions;
        output
    }

    /// After the model: clusters have the names of their servers from it.
    fn cluster(&mut self, labels: Vec<((Cell, Cell), isize)>, output: &mut TickOutput) {
        let of_cells = output.change.totals.iter().filter(|(entry, _)| entry.part == Part::Cell);
        let totals = of_cells.map(|(entry, total)| (Cell { scope: entry.scope, at: entry.key }, *total)).collect();
        let is_forgotten = |row: &&LabelRow| row.label == FORGET && row.outcome == LabelOutcome::Applied;
        let forgotten = output.labels.iter().filter(is_forgotten).map(|row| row.session_id.clone()).collect();
        let changes = CellChanges { labels, totals, forgotten };
        let live = self.publisher.live();
        output.clusters = self.clusters.take(output.tick, output.watermark, changes, live, &mut output.sessions);
        for row in &mut output.clusters {
            row.server = live.name(row.scope).map_or_else(String::new, |name| name.to_string());
        }
        number(&mut output.clusters, output.tick, |row| &mut row.source);
    }

    fn publish(
        &mut self,
        tick: Tick,
        sums: Vec<(Entry, isize)>,
        names: BTreeMap<u64, String>,
        output: &mut TickOutput,
    ) {
        // Differences are history; added to what the model has, they are the next one.
        let mut changes = sums;
        consolidate(&mut changes);
        let live = self.publisher.live();
        self.names.extend(names.into_iter().filter(|(hash, _)| live.name(*hash).is_none()));
        if changes.is_empty() {
            return;
        }
        output.change = ModelChange {
            version: ModelVersion(tick.0),
            totals: changes.iter().map(|(entry, diff)| (*entry, live.total_after(entry, *diff))).collect(),
            names: std::mem::take(&mut self.names).into_iter().map(|(hash, text)| (hash, text.into())).collect(),
        };
        self.publisher.publish(output.change.clone());
        let live = self.publisher.live();
        output.models = changes.iter().map(|(entry, diff)| model_row(live, entry, *diff as i64)).collect();
        number(&mut output.models, tick, |row| &mut row.source);
    }
}

/// Numbers the rows of each partition.
fn number<R>(rows: &mut [R], tick: Tick, source: impl Fn(&mut R) -> &mut Source) {
    let mut last: Option<(Partition, u32)> = None;
    for row in rows {
        let source = source(row);
        let ordinal =
            last.filter(|(partition, _)| *partition == source.partition).map_or(0, |(_, ordinal)| ordinal + 1);
        source.tick = tick;
        source.ordinal = ordinal;
        last = Some((source.partition, ordinal));
    }
}

fn model_row(model: &Model, entry: &Entry, diff: i64) -> ModelRow {
    let (scope, key) = model.words(entry);
    let (version, part) = (model.version(), entry.part.as_str());
    ModelRow { source: Source::default(), version, part, scope, key, bin: entry.bin, diff }
}
