//! A partition's sessions as an image has them: each once, under nothing but its own id.
//!
//! What can be told from the sessions themselves is not written: the order in which they fall due. What a setting says is
//! of the run that reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use undercurrent_schemas::ids::Micros;

use super::{PartitionSessions, Session, Sessions, Settings};

impl PartitionSessions {
    /// What was read from an image, made to go on under these settings.
    pub(crate) fn resumed(mut self, settings: Settings) -> Self {
        self.learning.settings = settings;
        let waits = |session: &&Session| session.due != Micros(i64::MAX);
        let due = self.sessions.values().filter(waits).map(|session| (session.due, Arc::clone(&session.identity.id)));
        self.due = due.collect();
        self
    }
}

/// Sessions in the order of their ids.
pub(super) mod sessions {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Arc, Session, Sessions};

    pub(crate) fn serialize<S: Serializer>(of: &Sessions, to: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<_> = of.values().collect();
        sorted.sort_unstable_by(|a, b| a.identity.id.cmp(&b.identity.id));
        to.collect_seq(sorted)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sessions, D::Error> {
        let sessions = Vec::<Session>::deserialize(from)?;
        Ok(sessions.into_iter().map(|session| (Arc::clone(&session.identity.id), session)).collect())
    }
}

/// Ended parts that are kept.
pub(super) mod kept {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Arc, BTreeSet, Micros};

    type Kept = BTreeSet<(Micros, Arc<str>, u32)>;

    pub(crate) fn serialize<S: Serializer>(of: &Kept, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(of.iter().map(|(until, id, number)| (until, &**id, number)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Kept, D::Error> {
        let kept = Vec::<(Micros, Box<str>, u32)>::deserialize(from)?;
        Ok(kept.into_iter().map(|(until, id, number)| (until, Arc::from(id), number)).collect())
    }
}
