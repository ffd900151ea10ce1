//! Table `labels`: what was said about sessions, and what became of it.

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, UInt32Type};

use super::columns::Columns;
use crate::rows::LabelRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[LabelRow]) -> RecordBatch {
    Columns::of(rows)
        .text("session_id", |row| &row.session_id)
        .time("ts", |row| row.ts)
        .text("label", |row| &row.label)
        .text("outcome", |row| row.outcome.as_str())
        .number::<UInt32Type>("parts", |row| row.parts)
        .source(|row| row.source)
        .into_batch()
}
