//! `MANIFEST.json`: which checkpoints count.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use undercurrent_schemas::ids::Tick;

use super::{CheckpointError, disk};

const MANIFEST: &str = "MANIFEST.json";
/// Version of the directory's layout.
const LAYOUT: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    undercurrent_checkpoints: u32,
    /// Oldest first.
    pub(super) checkpoints: Vec<Entry>,
}

/// A checkpoint that was written whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub tick: Tick,
    /// Name of its file.
    pub file: String,
    pub bytes: u64,
    /// `stable_hash` of its header, which has that of each block: 16 hexadecimal digits; the file ends with the same.
    pub hash: String,
}

impl Manifest {
    pub(super) fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { undercurrent_checkpoints: LAYOUT, checkpoints: Vec::new() });
            }
            Err(error) => return Err(CheckpointError::io("read", &path)(error)),
        };
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|source| CheckpointError::Manifest { path: path.clone(), source })?;
        let found = manifest.undercurrent_checkpoints;
        if found > LAYOUT {
            return Err(CheckpointError::Newer { path, found, known: LAYOUT });
        }
        Ok(manifest)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), CheckpointError> {
        let text = serde_json::to_vec_pretty(self).expect("numbers and strings always have a JSON form");
        disk::replace(&dir.join(MANIFEST), |file| file.write_all(&text))
    }

    /// Removes checkpoints that do not count (any more), and what an interrupted write left.
    pub(super) fn remove_others(&self, dir: &Path) -> Result<(), CheckpointError> {
        let listing = fs::read_dir(dir).map_err(CheckpointError::io("list", dir))?;
        for entry in listing {
            let path = entry.map_err(CheckpointError::io("list", dir))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_ours = name.starts_with("t=") && name.ends_with(".image");
            let counts = self.checkpoints.iter().any(|entry| entry.file == name);
            if disk::is_unfinished(&path) || (is_ours && !counts) {
                fs::remove_file(&path).map_err(CheckpointError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}
