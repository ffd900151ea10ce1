//! Every collection that is published is its naive twin at every closed tick, whatever was said, forgotten and decided on
//! the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use undercurrent_dataflows::assess::{SESSION_TERMS, call_terms};
use undercurrent_dataflows::graph::{GraphSettings, TickOutput};
use undercurrent_dataflows::model::{Entry, Model, Part, name_hash, score_bin, term_bin};
use undercurrent_dataflows::oracle;
use undercurrent_dataflows::session::{CallFact, SessionFact};
use undercurrent_dataflows::sessions::{Gate, Rules};
use undercurrent_schemas::ids::{Micros, partition_of};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::{AlertKind, AlertRow, AlertState, EntityKind, FeatureRow, Source, ToolChange};
use undercurrent_schemas::text::Text;
use undercurrent_schemas::v1::{self, event::Body, label::Verdict};

use crate::cases;
use crate::run::{LearnedCall, LearnedPart, facts, run, settings};
use crate::traffic::{LATENESS_S, PARTITIONS, SECOND, any_plans, arrived, calm_plans, events, long_plans, ticks};

/// Alerts of rules on one session.
const RULES: [AlertKind; 4] = [AlertKind::Loop, AlertKind::LoopOfTwo, AlertKind::ErrorStreak, AlertKind::Probing];

const MINUTE_US: i64 = 60 * SECOND;

/// What was expected of each known minute, and the usual error.
type Minutes = BTreeMap<Micros, Option<(f64, f64)>>;

/// The events that have arrived by the end of each tick.
fn prefixes<'a>(events: &'a [v1::Event], ticks: &'a [Arc<CommittedTick>]) -> impl Iterator<Item = &'a [v1::Event]> {
    let mut arrived = 0;
    ticks.iter().map(move |tick| {
        arrived += tick.batches.iter().map(|batch| batch.records.len()).sum::<usize>();
        &events[..arrived]
    })
}

/// Of which window a row is.
type WindowOf = (i64, Micros, EntityKind, Text);

/// Feature rows that are not withdrawn.
#[derive(Default)]
struct Features(BTreeMap<WindowOf, FeatureRow>);

impl Features {
    fn take(&mut self, output: &TickOutput) {
        for row in &output.features {
            let key = (row.window_us, row.window_start, row.kind, row.entity.clone());
            let plain = FeatureRow { diff: 1, source: Source::default(), ..row.clone() };
            if row.diff < 0 {
                assert_eq!(self.0.remove(&key), Some(plain), "only what was told is withdrawn");
            } else {
                assert!(self.0.insert(key, plain).is_none(), "told twice");
            }
        }
    }
}

/// The features of all windows that are full by this watermark.
fn full_windows(
    parts: &[oracle::Part<'_>],
    settings: &GraphSettings,
    watermark: Micros,
) -> BTreeMap<WindowOf, FeatureRow> {
    let rows = oracle::feature_rows(parts, &settings.windows.windows).into_iter();
    let full = rows.filter(|row| row.window_start.plus(row.window_us) < watermark);
    full.map(|row| ((row.window_us, row.window_start, row.kind, row.entity.clone()), row)).collect()
}

/// Sizes of ticks that are not all tiny: the twins start from nothing at every tick.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..24_usize, 1..6)
}

