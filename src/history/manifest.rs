//! The manifest: which files are the history. One JSON line a change; a file that it does not name does not count.
//!
//! `MANIFEST.jsonl` begins with a line that says whose it is. Every further line takes the history from one version to
//! the next: a roll adds files, an edit (compaction, retention) puts files in the place of others, all at once. It grows
//! by one synced line a change; when changes outnumber files it is written anew as a *base*, so it stays as long as the
//! history is wide. docs/design/0007-history-and-telemetry.md has the format for readers.
//!
//! Invariant: lines are whole up to the last line feed; a torn tail is cut off before the next line is added. A version
//! is never changed once its line is synced.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use undercurrent_schemas::ids::{Micros, Tick, stable_hash};

use super::parquet_file::OffsetRanges;
use super::{HistoryError, disk};

pub(super) const MANIFEST: &str = "MANIFEST.jsonl";
/// Version of the directory's layout. 1 had rolls alone.
const LAYOUT: u32 = 2;
/// A manifest is not written anew before it has this many changes.
const CHANGES_MIN: usize = 1024;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    undercurrent_history: u32,
    /// Of the base in the next line; 0 = there is none, the history began empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    version: u64,
}

/// All files of one version.
#[derive(Debug, Serialize)]
pub(super) struct Base {
    pub(super) base: Vec<FileEntry>,
    pub(super) covered: Option<Tick>,
    pub(super) watermark_us: Micros,
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

/// Why files were replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Small files became a large one: the same rows.
    Compaction,
    /// They are older, or more, than the settings keep.
    Retention,
    /// Somebody's rows were taken out.
    Erasure,
    /// They were not what was written.
    Damage,
}

/// Files in the place of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditEntry {
    pub reason: Reason,
    /// Paths that are no longer of the history.
    pub removes: Vec<String>,
    pub adds: Vec<FileEntry>,
}

/// A file of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub table: String,
    /// Below the history's directory, with `/` between its parts. The name has the first and the last tick.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// `stable_hash` of the whole file, 16 hexadecimal digits.
    pub hash: String,
    /// Of messages: the first and last offset per partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: OffsetRanges,
}

/// A step from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Change {
    Roll(RollEntry),
    Edit(EditEntry),
}

/// Any line but the first: which fields there are says which kind it is. Those of newer versions are passed over.
#[derive(Deserialize)]
struct Line {
    base: Option<Vec<FileEntry>>,
    covered: Option<Tick>,
    watermark_us: Option<Micros>,
    first_tick: Option<Tick>,
    last_tick: Option<Tick>,
    files: Option<Vec<FileEntry>>,
    reason: Option<Reason>,
    removes: Option<Vec<String>>,
    adds: Option<Vec<FileEntry>>,
}

#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    /// Bytes of whole lines; what lies beyond was torn.
    whole_bytes: u64,
    version: u64,
    /// Version of the base; 0 = none.
    base_version: u64,
    covered: Option<Tick>,
    watermark: Micros,
    live: BTreeMap<String, FileEntry>,
    /// Changes since the base, oldest first.
    changes: VecDeque<Change>,
}

impl Change {
    pub(super) fn adds(&self) -> &[FileEntry] {
        match self {
            Self::Roll(roll) => &roll.files,
            Self::Edit(edit) => &edit.adds,
        }
    }

    pub(super) fn removes(&self) -> &[String] {
        match self {
            Self::Roll(_) => &[],
            Self::Edit(edit) => &edit.removes,
        }
    }
}

impl Manifest {
    /// Claims `dir`.
    pub(super) fn create(dir: &Path) -> Result<Self, HistoryError> {
        let header = line_of(&Header { undercurrent_history: LAYOUT, version: 0 });
        let path = dir.join(MANIFEST);
        disk::create_dirs(dir)?;
        disk::write_whole(&path, &header)?;
        disk::sync_dir(dir)?;
        Ok(Self::empty(path, header.len() as u64))
    }

    fn empty(path: PathBuf, whole_bytes: u64) -> Self {
        Self {
            path,
            whole_bytes,
            version: 0,
            base_version: 0,
            covered: None,
            watermark: Micros(i64::MIN),
            live: BTreeMap::new(),
            changes: VecDeque::new(),
        }
    }

