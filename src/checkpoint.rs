//! Checkpoints: images of the engine's state in files, so that a start need not read the whole log, and the log need not
//! be kept whole.
//!
//! `state/checkpoints/t=TICK.image`, and `MANIFEST.json`, which says which of them count. A file is written under another
//! name, synced and renamed before the manifest names it, and that is replaced by a rename too.
//!
//! It is not: the form of the state (`dataflows::image`), or the decision when to write and what to remove (`app`).
//!
//! Invariant: what the manifest names was whole when it was named; whether it still is, its hash says at every reading.
//! Upstream: the engine. Downstream: the engine of the next start.

mod disk;
mod error;
mod file;
mod manifest;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use undercurrent_dataflows::image::Image;
use undercurrent_schemas::ids::Tick;

pub use error::CheckpointError;
pub use file::Header;
pub use manifest::Entry;

use manifest::Manifest;

/// Checkpoints that are kept among those that a start can use: if the newest is damaged, there is another.
pub const KEPT: usize = 2;

/// The checkpoints of one DATA.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    manifest: Manifest,
}

impl Checkpoints {
    /// Opens what there is in `dir`, making it where it is missing; what an interrupted write left is removed.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        disk::create(dir)?;
        let manifest = Manifest::open(dir)?;
        manifest.remove_others(dir)?;
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// As [`Self::open`], changing nothing.
    pub fn look(dir: &Path) -> Result<Self, CheckpointError> {
        Ok(Self { dir: dir.to_owned(), manifest: Manifest::open(dir)? })
    }

    /// Oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.manifest.checkpoints
    }

    /// The newest one's tick.
    #[must_use]
    pub fn newest(&self) -> Option<Tick> {
        self.entries().last().map(|entry| entry.tick)
    }

    /// Writes a checkpoint. Of those whose ticks history has `covered` two are kept, and all that are newer: a start
    /// can only use one whose rows are all written.
    pub fn write(&mut self, image: &Image, covered: Option<Tick>) -> Result<Entry, CheckpointError> {
        let entry = file::write(&self.dir, image)?;
        let mut next = self.manifest.clone();
        next.checkpoints.retain(|kept| kept.tick != entry.tick);
        next.checkpoints.push(entry.clone());
        let usable = next.checkpoints.iter().filter(|kept| Some(kept.tick) <= covered).count();
        next.checkpoints.drain(..usable.saturating_sub(KEPT));
        self.replace(next)?;
        Ok(entry)
    }

    /// Removes every checkpoint before `tick`.
    pub fn remove_before(&mut self, tick: Tick) -> Result<(), CheckpointError> {
        let mut next = self.manifest.clone();
        next.checkpoints.retain(|kept| kept.tick >= tick);
        self.replace(next)
    }

    /// Sets aside every one whose bytes are not those that were written: it would be counted as a reserve.
    pub fn check(&mut self) -> Result<(), CheckpointError> {
        let is_damaged = |entry: &&Entry| file::check(&self.dir, entry).is_err_and(|error| error.is_lasting());
        let damaged: Vec<_> = self.entries().iter().filter(is_damaged).map(|entry| entry.tick).collect();
        self.set_aside(&damaged)
    }

    /// Takes damaged ones out of those that count. The file of one is kept beside them under another name, to be looked at.
    pub fn set_aside(&mut self, ticks: &[Tick]) -> Result<(), CheckpointError> {
        if ticks.is_empty() {
            return Ok(());
        }
        let mut next = self.manifest.clone();
        let aside = self.dir.join("damaged.image");
        for entry in next.checkpoints.extract_if(.., |kept| ticks.contains(&kept.tick)) {
            let path = self.dir.join(&entry.file);
            match std::fs::rename(&path, &aside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CheckpointError::io("set aside", &path)(error));
                }
                _ => {}
            }
            tracing::warn!(tick = %entry.tick, file = %aside.display(), "the damaged checkpoint was set aside");
        }
        self.replace(next)
    }

    /// Reads one, and checks that it is what was written.
    pub fn read(&self, entry: &Entry) -> Result<Image, CheckpointError> {
        file::read(&self.dir, entry)
    }

    /// What one says of itself, without its content.
    pub fn header(&self, entry: &Entry) -> Result<Header, CheckpointError> {
        file::header(&self.dir, entry)
    }

    fn replace(&mut self, next: Manifest) -> Result<(), CheckpointError> {
        next.write(&self.dir)?;
        self.manifest = next;
        disk::point("checkpoint-listed", &self.dir)?;
        self.manifest.remove_others(&self.dir)
    }
}
