//! The columns that say what was thought of a row: score, p-value, model, reasons, terms. Shared by three tables.
//!
//! Invariant: `score`, `p_value` and `model_version` are NULL together (no model was live); the lists are then empty.

use arrow::datatypes::{Float64Type, UInt64Type};

use super::columns::Columns;
use crate::v1::{Assessment, Decision, Reason, Term, Verdict};

impl<'a, R> Columns<'a, R> {
    /// Adds the five columns of an assessment.
    pub(super) fn assessment(self, rows: &'a [R], value: impl Fn(&'a R) -> Option<&'a Assessment>) -> Self {
        let reasons: Vec<&Reason> = rows.iter().flat_map(|row| reasons_of(value(row))).collect();
        let reasons = Columns::of(&reasons)
            .text("term", |reason| reason.kind().name())
            .text("text", |reason| &reason.text)
            .number::<Float64Type>("weight", |reason| reason.weight);
        let terms: Vec<&Term> = rows.iter().flat_map(|row| terms_of(value(row))).collect();
        let terms = Columns::of(&terms)
            .text("term", |term| term.kind().name())
            .number::<Float64Type>("value", |term| term.value)
            .number::<Float64Type>("weight", |term| term.weight);
        self.number_or_null::<Float64Type>("score", |row| value(row).map(|assessment| assessment.score))
            .number_or_null::<Float64Type>("p_value", |row| value(row).map(|assessment| assessment.p_value))
            .number_or_null::<UInt64Type>("model_version", |row| value(row).map(|assessment| assessment.model_version))
            .structs("reasons", |row| reasons_of(value(row)).len(), reasons)
            .structs("terms", |row| terms_of(value(row)).len(), terms)
    }
}

fn reasons_of(assessment: Option<&Assessment>) -> &[Reason] {
    assessment.map_or(&[], |assessment| &assessment.reasons)
}

fn terms_of(assessment: Option<&Assessment>) -> &[Term] {
    assessment.map_or(&[], |assessment| &assessment.terms)
}

/// The text of a decision; empty = none was made.
pub(super) fn decision_text(verdict: &Verdict) -> &'static str {
    match verdict.decision() {
        Decision::Unspecified => "",
        Decision::Allow => "allow",
        Decision::Flag => "flag",
        Decision::Delay => "delay",
        Decision::Hold => "hold",
        Decision::Block => "block",
    }
}
