//! Stages 1, 2 and 5 of the dataflow: decode, drop duplicates, pair, follow sessions, score and teach. Plain timely:
//! each record is read once and forgotten, so differential would only add cost.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::{AsCollection, VecCollection};
use foldhash::fast::RandomState;
use prost::Message as _;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::rows::{CallRow, DeadLetterRow, LabelRow, MessageRow, SessionRow, TelemetryRow};
use undercurrent_schemas::v1::{self, event::Body};

use super::GraphSettings;
use super::dedupe::Seen;
use crate::alerts::Signal;
use crate::catalogue::Met;
use crate::clusters::Cell;
use crate::image::Run;
use crate::model::{Entry, Model, ModelSlot, Part};
use crate::reports::{Reported, Reports};
use crate::sessions::{Counters, Measure, Outbox, PartitionSessions};

/// What one worker's sessions gave in one tick.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Rows {
    pub(super) watermark: Micros,
    /// They stay in their process: the log has them for whoever else asks.
    #[serde(skip)]
    pub(super) messages: Vec<MessageRow>,
    pub(super) calls: Vec<CallRow>,
    pub(super) sessions: Vec<SessionRow>,
    pub(super) labels: Vec<LabelRow>,
    pub(super) met: Vec<Met>,
    pub(super) signals: Vec<Signal>,
    pub(super) withdrawn: Vec<Measure>,
    pub(super) telemetry: Vec<TelemetryRow>,
    pub(super) dead_letters: Vec<DeadLetterRow>,
    pub(super) names: Vec<(u64, String)>,
    pub(super) repeats: Vec<(Partition, Offset)>,
    pub(super) counters: Counters,
    pub(super) open_sessions: usize,
}

/// The calls that were settled in one tick, and how far time has come.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) watermark: Micros,
    pub(super) measures: Vec<Measure>,
    pub(super) reported: Vec<Reported>,
}

pub(super) struct Sessions<'scope> {
    pub(super) rows: StreamVec<'scope, u64, Rows>,
    pub(super) measures: StreamVec<'scope, u64, Measured>,
    /// The model: what it adds up to is in [`Model`], which every reader needs anyway, so nobody counts it once more.
    pub(super) sums: VecCollection<'scope, u64, Entry>,
    /// Of the sums, those of cells.
    pub(super) cells: StreamVec<'scope, u64, (Cell, u64, isize)>,
}

/// The sessions of this worker's partitions.
pub(super) fn sessions<'scope>(
    ticks: StreamVec<'scope, u64, Arc<CommittedTick>>,
    mine: Rc<RefCell<Vec<PartitionState>>>,
    slot: ModelSlot,
) -> Sessions<'scope> {
    let scope = ticks.scope();
    let mut builder = OperatorBuilder::new("Sessions".to_owned(), scope);
    let mut input = builder.new_input(ticks, Pipeline);
    let (rows, rows_stream) = builder.new_output();
    let (measures, measures_stream) = builder.new_output();
    let (sums, sums_stream) = builder.new_output();
    let (cells, cells_stream) = builder.new_output();
    let (mut rows, mut measures) = (OutputBuilder::from(rows), OutputBuilder::from(measures));
    let (mut sums, mut cells) = (OutputBuilder::from(sums), OutputBuilder::from(cells));
    builder.build(move |_capabilities| {
        let mut room = Room::default();
        move |_frontiers| {
            let (mut rows, mut measures) = (rows.activate(), measures.activate());
            let (mut sums, mut cells) = (sums.activate(), cells.activate());
            input.for_each_stamp(|capability, data| {
                for tick in data.flat_map(|batch: &mut Vec<Arc<CommittedTick>>| batch.drain(..)) {
                    let (of_tick, outbox) = one_tick(&mut mine.borrow_mut(), &tick, slot.load().as_deref(), &mut room);
                    rows.session(&capability).give(of_tick);
                    let watermark = tick.watermark;
                    measures.session(&capability).give(Measured {
                        watermark,
                        measures: outbox.measures,
                        reported: outbox.reported,
                    });
                    let updates = combined(&outbox.sums, &mut room);
                    let of_cells = updates.iter().filter(|(entry, _)| entry.part == Part::Cell);
                    let of_cells =
                        of_cells.map(|(entry, diff)| (Cell { scope: entry.scope, at: entry.key }, tick.tick.0, *diff));
                    cells.session(&capability).give_iterator(of_cells);
                    let updates = updates.into_iter().map(|(entry, diff)| (entry, tick.tick.0, diff));
                    sums.session(&capability).give_iterator(updates);
                }
            });
        }
    });
    let sums = sums_stream.as_collection();
    Sessions { rows: rows_stream, measures: measures_stream, sums, cells: cells_stream }
}

/// In no order until they are sorted.
type Totals = HashMap<Entry, isize, RandomState>;

