//! What one ended part of a session added to the sums, kept so that it can be taken back exactly.
//!
//! Invariant: what was pushed for a contribution is, at any time, exactly what [`Contribution::retract_all`] would take
//! back; nothing of it is computed anew from a later model.

use undercurrent_schemas::v1::label::Verdict;

use super::Outbox;
use crate::assess::{CALL_TERMS, CallTerms, SESSION_TERMS, SessionTerms};
use crate::clusters::cell_of;
use crate::model::{Entry, FULL_WEIGHT, Part, score_bin, term_bin};
use crate::session::SessionFact;
use crate::teach;

/// Of one part.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Contribution {
    /// What the learning gate gave it.
    gate_weight: u32,
    /// What its facts teach with at present.
    weight: u32,
    /// Bins of its terms in the histograms; `None` = it was not scored.
    terms: Option<Terms>,
    /// Its terms are in the histograms.
    terms_count: bool,
    /// Bin of its score.
    score: Option<u32>,
    /// Bins of its calls' scores.
    call_scores: Vec<u32>,
    /// What somebody said it is, if that counts: whether it is malicious.
    labelled: Option<bool>,
    /// The cell that it is in.
    cell: Option<u64>,
}

/// Bins fit 16 bits: a contribution is kept for as long as it can be unlearned.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Terms {
    session: [u16; SESSION_TERMS.len()],
    calls: Box<[[u16; CALL_TERMS.len()]]>,
}

impl Contribution {
    /// What the calls of a part have counted before it ended.
    pub(super) fn call_score(&mut self, scope: u64, score: f64, out: &mut Outbox) {
        let bin = score_bin(score);
        out.sums.push((Entry { part: Part::CallScore, scope, key: 0, bin }, 1));
        self.call_scores.push(bin);
    }

    /// The part was scored: its score and its terms count, whatever it may teach.
    pub(super) fn scored(
        &mut self,
        scope: u64,
        score: f64,
        session: &SessionTerms,
        calls: &[CallTerms],
        out: &mut Outbox,
    ) {
        let bin = score_bin(score);
        out.sums.push((Entry { part: Part::SessionScore, scope, key: 0, bin }, 1));
        self.score = Some(bin);
        self.terms = Some(Terms {
            session: session.values.map(|value| term_bin(value) as u16),
            calls: calls.iter().map(|call| call.values.map(|value| term_bin(value) as u16)).collect(),
        });
        self.count_terms(scope, true, out);
    }

    /// The part ended: it teaches what the gate allows, or what somebody said.
    pub(super) fn teach(&mut self, scope: u64, fact: &SessionFact, gate_weight: u32, label: Verdict, out: &mut Outbox) {
        self.gate_weight = gate_weight;
        self.place(scope, cell_of(fact), out);
        self.relabel(scope, fact, label, out);
    }

    /// Somebody said what it is: everything becomes as if that had been known when it ended.
    pub(super) fn relabel(&mut self, scope: u64, fact: &SessionFact, label: Verdict, out: &mut Outbox) {
        let weight = match label {
            _ if fact.calls.is_empty() => 0,
            Verdict::Benign => FULL_WEIGHT,
            Verdict::Malicious => 0,
            Verdict::Clear | Verdict::Unspecified => self.gate_weight,
        };
        push_facts(scope, fact, i64::from(weight) - i64::from(self.weight), out);
        self.weight = weight;
        self.count_terms(scope, label != Verdict::Malicious, out);
        let labelled = match label {
            _ if fact.calls.is_empty() => None,
            Verdict::Benign => Some(false),
            Verdict::Malicious => Some(true),
            Verdict::Clear | Verdict::Unspecified => None,
        };
        self.count_label(scope, fact, -1, out);
        self.labelled = labelled;
        self.count_label(scope, fact, 1, out);
    }

    /// The facts are others than they were: a late call came.
    pub(super) fn correct(&mut self, scope: u64, before: &SessionFact, after: &SessionFact, out: &mut Outbox) {
        push_facts(scope, before, -i64::from(self.weight), out);
        push_facts(scope, after, i64::from(self.weight), out);
        self.count_label(scope, before, -1, out);
        self.count_label(scope, after, 1, out);
        self.place(scope, cell_of(after), out);
    }

    /// As if the part had never been.
    pub(super) fn retract_all(mut self, scope: u64, fact: &SessionFact, out: &mut Outbox) {
        push_facts(scope, fact, -i64::from(self.weight), out);
        self.count_label(scope, fact, -1, out);
        self.count_terms(scope, false, out);
        self.place(scope, None, out);
        let scores = self.score.into_iter().map(|bin| (Part::SessionScore, bin));
        let call_scores = self.call_scores.iter().map(|bin| (Part::CallScore, *bin));
        out.sums.extend(scores.chain(call_scores).map(|(part, bin)| (Entry { part, scope, key: 0, bin }, -1)));
    }

    pub(super) const fn weight(&self) -> u32 {
        self.weight
    }

    /// Where it was placed when it ended, or by a late call since.
    pub(super) const fn cell(&self) -> Option<u64> {
        self.cell
    }

    fn place(&mut self, scope: u64, cell: Option<u64>, out: &mut Outbox) {
        if cell == self.cell {
            return;
        }
        let mut count = |cell: Option<u64>, diff| {
            out.sums.extend(cell.map(|key| (Entry { part: Part::Cell, scope, key, bin: 0 }, diff)));
        };
        count(self.cell, -1);
        count(cell, 1);
        self.cell = cell;
    }

    fn count_label(&self, scope: u64, fact: &SessionFact, diff: i64, out: &mut Outbox) {
        if let Some(is_malicious) = self.labelled {
            teach::labelled_facts(scope, fact, is_malicious, |entry| out.sums.push((entry, diff)));
        }
    }

    fn count_terms(&mut self, scope: u64, count: bool, out: &mut Outbox) {
        let Some(terms) = self.terms.as_ref().filter(|_| count != self.terms_count) else { return };
        let diff = if count { 1 } else { -1 };
        let mut push = |part, bins: &[u16]| {
            let entries = (0..).zip(bins).map(|(key, bin)| Entry { part, scope, key, bin: u32::from(*bin) });
            out.sums.extend(entries.map(|entry| (entry, diff)));
        };
        terms.calls.iter().for_each(|call| push(Part::CallTerm, call));
        push(Part::SessionTerm, &terms.session);
        self.terms_count = count;
    }
}

fn push_facts(scope: u64, fact: &SessionFact, weight: i64, out: &mut Outbox) {
    if weight != 0 {
        teach::taught_facts(scope, fact, |entry| out.sums.push((entry, weight)));
    }
}