/// Counts of facts, features, parts and calls.
fn check_collections(events: &[v1::Event], sizes: &[usize], workers: usize, has_rows: bool) {
    let settings = settings();
    let ticks = ticks(events, sizes);
    let run = run(&settings, workers, &ticks);
    let (mut model, mut features) = (Model::default(), Features::default());
    let (mut parts, mut calls): (Vec<LearnedPart>, Vec<LearnedCall>) = Default::default();
    for ((output, tick), arrived) in run.outputs.iter().zip(&ticks).zip(prefixes(events, &ticks)) {
        if !output.change.is_empty() {
            model.apply(&output.change);
        }
        features.take(output);
        parts.extend(output.sessions.iter().map(LearnedPart::of_row));
        calls.extend(output.calls.iter().map(LearnedCall::of_row));
        let twin = oracle::parts_at(arrived, &settings.sessions.timing, tick.watermark);
        assert_eq!(facts(&model), oracle::taught_counts(&twin), "tick {:?}", tick.tick);
        assert_eq!(features.0, full_windows(&twin, &settings, tick.watermark), "tick {:?}", tick.tick);
        calls.sort_unstable();
        assert_eq!(calls, LearnedCall::of_twin(&twin), "tick {:?}", tick.tick);
        parts.sort_unstable();
        let over: Vec<_> = twin.into_iter().filter(|part| part.is_over).collect();
        // Rows of parts that late messages correct stay as they were.
        assert!(!has_rows || parts == LearnedPart::of_twin(&over), "tick {:?}: {parts:?}", tick.tick);
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn collections_are_their_twins(plans in any_plans(), sizes in sizes(), workers in 1..3_usize) {
        check_collections(&events(&plans), &sizes, workers, true);
    }

    #[test]
    fn so_they_are_while_messages_come_late(
        plans in calm_plans(),
        sizes in sizes(),
        delays_ms in prop::collection::vec(0..LATENESS_S * 1_000, 1..50),
    ) {
        check_collections(&arrived(&events(&plans), &delays_ms), &sizes, 2, false);
    }
}

/// Something said of the session of one event, after another: what it is, or that it be forgotten.
#[derive(Clone, Debug)]
struct Said {
    about: prop::sample::Index,
    after: prop::sample::Index,
    what: Option<Verdict>,
}

fn sayings() -> impl Strategy<Value = Vec<Said>> {
    let verdicts = [Verdict::Benign, Verdict::Malicious, Verdict::Clear].map(Some);
    let what = prop_oneof![prop::sample::select(verdicts.to_vec()), Just(None)];
    let said = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), what);
    prop::collection::vec(said.prop_map(|(about, after, what)| Said { about, after, what }), 0..8)
}

/// The events with what was said between them: of a session only after something of it.
fn with_sayings(events: &[v1::Event], said: &[Said]) -> Vec<v1::Event> {
    let mut all = events.to_vec();
    for (sequence, said) in (1..).zip(said) {
        let about = said.about.get(events);
        let known = all.iter().position(|event| event.session_id == about.session_id).expect("it is there");
        let place = known + said.after.index(all.len() - known);
        let body = said.what.map_or_else(
            || Body::Forget(v1::Forget::default()),
            |verdict| Body::Label(v1::Label { verdict: verdict.into() }),
        );
        let id = Some(v1::EventId { gateway: 8, epoch: 1, sequence });
        all.insert(place + 1, v1::Event { id, ts_us: all[place].ts_us, body: Some(body), ..about.clone() });
    }
    all
}

fn last_said(events: &[v1::Event], session_id: &str) -> Verdict {
    let labels = events.iter().filter(|event| event.session_id == session_id).filter_map(|event| match &event.body {
        Some(Body::Label(label)) => Some(label.verdict()),
        _ => None,
    });
    labels.fold(Verdict::Unspecified, |_, later| later)
}

/// What was decided when a part ended: it is recorded, and no twin computes it anew.
struct Decided {
    gate_weight: u32,
    /// Term counts and the score's; empty = it was not scored.
    terms: Vec<Entry>,
    score: Option<Entry>,
}

