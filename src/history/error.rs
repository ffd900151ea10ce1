//! What can go wrong with the history: which file, doing what, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// Why the history could not be opened or written. Rows are never lost by it: see [`super::History::write`].
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{action} `{path}`: {source}; {remedy}", path = path.display(), remedy = remedy(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("encode `{path}`: {source}; this is a bug, please report it", path = path.display())]
    Encode { path: PathBuf, source: ParquetError },
    #[error("`{dir}` is not empty and holds no history; name an empty directory or an earlier history", dir = dir.display())]
    Foreign { dir: PathBuf },
    #[error("`{path}` has layout {found}, this version knows {known}; use a newer version, or another directory", path = path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("`{path}` is damaged at byte {at}: {source}; move the history away, it is written again from the log", path = path.display())]
    Damaged { path: PathBuf, at: usize, source: serde_json::Error },
}

impl HistoryError {
    /// For `map_err`: what was attempted, on which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Trying again later may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        io::ErrorKind::PermissionDenied => "let this user write there",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another directory",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "move away the file that stands where a directory must be"
        }
        _ => "check that the volume is mounted and healthy",
    }
}
