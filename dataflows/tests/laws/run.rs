//! Ticks through real timely workers, and what is left of a run where ticks do not matter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use undercurrent_dataflows::graph::{Aggregate, Entity, Graph, GraphSettings, TickOutput, WindowKey, WindowSettings};
use undercurrent_dataflows::model::{Entry, Model, Part, Publisher};
use undercurrent_dataflows::oracle;
use undercurrent_dataflows::sessions::{Gate, Settings, Timing};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::FeatureRow;
use undercurrent_schemas::v1;

use crate::traffic::{IDLE_S, LATENESS_S, PARTITIONS, SECOND, TIMEOUT_S};

/// Everything teaches; windows wait for whatever may still settle a call.
pub(crate) fn settings() -> GraphSettings {
    GraphSettings {
        partitions: PARTITIONS,
        sessions: Settings {
            timing: Timing {
                session_idle_us: IDLE_S * SECOND,
                lateness_us: LATENESS_S * SECOND,
                call_timeout_us: TIMEOUT_S * SECOND,
                session_memory_us: 3_600 * SECOND,
            },
            gate: Gate { flag_p: 0.05, learn_p: 0.0 },
            open_calls_max: 1_024,
        },
        windows: WindowSettings { lateness_us: (TIMEOUT_S + LATENESS_S) * SECOND, ..WindowSettings::default() },
    }
}

/// What the workers gave.
pub(crate) struct Run {
    pub(crate) outputs: Vec<TickOutput>,
    pub(crate) model: Model,
}

pub(crate) fn run(settings: &GraphSettings, workers: usize, ticks: &[Arc<CommittedTick>]) -> Run {
    let (publisher, slot) = Publisher::new();
    let publisher = Mutex::new(Some(publisher));
    let (settings, ticks, of_workers) = (settings.clone(), ticks.to_vec(), slot.clone());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let publisher = if worker.index() == 0 { publisher.lock().expect("no worker panicked").take() } else { None };
        let mut graph = Graph::build(worker, &settings, &of_workers, publisher);
        for tick in &ticks {
            graph.step(worker, tick);
        }
        graph.take_outputs()
    })
    .expect("workers start");
    let outputs = guards.join().into_iter().map(|outputs| outputs.expect("no worker panicked")).next();
    let model = slot.load().as_deref().cloned().unwrap_or_default();
    Run { outputs: outputs.expect("there is a worker 0"), model }
}

/// What must not depend on how events were cut into ticks or in which order they arrived.
#[derive(Debug, PartialEq)]
pub(crate) struct Learned {
    pub(crate) facts: BTreeMap<Entry, u64>,
    /// Feature rows as text, each with its multiplicity.
    pub(crate) features: BTreeMap<String, i64>,
    /// Parts of sessions: id, start, end, messages, calls, errors.
    pub(crate) parts: Vec<(String, i64, i64, usize, usize, usize)>,
    /// Calls: session, time, tool, outcome, latency, response bytes.
    pub(crate) calls: Vec<(String, i64, String, &'static str, Option<i64>, u64)>,
}

impl Run {
    pub(crate) fn learned(&self) -> Learned {
        let mut features = BTreeMap::new();
        for row in self.outputs.iter().flat_map(|output| &output.features) {
            *features.entry(values(row)).or_insert(0) += row.diff;
        }
        features.retain(|_, multiplicity| *multiplicity != 0);
        let parts = self.outputs.iter().flat_map(|output| &output.sessions).map(|row| {
            let (messages, calls, errors) = (row.messages as usize, row.calls as usize, row.errors as usize);
            (row.session_id.clone(), row.started_at.0, row.ended_at.0, messages, calls, errors)
        });
        let calls = self.outputs.iter().flat_map(|output| &output.calls).map(|row| {
            let outcome = row.outcome.as_str();
            (row.session_id.clone(), row.ts.0, row.tool.clone(), outcome, row.latency_us, row.response_bytes)
        });
        Learned { facts: facts(&self.model), features, parts: sorted(parts), calls: sorted(calls) }
    }

    /// The last value of every window that was told live.
    pub(crate) fn live(&self) -> BTreeMap<WindowKey, (Entity, Aggregate)> {
        let updates = self.outputs.iter().flat_map(|output| &output.live);
        updates.filter_map(|(key, entity, sum)| Some((*key, (entity.clone(), sum.clone()?)))).collect()
    }

    /// Of all ticks.
    pub(crate) fn count(&self, part: Part) -> u64 {
        let totals = self.model.as_change().totals;
        totals.iter().filter(|(entry, _)| entry.part == part).map(|(_, total)| total).sum()
    }
}

/// The same, by the naive twins.
pub(crate) fn expected(settings: &GraphSettings, events: &[v1::Event]) -> Learned {
    let parts = oracle::parts(events, &settings.sessions.timing);
    let is_error = |message: &v1::Message| message.result.as_ref().is_some_and(|result| !result.error_type.is_empty());
    Learned {
        facts: oracle::taught_counts(&parts),
        features: oracle::feature_rows(&parts, &settings.windows.windows).iter().map(|row| (values(row), 1)).collect(),
        parts: sorted(parts.iter().map(|part| {
            let errors = part.messages.iter().filter(|(_, message)| is_error(message)).count();
            let id = part.first.session_id.clone();
            (id, part.started.0, part.ended.0, part.messages.len(), part.calls.len(), errors)
        })),
        calls: sorted(parts.iter().flat_map(|part| {
            part.calls.iter().map(|call| {
                let tool = call.request.target.clone();
                let (outcome, latency_us, bytes) = (call.outcome().as_str(), call.latency_us(), call.response_bytes());
                (part.first.session_id.clone(), call.ts.0, tool, outcome, latency_us, bytes)
            })
        })),
    }
}

/// The counts of facts; what depends on the models on the way is left out.
fn facts(model: &Model) -> BTreeMap<Entry, u64> {
    let of_the_moment = [Part::CallTerm, Part::SessionTerm, Part::SessionScore];
    model.as_change().totals.into_iter().filter(|(entry, _)| !of_the_moment.contains(&entry.part)).collect()
}

/// A row without its diff and where it came from.
fn values(row: &FeatureRow) -> String {
    format!("{:?}", FeatureRow { diff: 0, source: Default::default(), ..row.clone() })
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items
}
