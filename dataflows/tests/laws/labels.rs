//! What people say about sessions: any order of sayings gives one model, and the forgotten leave no trace.

use proptest::prelude::*;
use undercurrent_dataflows::model::Part;
use undercurrent_dataflows::oracle;
use undercurrent_schemas::rows::LabelOutcome;
use undercurrent_schemas::v1::{self, event::Body, label::Verdict};

use crate::cases;
use crate::run::{facts, run, settings};
use crate::traffic::{any_plans, any_sizes, events, ticks};

/// Something said about the session of the event at this place, right after another event.
#[derive(Clone, Debug)]
struct Said {
    about: prop::sample::Index,
    after: prop::sample::Index,
    verdict: Verdict,
}

fn said() -> impl Strategy<Value = Said> {
    let verdict = prop_oneof![Just(Verdict::Benign), Just(Verdict::Malicious), Just(Verdict::Clear)];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), verdict).prop_map(|(about, after, verdict)| Said {
        about,
        after,
        verdict,
    })
}

fn saying(session: &v1::Event, ts_us: i64, sequence: u64, body: Body) -> v1::Event {
    v1::Event {
        id: Some(v1::EventId { gateway: 8, epoch: 1, sequence }),
        ts_us,
        session_id: session.session_id.clone(),
        body: Some(body),
        ..v1::Event::default()
    }
}

/// The events with what was said put between them.
fn with_sayings(events: &[v1::Event], said: &[Said]) -> Vec<v1::Event> {
    let mut all = events.to_vec();
    for (sequence, said) in (1..).zip(said) {
        let about = said.about.get(events);
        let known = all.iter().position(|event| event.session_id == about.session_id).expect("it is there");
        let place = known + said.after.index(all.len() - known);
        let body = Body::Label(v1::Label { verdict: said.verdict.into() });
        all.insert(place + 1, saying(about, all[place].ts_us, sequence, body));
    }
    all
}

/// What was last said about a session.
fn last_said(events: &[v1::Event], session_id: &str) -> Verdict {
    let labels = events.iter().filter(|event| event.session_id == session_id).filter_map(|event| match &event.body {
        Some(Body::Label(label)) => Some(label.verdict()),
        _ => None,
    });
    labels.fold(Verdict::Unspecified, |_, later| later)
}

proptest! {
    #![proptest_config(cases(64))]

    /// Whenever and in whatever order things are said: the last one counts, as if it had been known from the start. A
    /// session that is malicious has taught nothing; only the scores of its calls still calibrate, and it
    /// is in its cell.
    #[test]
    fn the_last_label_counts(
        plans in any_plans(),
        said in prop::collection::vec(said(), 0..12),
        sizes in any_sizes(),
        workers in 1..4_usize,
    ) {
        let events = with_sayings(&events(&plans), &said);
        let run = run(&settings(), workers, &ticks(&events, &sizes));
        let parts = oracle::parts(&events, &settings().sessions.timing);
        let is_bad = |part: &oracle::Part<'_>| last_said(&events, &part.first.session_id) == Verdict::Malicious;
        let (bad, good): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_bad);
        let mut expect = oracle::taught_counts(&good);
        for (entry, count) in oracle::taught_counts(&bad) {
            if matches!(entry.part, Part::CallScore | Part::Cell) {
                *expect.entry(entry).or_insert(0) += count;
            }
        }
        prop_assert_eq!(facts(&run.model), expect);
        let rows: Vec<_> = run.outputs.iter().flat_map(|output| &output.labels).collect();
        prop_assert_eq!(rows.len(), said.len());
        prop_assert!(rows.iter().all(|row| row.outcome == LabelOutcome::Applied));
    }

    /// Whoever is forgotten leaves everything: facts, terms, scores. When all are, nothing is left.
    #[test]
    fn the_forgotten_leave_no_trace(
        plans in any_plans(),
        said in prop::collection::vec(said(), 0..6),
        sizes in any_sizes(),
        learn_p in 0.0..0.5_f64,
    ) {
        let mut settings = settings();
        settings.sessions.gate.learn_p = learn_p;
        settings.sessions.gate.doubtful_weight = 1;
        let mut events = with_sayings(&events(&plans), &said);
        let last = events.last().map_or(0, |event| event.ts_us);
        let mut sessions: Vec<_> = events.clone();
        sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        sessions.dedup_by(|a, b| a.session_id == b.session_id);
        for (sequence, session) in (1_000..).zip(&sessions) {
            events.push(saying(session, last, sequence, Body::Forget(v1::Forget {})));
        }
        let run = run(&settings, 2, &ticks(&events, &sizes));
        prop_assert_eq!(run.model.as_change().totals, vec![]);
    }
}