    /// Reads the manifest of `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, HistoryError> {
        let path = dir.join(MANIFEST);
        let bytes = fs::read(&path).map_err(HistoryError::io("read", &path))?;
        let mut manifest = Self::empty(path, 0);
        let mut layout = None;
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            match layout {
                None => layout = Some(manifest.take_header(line)?),
                Some(_) => manifest.take_line(line)?,
            }
            manifest.whole_bytes += line.len() as u64;
        }
        match layout {
            Some(LAYOUT) => Ok(manifest),
            // An older program may not read lines that it does not know: it must see that from the first one.
            Some(_) => manifest.rewritten(),
            None => Err(manifest.damaged(serde::de::Error::custom("no line is whole"))),
        }
    }

    fn take_header(&mut self, line: &[u8]) -> Result<u32, HistoryError> {
        let header: Header = serde_json::from_slice(line).map_err(|source| self.damaged(source))?;
        if header.undercurrent_history > LAYOUT {
            let (path, found) = (self.path.clone(), header.undercurrent_history);
            return Err(HistoryError::Newer { path, found, known: LAYOUT });
        }
        (self.version, self.base_version) = (header.version, header.version);
        Ok(header.undercurrent_history)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), HistoryError> {
        let line: Line = serde_json::from_slice(line).map_err(|source| self.damaged(source))?;
        match line {
            Line { base: Some(base), covered, watermark_us: Some(watermark), .. } => {
                self.live = base.into_iter().map(|file| (file.path.clone(), file)).collect();
                (self.covered, self.watermark) = (covered, watermark);
            }
            Line {
                first_tick: Some(first_tick),
                last_tick: Some(last_tick),
                watermark_us: Some(watermark_us),
                files: Some(files),
                ..
            } => self.take(Change::Roll(RollEntry { first_tick, last_tick, watermark_us, files })),
            Line { reason: Some(reason), removes: Some(removes), adds: Some(adds), .. } => {
                self.take(Change::Edit(EditEntry { reason, removes, adds }));
            }
            _ => return Err(self.damaged(serde::de::Error::custom("neither a base nor a roll nor an edit"))),
        }
        Ok(())
    }

    fn damaged(&self, source: serde_json::Error) -> HistoryError {
        HistoryError::Damaged { path: self.path.clone(), at: self.whole_bytes as usize, source }
    }

    fn take(&mut self, change: Change) {
        for path in change.removes() {
            self.live.remove(path);
        }
        self.live.extend(change.adds().iter().map(|file| (file.path.clone(), file.clone())));
        if let Change::Roll(roll) = &change {
            self.covered = Some(roll.last_tick);
            self.watermark = roll.watermark_us.max(self.watermark);
        }
        self.version += 1;
        self.changes.push_back(change);
    }

    /// The last tick whose rows are all in files.
    pub(super) const fn covered(&self) -> Option<Tick> {
        self.covered
    }

    /// Event time of the newest roll.
    pub(super) const fn watermark(&self) -> Micros {
        self.watermark
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// The files of this version, by their paths.
    pub(super) const fn live(&self) -> &BTreeMap<String, FileEntry> {
        &self.live
    }

    /// The change that made version `version`; `None` = it is part of the base, or was not made yet.
    pub(super) fn change(&self, version: u64) -> Option<&Change> {
        let at = version.checked_sub(self.base_version + 1)?;
        self.changes.get(usize::try_from(at).ok()?)
    }

    /// All files of this version as the line of a base.
    pub(super) fn base(&self) -> Base {
        Base { base: self.live.values().cloned().collect(), covered: self.covered, watermark_us: self.watermark }
    }

    /// Makes the next version. After an error the same call may be made again.
    pub(super) fn append(&mut self, change: Change) -> Result<(), HistoryError> {
        let line = line_of(&change);
        self.write_line(&line).map_err(HistoryError::io("add a line to", &self.path))?;
        self.whole_bytes += line.len() as u64;
        self.take(change);
        Ok(())
    }

    fn write_line(&self, line: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.whole_bytes)?;
        file.seek(SeekFrom::Start(self.whole_bytes))?;
        file.write_all(line)?;
        file.sync_all()
    }

    /// More has been said of the files than there are files.
    pub(super) fn is_long(&self) -> bool {
        self.changes.len() >= CHANGES_MIN.max(self.live.len())
    }

    /// Writes the manifest as a base of this version. The version stays.
    pub(super) fn rewrite(&mut self) -> Result<(), HistoryError> {
        let mut bytes = line_of(&Header { undercurrent_history: LAYOUT, version: self.version });
        bytes.extend(line_of(&self.base()));
        disk::write_whole(&self.path, &bytes)?;
        if let Some(dir) = self.path.parent() {
            disk::sync_dir(dir)?;
        }
        self.whole_bytes = bytes.len() as u64;
        self.base_version = self.version;
        self.changes.clear();
        Ok(())
    }

    fn rewritten(mut self) -> Result<Self, HistoryError> {
        self.rewrite()?;
        Ok(self)
    }
}

/// Files of the manifest of `dir` that do not have the hash that it says.
pub(super) fn damaged(dir: &Path) -> Result<Vec<String>, HistoryError> {
    if !dir.join(MANIFEST).is_file() {
        return Ok(Vec::new());
    }
    let manifest = Manifest::open(dir)?;
    let is_whole = |file: &&FileEntry| {
        fs::read(dir.join(&file.path)).is_ok_and(|bytes| format!("{:016x}", stable_hash(&[&bytes])) == file.hash)
    };
    Ok(manifest.live.values().filter(|file| !is_whole(file)).map(|file| file.path.clone()).collect())
}

pub(super) fn line_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("numbers and strings always have a JSON form");
    line.push(b'\n');
    line
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(version: &u64) -> bool {
    *version == 0
}