/// The local combiner: one change for each entry and tick, sorted. Sessions that end together teach much that is equal:
/// what is added up first is not sorted.
fn combined(sums: &[(Entry, i64)], room: &mut Room) -> Vec<(Entry, isize)> {
    let mut totals = Totals::with_capacity_and_hasher(room.entries, Default::default());
    for (entry, diff) in sums {
        *totals.entry(*entry).or_default() += *diff as isize;
    }
    room.entries = totals.len();
    let mut totals: Vec<_> = totals.into_iter().filter(|(_, total)| *total != 0).collect();
    totals.sort_unstable();
    totals
}

/// How much the last tick gave: the next one gives about as much, and what has room need not be moved as it grows.
#[derive(Debug, Default)]
struct Room {
    messages: usize,
    calls: usize,
    measures: usize,
    sums: usize,
    /// Sums, those that are equal counted once.
    entries: usize,
}

impl Room {
    fn outbox(&self) -> Outbox {
        Outbox {
            messages: Vec::with_capacity(self.messages),
            calls: Vec::with_capacity(self.calls),
            measures: Vec::with_capacity(self.measures),
            sums: Vec::with_capacity(self.sums),
            ..Outbox::default()
        }
    }

    fn learn(&mut self, out: &Outbox) {
        (self.messages, self.calls) = (out.messages.len(), out.calls.len());
        (self.measures, self.sums) = (out.measures.len(), out.sums.len());
    }
}

/// One partition's state.
#[derive(Debug, serde::Deserialize)]
pub(super) struct PartitionState {
    sessions: PartitionSessions,
    reports: Reports,
    seen: Seen,
}

impl PartitionState {
    pub(super) fn new(partition: Partition, settings: &GraphSettings) -> Self {
        Self {
            sessions: PartitionSessions::new(partition, settings.sessions),
            reports: Reports::new(partition),
            seen: Seen::default(),
        }
    }

    /// What was read from an image, made to go on under these settings.
    pub(super) fn resumed(self, settings: &GraphSettings) -> Self {
        let Self { sessions, reports, seen } = self;
        Self { sessions: sessions.resumed(settings.sessions), reports, seen }
    }

    pub(super) fn partition(&self) -> Partition {
        self.sessions.partition()
    }

    /// Begins an image of what there is now; the runs that follow the sessions.
    pub(super) fn begin_image(&mut self) -> Vec<Run> {
        let Self { sessions, reports, seen } = self;
        vec![sessions.begin_image(), Run::of(&(&*reports, &*seen))]
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(super) fn go_on(&mut self, bytes: &mut usize) -> bool {
        self.sessions.go_on(bytes)
    }

    pub(super) fn finish_image(&mut self) -> Run {
        self.sessions.finish_image()
    }

    fn records(&mut self, tick: Tick, batch: &LogBatch, model: Option<&Model>, out: &mut Outbox) {
        for (offset, record) in (batch.first_offset.0..).zip(&batch.records) {
            match v1::Event::decode(record.as_slice()) {
                Ok(event) if self.seen.is_new(event.id.as_ref()) => {
                    match &event.body {
                        Some(Body::Telemetry(telemetry)) => self.reports.telemetry(&event, telemetry, model, out),
                        Some(Body::DeadLetter(letter)) => self.reports.dead_letter(&event, letter, out),
                        _ => self.sessions.event(Offset(offset), &event, model, out),
                    }
                    out.messages.push(MessageRow { tick, partition: batch.partition, offset: Offset(offset), event });
                }
                Ok(_) => {
                    out.counters.duplicates += 1;
                    out.repeats.push((batch.partition, Offset(offset)));
                }
                Err(_) => out.counters.corrupt += 1,
            }
        }
    }
}

fn one_tick(
    mine: &mut [PartitionState],
    tick: &CommittedTick,
    model: Option<&Model>,
    room: &mut Room,
) -> (Rows, Outbox) {
    let mut out = room.outbox();
    let mut open_sessions = 0;
    for state in mine {
        let batch = tick.batches.iter().find(|batch| batch.partition == state.sessions.partition());
        if let Some(batch) = batch {
            state.records(tick.tick, batch, model, &mut out);
        }
        state.sessions.advance(tick.watermark, model, &mut out);
        open_sessions += state.sessions.open_sessions();
    }
    room.learn(&out);
    let rows = Rows {
        watermark: tick.watermark,
        messages: std::mem::take(&mut out.messages),
        calls: std::mem::take(&mut out.calls),
        sessions: std::mem::take(&mut out.sessions),
        labels: std::mem::take(&mut out.labels),
        met: std::mem::take(&mut out.met),
        signals: std::mem::take(&mut out.signals),
        withdrawn: std::mem::take(&mut out.withdrawn),
        telemetry: std::mem::take(&mut out.telemetry),
        dead_letters: std::mem::take(&mut out.dead_letters),
        names: std::mem::take(&mut out.names),
        repeats: std::mem::take(&mut out.repeats),
        counters: out.counters,
        open_sessions,
    };
    (rows, out)
}
