//! Table `dead_letters`: what came and could not be taken, and why.

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, UInt64Type};

use super::columns::Columns;
use crate::rows::DeadLetterRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[DeadLetterRow]) -> RecordBatch {
    Columns::of(rows)
        .time("ts", |row| row.ts)
        .text("tenant", |row| &row.tenant)
        .text("source", |row| &row.letter.source)
        .text("reason", |row| &row.letter.reason)
        .number::<UInt64Type>("size_bytes", |row| row.letter.size_bytes)
        .bytes_or_null("content", |row| &row.letter.content)
        .source(|row| row.source)
        .into_batch()
}
