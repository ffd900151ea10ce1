//! A roll: the rows of consecutive ticks on their way to files, one per table and hour.
//!
//! Invariant: what a roll's files hold depends on the ticks given to it and on nothing else. Its end is decided by row
//! counts and watermarks; rows keep the order of their source.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::Path;

use arrow::array::RecordBatch;
use undercurrent_schemas::ids::{Micros, Tick, stable_hash};
use undercurrent_schemas::rows::{
    AlertRow, CallRow, ClusterRow, DeadLetterRow, FeatureRow, ForecastRow, LabelRow, MessageRow, ModelRow, SessionRow,
    TelemetryRow, ToolRow,
};
use undercurrent_schemas::tables::Table;

use super::hour::Hour;
use super::parquet_file::{self, Content, OffsetRanges};
use super::rows::Row;
use super::{FileEntry, HistoryError, HistoryOptions, RollEntry, TickRows, disk};
use crate::faults;

/// Rows that wait as structs before they become a batch: columns take a fraction of the memory.
const BATCH_ROWS: usize = 4096;

/// A roll that takes ticks.
#[derive(Debug)]
pub(super) struct OpenRoll {
    first: Tick,
    last: Tick,
    started: Micros,
    watermark: Micros,
    messages: Hours<MessageRow>,
    calls: Hours<CallRow>,
    sessions: Hours<SessionRow>,
    features: Hours<FeatureRow>,
    models: Hours<ModelRow>,
    labels: Hours<LabelRow>,
    tools: Hours<ToolRow>,
    alerts: Hours<AlertRow>,
    clusters: Hours<ClusterRow>,
    forecasts: Hours<ForecastRow>,
    telemetry: Hours<TelemetryRow>,
    dead_letters: Hours<DeadLetterRow>,
}

impl OpenRoll {
    pub(super) fn starting(first: Tick, watermark: Micros) -> Self {
        Self {
            first,
            last: first,
            started: watermark,
            watermark,
            messages: Hours::default(),
            calls: Hours::default(),
            sessions: Hours::default(),
            features: Hours::default(),
            models: Hours::default(),
            labels: Hours::default(),
            tools: Hours::default(),
            alerts: Hours::default(),
            clusters: Hours::default(),
            forecasts: Hours::default(),
            telemetry: Hours::default(),
            dead_letters: Hours::default(),
        }
    }

    pub(super) fn add(&mut self, rows: TickRows) {
        self.last = rows.tick;
        self.watermark = rows.watermark;
        self.messages.add(rows.messages, rows.watermark);
        self.calls.add(rows.calls, rows.watermark);
        self.sessions.add(rows.sessions, rows.watermark);
        self.features.add(rows.features, rows.watermark);
        self.models.add(rows.models, rows.watermark);
        self.labels.add(rows.labels, rows.watermark);
        self.tools.add(rows.tools, rows.watermark);
        self.alerts.add(rows.alerts, rows.watermark);
        self.clusters.add(rows.clusters, rows.watermark);
        self.forecasts.add(rows.forecasts, rows.watermark);
        self.telemetry.add(rows.telemetry, rows.watermark);
        self.dead_letters.add(rows.dead_letters, rows.watermark);
    }

    pub(super) fn is_full(&self, options: &HistoryOptions) -> bool {
        let span_us = self.watermark.0.saturating_sub(self.started.0);
        let rows = [
            self.messages.rows,
            self.calls.rows,
            self.sessions.rows,
            self.features.rows,
            self.models.rows,
            self.labels.rows,
            self.tools.rows,
            self.alerts.rows,
            self.clusters.rows,
            self.forecasts.rows,
            self.telemetry.rows,
            self.dead_letters.rows,
        ];
        i128::from(span_us) >= options.roll_after.as_micros() as i128
            || rows.iter().any(|rows| *rows >= options.roll_rows)
    }

    pub(super) fn seal(self) -> SealedRoll {
        let mut parts = Vec::new();
        self.messages.seal(&mut parts);
        self.calls.seal(&mut parts);
        self.sessions.seal(&mut parts);
        self.features.seal(&mut parts);
        self.models.seal(&mut parts);
        self.labels.seal(&mut parts);
        self.tools.seal(&mut parts);
        self.alerts.seal(&mut parts);
        self.clusters.seal(&mut parts);
        self.forecasts.seal(&mut parts);
        self.telemetry.seal(&mut parts);
        self.dead_letters.seal(&mut parts);
        SealedRoll { first: self.first, last: self.last, watermark: self.watermark, parts }
    }
}

/// The rows of one table, by hour.
#[derive(Debug)]
struct Hours<R> {
    rows: usize,
    by_hour: BTreeMap<Hour, Batches<R>>,
}

/// Rows of one table and hour.
#[derive(Debug)]
struct Batches<R> {
    done: Vec<RecordBatch>,
    waiting: Vec<R>,
    offsets: OffsetRanges,
}

