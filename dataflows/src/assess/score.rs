//! From terms to a score: tail probabilities with back-off, their -ln, and a conformal p-value.

use undercurrent_schemas::v1;

use super::reasons::{Names, reasons};
use super::terms::{CALL_TERMS, CallTerms, SESSION_TERMS, SessionTerms, Witness, call_terms};
use super::{Assessment, Known};
use crate::model::{GLOBAL, Model, Part, score_bin, term_bin};
use crate::session::CallFact;

/// How many sessions (or calls) of the global back-off a young server's histograms lean on.
const BACK_OFF: f64 = 8.0;

/// How unusual a call is: `previous` is the name hash of the session's last tool. Its terms come along.
#[must_use]
pub fn assess(model: Option<&Model>, scope: u64, previous: u64, call: &CallFact, names: &Names<'_>) -> Assessment {
    let Some(model) = model.filter(|model| model.is_live(scope)) else { return Assessment::Unknown };
    let CallTerms { values, witnesses } = call_terms(model, scope, previous, call);
    known(model, scope, Kind::Call, &values, &witnesses, names)
}

/// How unusual a session is, given its terms.
#[must_use]
pub fn assess_session(model: &Model, scope: u64, terms: &SessionTerms, names: &Names<'_>) -> Assessment {
    if !model.is_live(scope) {
        return Assessment::Unknown;
    }
    known(model, scope, Kind::Session, &terms.values, &terms.witnesses, names)
}

#[derive(Clone, Copy)]
enum Kind {
    Call,
    Session,
}

impl Kind {
    const fn parts(self) -> (Part, Part, &'static [&'static str]) {
        match self {
            Self::Call => (Part::CallTerm, Part::CallScore, &CALL_TERMS),
            Self::Session => (Part::SessionTerm, Part::SessionScore, &SESSION_TERMS),
        }
    }
}

fn known(
    model: &Model,
    scope: u64,
    kind: Kind,
    values: &[f64],
    witnesses: &[Witness],
    names: &Names<'_>,
) -> Assessment {
    let (term_part, score_part, term_names) = kind.parts();
    let terms: Vec<v1::Term> = term_names
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, (name, value))| v1::Term {
            term: (*name).to_owned(),
            value: *value,
            weight: -upper_tail(model, term_part, scope, index, term_bin(*value)).ln(),
        })
        .collect();
    let score: f64 = terms.iter().map(|term| term.weight).sum();
    let reasons = reasons(&terms, witnesses, names);
    let p_value = conformal(model, score_part, scope, score);
    Assessment::Known(Known { score, p_value, model_version: model.version(), terms, reasons })
}

/// Probability of a value in this bin or above, among what taught the server, leaning on all servers while it is young.
fn upper_tail(model: &Model, part: Part, scope: u64, term: usize, bin: u32) -> f64 {
    let everywhere = model.tail(part, GLOBAL, term, bin);
    let back_off = (everywhere.at_least as f64 + 1.0) / (everywhere.of as f64 + 1.0);
    let here = model.tail(part, scope, term, bin);
    ((here.at_least as f64 + BACK_OFF * back_off) / (here.of as f64 + BACK_OFF)).min(1.0)
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
