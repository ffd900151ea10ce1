//! What a journal file of fjall holds: whole commits, and what a power failure may have left behind them.
//!
//! fjall cuts a journal at the first bytes that it cannot read, without a word, and refuses one whose last commit was
//! written in part but with its end. Both are decided here before it looks: what follows the last whole commit may go,
//! for it was never said to be durable; damage *before* a whole commit is told and nothing is cut.
//! Not here: the content of commits. Invariant: a file is only ever shortened to the end of its last whole commit.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// The last bytes of every commit.
const TRAILER: &[u8] = b"FJL\x03";

/// Written last when a database is made.
const MARKER: &str = "version";

/// What was found in the journals of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Whole commits, then nothing but reserved space.
    Whole,
    /// The newest journal ends with a part of a commit, which begins here.
    Torn { file: PathBuf, at: u64 },
    /// Whole commits follow bytes that cannot be read.
    Damaged { file: PathBuf },
}

/// Looks through all journals in `dir`.
pub(super) fn inspect(dir: &Path) -> io::Result<Verdict> {
    let files = journals(dir);
    let mut newest = Verdict::Whole;
    for (index, file) in files.iter().enumerate() {
        let is_newest = index + 1 == files.len();
        let bytes = std::fs::read(file)?;
        let whole = whole_bytes(&bytes);
        let rest = &bytes[whole..];
        if written_bytes(rest) == 0 {
            continue;
        }
        // A journal is only left for the next one after it was written to the disk to its end.
        if !is_newest || holds_whole_commit(rest) {
            return Ok(Verdict::Damaged { file: file.clone() });
        }
        newest = Verdict::Torn { file: file.clone(), at: whole as u64 };
    }
    Ok(newest)
}

/// Takes away what follows the last whole commit.
pub(super) fn cut(file: &Path, at: u64) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).open(file)?;
    file.set_len(at)?;
    file.sync_all()
}

/// The journals of a log, oldest first.
pub(super) fn journals(dir: &Path) -> Vec<PathBuf> {
    let number = |file: &PathBuf| file.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut journals: Vec<_> = files.filter(|file| file.extension().is_some_and(|kind| kind == "jnl")).collect();
    journals.sort_by_key(number);
    journals
}

/// Length without the zeros at the end: most of a new journal is only reserved.
pub(super) fn written_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4_096] = [0; 4_096];
    // Compared piece by piece, since that is what memory is fastest at.
    let reserved = bytes.rchunks(ZEROS.len()).take_while(|piece| **piece == ZEROS[..piece.len()]);
    let bytes = &bytes[..bytes.len() - reserved.map(<[u8]>::len).sum::<usize>()];
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Length of the whole commits at the beginning.
fn whole_bytes(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = commit(rest) {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// A whole commit begins right after the end of some other, be that one damaged.
fn holds_whole_commit(bytes: &[u8]) -> bool {
    let mut ends = memchr::memmem::find_iter(bytes, TRAILER);
    ends.any(|end| commit(&bytes[end + TRAILER.len()..]).is_some())
}

/// Skips one whole commit whose checksum is right.
fn commit(bytes: &[u8]) -> Option<&[u8]> {
    let (&START, bytes) = bytes.split_first()? else { return None };
    let (count, bytes) = bytes.split_first_chunk::<4>()?;
    let (_sequence, items) = bytes.split_at_checked(8)?;
    let mut bytes = items;
    for _ in 0..u32::from_le_bytes(*count) {
        bytes = item(bytes)?;
    }
    let mut hasher = Xxh3::new();
    hasher.update(&items[..items.len() - bytes.len()]);
    let (&END, bytes) = bytes.split_first()? else { return None };
    let (checksum, bytes) = bytes.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*checksum) == hasher.digest()).then_some(())?;
    bytes.strip_prefix(TRAILER)
}

/// Skips one entry of a commit.
fn item(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.split_first()? {
        // Kind of value, compression, keyspace; then the lengths.
        (&ITEM, bytes) => {
            let (_, bytes) = bytes.split_at_checked(1 + 1 + 8)?;
            let (key_bytes, bytes) = bytes.split_first_chunk::<2>()?;
            let (_, bytes) = bytes.split_at_checked(4)?;
            let (value_bytes, bytes) = bytes.split_first_chunk::<4>()?;
            let (_, bytes) = bytes.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)))?;
            Some(bytes.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?.1)
        }
        (&CLEAR, bytes) => Some(bytes.split_at_checked(8)?.1),
        _ => None,
    }
}

/// Opens a database. One whose maker was stopped before it was whole cannot be opened, and is made anew: the maker stopped
/// with the lock in its hand, so nobody else is making it.
pub(super) fn open_begun<T>(path: &Path, open: impl Fn(&Path) -> fjall::Result<T>) -> fjall::Result<T> {
    match open(path) {
        Err(error) if may_be_unbegun(&error, path)? && remove_unbegun(path)? => {
            tracing::warn!(log = %path.display(), "whoever began to make this log was stopped before it was one");
            open(path)
        }
        opened => opened,
    }
}

/// A journal is there and the marker that is written last is not, or not all of it.
fn may_be_unbegun(error: &fjall::Error, path: &Path) -> io::Result<bool> {
    match error {
        fjall::Error::Io(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            path.join(MARKER).try_exists().map(|exists| !exists)
        }
        fjall::Error::InvalidVersion(None) => Ok(true),
        _ => Ok(false),
    }
}

/// Removes what there is of a database that was never made whole: without tables, and without a byte in its journal that
/// says anything. False where it is not so: then nothing is touched.
fn remove_unbegun(path: &Path) -> io::Result<bool> {
    let first = path.join("0.jnl");
    let has_tables = std::fs::read_dir(path.join("keyspaces")).is_ok_and(|mut tables| tables.next().is_some());
    if has_tables || !first.try_exists()? {
        return Ok(false);
    }
    let mut bytes = io::BufReader::new(std::fs::File::open(&first)?);
    loop {
        let read = io::BufRead::fill_buf(&mut bytes)?;
        if read.is_empty() {
            break;
        }
        if read.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        let count = read.len();
        io::BufRead::consume(&mut bytes, count);
    }
    // Should this be stopped in between, there is a journal and no marker.
    match std::fs::remove_file(path.join(MARKER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::remove_file(first)?,
    }
    Ok(true)
}
