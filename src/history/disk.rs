//! Writes that a crash or a power cut leaves either whole or not done.
//!
//! Invariant: a name that a reader may see always has its whole content; temporary names begin with a dot and end in
//! `.tmp`, which no reader of `*.parquet` picks up.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::HistoryError;

/// Puts `bytes` at `path` by way of a temporary name. Safe against power cuts once [`sync_dir`] of its parent returned.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HistoryError> {
    let temporary = temporary_of(path);
    let written = write_synced(&temporary, bytes);
    if written.is_err() {
        // A full disk needs the space; the temporary is worth nothing, and recovery removes it if this fails too.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    fs::rename(&temporary, path).map_err(HistoryError::io("rename the finished file to", path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), HistoryError> {
    let mut file = File::create(path).map_err(HistoryError::io("create", path))?;
    file.write_all(bytes).map_err(HistoryError::io("write", path))?;
    file.sync_all().map_err(HistoryError::io("sync", path))
}

fn temporary_of(path: &Path) -> PathBuf {
    let name = path.file_stem().expect("our files have names").to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// A name that [`write_whole`] was interrupted at.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Makes `dir` and what is missing above it, each safe in its parent.
pub(super) fn create_dirs(dir: &Path) -> Result<(), HistoryError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dirs(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made.map_err(HistoryError::io("create the directory", dir)),
    }?;
    parent.map_or(Ok(()), sync_dir)
}

/// Makes the names in `dir` safe. Where directories cannot be synced, the file system orders renames itself.
#[cfg(unix)]
pub(super) fn sync_dir(dir: &Path) -> Result<(), HistoryError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(HistoryError::io("sync the directory", dir))
}

#[cfg(not(unix))]
pub(super) fn sync_dir(_: &Path) -> Result<(), HistoryError> {
    Ok(())
}
