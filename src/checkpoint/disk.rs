//! Writes that a crash or a power cut leaves either whole or not done.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::CheckpointError;
use crate::faults;

/// The ending of a name that nobody reads yet.
const UNFINISHED: &str = "unfinished";

/// Comes by a point at which tests end the process or make it fail.
pub(super) fn point(name: &'static str, at: &Path) -> Result<(), CheckpointError> {
    faults::point(name).map_err(CheckpointError::io("write to", at))
}

/// Makes the directory, safe in its parent.
pub(super) fn create(dir: &Path) -> Result<(), CheckpointError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(CheckpointError::io("create the directory", dir))?;
    dir.parent().map_or(Ok(()), sync)
}

/// Puts what `write` writes at `path`, whole and safe.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), CheckpointError> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = File::create(&unfinished).and_then(|file| {
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    });
    if let Err(error) = written {
        // A full disk needs the space; what is left of it is removed at the next start.
        let _ = fs::remove_file(&unfinished);
        return Err(CheckpointError::io("write", path)(error));
    }
    fs::rename(&unfinished, path).map_err(CheckpointError::io("rename the finished file to", path))?;
    path.parent().map_or(Ok(()), sync)
}

/// Makes the names in `dir` safe. Where directories cannot be synced, the file system orders renames itself.
pub(super) fn sync(dir: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(CheckpointError::io("sync the directory", dir))?;
    }
    Ok(())
}

/// Whether a name is one that a write was interrupted at.
pub(super) fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == UNFINISHED)
}
