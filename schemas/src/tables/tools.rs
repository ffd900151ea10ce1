//! Table `tools`: each tool's definition when it was first seen, and whenever it changed.

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, UInt32Type, UInt64Type};

use super::columns::Columns;
use crate::rows::ToolRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[ToolRow]) -> RecordBatch {
    Columns::of(rows)
        .time("ts", |row| row.ts)
        .text("tenant", |row| &row.tenant)
        .text("server", |row| &row.server)
        .text("tool", |row| &row.tool)
        .text("session_id", |row| &row.session_id)
        .text("change", |row| row.change.as_str())
        .number::<UInt64Type>("definition_hash", |row| row.definition_hash)
        .texts("what", |row| &row.what)
        .texts("findings", |row| &row.findings)
        .texts("also_at", |row| &row.also_at)
        .text("definition", |row| &row.definition)
        .number_or_null::<UInt32Type>("similarity_pct", |row| row.similarity_pct)
        .source(|row| row.source)
        .into_batch()
}
