//! From terms to a score: tail probabilities with back-off, their -ln, and a conformal p-value.

use undercurrent_schemas::v1::{self, TermKind};

use super::combination::factor;
use super::reasons::reasons;
use super::terms::{CALL_TERMS, CallTerms, SESSION_TERMS, SessionTerms, Witness, call_terms};
use super::words::Names;
use super::{Assessment, Known, Labelled, LeftOut, labelled_call};
use crate::model::{GLOBAL, Histograms, Model, Part, Tail, score_bin, term_bin};
use crate::session::{CallFact, Past};

/// How many sessions (or calls) of the global back-off a young server's histograms lean on.
const BACK_OFF: f64 = 8.0;

/// How unusual a call is, given the session's past. Its terms come along.
#[must_use]
pub fn assess(model: Option<&Model>, scope: u64, past: Past<'_>, call: &CallFact, names: &Names<'_>) -> Assessment {
    assess_without(LeftOut::default(), model, scope, past, call, names)
}

/// The same, without some terms: they add nothing to the score and are no reason.
#[must_use]
pub fn assess_without(
    left_out: LeftOut,
    model: Option<&Model>,
    scope: u64,
    past: Past<'_>,
    call: &CallFact,
    names: &Names<'_>,
) -> Assessment {
    let Some(model) = model.filter(|model| model.is_live(scope)) else { return Assessment::Unknown };
    let CallTerms { values, witnesses } = call_terms(model, scope, past, call);
    let labelled = labelled_call(model, scope, call);
    let asked = Asked { kind: Kind::Call, values: &values, witnesses: &witnesses, labelled: labelled.as_ref() };
    known(model, scope, &asked, left_out, names)
}

/// How unusual a session is, given its terms.
#[must_use]
pub fn assess_session(model: &Model, scope: u64, terms: &SessionTerms, names: &Names<'_>) -> Assessment {
    assess_session_without(LeftOut::default(), model, scope, terms, names)
}

/// The same, without some terms.
#[must_use]
pub fn assess_session_without(
    left_out: LeftOut,
    model: &Model,
    scope: u64,
    terms: &SessionTerms,
    names: &Names<'_>,
) -> Assessment {
    if !model.is_live(scope) {
        return Assessment::Unknown;
    }
    let SessionTerms { values, witnesses, labelled } = terms;
    let asked = Asked { kind: Kind::Session, values, witnesses, labelled: labelled.as_ref() };
    known(model, scope, &asked, left_out, names)
}

#[derive(Clone, Copy)]
enum Kind {
    Call,
    Session,
}

impl Kind {
    const fn parts(self) -> (Part, Part, &'static [TermKind]) {
        match self {
            Self::Call => (Part::CallTerm, Part::CallScore, &CALL_TERMS),
            Self::Session => (Part::SessionTerm, Part::SessionScore, &SESSION_TERMS),
        }
    }

    fn leaves_out(self, left_out: LeftOut, term: usize) -> bool {
        match self {
            Self::Call => left_out.has_call_term(term),
            Self::Session => left_out.has_session_term(term),
        }
    }
}

/// What is to be scored.
struct Asked<'a> {
    kind: Kind,
    values: &'a [f64],
    witnesses: &'a [Witness],
    labelled: Option<&'a Labelled>,
}

fn known(model: &Model, scope: u64, asked: &Asked<'_>, left_out: LeftOut, names: &Names<'_>) -> Assessment {
    let &Asked { kind, values, witnesses, labelled } = asked;
    let (term_part, score_part, kinds) = kind.parts();
    let tails = TermTails { here: model.histograms(term_part, scope), everywhere: model.histograms(term_part, GLOBAL) };
    // And one of labels.
    let room = kinds.len() + 1;
    let (mut terms, mut seen) = (Vec::with_capacity(room), Vec::with_capacity(room));
    let mut score = 0.0;
    for (index, (&of, &value)) in kinds.iter().zip(values).enumerate() {
        if kind.leaves_out(left_out, index) {
            continue;
        }
        // Not `-ln`, which makes a probability of 1 a weight of -0.
        let weight = factor(of) * (0.0 - tails.upper(index, term_bin(value)).ln());
        score += weight;
        terms.push(v1::Term { kind: of.into(), value, weight });
        seen.push(&witnesses[index]);
    }
    if let Some(labelled) = labelled.filter(|_| !left_out.has_labelled()) {
        let weight = labelled.weight();
        score += weight;
        let kind = TermKind::LabelledBits.into();
        terms.push(v1::Term { kind, value: labelled.bits, weight });
        seen.push(&labelled.witness);
    }
    let reasons = reasons(terms.iter().zip(seen), names);
    let p_value = conformal(model, score_part, scope, score);
    Assessment::Known(Known { score, p_value, model_version: model.version(), terms, reasons })
}

/// The histograms of a kind's terms: of one server, and of all.
struct TermTails<'a> {
    here: Option<&'a Histograms>,
    everywhere: Option<&'a Histograms>,
}

impl TermTails<'_> {
    /// Probability of a value in this bin or above, among the server's, leaning on all while it is young.
    fn upper(&self, term: usize, bin: u32) -> f64 {
        let tail = |of: Option<&Histograms>| of.map_or_else(Tail::default, |histograms| histograms.tail(term, bin));
        let (here, everywhere) = (tail(self.here), tail(self.everywhere));
        let back_off = (everywhere.at_least as f64 + 1.0) / (everywhere.of as f64 + 1.0);
        ((here.at_least as f64 + BACK_OFF * back_off) / (here.of as f64 + BACK_OFF)).min(1.0)
    }
}

/// Share of earlier scores at least this high, this one included: valid whatever their distribution (conformal).
fn conformal(model: &Model, part: Part, scope: u64, score: f64) -> f64 {
    let bin = score_bin(score);
    let here = model.tail(part, scope, 0, bin);
    let tail = if here.of >= CALIBRATED { here } else { model.tail(part, GLOBAL, 0, bin) };
    (tail.at_least as f64 + 1.0) / (tail.of as f64 + 1.0)
}

/// Scores that a server needs before it is calibrated by itself.
const CALIBRATED: u64 = 100;
