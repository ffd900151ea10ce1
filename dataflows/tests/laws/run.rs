//! Ticks through real timely workers, and what is left of a run where ticks do not matter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use undercurrent_dataflows::assess::LeftOut;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::graph::{Graph, GraphSettings, TickOutput, WindowSettings};
use undercurrent_dataflows::model::{Entry, Model, Part, Publisher};
use undercurrent_dataflows::oracle;
use undercurrent_dataflows::sessions::{Gate, Rules, Settings, Timing};
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::{CallOutcome, CallRow, FeatureRow, SessionRow};
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
                unlearn_us: 7_200 * SECOND,
            },
            gate: Gate { flag_p: 0.05, learn_p: 0.0, doubtful_weight: 0 },
            rules: Rules::default(),
            left_out: LeftOut::default(),
            open_calls_max: 1_024,
            unlearnable_max: 1_024,
            learns: true,
        },
        clusters: ClusterSettings { dense_sessions: 2 },
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
        let mut graph = Graph::build(worker, &settings, &of_workers, publisher, None);
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
    pub(crate) parts: Vec<LearnedPart>,
    pub(crate) calls: Vec<LearnedCall>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LearnedPart {
    session_id: String,
    started: Micros,
    ended: Micros,
    messages: u64,
    calls: u64,
    errors: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LearnedCall {
    session_id: String,
    ts: Micros,
    tool: String,
    outcome: CallOutcome,
    latency_us: Option<i64>,
    response_bytes: u64,
}

impl LearnedPart {
    pub(crate) fn of_row(row: &SessionRow) -> Self {
        Self {
            session_id: row.session_id.to_string(),
            started: row.started_at,
            ended: row.ended_at,
            messages: row.messages,
            calls: row.calls,
            errors: row.errors,
        }
    }

    pub(crate) fn of_twin(parts: &[oracle::Part<'_>]) -> Vec<Self> {
        let is_error =
            |message: &v1::Message| message.result.as_ref().is_some_and(|result| !result.error_type.is_empty());
        sorted(parts.iter().map(|part| Self {
            session_id: part.first.session_id.clone(),
            started: part.started,
            ended: part.ended,
            messages: part.messages.len() as u64,
            calls: part.calls.len() as u64,
            errors: part.messages.iter().filter(|(_, message)| is_error(message)).count() as u64,
        }))
    }
}

impl LearnedCall {
    pub(crate) fn of_row(row: &CallRow) -> Self {
        Self {
            session_id: row.session_id.to_string(),
            ts: row.ts,
            tool: row.tool.to_string(),
            outcome: row.outcome,
            latency_us: row.latency_us,
            response_bytes: row.response_bytes,
        }
    }

    pub(crate) fn of_twin(parts: &[oracle::Part<'_>]) -> Vec<Self> {
        sorted(parts.iter().flat_map(|part| {
            part.calls.iter().map(|call| Self {
                session_id: part.first.session_id.clone(),
                ts: call.ts,
                tool: call.request.target.clone(),
                outcome: call.outcome(),
                latency_us: call.latency_us(),
                response_bytes: call.response_bytes(),
            })
        }))
    }
}

impl Run {
    pub(crate) fn learned(&self) -> Learned {
        let mut features = BTreeMap::new();
        for row in self.outputs.iter().flat_map(|output| &output.features) {
            *features.entry(values(row)).or_insert(0) += row.diff;
        }
        features.retain(|_, multiplicity| *multiplicity != 0);
        let parts = self.outputs.iter().flat_map(|output| &output.sessions).map(LearnedPart::of_row);
        let calls = self.outputs.iter().flat_map(|output| &output.calls).map(LearnedCall::of_row);
        Learned { facts: facts(&self.model), features, parts: sorted(parts), calls: sorted(calls) }
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
    Learned {
        facts: oracle::taught_counts(&parts),
        features: oracle::feature_rows(&parts, &settings.windows.windows).iter().map(|row| (values(row), 1)).collect(),
        parts: LearnedPart::of_twin(&parts),
        calls: LearnedCall::of_twin(&parts),
    }
}

/// The counts of facts; what depends on the models on the way is left out.
pub(crate) fn facts(model: &Model) -> BTreeMap<Entry, u64> {
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
