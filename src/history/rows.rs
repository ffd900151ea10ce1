//! What the history is given: the rows of one tick, and how each kind of row is filed.

use arrow::array::RecordBatch;
use prost::Message as _;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::{
    AlertRow, CallRow, ClusterRow, DeadLetterRow, FeatureRow, ForecastRow, LabelRow, MessageRow, ModelRow, SessionRow,
    Source, TelemetryRow, ToolRow,
};
use undercurrent_schemas::tables::{self, Table};
use undercurrent_schemas::v1;

/// All rows of one tick, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TickRows {
    pub tick: Tick,
    pub watermark: Micros,
    pub messages: Vec<MessageRow>,
    pub calls: Vec<CallRow>,
    pub sessions: Vec<SessionRow>,
    pub features: Vec<FeatureRow>,
    pub models: Vec<ModelRow>,
    pub labels: Vec<LabelRow>,
    pub tools: Vec<ToolRow>,
    pub alerts: Vec<AlertRow>,
    pub clusters: Vec<ClusterRow>,
    pub forecasts: Vec<ForecastRow>,
    pub telemetry: Vec<TelemetryRow>,
    pub dead_letters: Vec<DeadLetterRow>,
}

impl TickRows {
    /// The rows of one table alone.
    #[must_use]
    pub fn only(self, table: Table) -> Self {
        let Self { tick, watermark, .. } = self;
        let none = Self { tick, watermark, ..Self::default() };
        match table {
            Table::Messages => Self { messages: self.messages, ..none },
            Table::Calls => Self { calls: self.calls, ..none },
            Table::Sessions => Self { sessions: self.sessions, ..none },
            Table::Features => Self { features: self.features, ..none },
            Table::Models => Self { models: self.models, ..none },
            Table::Labels => Self { labels: self.labels, ..none },
            Table::Tools => Self { tools: self.tools, ..none },
            Table::Alerts => Self { alerts: self.alerts, ..none },
            Table::Clusters => Self { clusters: self.clusters, ..none },
            Table::Forecasts => Self { forecasts: self.forecasts, ..none },
            Table::Telemetry => Self { telemetry: self.telemetry, ..none },
            Table::DeadLetters => Self { dead_letters: self.dead_letters, ..none },
        }
    }
}

/// Decodes the records of a tick; also says how many were no events.
#[must_use]
pub fn messages_of(committed: &CommittedTick) -> (Vec<MessageRow>, usize) {
    let mut rows = Vec::with_capacity(committed.records());
    for batch in &committed.batches {
        for (offset, record) in (batch.first_offset.0..).zip(&batch.records) {
            let Ok(event) = v1::Event::decode(record.as_slice()) else { continue };
            rows.push(MessageRow { tick: committed.tick, partition: batch.partition, offset: Offset(offset), event });
        }
    }
    let corrupt = committed.records() - rows.len();
    (rows, corrupt)
}

/// A row of one of the tables.
pub(super) trait Row: Sized {
    const TABLE: Table;

    /// Its place among the rows of its tick.
    fn place(&self) -> (Partition, u64);

    /// What decides its hour; `watermark` is that of its tick.
    fn time(&self, watermark: Micros) -> Micros;

    fn batch(rows: &[Self]) -> RecordBatch;
}

const fn place_of(source: Source) -> (Partition, u64) {
    (source.partition, source.ordinal as u64)
}

impl Row for MessageRow {
    const TABLE: Table = Table::Messages;

    fn place(&self) -> (Partition, u64) {
        (self.partition, self.offset.0)
    }

    fn time(&self, _: Micros) -> Micros {
        Micros(self.event.ts_us)
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::messages::batch(rows)
    }
}

impl Row for CallRow {
    const TABLE: Table = Table::Calls;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.ts
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::calls::batch(rows)
    }
}

impl Row for SessionRow {
    const TABLE: Table = Table::Sessions;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.ended_at
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::sessions::batch(rows)
    }
}

impl Row for FeatureRow {
    const TABLE: Table = Table::Features;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.window_start
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::features::batch(rows)
    }
}

impl Row for ModelRow {
    const TABLE: Table = Table::Models;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, watermark: Micros) -> Micros {
        watermark
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::models::batch(rows)
    }
}

impl Row for LabelRow {
    const TABLE: Table = Table::Labels;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.ts
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::labels::batch(rows)
    }
}

impl Row for ToolRow {
    const TABLE: Table = Table::Tools;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.ts
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::tools::batch(rows)
    }
}

impl Row for AlertRow {
    const TABLE: Table = Table::Alerts;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, watermark: Micros) -> Micros {
        watermark
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::alerts::batch(rows)
    }
}

impl Row for ClusterRow {
    const TABLE: Table = Table::Clusters;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, watermark: Micros) -> Micros {
        watermark
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::clusters::batch(rows)
    }
}

impl Row for ForecastRow {
    const TABLE: Table = Table::Forecasts;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.window_start
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::forecasts::batch(rows)
    }
}

impl Row for TelemetryRow {
    const TABLE: Table = Table::Telemetry;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        Micros(self.point.ts_us)
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::telemetry::batch(rows)
    }
}

impl Row for DeadLetterRow {
    const TABLE: Table = Table::DeadLetters;

    fn place(&self) -> (Partition, u64) {
        place_of(self.source)
    }

    fn time(&self, _: Micros) -> Micros {
        self.ts
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        tables::dead_letters::batch(rows)
    }
}
