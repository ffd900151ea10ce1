//! What people say about sessions: any order of sayings gives one model, and the forgotten leave no trace.

use std::collections::BTreeSet;

use proptest::prelude::*;
use undercurrent_dataflows::assess::{LeftOut, SESSION_TERMS};
use undercurrent_dataflows::model::Part;
use undercurrent_dataflows::oracle;
use undercurrent_schemas::ids::partition_of;
use undercurrent_schemas::rows::LabelOutcome;
use undercurrent_schemas::v1::{self, event::Body, label::Verdict};

use crate::cases;
use crate::run::{facts, run, settings};
use crate::traffic::{PARTITIONS, any_plans, any_sizes, events, ticks};

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
        let benign = good.iter().filter(|part| last_said(&events, &part.first.session_id) == Verdict::Benign);
        let labelled = bad.iter().map(|part| (part, true)).chain(benign.map(|part| (part, false)));
        expect.extend(oracle::labelled_counts(labelled));
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

    /// Where nobody calls a session malicious, no score has a term of labels; where somebody does, the terms of all
    /// others are what they are without it.
    #[test]
    fn labels_add_a_term_and_change_no_other(plans in any_plans(), said in prop::collection::vec(said(), 1..8)) {
        let events = with_sayings(&events(&plans), &said);
        let run = run(&settings(), 2, &ticks(&events, &[3]));
        let any_malicious = said.iter().any(|said| said.verdict == Verdict::Malicious);
        for row in run.outputs.iter().flat_map(|output| &output.sessions) {
            let Some(known) = &row.assessment else { continue };
            let (labelled, others): (Vec<&v1::Term>, Vec<_>) =
                known.terms.iter().partition(|term| term.kind() == v1::TermKind::LabelledBits);
            prop_assert!(any_malicious || labelled.is_empty());
            prop_assert_eq!(others.len(), SESSION_TERMS.len());
            let score = known.terms.iter().fold(0.0, |score, term| score + term.weight);
            prop_assert_eq!(score.to_bits(), known.score.to_bits());
        }
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
            events.push(saying(session, last, sequence, Body::Forget(v1::Forget::default())));
        }
        let run = run(&settings, 2, &ticks(&events, &sizes));
        prop_assert_eq!(run.model.as_change().totals, vec![]);
    }
}

/// A wish of each partition that a principal be forgotten: some session id leads to it.
fn forget_principal(principal: &str, at: &v1::Event) -> Vec<v1::Event> {
    let ids = (0..PARTITIONS).map(|wanted| {
        (0..).map(|n: u32| n.to_string()).find(|id| partition_of(id, PARTITIONS).0 == wanted).expect("some id does")
    });
    let wish = |(sequence, session_id): (u64, String)| v1::Event {
        id: Some(v1::EventId { gateway: 8, epoch: 2, sequence }),
        session_id,
        principal: principal.to_owned(),
        body: Some(Body::Forget(v1::Forget { whole_principal: true })),
        ..at.clone()
    };
    (1..).zip(ids).map(wish).collect()
}

proptest! {
    #![proptest_config(cases(32))]

    /// A principal that is forgotten leaves nothing, and nobody else leaves anything.
    #[test]
    fn a_forgotten_principal_was_never_there(plans in any_plans(), sizes in any_sizes()) {
        let mut all = events(&plans);
        let others: Vec<_> = all.iter().filter(|event| event.principal != "agent-1").cloned().collect();
        let last = all.last().expect("there are events").clone();
        all.extend(forget_principal("agent-1", &last));
        let run = run(&settings(), 2, &ticks(&all, &sizes));
        let parts = oracle::parts(&others, &settings().sessions.timing);
        prop_assert_eq!(facts(&run.model), oracle::taught_counts(&parts));
        let rows = run.outputs.iter().flat_map(|output| &output.labels);
        let told: BTreeSet<_> = rows.map(|row| row.session_id.as_str()).collect();
        let of =
            all.iter().filter(|event| event.principal == "agent-1" && matches!(event.body, Some(Body::Message(_))));
        prop_assert_eq!(told, of.map(|event| event.session_id.as_str()).collect());
    }
}

