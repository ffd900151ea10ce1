//! What people say about sessions: labels, and wishes to be forgotten.
//!
//! A session's parts are kept until the horizon of unlearning; what is said later is refused, with that reason. A label
//! holds for the session's later parts too.

use std::sync::Arc;

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{AlertKind, LabelOutcome, LabelRow, Source};
use undercurrent_schemas::v1::{self, label::Verdict};

use super::imports::is_import;
use super::{Identity, Measure, Outbox, PartitionSessions};
use crate::alerts::Signal;

/// What a wish to be forgotten is called in table `labels`.
pub(crate) const FORGET: &str = "forget";

/// Alerts whose subject is a session.
const OF_SESSIONS: [AlertKind; 5] =
    [AlertKind::Flagged, AlertKind::Loop, AlertKind::LoopOfTwo, AlertKind::ErrorStreak, AlertKind::Probing];

impl PartitionSessions {
    /// Every ended part of the session teaches as the label says, from now on.
    pub(super) fn label(&mut self, event: &v1::Event, verdict: Verdict, out: &mut Outbox) {
        let session = self.sessions.get_mut(event.session_id.as_str()).filter(|session| !session.is_import());
        let parts = session.map(|session| {
            session.label = verdict;
            let scope = session.identity.scope;
            // Somebody has looked.
            if verdict != Verdict::Clear {
                let Identity { id, server, .. } = &session.identity;
                out.signals.push(Signal::over(Micros(event.ts_us), AlertKind::Flagged, server, id));
            }
            for part in &mut session.closed {
                part.contribution.relabel(scope, &part.fact, verdict, out);
            }
            session.closed.len()
        });
        self.said(event, verdict.as_text(), parts, out);
    }

    /// The session leaves the model, whole: its facts, its terms, its scores; what is open of it ends unscored.
    pub(super) fn forget(&mut self, event: &v1::Event, out: &mut Outbox) {
        let parts = self.forgotten(&event.session_id, Micros(event.ts_us), out);
        self.said(event, FORGET, parts, out);
    }

    /// Every session of the principal does. Each is told by a row of its own; of a principal without sessions nothing is.
    pub(super) fn forget_principal(&mut self, event: &v1::Event, out: &mut Outbox) {
        let of_principal = self.sessions.values().map(|session| &session.identity);
        let of_principal = of_principal.filter(|of| *of.principal == *event.principal && *of.tenant == *event.tenant);
        let of_principal = of_principal.filter(|of| !is_import(&of.id));
        let mut ids: Vec<_> = of_principal.map(|of| of.id.to_string()).collect();
        ids.sort_unstable();
        for session_id in ids {
            let parts = self.forgotten(&session_id, Micros(event.ts_us), out);
            self.said(&v1::Event { session_id, ..event.clone() }, FORGET, parts, out);
        }
    }

    /// How many parts of a session were forgotten; `None` = it is not known.
    fn forgotten(&mut self, session_id: &str, at: Micros, out: &mut Outbox) -> Option<usize> {
        let Self { sessions, learning, due, kept, .. } = self;
        sessions.get_mut(session_id).filter(|session| !session.is_import()).map(|session| {
            let scope = session.identity.scope;
            let given_up = session.calls.give_up_all();
            session.settle(given_up, learning, out);
            let open = session.open.take().map(|part| {
                learning.open -= 1;
                let part = *part;
                (part.contribution, part.fact)
            });
            for part in &session.closed {
                kept.remove(&(part.kept_until, Arc::clone(&session.identity.id), part.number));
            }
            let closed = session.closed.drain(..).map(|part| (part.contribution, part.fact));
            let parts: Vec<_> = closed.chain(open).collect();
            let count = parts.len();
            for (contribution, fact) in parts {
                contribution.retract_all(scope, &fact, out);
                for (call, answer) in &fact.calls {
                    let tool = learning.dictionary.shared(call.tool);
                    out.withdrawn.push(Measure::of(&session.identity, call, answer, tool));
                }
            }
            // Nobody is to be told of it any longer.
            let Identity { id, server, .. } = &session.identity;
            out.signals.extend(OF_SESSIONS.map(|kind| Signal::over(at, kind, server, id)));
            session.reschedule(&learning.settings.timing, due);
            count
        })
    }

    pub(super) fn said(&self, event: &v1::Event, label: &str, parts: Option<usize>, out: &mut Outbox) {
        let applied = parts.is_some();
        out.counters.labels_applied += u64::from(applied);
        out.counters.labels_too_old += u64::from(!applied);
        out.labels.push(LabelRow {
            source: Source { partition: self.learning.partition, ..Source::default() },
            event: event.id.unwrap_or_default(),
            ts: Micros(event.ts_us),
            session_id: event.session_id.clone(),
            label: label.to_owned(),
            outcome: if applied { LabelOutcome::Applied } else { LabelOutcome::TooOld },
            parts: u32::try_from(parts.unwrap_or(0)).unwrap_or(u32::MAX),
        });
    }
}
