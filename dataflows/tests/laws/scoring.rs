//! A score is what its terms and reasons say, whatever was learned.

use proptest::prelude::*;
use undercurrent_dataflows::assess::{
    Assessment, CALL_TERMS, Known, LeftOut, SESSION_TERMS, SessionTerms, assess, assess_session,
    assess_session_without, assess_without, call_terms, labelled, labelled_call, session_terms,
};
use undercurrent_dataflows::model::{Model, Part, name_hash};
use undercurrent_dataflows::oracle;
use undercurrent_dataflows::session::{CallFact, Past, SessionFact};
use undercurrent_schemas::v1;

use crate::cases;
use crate::run::{Run, run, settings};
use crate::traffic::{Plan, any_plans, any_sizes, events, ticks};

/// The sum of at most a dozen weights, added in another order.
const CLOSE: f64 = 1e-9;

fn known(assessment: Assessment) -> Known {
    match assessment {
        Assessment::Known(known) => known,
        Assessment::Unknown => panic!("the model is live"),
    }
}

fn check_sums(score: f64, p_value: f64, terms: &[v1::Term], reasons: &[v1::Reason]) {
    let of_terms: f64 = terms.iter().map(|term| term.weight).sum();
    let of_reasons: f64 = reasons.iter().map(|reason| reason.weight).sum();
    assert!((score - of_terms).abs() < CLOSE && (score - of_reasons).abs() < CLOSE, "{score} {of_terms} {of_reasons}");
    assert!(score.is_finite() && score.is_sign_positive(), "{score}");
    assert!(p_value > 0.0 && p_value <= 1.0, "{p_value}");
    for weight in terms.iter().map(|term| term.weight).chain(reasons.iter().map(|reason| reason.weight)) {
        assert!(weight.is_finite() && weight.is_sign_positive(), "{weight}");
    }
    let (other, largest) = reasons.split_last().expect("there is always a reason");
    assert_eq!(other.kind(), v1::TermKind::Other);
    assert!(largest.is_sorted_by(|a, b| a.weight >= b.weight));
    assert!(largest.iter().all(|reason| !reason.text.is_empty()));
}

/// With the term that a reason names left out, the score is lower by the weight that the reason prints.
fn check_reasons(known: &Known, scored_without: impl Fn(LeftOut) -> Known) {
    check_sums(known.score, known.p_value, &known.terms, &known.reasons);
    let mut all_named = LeftOut::default();
    for reason in known.reasons.iter().filter(|reason| reason.kind() != v1::TermKind::Other) {
        let left_out = LeftOut::default().and(reason.kind().name()).expect("a reason names a term");
        let without = scored_without(left_out);
        check_sums(without.score, without.p_value, &without.terms, &without.reasons);
        assert!((known.score - without.score - reason.weight).abs() < CLOSE, "{reason:?} {known:?} {without:?}");
        assert!(without.score < known.score, "a reason has weight");
        assert!(without.terms.iter().all(|term| term.kind != reason.kind));
        assert!(without.p_value >= known.p_value, "less strange is less rare");
        all_named = all_named.and(reason.kind().name()).expect("a reason names a term");
    }
    let other = known.reasons.last().expect("there is always a reason").weight;
    assert!((scored_without(all_named).score - other).abs() < CLOSE, "what no reason names is the other");
}

/// Every part of these plans as a session, with its scope.
fn sessions(plans: &[Plan]) -> Vec<(u64, SessionFact)> {
    let events = events(plans);
    let parts = oracle::parts(&events, &settings().sessions.timing);
    let session = |part: &oracle::Part<'_>| {
        let mut session = SessionFact::default();
        for (order, call) in (0..).zip(&part.calls) {
            let fact = CallFact::of(call.request, call.ts, order, |_, _| {}).expect("it is a call");
            session.insert(fact, call.answer_fact());
        }
        (name_hash(&[&part.first.server]), session)
    };
    parts.iter().map(session).collect()
}

