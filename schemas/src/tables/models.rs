//! Table `models`: changes of the model's entries; a version is the sum of the diffs up to it.

use arrow::array::RecordBatch;
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type, UInt64Type};

use super::columns::Columns;
use crate::rows::ModelRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[ModelRow]) -> RecordBatch {
    Columns::of(rows)
        .number::<UInt64Type>("version", |row| row.version.0)
        .text("part", |row| row.part)
        // Here the empty text is a value, the global back-off, and must group and join like one.
        .text("scope", |row| &row.scope)
        .text("key", |row| &row.key)
        .number::<UInt32Type>("bin", |row| row.bin)
        .number::<Int64Type>("diff", |row| row.diff)
        .source(|row| row.source)
        .into_batch()
}
