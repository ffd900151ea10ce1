//! What an earlier life left in a directory: whose it is, and what must go before a new life writes.
//!
//! Invariant: only names that the history itself makes, inside its own tables, are ever removed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use undercurrent_schemas::tables::Table;

use super::manifest::{MANIFEST, Manifest};
use super::{HistoryError, aside, disk, roll};

/// Whose a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirState {
    /// Missing, or without entries: may be claimed.
    Empty,
    /// A history: may be resumed.
    Ours,
    /// Anything else: hands off.
    Foreign,
}

/// Tells whether `dir` may be written to, before anything is.
pub fn replay_dir_state(dir: &Path) -> Result<DirState, HistoryError> {
    if dir.join(MANIFEST).is_file() {
        return Ok(DirState::Ours);
    }
    if !dir.exists() {
        return Ok(DirState::Empty);
    }
    // Our own claim may have been interrupted before it had a name.
    let foreign = entries(dir)?.iter().any(|(name, _)| !disk::is_temporary(name));
    Ok(if foreign { DirState::Foreign } else { DirState::Empty })
}

/// Clears what a kill left: temporary files, files of a roll that the manifest does not name (the same ticks, read
/// again, write them again), and files that an edit began to put in place, or had taken away already: those move aside.
pub(super) fn remove_unfinished(dir: &Path, manifest: &Manifest) -> Result<(), HistoryError> {
    let mut removed = 0_usize;
    for table in Table::ALL {
        for (_, date) in partitions(&dir.join(table.name()), "date=")? {
            for (_, hour) in partitions(&date, "hour=")? {
                removed += remove_unfinished_in(dir, &hour, manifest)?;
            }
        }
    }
    if removed > 0 {
        tracing::info!(files = removed, "cleared files of an interrupted step");
    }
    Ok(())
}

fn remove_unfinished_in(dir: &Path, hour: &Path, manifest: &Manifest) -> Result<usize, HistoryError> {
    let mut cleared = 0;
    let below = hour.strip_prefix(dir).unwrap_or(hour);
    let below: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
    let below = below.join("/");
    for (name, path) in entries(hour)? {
        let below = format!("{below}/{name}");
        let ticks = roll::ticks_of(&name).filter(|_| !manifest.live().contains_key(&below));
        if disk::is_temporary(&name) || ticks.is_some_and(|(first, _)| manifest.covered() < Some(first)) {
            fs::remove_file(&path).map_err(HistoryError::io("remove", &path))?;
        } else if ticks.is_some() {
            aside::move_aside(dir, &below)?;
        } else {
            continue;
        }
        cleared += 1;
    }
    Ok(cleared)
}

fn partitions(dir: &Path, prefix: &str) -> Result<Vec<(String, PathBuf)>, HistoryError> {
    let mut entries = entries(dir)?;
    entries.retain(|(name, _)| name.starts_with(prefix));
    Ok(entries)
}

/// Names and paths in `dir`; none if it is missing.
pub(super) fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, HistoryError> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HistoryError::io("list", dir)(error)),
    };
    listing
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect::<Result<_, _>>()
        .map_err(HistoryError::io("list", dir))
}
