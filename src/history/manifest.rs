//! The manifest: one JSON line per roll that is complete. A roll that is not in it does not count.
//!
//! `MANIFEST.jsonl` begins with a line that says whose it is, and grows by one synced line a roll: its cost does not grow
//! with the history, as rewriting would. Invariant: lines are whole up to the last line feed; a torn tail is cut off
//! before the next line is added.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use undercurrent_schemas::ids::{Micros, Tick};

use super::{HistoryError, disk};

pub(super) const MANIFEST: &str = "MANIFEST.jsonl";
/// Version of the directory's layout.
const LAYOUT: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    undercurrent_history: u32,
}

/// A complete roll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollEntry {
    pub first_tick: Tick,
    pub last_tick: Tick,
    /// Of the last tick.
    pub watermark_us: Micros,
    pub files: Vec<FileEntry>,
}

/// A file of a roll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub table: String,
    /// Below the history's directory, with `/` between its parts.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// `stable_hash` of the whole file, 16 hexadecimal digits.
    pub hash: String,
}

#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    /// Bytes of whole lines; what lies beyond was torn.
    whole_bytes: u64,
    covered: Option<Tick>,
}

impl Manifest {
    /// Claims `dir`.
    pub(super) fn create(dir: &Path) -> Result<Self, HistoryError> {
        let header = line_of(&Header { undercurrent_history: LAYOUT });
        let path = dir.join(MANIFEST);
        disk::create_dirs(dir)?;
        disk::write_whole(&path, &header)?;
        disk::sync_dir(dir)?;
        Ok(Self { path, whole_bytes: header.len() as u64, covered: None })
    }

    /// Reads the manifest of `dir`: only its ends, it may be long.
    pub(super) fn open(dir: &Path) -> Result<Self, HistoryError> {
        let path = dir.join(MANIFEST);
        let bytes = fs::read(&path).map_err(HistoryError::io("read", &path))?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |feed| feed + 1);
        let first_end = memchr::memchr(b'\n', &bytes).unwrap_or(bytes.len());
        let header: Header = parse(&path, &bytes, 0, first_end)?;
        if header.undercurrent_history > LAYOUT {
            return Err(HistoryError::Newer { path, found: header.undercurrent_history, known: LAYOUT });
        }
        let last_start = memchr::memrchr(b'\n', &bytes[..whole.saturating_sub(1)]).map(|feed| feed + 1);
        let covered = match last_start {
            Some(start) => Some(parse::<RollEntry>(&path, &bytes, start, whole)?.last_tick),
            None => None,
        };
        Ok(Self { path, whole_bytes: whole as u64, covered })
    }

    pub(super) const fn covered(&self) -> Option<Tick> {
        self.covered
    }

    /// Completes a roll. After an error the same call may be made again.
    pub(super) fn append(&mut self, roll: &RollEntry) -> Result<(), HistoryError> {
        let line = line_of(roll);
        self.write_line(&line).map_err(HistoryError::io("add a line to", &self.path))?;
        self.whole_bytes += line.len() as u64;
        self.covered = Some(roll.last_tick);
        Ok(())
    }

    fn write_line(&self, line: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.whole_bytes)?;
        file.seek(SeekFrom::Start(self.whole_bytes))?;
        file.write_all(line)?;
        file.sync_all()
    }
}

fn line_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("numbers and strings always have a JSON form");
    line.push(b'\n');
    line
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8], start: usize, end: usize) -> Result<T, HistoryError> {
    serde_json::from_slice(&bytes[start..end]).map_err(|source| HistoryError::Damaged {
        path: path.to_owned(),
        at: start,
        source,
    })
}
