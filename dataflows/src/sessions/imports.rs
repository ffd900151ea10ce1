//! What another site learned: its sums join the model in one step, and leave it in one.
//!
//! An import's id is a hash of its sums, so whoever takes it back must bring the same ones: nothing of them is kept here
//! but that they count. It is kept as a session without calls, for as long as they do; there is no horizon to it.
//! Not here: what may be imported where (digest keys), and files.
//!
//! Invariant: an import counts once, or not at all; withdrawn, it leaves the model and this partition as if it had never
//! come, but for names, which count nothing.

use std::fmt::Write as _;

use undercurrent_schemas::ids::{Micros, stable_hash};
use undercurrent_schemas::v1;

use super::{ClosedPart, Contribution, Dictionary, FORGET, Identity, Outbox, PartitionSessions, Session};
use crate::model::{Entry, GLOBAL, Part};
use crate::session::SessionFact;

/// What an import is called in table `labels`.
const IMPORT: &str = "import";
const PREFIX: &str = "import:";

/// The id of an import with these sums.
#[must_use]
pub fn import_id(sums: &[v1::Sum]) -> String {
    let mut bytes = Vec::with_capacity(sums.len() * 32);
    for v1::Sum { part, scope, key, bin, total } in sums {
        bytes.extend(part.to_le_bytes());
        bytes.extend(scope.to_le_bytes());
        bytes.extend(key.to_le_bytes());
        bytes.extend(bin.to_le_bytes());
        bytes.extend(total.to_le_bytes());
    }
    // Two halves, so that nobody meets the same id by chance.
    let mut id = PREFIX.to_owned();
    for half in [b"a", b"b"] {
        write!(id, "{:016x}", stable_hash(&[half, &bytes])).expect("a string takes text");
    }
    id
}

pub(super) fn is_import(id: &str) -> bool {
    id.starts_with(PREFIX)
}

impl Session {
    pub(super) fn is_import(&self) -> bool {
        is_import(&self.identity.id)
    }
}

impl PartitionSessions {
    /// Adds sums to the model, or takes them back.
    pub(super) fn import(&mut self, event: &v1::Event, import: &v1::ModelImport, out: &mut Outbox) {
        let sums = sums_of(import).filter(|_| import_id(&import.sums) == event.session_id);
        let known = self.sessions.contains_key(event.session_id.as_str());
        let sums = sums.filter(|_| known == import.withdrawn);
        let applied = sums.is_some();
        if let Some(sums) = sums {
            let sign = if import.withdrawn { -1 } else { 1 };
            out.sums.extend(sums.into_iter().map(|(entry, total)| (entry, sign * total)));
            if import.withdrawn {
                self.sessions.remove(event.session_id.as_str());
            } else {
                out.names.extend(import.names.iter().map(|name| (name.hash, name.text.clone())));
                let session = marker(event);
                self.sessions.get_or_insert_with(session.identity.id.clone(), || Box::new(session));
            }
        }
        self.said(event, if import.withdrawn { FORGET } else { IMPORT }, applied.then_some(1), out);
    }
}

/// The sums, if all of them are of this version's parts.
fn sums_of(import: &v1::ModelImport) -> Option<Vec<(Entry, i64)>> {
    let sum = |sum: &v1::Sum| {
        let entry = Entry { part: Part::from_number(sum.part)?, scope: sum.scope, key: sum.key, bin: sum.bin };
        (sum.total > 0 && sum.scope != GLOBAL).then_some((entry, sum.total))
    };
    import.sums.iter().map(sum).collect()
}

/// That an import counts: a session with one part, which has no calls and never falls due.
fn marker(event: &v1::Event) -> Session {
    // Of no server: its names are the import's own.
    let mut session = Session::new(Identity::of(event, &mut Dictionary::default(), &mut Outbox::default()));
    let at = Micros(event.ts_us);
    session.next_part = 1;
    session.last_seen = at;
    session.closed.push_back(ClosedPart {
        number: 0,
        started: at,
        ended: at,
        fact: SessionFact::default(),
        contribution: Contribution::default(),
        correctable_until: Micros(i64::MIN),
        kept_until: Micros(i64::MAX),
    });
    session
}
