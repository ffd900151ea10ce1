//! Files that are not as they were written: set aside, and made again from rows that whoever reads the log gives.
//!
//! Of a history that nobody writes at present. Not here: where rows come from, and whether the log still has them.
//!
//! Invariant: a file of the manifest is never lost without a trace: what is there of it lies below [`DAMAGED`], and the
//! line that takes it out of the manifest says why.

use std::fs;

use undercurrent_schemas::ids::{Tick, stable_hash};
use undercurrent_schemas::tables::Table;

use super::manifest::{Change, EditEntry, FileEntry, Reason};
use super::parquet_file::{self, Content};
use super::roll::{self, OpenRoll};
use super::{History, HistoryError, TickRows, disk};

/// Where damaged files are kept for whoever wants to look at them; no reader of tables looks there.
pub const DAMAGED: &str = ".damaged";

/// A file that is missing, or is not what was written.
#[derive(Clone, Debug)]
pub struct Damage {
    file: FileEntry,
    table: Table,
    /// Its first and last tick.
    pub ticks: (Tick, Tick),
}

impl Damage {
    /// Below the history's directory.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.file.path
    }

    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.file.rows
    }
}

/// Takes the rows of a damaged file's ticks, in their order.
#[derive(Debug)]
pub struct Rebuilding {
    table: Table,
    roll: Option<OpenRoll>,
}

impl Rebuilding {
    #[must_use]
    pub const fn of(damage: &Damage) -> Self {
        Self { table: damage.table, roll: None }
    }

    pub fn add(&mut self, rows: TickRows) {
        let rows = rows.only(self.table);
        self.roll.get_or_insert_with(|| OpenRoll::starting(rows.tick, rows.watermark)).add(rows);
    }
}

impl History {
    /// Files of the present version that are damaged.
    pub fn damage(&self) -> Result<Vec<Damage>, HistoryError> {
        let files: Vec<_> = self.ledger.look(|live, _| live.values().cloned().collect());
        let damaged = files.into_iter().filter(|file| {
            let bytes = fs::read(self.dir.join(&file.path));
            !bytes.is_ok_and(|bytes| format!("{:016x}", stable_hash(&[&bytes])) == file.hash)
        });
        let named = damaged.map(|file| {
            let odd = |what| HistoryError::Odd { path: self.dir.join(&file.path), what };
            let ticks = roll::ticks_of(&file.path).ok_or_else(|| odd("its name has no ticks"))?;
            let table = Table::ALL.into_iter().find(|table| table.name() == file.table);
            let table = table.ok_or_else(|| odd("it is of no table that is known"))?;
            Ok(Damage { file, table, ticks })
        });
        named.collect()
    }

    /// Puts a file with these rows in the place of a damaged one; false where they are not as many as it had, and then
    /// nothing is changed.
    pub fn replace_damaged(&mut self, damage: &Damage, rows: Rebuilding) -> Result<bool, HistoryError> {
        let Damage { file, table, ticks } = damage;
        let sealed = rows.roll.map(OpenRoll::seal);
        let hour = file.path.rsplit_once('/').map_or("", |(hour, _)| hour);
        let part = sealed.and_then(|sealed| sealed.part_of(hour)).filter(|part| part.rows() as u64 == file.rows);
        let Some(part) = part else { return Ok(false) };
        let path = self.dir.join(&file.path);
        let content = Content { table: *table, ticks: *ticks, offsets: &file.offsets };
        let (bytes, _) = parquet_file::encode(&content, part.batches.into_iter().map(Ok), &self.options)
            .map_err(|source| HistoryError::Encode { path: path.clone(), source })?;
        self.keep_damaged(damage)?;
        if let Some(parent) = path.parent() {
            disk::create_dirs(parent)?;
        }
        disk::write_whole(&path, &bytes)?;
        path.parent().map_or(Ok(()), disk::sync_dir)?;
        let hash = format!("{:016x}", stable_hash(&[&bytes]));
        if hash != file.hash {
            // Merged files have row groups of their own.
            let again = FileEntry { bytes: bytes.len() as u64, hash, ..file.clone() };
            let edit = EditEntry { reason: Reason::Damage, removes: vec![file.path.clone()], adds: vec![again] };
            self.ledger.append(Change::Edit(edit))?;
        }
        Ok(true)
    }

    /// Takes a damaged file out of the manifest: its rows are gone.
    pub fn drop_damaged(&mut self, damage: &Damage) -> Result<(), HistoryError> {
        let edit = EditEntry { reason: Reason::Damage, removes: vec![damage.file.path.clone()], adds: Vec::new() };
        self.ledger.append(Change::Edit(edit))?;
        self.keep_damaged(damage)
    }

    fn keep_damaged(&self, damage: &Damage) -> Result<(), HistoryError> {
        let (from, to) = (self.dir.join(&damage.file.path), self.dir.join(DAMAGED).join(&damage.file.path));
        if !from.exists() {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            disk::create_dirs(parent)?;
        }
        fs::rename(&from, &to).map_err(HistoryError::io("move aside", &from))
    }
}
