//! Table `alerts`: the life of each alert, a row a step.

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, UInt64Type};

use super::columns::Columns;
use crate::rows::AlertRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[AlertRow]) -> RecordBatch {
    Columns::of(rows)
        .text("alert_id", |row| &row.alert_id)
        .time("ts", |row| row.ts)
        .text("kind", |row| row.kind.as_str())
        .text("state", |row| row.state.as_str())
        .text("server", |row| &row.server)
        .text("subject", |row| &row.subject)
        .time("opened_at", |row| row.opened_at)
        .number::<UInt64Type>("times", |row| row.times)
        .text("text", |row| &row.text)
        .source(|row| row.source)
        .into_batch()
}
