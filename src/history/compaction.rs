//! What is small and done with becomes one file: which files, and how.
//!
//! An hour is closed once the watermark has passed its end by [`Compaction::settle`]; before that its files are left
//! alone. What comes later still is merged when there is enough of it. Not here: when that is looked for (`keeper`), and
//! what becomes of the files that were merged (`aside`).
//!
//! Invariant: a merged file has exactly the rows of its sources, in the order of their source; its name is that of no
//! other file, for its ticks reach from the first of its first source to the last of its last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use undercurrent_schemas::ids::{Micros, stable_hash};
use undercurrent_schemas::tables::Table;

use super::hour::Hour;
use super::manifest::FileEntry;
use super::options::Compaction;
use super::parquet_file::{self, Content, OffsetRanges};
use super::{HistoryError, HistoryOptions, disk, roll};
use crate::faults;

const BATCH_ROWS: usize = 8192;
/// Small files that are merged however small they are beside the largest.
const FILES_MANY: usize = 8;

/// Files of one table and hour that are to become one.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) table: Table,
    pub(super) sources: Vec<FileEntry>,
}

/// The next merge, if any is due; files of `except` are left alone.
pub(super) fn due(
    live: &BTreeMap<String, FileEntry>,
    watermark: Micros,
    settings: &Compaction,
    except: &BTreeSet<String>,
) -> Option<Merge> {
    let mut run = Run { directory: "", bytes: 0, files: Vec::new() };
    for (path, file) in live {
        let directory = directory_of(path);
        let small = file.bytes < settings.file_bytes && !except.contains(path);
        if directory != run.directory || !small || run.bytes + file.bytes > settings.file_bytes {
            if let Some(merge) = run.merge() {
                return Some(merge);
            }
            run = Run { directory, bytes: 0, files: Vec::new() };
        }
        if small && is_closed(directory, watermark, settings) {
            run.bytes += file.bytes;
            run.files.push(file);
        }
    }
    run.merge()
}

/// Small files of one directory, neighbours in time.
struct Run<'a> {
    directory: &'a str,
    bytes: u64,
    files: Vec<&'a FileEntry>,
}

impl Run<'_> {
    /// Worth it: else each late row would write its whole hour again.
    fn merge(&self) -> Option<Merge> {
        let largest = self.files.iter().map(|file| file.bytes).max()?;
        let others = self.bytes - largest;
        let worth = self.files.len() >= FILES_MANY || (self.files.len() > 1 && others >= largest / 10);
        let name = self.directory.split('/').next()?;
        let table = Table::ALL.into_iter().find(|table| table.name() == name)?;
        worth.then(|| Merge { table, sources: self.files.iter().map(|file| (*file).clone()).collect() })
    }
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn is_closed(directory: &str, watermark: Micros, settings: &Compaction) -> bool {
    let settle_us = i64::try_from(settings.settle.as_micros()).unwrap_or(i64::MAX);
    Hour::of_dir(directory).is_some_and(|hour| hour.end().plus(settle_us) <= watermark)
}

impl Merge {
    /// Writes the merged file under its name; it counts when the manifest says so.
    pub(super) fn write(&self, dir: &Path, options: &HistoryOptions) -> Result<FileEntry, HistoryError> {
        let (Some(first), Some(last)) = (self.sources.first(), self.sources.last()) else {
            unreachable!("a merge has at least two sources")
        };
        let ticks =
            |file: &FileEntry| roll::ticks_of(&file.path).ok_or_else(|| odd(dir, file, "its name has no ticks"));
        let ticks = (ticks(first)?.0, ticks(last)?.1);
        let below = directory_of(&first.path);
        let name = format!("{below}/{}", roll::file_name(ticks.0, ticks.1));
        let path = dir.join(&name);

        let point = |name| faults::point(name).map_err(HistoryError::io("write", &path));
        point("compaction-begun")?;
        let offsets = self.offsets();
        let content = Content { table: self.table, ticks, offsets: &offsets };
        let schema = self.table.schema();
        let mut sources = Vec::with_capacity(self.sources.len());
        for file in &self.sources {
            sources.push(Source { bytes: read_checked(dir, file)?, schema: &schema });
        }
        let batches = sources.iter().flat_map(Source::batches);
        let (bytes, rows) = parquet_file::encode(&content, batches, options)
            .map_err(|source| HistoryError::Encode { path: path.clone(), source })?;
        let expected: u64 = self.sources.iter().map(|file| file.rows).sum();
        if rows as u64 != expected {
            return Err(odd(dir, first, "its merged rows are not those of its sources"));
        }
        disk::write_whole(&path, &bytes)?;
        if let Some(parent) = path.parent() {
            disk::sync_dir(parent)?;
        }
        point("compaction-written")?;
        Ok(FileEntry {
            table: self.table.name().to_owned(),
            path: name,
            rows: expected,
            bytes: bytes.len() as u64,
            hash: format!("{:016x}", stable_hash(&[&bytes])),
            offsets,
        })
    }

    /// Of all sources together; none if one of them does not say.
    fn offsets(&self) -> OffsetRanges {
        if self.sources.iter().any(|file| file.offsets.is_empty()) {
            return OffsetRanges::new();
        }
        let mut all = OffsetRanges::new();
        for (partition, (first, last)) in self.sources.iter().flat_map(|file| &file.offsets) {
            let range = all.entry(*partition).or_insert((*first, *last));
            *range = (range.0.min(*first), range.1.max(*last));
        }
        all
    }
}

/// The bytes of a file, as they were written.
fn read_checked(dir: &Path, file: &FileEntry) -> Result<Bytes, HistoryError> {
    let path = dir.join(&file.path);
    let bytes = std::fs::read(&path).map_err(HistoryError::io("read", &path))?;
    let whole = bytes.len() as u64 == file.bytes && format!("{:016x}", stable_hash(&[&bytes])) == file.hash;
    if whole { Ok(bytes.into()) } else { Err(odd(dir, file, "it is not as it was written")) }
}

fn odd(dir: &Path, file: &FileEntry, what: &'static str) -> HistoryError {
    HistoryError::Odd { path: dir.join(&file.path), what }
}

/// A file to be merged.
struct Source<'a> {
    bytes: Bytes,
    schema: &'a SchemaRef,
}

impl Source<'_> {
    fn batches(&self) -> Box<dyn Iterator<Item = Result<RecordBatch, ParquetError>> + '_> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(self.bytes.clone())
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
        match reader {
            Ok(reader) => Box::new(reader.map(|batch| adapted(&batch?, self.schema))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

/// A batch of an earlier version with the columns of this one: what came since is NULL.
pub(super) fn adapted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ParquetError> {
    let unknown = |name: &&str| schema.column_with_name(name).is_none();
    let names = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).find(unknown);
    if let Some(name) = names {
        return Err(ParquetError::General(format!("column `{name}` is of a newer version")));
    }
    let column = |field: &arrow::datatypes::FieldRef| {
        let column = batch.column_by_name(field.name()).cloned();
        column.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    };
    Ok(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())?)
}
