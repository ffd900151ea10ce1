//! `REPLAY.json`: what a directory is the replay of, and whether it is finished.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use undercurrent_schemas::ids::stable_hash;

use super::{ReplayError, Summary, Tables};
use crate::history::{DirState, replay_dir_state};

const MARKER: &str = "REPLAY.json";

/// A marker that cannot be read or written, or names other inputs.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error("{action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("read {path}: {cause}; replay into a new directory")]
    Malformed { path: PathBuf, cause: serde_json::Error },
    #[error(
        "replay into {0}: it holds the replay of other recordings, partitions or tables; replay into a new directory"
    )]
    Other(PathBuf),
}

/// What is replayed: the same inputs give the same result.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Inputs {
    partitions: u32,
    /// Of all tables only `features`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    features_only: bool,
    files: Vec<Input>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Input {
    bytes: u64,
    /// Hash of the hashes of its mebibytes.
    hash: u64,
}

impl Inputs {
    pub(super) fn of(paths: &[PathBuf], partitions: u32, tables: Tables) -> Result<Self, MarkerError> {
        let files = paths.iter().map(|path| Input::of(path)).collect::<Result<_, _>>()?;
        Ok(Self { partitions, features_only: tables == Tables::Features, files })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Input {
    fn of(path: &Path) -> Result<Self, MarkerError> {
        let io = |cause| MarkerError::Io { action: "read the recording", path: path.to_owned(), cause };
        let mut file = File::open(path).map_err(io)?;
        let (mut bytes, mut hash) = (0, 0_u64);
        let mut block = Vec::with_capacity(1 << 20);
        loop {
            block.clear();
            let read = (&mut file).take(1 << 20).read_to_end(&mut block).map_err(io)?;
            if read == 0 {
                return Ok(Self { bytes, hash });
            }
            bytes += read as u64;
            hash = stable_hash(&[&hash.to_le_bytes(), &block]);
        }
    }
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Content {
    inputs: Inputs,
    /// Of a replay that came to its end.
    summary: Option<Summary>,
}

/// The marker of a directory that is ours.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    content: Content,
}

impl Marker {
    /// Claims a directory for these inputs: an empty one, or one that holds their replay already.
    pub(super) fn claim(dir: &Path, inputs: &Inputs) -> Result<Self, ReplayError> {
        let path = dir.join(MARKER);
        if let Some(content) = read(&path)? {
            if content.inputs != *inputs {
                return Err(MarkerError::Other(dir.to_owned()).into());
            }
            return Ok(Self { path, content });
        }
        match replay_dir_state(dir)? {
            DirState::Empty => {}
            // The history was made, but a replay was cut off before it began.
            DirState::Ours if !dir.join("log").exists() => {}
            DirState::Ours | DirState::Foreign => return Err(ReplayError::Foreign(dir.to_owned())),
        }
        Ok(Self { path, content: Content { inputs: inputs.clone(), summary: None } })
    }

    /// Says what the directory is the replay of; the history in it exists, its log does not yet.
    pub(super) fn begin(&self) -> Result<(), MarkerError> {
        self.write()
    }

    pub(super) fn finished(&self) -> Option<&Summary> {
        self.content.summary.as_ref()
    }

    pub(super) fn finish(&mut self, summary: &Summary) -> Result<(), MarkerError> {
        self.content.summary = Some(summary.clone());
        self.write()
    }

    fn write(&self) -> Result<(), MarkerError> {
        let io = |cause| MarkerError::Io { action: "write", path: self.path.clone(), cause };
        let temporary = self.path.with_extension("tmp");
        let text = serde_json::to_vec_pretty(&self.content).map_err(io::Error::other).map_err(io)?;
        fs::write(&temporary, text).map_err(io)?;
        File::open(&temporary).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(&temporary, &self.path).map_err(io)
    }
}

fn read(path: &Path) -> Result<Option<Content>, MarkerError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|cause| MarkerError::Malformed { path: path.to_owned(), cause }),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(MarkerError::Io { action: "read", path: path.to_owned(), cause }),
    }
}
