//! The end of a part: it is scored by the model of an earlier tick, and then teaches, as much as the gate lets it.

use std::borrow::Cow;
use std::sync::Arc;

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{AlertKind, EndReason, SessionRow, Source};
use undercurrent_schemas::text::Text;

use super::contribution::Contribution;
use super::{ClosedPart, Dictionary, Identity, Learning, Outbox, Part, Session, Settings};
use crate::alerts::Signal;
use crate::assess::{
    Assessment, CallTerms, LeftOut, SessionTerms, assess_session_without, call_terms, labelled, session_terms,
};
use crate::model::{FULL_WEIGHT, Model};
use crate::session::SessionFact;

impl Session {
    /// Ends the open part, if there is one; says until when it is kept. `at`: when the session itself said so.
    pub(super) fn close(
        &mut self,
        at: Option<Micros>,
        end_reason: EndReason,
        model: Option<&Model>,
        learning: &mut Learning,
        out: &mut Outbox,
    ) -> Option<(Micros, Arc<str>, u32)> {
        let given_up = self.calls.give_up_all();
        self.settle(given_up, learning, out);
        let mut part = self.open.take()?;
        learning.open -= 1;
        if !learning.settings.learns {
            out.counters.sessions += 1;
            return None;
        }
        let scope = self.identity.scope;
        learning.dictionary.learn_pairs(&part.fact, out);

        let scored = score(model, scope, &part.fact, &learning.dictionary, learning.settings.left_out);
        let p_value = scored.as_ref().and_then(|scored| scored.assessment.p_value());
        let flagged = p_value.map(|p_value| p_value <= learning.settings.gate.flag_p);
        let has_calls = !part.fact.calls.is_empty();
        let mut contribution = std::mem::take(&mut part.contribution);
        if let Some(Scored { assessment: Assessment::Known(known), terms, calls }) = &scored {
            contribution.scored(scope, known.score, terms, calls, out);
        }
        contribution.teach(scope, &part.fact, learning.settings.gate.weight(p_value), self.label, out);
        let weight = contribution.weight();
        part.watch.end(part.last, &self.identity, out);
        if flagged == Some(true) {
            let text = scored.as_ref().and_then(Scored::first_reason).unwrap_or_default();
            let Identity { id, server, .. } = &self.identity;
            out.signals.push(Signal::raised(part.last, AlertKind::Flagged, server, id, text));
        }
        let counters = &mut out.counters;
        counters.sessions += 1;
        counters.scored += u64::from(flagged.is_some());
        counters.flagged += u64::from(flagged == Some(true));
        counters.taught += u64::from(weight > 0);
        counters.quarantined += u64::from(has_calls && weight < FULL_WEIGHT);

        out.sessions.push(SessionRow {
            source: Source { partition: learning.partition, ..Source::default() },
            tenant: Text::from(&self.identity.tenant),
            principal: Text::from(&self.identity.principal),
            server: Text::from(&self.identity.server),
            session_id: Text::from(&self.identity.id),
            part: part.number,
            started_at: part.started,
            ended_at: part.last,
            end_reason,
            messages: part.messages,
            calls: part.fact.calls.len() as u64,
            errors: part.errors,
            assessment: scored.and_then(|scored| scored.assessment.into_wire()),
            flagged,
            taught: weight > 0,
            taught_eighths: weight,
            cell: contribution.cell(),
            cluster: String::new(),
        });
        Some(self.keep(part, at, contribution, &learning.settings))
    }

    /// Keeps an ended part while late messages may correct it, and while it can be unlearned: until when, and which.
    fn keep(
        &mut self,
        part: Box<Part>,
        at: Option<Micros>,
        contribution: Contribution,
        settings: &Settings,
    ) -> (Micros, Arc<str>, u32) {
        let ended = at.map_or(part.last, |at| at.max(part.last));
        let correctable_until = ended.plus(settings.timing.lateness_us);
        let kept_until = correctable_until.max(ended.plus(settings.timing.unlearn_us));
        let Part { number, started, mut fact, .. } = *part;
        // Kept for as long as it can be unlearned, which is most of its time: without room for more.
        fact.calls.shrink_to_fit();
        self.closed.push_back(ClosedPart { number, started, ended, fact, contribution, correctable_until, kept_until });
        self.closed.shrink_to_fit();
        (kept_until, Arc::clone(&self.identity.id), number)
    }
}

struct Scored {
    assessment: Assessment,
    terms: SessionTerms,
    calls: Vec<CallTerms>,
}

impl Scored {
    /// What stood out most, in words.
    fn first_reason(&self) -> Option<String> {
        match &self.assessment {
            Assessment::Known(known) => known.reasons.first().map(|reason| reason.text.clone()),
            Assessment::Unknown => None,
        }
    }
}

/// Scores a session that made calls, if a model is live for it.
fn score(
    model: Option<&Model>,
    scope: u64,
    session: &SessionFact,
    dictionary: &Dictionary,
    left_out: LeftOut,
) -> Option<Scored> {
    let model = model.filter(|model| model.is_live(scope))?;
    if session.calls.is_empty() {
        return None;
    }
    let mut calls = Vec::with_capacity(session.calls.len());
    session.with_past(|past, call, _| calls.push(call_terms(model, scope, past, call)));
    let terms = SessionTerms { labelled: labelled(model, scope, session), ..session_terms(session, &calls) };
    let assessment =
        assess_session_without(left_out, model, scope, &terms, &|hash| dictionary.text(hash).map(Cow::Borrowed));
    Some(Scored { assessment, terms, calls })
}
