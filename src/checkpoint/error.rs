//! What can go wrong with checkpoints, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use undercurrent_dataflows::image::FORMAT;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{attempt} {}: {source}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },

    #[error("read checkpoint {}: {what}; it is of no use and may be removed", path.display())]
    Damaged { path: PathBuf, what: &'static str },

    #[error("read checkpoint {}: it is of form {found}, written by undercurrent {program}; this program reads form {FORMAT}",
            path.display())]
    OtherFormat { path: PathBuf, found: u32, program: String },

    #[error("read {}: {source}; remove it to start from the log alone, if that is whole", path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },

    #[error("read {}: it has layout {found}, this program knows up to {known}: use a newer undercurrent", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
}

impl CheckpointError {
    /// The checkpoint is gone or spoiled: no other program, and no other moment, reads it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::OtherFormat { .. } | Self::Manifest { .. } | Self::Newer { .. } => false,
        }
    }

    pub(super) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { attempt, path, source }
    }
}