/// A session of one call: `send`'s recipient comes from the result of `source`.
fn payment(number: u64, source: &str) -> Vec<v1::Event> {
    let mut request = v1::Message { method: "tools/call".to_owned(), target: "send".to_owned(), ..Default::default() };
    request.set_direction(v1::Direction::ClientToServer);
    request.set_kind(v1::Kind::Request);
    let mut leaf = v1::Leaf { path: "to".to_owned(), value: number, source: source.to_owned(), ..v1::Leaf::default() };
    leaf.set_place(v1::Place::Field);
    request.call = Some(v1::CallFacts { leaves: vec![leaf], ..v1::CallFacts::default() });
    let event = |at: u64, body: Body| v1::Event {
        id: Some(v1::EventId { gateway: 9, epoch: 1, sequence: 10 * number + at }),
        ts_us: 1_700_000_000_000_000 + (10 * number + at) as i64 * 1_000_000,
        session_id: format!("session-{number}"),
        server: "bank".to_owned(),
        body: Some(body),
        ..v1::Event::default()
    };
    vec![event(0, Body::Message(request.into())), event(1, Body::SessionEnd(v1::SessionEnd {}))]
}

/// What labels say of the last of these sessions, in words. Said: what the numbered session is.
fn last_reason(sources: &[&str], said: &[(u64, Verdict)]) -> Option<String> {
    let (last, earlier) = sources.split_last().expect("there are sessions");
    let mut events: Vec<v1::Event> = (1..).zip(earlier).flat_map(|(number, source)| payment(number, source)).collect();
    let now = events.last().map_or(0, |event| event.ts_us);
    for (sequence, (number, verdict)) in (1..).zip(said) {
        let about = payment(*number, "").remove(0);
        events.push(saying(&about, now, sequence, Body::Label(v1::Label { verdict: (*verdict).into() })));
    }
    events.extend(payment(sources.len() as u64, last));
    // What is unusual about it is told first: here only labels are asked for.
    let unusual = ["place_bits_max", "origin_bits_max", "fresh_bits_max"];
    let mut settings = settings();
    settings.sessions.left_out =
        unusual.iter().fold(LeftOut::default(), |left_out, term| left_out.and(term).expect("a term"));
    let run = run(&settings, 1, &ticks(&events, &[1]));
    let row = run.outputs.iter().flat_map(|output| &output.sessions).last().expect("it ended").clone();
    let reasons = row.assessment.map(|known| known.reasons).unwrap_or_default();
    // Where nearly all do it, a trace of likeness is left.
    reasons
        .into_iter()
        .find(|reason| reason.kind() == v1::TermKind::LabelledBits && reason.weight > 0.01)
        .map(|reason| reason.text)
}

#[test]
fn who_looks_like_a_labelled_attack_is_told_so_and_who_does_not_is_not() {
    let honest = ["contacts"; 12];
    let before = [&honest[..], &["mail", "mail"]].concat();
    let attack = 13;
    let with = |last| [&before[..], &[last]].concat();
    let expect = "`send.to` was taken from a field in the result of `mail`, as in 1 of 1 sessions labelled malicious";
    assert_eq!(last_reason(&with("mail"), &[(attack, Verdict::Malicious)]).as_deref(), Some(expect));
    assert_eq!(last_reason(&with("contacts"), &[(attack, Verdict::Malicious)]), None, "what is usual is no likeness");
    assert_eq!(last_reason(&with("mail"), &[]), None);
    assert_eq!(last_reason(&with("mail"), &[(attack, Verdict::Benign)]), None);
    let taken_back = [(attack, Verdict::Malicious), (attack, Verdict::Clear)];
    assert_eq!(last_reason(&with("mail"), &taken_back), None);
    // Most that are known to do it are honest.
    let others = [(attack, Verdict::Malicious), (14, Verdict::Benign)];
    let between: Vec<_> = (1..13).map(|number| (number, Verdict::Benign)).chain(others).collect();
    assert_eq!(last_reason(&[&["mail"; 14][..], &["mail"]].concat(), &between), None);
}
