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
    #[error("`{path}` is left as it is: {what}; compare the disk's health, the log has the rows", path = path.display())]
    Odd { path: PathBuf, what: &'static str },
    #[error("{action} `{path}` of the history's store: {source}; rows wait in local files until it answers")]
    Store { action: &'static str, path: String, source: object_store::Error },
    #[error("`{url}` cannot be the history's store: {reason}")]
    BadStore { url: String, reason: String },
    #[error(
        "`{path}` of the history's store was written by another process; give each gateway a `history.url` of its own"
    )]
    OtherWriter { path: String },
    #[error(
        "{bytes} bytes of history wait for its store, more than `history.staging_bytes_max`; rows wait in the log until it answers"
    )]
    StagingFull { bytes: u64 },
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
        matches!(self, Self::Io { .. } | Self::Store { .. } | Self::StagingFull { .. })
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
