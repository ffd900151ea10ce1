//! Table `forecasts`: how many calls each minute was expected to have, and had; sum `diff` to see what holds.

use arrow::array::RecordBatch;
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef};

use super::columns::Columns;
use crate::rows::ForecastRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[ForecastRow]) -> RecordBatch {
    Columns::of(rows)
        .text("kind", |row| row.kind.as_str())
        .text("tenant", |row| &row.tenant)
        .text("entity", |row| &row.entity)
        .time("window_start", |row| row.window_start)
        .number::<Int64Type>("diff", |row| row.diff)
        .number::<Float64Type>("expected", |row| row.expected)
        .number::<Float64Type>("error", |row| row.error)
        .number::<Int64Type>("calls", |row| row.calls)
        .source(|row| row.source)
        .into_batch()
}