impl Decided {
    /// By the row, and by the model that scored it.
    fn of(row: &undercurrent_schemas::rows::SessionRow, part: &oracle::Part<'_>, model: &Model, gate: Gate) -> Self {
        let scope = name_hash(&[&row.server]);
        let gate_weight = gate.weight(row.assessment.as_ref().map(|known| known.p_value));
        let Some(known) = &row.assessment else { return Self { gate_weight, terms: Vec::new(), score: None } };
        let entry = |part, key, value: f64| Entry { part, scope, key, bin: term_bin(value) };
        let of_session = known.terms.iter().take(SESSION_TERMS.len());
        let mut terms: Vec<_> =
            (0..).zip(of_session).map(|(key, term)| entry(Part::SessionTerm, key, term.value)).collect();
        let mut session = SessionFact::default();
        for (order, call) in (0..).zip(&part.calls) {
            let fact = CallFact::of(call.request, call.ts, order, |_, _| {}).expect("it is a call");
            session.insert(fact, call.answer_fact());
        }
        session.with_past(|past, call, _| {
            let values = call_terms(model, scope, past, call).values;
            terms.extend((0..).zip(values).map(|(key, value)| entry(Part::CallTerm, key, value)));
        });
        let score = Entry { part: Part::SessionScore, scope, key: 0, bin: score_bin(known.score) };
        Self { gate_weight, terms, score: Some(score) }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// The whole model is a function of the parts that are not forgotten and of what was recorded of them: whoever was
    /// taught and unlearned was never taught, entry by entry.
    #[test]
    fn the_model_is_its_twin(
        plans in any_plans(),
        said in sayings(),
        sizes in sizes(),
        learn_p in 0.0..0.6_f64,
        doubtful_weight in 0..=8_u32,
    ) {
        let mut settings = settings();
        settings.sessions.gate = Gate { learn_p, doubtful_weight, ..settings.sessions.gate };
        let gate = settings.sessions.gate;
        let events = with_sayings(&events(&plans), &said);
        let ticks = ticks(&events, &sizes);
        let run = run(&settings, 2, &ticks);
        let mut model = Model::default();
        let mut decided: BTreeMap<(String, Micros), Decided> = BTreeMap::new();
        for ((output, tick), arrived) in run.outputs.iter().zip(&ticks).zip(prefixes(&events, &ticks)) {
            let twin = oracle::parts_at(arrived, &settings.sessions.timing, tick.watermark);
            for row in &output.sessions {
                let is_it = |part: &&oracle::Part<'_>| {
                    part.first.session_id == *row.session_id && part.started == row.started_at
                };
                // Who ended and was forgotten in one tick is no part.
                if let Some(part) = twin.iter().find(is_it) {
                    let of = Decided::of(row, part, &model, gate);
                    decided.insert((row.session_id.to_string(), row.started_at), of);
                }
            }
            if !output.change.is_empty() {
                model.apply(&output.change);
            }
            let label = |part: &oracle::Part<'_>| last_said(arrived, &part.first.session_id);
            let of = |part: &oracle::Part<'_>| decided.get(&(part.first.session_id.clone(), part.started));
            let weighed = twin.iter().map(|part| {
                let weight = match label(part) {
                    Verdict::Benign => 8,
                    Verdict::Malicious => 0,
                    Verdict::Clear | Verdict::Unspecified => of(part).map_or(0, |decided| decided.gate_weight),
                };
                (part, weight)
            });
            let mut expect = oracle::weighed_counts(weighed);
            let said = twin.iter().filter(|part| part.is_over).filter_map(|part| match label(part) {
                Verdict::Benign => Some((part, false)),
                Verdict::Malicious => Some((part, true)),
                Verdict::Clear | Verdict::Unspecified => None,
            });
            expect.extend(oracle::labelled_counts(said));
            for part in twin.iter().filter(|part| part.is_over) {
                let Some(decided) = of(part) else { continue };
                let terms = decided.terms.iter().filter(|_| label(part) != Verdict::Malicious);
                terms.chain(&decided.score).for_each(|entry| *expect.entry(*entry).or_insert(0) += 1);
            }
            let got: BTreeMap<Entry, u64> = model.as_change().totals.into_iter().collect();
            prop_assert_eq!(got, expect, "tick {:?}", tick.tick);
        }
    }

    /// While a window is not final, it has no call of a session that was forgotten.
    #[test]
    fn windows_are_their_twins_whoever_was_forgotten(plans in any_plans(), said in sayings(), sizes in sizes()) {
        let mut settings = settings();
        settings.windows.lateness_us = 86_400 * SECOND;
        let events = with_sayings(&events(&plans), &said);
        let ticks = ticks(&events, &sizes);
        let run = run(&settings, 2, &ticks);
        let mut features = Features::default();
        for ((output, tick), arrived) in run.outputs.iter().zip(&ticks).zip(prefixes(&events, &ticks)) {
            features.take(output);
            let twin = oracle::parts_at(arrived, &settings.sessions.timing, tick.watermark);
            prop_assert_eq!(&features.0, &full_windows(&twin, &settings, tick.watermark), "tick {:?}", tick.tick);
        }
    }

