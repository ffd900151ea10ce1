//! Files that are no longer of the history, for those who still read them.
//!
//! A file that was replaced moves to `.replaced/`, where no reader of `TABLE/**/*.parquet` sees it, and stays there for a
//! while: a reader that took its list of files from the manifest before looks in the one place and then in the other.
//! Who needs longer pins a version: a file in `pins/` whose text is the version's number.
//!
//! Invariant: a file is in one of the two places at any moment, until nobody has a right to it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::recovery::entries;
use super::{HistoryError, disk};

/// Where replaced files are.
pub(super) const REPLACED: &str = ".replaced";
const PINS: &str = "pins";
/// A pin that was not touched for so long is of somebody who has left.
const PIN_LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The replaced files of one history.
#[derive(Debug)]
pub(super) struct Aside {
    dir: PathBuf,
    files: Vec<Replaced>,
}

#[derive(Debug)]
struct Replaced {
    /// Below the history's directory, as it was.
    path: String,
    since: Instant,
    /// The first version that was without it.
    version: u64,
}

impl Aside {
    /// Finds what an earlier life left; its time begins anew, and `version` is the present one.
    pub(super) fn open(dir: &Path, version: u64) -> Result<Self, HistoryError> {
        let mut files = Vec::new();
        let root = dir.join(REPLACED);
        let mut left = vec![root.clone()];
        while let Some(next) = left.pop() {
            for (_, path) in entries(&next)? {
                match path.strip_prefix(&root) {
                    _ if path.is_dir() => left.push(path),
                    Ok(below) => {
                        let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
                        files.push(Replaced { path: names.join("/"), since: Instant::now(), version });
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// Files that are kept for their readers.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Moves a file that `version` is the first to be without. One that is gone already is no error.
    pub(super) fn take(&mut self, path: String, version: u64) -> Result<(), HistoryError> {
        move_aside(&self.dir, &path)?;
        self.files.retain(|file| file.path != path);
        self.files.push(Replaced { path, since: Instant::now(), version });
        Ok(())
    }

    /// Removes what nobody has a right to any more.
    pub(super) fn purge(&mut self, keep: Duration) -> Result<usize, HistoryError> {
        let pinned = oldest_pin(&self.dir)?;
        let held = |file: &Replaced| file.since.elapsed() < keep || pinned.is_some_and(|pin| pin < file.version);
        let (held, free): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files).into_iter().partition(held);
        self.files = held;
        let count = free.len();
        for file in free {
            let path = self.dir.join(REPLACED).join(&file.path);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    self.files.push(file);
                    return Err(HistoryError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(count)
    }
}

/// Moves `path` out of sight, under the same name below [`REPLACED`].
pub(super) fn move_aside(dir: &Path, path: &str) -> Result<(), HistoryError> {
    let (from, to) = (dir.join(path), dir.join(REPLACED).join(path));
    if let Some(parent) = to.parent() {
        disk::create_dirs(parent)?;
    }
    match fs::rename(&from, &to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        moved => moved.map_err(HistoryError::io("move aside", &from)),
    }
}

/// The oldest version that somebody holds on to.
fn oldest_pin(dir: &Path) -> Result<Option<u64>, HistoryError> {
    let mut oldest = None;
    for (_, path) in entries(&dir.join(PINS))? {
        let touched = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let fresh = touched.is_ok_and(|at| age_of(at) < PIN_LONGEST);
        let version = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        match version.filter(|_| fresh) {
            Some(version) => oldest = Some(oldest.map_or(version, |oldest: u64| oldest.min(version))),
            None => tracing::debug!(path = %path.display(), "not a pin: no version, or a day old"),
        }
    }
    Ok(oldest)
}

/// Of a file: by the file system's clock, which is that of the stamp.
fn age_of(at: SystemTime) -> Duration {
    at.elapsed().unwrap_or_default()
}