/// What a model makes of the calls and sessions of these plans: every question that can be asked of it.
pub(crate) fn answers(model: &Model, plans: &[Plan]) -> Vec<Assessment> {
    let mut answers = Vec::new();
    for (scope, session) in sessions(plans) {
        let mut terms = Vec::new();
        session.with_past(|past, call, _| {
            answers.push(assess(Some(model), scope, past, call, &|_| None));
            terms.push(call_terms(model, scope, past, call));
        });
        let terms = SessionTerms { labelled: labelled(model, scope, &session), ..session_terms(&session, &terms) };
        answers.push(assess_session(model, scope, &terms, &|_| None));
    }
    answers
}

fn check(model: &Model, scope: u64, session: &SessionFact) {
    let names = |hash: u64| model.name(hash).map(|name| std::borrow::Cow::Borrowed(&**name));
    let mut terms = Vec::new();
    session.with_past(|past, call, _| {
        let of_call = known(assess(Some(model), scope, past, call, &names));
        let labelled = labelled_call(model, scope, call).is_some();
        assert_eq!(of_call.terms.len(), CALL_TERMS.len() + usize::from(labelled));
        check_reasons(&of_call, |left_out| known(assess_without(left_out, Some(model), scope, past, call, &names)));
        terms.push(call_terms(model, scope, past, call));
    });
    let terms = SessionTerms { labelled: labelled(model, scope, session), ..session_terms(session, &terms) };
    let of_session = known(assess_session(model, scope, &terms, &names));
    assert_eq!(of_session.terms.len(), SESSION_TERMS.len() + usize::from(terms.labelled.is_some()));
    check_reasons(&of_session, |left_out| known(assess_session_without(left_out, model, scope, &terms, &names)));
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn reasons_are_true(taught in any_plans(), scored in any_plans()) {
        let run = run(&settings(), 1, &ticks(&events(&taught), &[5]));
        for (scope, session) in sessions(&scored) {
            // A scope without a model of its own leans on all others.
            if run.model.is_live(scope) {
                check(&run.model, scope, &session);
            } else if let Some((call, _)) = session.calls.first() {
                prop_assert_eq!(assess(Some(&run.model), scope, Past::none(), call, &|_| None), Assessment::Unknown);
            }
        }
    }

    /// What an operator leaves out is in no score, and is learned all the same: it can come back.
    #[test]
    fn what_is_left_out_is_learned_all_the_same(plans in any_plans(), term in 0..SESSION_TERMS.len()) {
        let term = SESSION_TERMS[term];
        let mut without = settings();
        without.sessions.left_out = LeftOut::default().and(term.name()).expect("a term");
        let ticks = ticks(&events(&plans), &[5]);
        let (with, without) = (run(&settings(), 1, &ticks), run(&without, 1, &ticks));
        prop_assert_eq!(with.count(Part::SessionTerm), without.count(Part::SessionTerm));
        let assessments = |run: &Run| -> Vec<_> {
            let rows = run.outputs.iter().flat_map(|output| &output.sessions);
            rows.filter_map(|row| row.assessment.clone()).collect()
        };
        for (with, without) in assessments(&with).iter().zip(assessments(&without)) {
            prop_assert!(without.score <= with.score + CLOSE);
            let kinds: Vec<_> = with.terms.iter().map(|term| term.kind).filter(|kind| *kind != i32::from(term)).collect();
            prop_assert_eq!(kinds, without.terms.iter().map(|term| term.kind).collect::<Vec<_>>());
        }
    }

    /// The same of what the engine wrote into history.
    #[test]
    fn rows_add_up(plans in any_plans(), sizes in any_sizes()) {
        let run = run(&settings(), 2, &ticks(&events(&plans), &sizes));
        for (output, row) in run.outputs.iter().flat_map(|output| output.sessions.iter().map(move |row| (output, row))) {
            let Some(known) = &row.assessment else { continue };
            check_sums(known.score, known.p_value, &known.terms, &known.reasons);
            prop_assert_eq!(known.terms.len(), SESSION_TERMS.len());
            prop_assert!(known.model_version < output.tick.0, "scored by the model of an earlier tick");
            prop_assert_eq!(row.flagged, Some(known.p_value <= settings().sessions.gate.flag_p));
        }
    }
}
