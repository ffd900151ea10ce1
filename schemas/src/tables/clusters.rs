//! Table `clusters`: changes of groups of sessions that work alike; sum `diff` to see which there are.

use arrow::array::RecordBatch;
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef, UInt64Type};

use super::columns::Columns;
use crate::rows::ClusterRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[ClusterRow]) -> RecordBatch {
    Columns::of(rows)
        .text("cluster", |row| &row.cluster)
        .time("ts", |row| row.ts)
        .number::<Int64Type>("diff", |row| row.diff)
        .text("change", |row| row.change.as_str())
        .text_or_null("related", |row| &row.related)
        .text("server", |row| &row.server)
        .number::<UInt64Type>("sessions", |row| row.sessions)
        .number::<UInt64Type>("cells", |row| row.cells)
        .text_or_null("exemplar", |row| &row.exemplar)
        .number::<Float64Type>("drift", |row| row.drift)
        .source(|row| row.source)
        .into_batch()
}
