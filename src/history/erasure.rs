//! Rows of somebody, taken out of files that have them: whole files are written anew without those rows.
//!
//! Of a history that nobody writes at present. Sums over many sessions (models, features of servers and tools) keep what
//! they have: learning takes back what it learned in rows of its own. Not here: who is to be erased, and the log.
//!
//! Invariant: a file leaves the manifest in the same line in which the one without those rows enters it; nothing is kept
//! aside for readers, and what was kept before is removed too.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::{Array, AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use undercurrent_schemas::ids::{Tick, stable_hash};
use undercurrent_schemas::tables::Table;

use super::aside::REPLACED;
use super::manifest::{Change, EditEntry, FileEntry, Reason};
use super::parquet_file::{self, Content};
use super::{History, HistoryError, disk, roll};
use crate::faults;

/// Columns in which a session or a principal is named: what holds one of the names goes as a row.
const NAMING: [&str; 5] = ["session_id", "principal", "entity", "subject", "exemplar"];

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub files: usize,
    pub rows: u64,
}

impl History {
    /// Takes every row out that names one of `names`: ids of sessions, or principals.
    pub fn erase(&mut self, names: &BTreeSet<String>) -> Result<Erased, HistoryError> {
        let mut erased = Erased::default();
        let files: Vec<_> = self.ledger.look(|live, _| live.values().cloned().collect());
        for file in files {
            let Some(table) = Table::ALL.into_iter().find(|table| table.name() == file.table) else { continue };
            let kept = self.without(&file, names)?;
            let rows: u64 = kept.iter().map(|batch| batch.num_rows() as u64).sum();
            if rows == file.rows {
                continue;
            }
            let adds = if rows == 0 { Vec::new() } else { vec![self.rewrite(table, &file, kept)?] };
            let edit = EditEntry { reason: Reason::Erasure, removes: vec![file.path.clone()], adds };
            self.ledger.append(Change::Edit(edit))?;
            faults::passed("erase-listed");
            remove(&self.dir.join(&file.path))?;
            erased.files += 1;
            erased.rows += file.rows - rows;
        }
        let aside = self.dir.join(REPLACED);
        if aside.is_dir() {
            std::fs::remove_dir_all(&aside).map_err(HistoryError::io("remove", &aside))?;
        }
        Ok(erased)
    }

    /// Ids of the sessions of a principal.
    pub fn sessions_of(&self, principal: &str) -> Result<BTreeSet<String>, HistoryError> {
        let files: Vec<_> = self.ledger.look(|live, _| live.values().cloned().collect());
        let mut sessions = BTreeSet::new();
        for file in files.iter().filter(|file| file.table == Table::Messages.name()) {
            for batch in self.batches(file)? {
                let columns = (batch.column_by_name("principal"), batch.column_by_name("session_id"));
                let (Some(principals), Some(ids)) = (columns.0, columns.1) else { continue };
                let both = (principals.as_string_opt::<i32>(), ids.as_string_opt::<i32>());
                let (Some(principals), Some(ids)) = both else { continue };
                let of = principals.iter().zip(ids).filter(|(of, _)| *of == Some(principal));
                sessions.extend(of.filter_map(|(_, id)| id.map(str::to_owned)));
            }
        }
        Ok(sessions)
    }

    fn without(&self, file: &FileEntry, names: &BTreeSet<String>) -> Result<Vec<RecordBatch>, HistoryError> {
        let path = self.dir.join(&file.path);
        let kept = self.batches(file)?.into_iter().map(|batch| {
            let kept =
                BooleanArray::from((0..batch.num_rows()).map(|row| !is_named(&batch, row, names)).collect::<Vec<_>>());
            filter_record_batch(&batch, &kept)
        });
        kept.collect::<Result<_, _>>().map_err(|error| HistoryError::Encode { path, source: error.into() })
    }

    fn batches(&self, file: &FileEntry) -> Result<Vec<RecordBatch>, HistoryError> {
        let path = self.dir.join(&file.path);
        let bytes = Bytes::from(std::fs::read(&path).map_err(HistoryError::io("read", &path))?);
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
        let batches = batches.and_then(|reader| reader.collect::<Result<_, _>>().map_err(ParquetError::from));
        batches.map_err(|source| HistoryError::Encode { path, source })
    }

    /// Under a name that no other file has: one tick further back than any other that ends where it does.
    fn rewrite(&self, table: Table, file: &FileEntry, kept: Vec<RecordBatch>) -> Result<FileEntry, HistoryError> {
        let odd = |what| HistoryError::Odd { path: self.dir.join(&file.path), what };
        let (first, last) = roll::ticks_of(&file.path).ok_or_else(|| odd("its name has no ticks"))?;
        let ticks = (Tick(first.0.saturating_sub(1)), last);
        let (below, _) = file.path.rsplit_once('/').ok_or_else(|| odd("it is in no directory"))?;
        let name = format!("{below}/{}", roll::file_name(ticks.0, ticks.1));
        let path = self.dir.join(&name);
        let schema = table.schema();
        let content = Content { table, ticks, offsets: &file.offsets };
        let batches = kept.iter().map(|batch| super::compaction::adapted(batch, &schema));
        let (bytes, rows) = parquet_file::encode(&content, batches, &self.options)
            .map_err(|source| HistoryError::Encode { path: path.clone(), source })?;
        disk::write_whole(&path, &bytes)?;
        path.parent().map_or(Ok(()), disk::sync_dir)?;
        faults::point("erase-written").map_err(HistoryError::io("write", &path))?;
        Ok(FileEntry {
            table: file.table.clone(),
            path: name,
            rows: rows as u64,
            bytes: bytes.len() as u64,
            hash: format!("{:016x}", stable_hash(&[&bytes])),
            offsets: file.offsets.clone(),
        })
    }
}

fn is_named(batch: &RecordBatch, row: usize, names: &BTreeSet<String>) -> bool {
    let text = |column: &str| {
        let column = batch.column_by_name(column)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    // A server or a tool may be called like somebody.
    let is_somebody = |column: &str| column != "entity" || matches!(text("kind"), Some("session" | "principal"));
    NAMING.iter().any(|column| text(column).is_some_and(|name| names.contains(name)) && is_somebody(column))
}

fn remove(path: &Path) -> Result<(), HistoryError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(HistoryError::io("remove", path)),
    }
}