impl<R> Default for Hours<R> {
    fn default() -> Self {
        Self { rows: 0, by_hour: BTreeMap::new() }
    }
}

impl<R> Default for Batches<R> {
    fn default() -> Self {
        Self { done: Vec::new(), waiting: Vec::new(), offsets: OffsetRanges::default() }
    }
}

impl<R: Row> Hours<R> {
    fn add(&mut self, mut rows: Vec<R>, watermark: Micros) {
        rows.sort_by_key(Row::place);
        self.rows += rows.len();
        for row in rows {
            self.by_hour.entry(Hour::of(row.time(watermark))).or_default().add(row);
        }
    }

    fn seal(self, parts: &mut Vec<Part>) {
        for (hour, mut batches) in self.by_hour {
            batches.convert();
            parts.push(Part { table: R::TABLE, hour, batches: batches.done, offsets: batches.offsets });
        }
    }
}

impl<R: Row> Batches<R> {
    fn add(&mut self, row: R) {
        if R::TABLE == Table::Messages {
            let (partition, offset) = row.place();
            self.offsets.entry(partition).or_insert((offset, offset)).1 = offset;
        }
        self.waiting.push(row);
        if self.waiting.len() == BATCH_ROWS {
            self.convert();
        }
    }

    fn convert(&mut self) {
        if !self.waiting.is_empty() {
            self.done.push(R::batch(&mem::take(&mut self.waiting)));
        }
    }
}

/// A roll that has ended: what its files will hold is decided.
#[derive(Debug)]
pub(super) struct SealedRoll {
    first: Tick,
    last: Tick,
    watermark: Micros,
    parts: Vec<Part>,
}

/// What goes into one file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) table: Table,
    pub(super) hour: Hour,
    pub(super) batches: Vec<RecordBatch>,
    /// Of messages: the first and last offset per partition.
    pub(super) offsets: OffsetRanges,
}

impl SealedRoll {
    /// Writes every file, makes them safe, and returns the manifest's line. May be called again after an error: the
    /// files that were already there are replaced by equal ones.
    pub(super) fn write(&self, dir: &Path, options: &HistoryOptions) -> Result<RollEntry, HistoryError> {
        let point = |name| faults::point(name).map_err(HistoryError::io("write to", dir));
        point("history-begun")?;
        let mut files = Vec::with_capacity(self.parts.len());
        let mut dirs = BTreeSet::new();
        for part in &self.parts {
            let below = part.hour.dir(part.table.name());
            let dir = dir.join(&below);
            let path = dir.join(file_name(self.first, self.last));
            let content = Content { table: part.table, ticks: (self.first, self.last), offsets: &part.offsets };
            let (bytes, _) = parquet_file::encode(&content, part.batches.iter().cloned().map(Ok), options)
                .map_err(|source| HistoryError::Encode { path: path.clone(), source })?;
            disk::create_dirs(&dir)?;
            disk::write_whole(&path, &bytes)?;
            files.push(self.entry_of(part, &below, &bytes));
            dirs.insert(dir);
            if files.len() == self.parts.len().div_ceil(2) {
                point("history-half")?;
            }
        }
        for dir in &dirs {
            disk::sync_dir(dir)?;
        }
        point("history-written")?;
        Ok(RollEntry { first_tick: self.first, last_tick: self.last, watermark_us: self.watermark, files })
    }

    /// What goes into the directory `TABLE/date=…/hour=…`.
    pub(super) fn part_of(self, directory: &str) -> Option<Part> {
        self.parts.into_iter().find(|part| part.hour.dir(part.table.name()) == Path::new(directory))
    }

    fn entry_of(&self, part: &Part, below: &Path, bytes: &[u8]) -> FileEntry {
        let below: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
        FileEntry {
            table: part.table.name().to_owned(),
            path: format!("{}/{}", below.join("/"), file_name(self.first, self.last)),
            rows: part.rows() as u64,
            bytes: bytes.len() as u64,
            hash: format!("{:016x}", stable_hash(&[bytes])),
            offsets: part.offsets.clone(),
        }
    }
}

impl Part {
    pub(super) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// The name of a file with rows of these ticks.
pub(super) fn file_name(first: Tick, last: Tick) -> String {
    format!("t={:020}-{:020}.parquet", first.0, last.0)
}

/// The first and the last tick of the file at this path; `None` = not a name of ours.
pub(super) fn ticks_of(path: &str) -> Option<(Tick, Tick)> {
    let name = path.rsplit('/').next()?;
    let (first, last) = name.strip_prefix("t=")?.strip_suffix(".parquet")?.split_once('-')?;
    let ticks = (Tick(first.parse().ok()?), Tick(last.parse().ok()?));
    (name == file_name(ticks.0, ticks.1)).then_some(ticks)
}
