//! A partition's sessions as an image has them: each once, under nothing but its own id.
//!
//! What can be told from the sessions themselves is not written: the order in which they fall due, and which ended parts are
//! kept. What a setting says is of the run that reads.

use std::sync::Arc;

use serde::Deserializer;
use undercurrent_schemas::ids::Micros;

use super::{PartitionSessions, Session, Sessions, Settings};
use crate::image::{Run, put};
use crate::shards::{self, Written};

impl Written<Arc<str>> for Box<Session> {
    fn write(&self, _: &Arc<str>, to: &mut Vec<u8>) {
        put(self, to);
    }
}

impl PartitionSessions {
    /// Begins an image of what there is now; what is small is written at once.
    pub(crate) fn begin_image(&mut self) -> Run {
        let Self { sessions, due: _, watermark, kept: _, learning } = self;
        sessions.begin();
        Run::of(&(&*watermark, &*learning))
    }

    /// Writes about so many bytes more, which are taken off; true once all is written.
    pub(crate) fn go_on(&mut self, bytes: &mut usize) -> bool {
        self.sessions.go_on(bytes)
    }

    /// The sessions that there were when the image began. What came of [`Self::begin_image`] is next.
    pub(crate) fn finish_image(&mut self) -> Run {
        Run::sorted(self.sessions.finish())
    }

    /// What was read from an image, made to go on under these settings.
    pub(crate) fn resumed(mut self, settings: Settings) -> Self {
        self.learning.settings = settings;
        let waits = self.sessions.values().filter(|session| session.due != Micros(i64::MAX));
        self.due = waits.map(|session| (session.due, Arc::clone(&session.identity.id))).collect();
        // An import is kept for as long as it counts, and has no horizon.
        let kept = self.sessions.values().filter(|session| !session.is_import()).flat_map(|session| {
            let parts = session.closed.iter().filter(|part| part.kept_until >= self.watermark);
            parts.map(|part| (part.kept_until, Arc::clone(&session.identity.id), part.number))
        });
        self.kept = kept.collect();
        self
    }
}

/// Sessions in the order of their ids.
pub(super) fn sessions<'de, D: Deserializer<'de>>(from: D) -> Result<Sessions, D::Error> {
    shards::read(from, |session: Box<Session>| (Arc::clone(&session.identity.id), session))
}