    /// A forecast is made of the minutes before, as they are known when it is made, and is never revised; its row has
    /// what came, without the calls of whoever was forgotten since, even where the windows are final.
    #[test]
    fn forecasts_are_their_twins(plans in long_plans(), said in sayings(), sizes in sizes()) {
        let settings = settings();
        let events = with_sayings(&events(&plans), &said);
        let ticks = ticks(&events, &sizes);
        let run = run(&settings, 2, &ticks);
        let mut rows: BTreeMap<(EntityKind, Text, Micros), (f64, f64, i64)> = BTreeMap::new();
        // What was expected of each minute that is known, if anything was.
        let mut known: BTreeMap<(EntityKind, Text), Minutes> = BTreeMap::new();
        for ((output, tick), arrived) in run.outputs.iter().zip(&ticks).zip(prefixes(&events, &ticks)) {
            for row in &output.forecasts {
                let (key, value) =
                    ((row.kind, row.entity.clone(), row.window_start), (row.expected, row.error, row.calls));
                if row.diff < 0 {
                    prop_assert_eq!(rows.remove(&key), Some(value));
                } else {
                    prop_assert!(rows.insert(key, value).is_none());
                }
            }
            let twin = oracle::parts_at(arrived, &settings.sessions.timing, tick.watermark);
            let mut calls: BTreeMap<(EntityKind, Text), BTreeMap<Micros, i64>> = BTreeMap::new();
            for (part, call) in twin.iter().flat_map(|part| part.calls.iter().map(move |call| (part, call))) {
                let start = Micros(call.ts.0.div_euclid(MINUTE_US) * MINUTE_US);
                if start.plus(MINUTE_US) < tick.watermark {
                    let of_tool = format!("{}/{}", part.first.server, call.request.target);
                    for key in [(EntityKind::Server, part.first.server.clone()), (EntityKind::Tool, of_tool)] {
                        *calls.entry((key.0, key.1.into())).or_default().entry(start).or_default() += 1;
                    }
                }
            }
            known.retain(|key, _| calls.contains_key(key));
            let mut expect = BTreeMap::new();
            for (key, minutes) in &calls {
                let known = known.entry(key.clone()).or_default();
                known.retain(|start, _| minutes.contains_key(start));
                for start in minutes.keys() {
                    if known.contains_key(start) {
                        continue;
                    }
                    let is_next = known.keys().all(|other| other < start);
                    let horizon = start.plus(-240 * MINUTE_US);
                    let first = known.keys().find(|other| **other >= horizon);
                    let values = first.filter(|_| is_next).map(|first| {
                        let starts = (0..(start.0 - first.0) / MINUTE_US).map(|at| first.plus(at * MINUTE_US));
                        starts.map(|at| *minutes.get(&at).unwrap_or(&0) as f64).collect::<Vec<f64>>()
                    });
                    known.insert(*start, values.and_then(|values| oracle::forecast(&values)));
                }
                for (start, expected) in known {
                    if let Some((expected, error)) = expected {
                        expect.insert((key.0, key.1.clone(), *start), (*expected, *error, minutes[start]));
                    }
                }
            }
            prop_assert_eq!(rows.keys().collect::<Vec<_>>(), expect.keys().collect::<Vec<_>>());
            for (got, expect) in rows.values().zip(expect.values()) {
                prop_assert!((got.0 - expect.0).abs() < 1e-9 && (got.1 - expect.1).abs() < 1e-9 && got.2 == expect.2);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// What is said of tools is said when a partition meets another text than it met last, and that is another than was
    /// said last.
    #[test]
    fn tools_are_their_twin(plans in any_plans(), sizes in sizes(), workers in 1..3_usize) {
        let events = events(&plans);
        let run = run(&settings(), workers, &ticks(&events, &sizes));
        let rows = run.outputs.iter().flat_map(|output| &output.tools);
        let mut got: Vec<_> = rows.map(|row| (row.ts, row.server.clone(), row.tool.clone(), row.change.as_str())).collect();
        let (mut met, mut said) = (BTreeMap::new(), BTreeMap::new());
        let mut expect = Vec::new();
        for event in &events {
            let Some(Body::Message(message)) = &event.body else { continue };
            for text in &message.tool_definitions {
                let definition: serde_json::Value = serde_json::from_slice(text).expect("it is JSON");
                let tool = definition["name"].as_str().expect("a name").to_owned();
                let key = (event.server.clone(), tool.clone());
                let partition = partition_of(&event.session_id, PARTITIONS);
                if met.insert((partition, key.clone()), definition.clone()) == Some(definition.clone()) {
                    continue;
                }
                let change = match said.insert(key, definition.clone()) {
                    None => ToolChange::FirstSeen,
                    Some(before) if before == definition => continue,
                    Some(_) => ToolChange::Changed,
                };
                expect.push((Micros(event.ts_us), event.server.clone(), tool, change.as_str()));
            }
        }
        // Rows of one tick are by partition.
        got.sort();
        expect.sort();
        prop_assert_eq!(got, expect);
    }

    /// The rules' alerts that are open are those that all calls so far speak for.
    #[test]
    fn open_alerts_are_their_twins(plans in any_plans(), said in sayings(), sizes in sizes(), workers in 1..3_usize) {
        let mut settings = settings();
        settings.sessions.rules = Rules { loop_calls: 2, error_streak: 2, probes: 2 };
        let events = with_sayings(&events(&plans), &said);
        let ticks = ticks(&events, &sizes);
        let run = run(&settings, workers, &ticks);
        let mut open: BTreeMap<(AlertKind, &str), (Micros, u64)> = BTreeMap::new();
        for ((output, tick), arrived) in run.outputs.iter().zip(&ticks).zip(prefixes(&events, &ticks)) {
            for row in output.alerts.iter().filter(|row| RULES.contains(&row.kind)) {
                let key = (row.kind, row.subject.as_str());
                if row.state == AlertState::Resolved {
                    open.remove(&key);
                } else {
                    open.insert(key, (row.opened_at, row.times));
                }
            }
            let twin = oracle::parts_at(arrived, &settings.sessions.timing, tick.watermark);
            let mut twin = oracle::open_alerts(&twin, &settings.sessions.rules, |leaf| leaf.path == "password");
            // Rows are told at the first, second, fourth time.
            twin.values_mut().for_each(|(_, times)| *times = 1 << times.ilog2());
            prop_assert_eq!(&open, &twin, "tick {:?}", tick.tick);
        }
    }

    /// Each thing is one alert at a time: it opens, is told again at the second, fourth, eighth signal, and is resolved;
    /// every flagged session is one signal.
    #[test]
    fn alerts_have_one_life(plans in any_plans(), said in sayings(), sizes in sizes()) {
        let mut settings = settings();
        settings.sessions.gate.flag_p = 0.5;
        let run = run(&settings, 2, &ticks(&with_sayings(&events(&plans), &said), &sizes));
        let mut open: BTreeMap<(AlertKind, String), AlertRow> = BTreeMap::new();
        for output in &run.outputs {
            for row in &output.alerts {
                let key = (row.kind, row.subject.clone());
                match (row.state, open.remove(&key)) {
                    (AlertState::Open, None) => {
                        prop_assert_eq!(row.times, 1);
                        open.insert(key, row.clone());
                    }
                    (AlertState::Updated, Some(before)) => {
                        prop_assert_eq!((&row.alert_id, row.times), (&before.alert_id, 2 * before.times));
                        open.insert(key, row.clone());
                    }
                    (AlertState::Resolved, Some(before)) => {
                        prop_assert_eq!(&row.alert_id, &before.alert_id);
                        prop_assert!(row.times >= before.times);
                    }
                    (state, before) => prop_assert!(false, "{:?} after {:?}", state, before),
                }
            }
            prop_assert_eq!(output.open_alerts, open.len());
            for row in output.sessions.iter().filter(|row| row.flagged == Some(true)) {
                let is_it = |alert: &&AlertRow| alert.kind == AlertKind::Flagged && alert.subject == *row.session_id;
                let told = run.outputs.iter().flat_map(|output| &output.alerts).find(is_it);
                prop_assert!(told.is_some(), "{:?}", row.session_id);
            }
        }
    }
}

/// The law of forecasts holds of some: sessions go on for so long that there are any.
#[test]
fn there_are_forecasts_to_compare() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let plans = long_plans().new_tree(&mut runner).expect("plans").current();
    let many: Vec<_> = (0..6).map(|_| long_plans().new_tree(&mut runner).expect("plans").current()).collect();
    let rows = |plans: &Vec<crate::traffic::Plan>| {
        let run = run(&settings(), 1, &ticks(&events(plans), &[9]));
        run.outputs.iter().map(|output| output.forecasts.len()).sum::<usize>()
    };
    assert!(rows(&plans) + many.iter().map(rows).sum::<usize>() > 20);
}
