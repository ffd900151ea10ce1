//! Table `sessions`: one row per part of a session, with the score that it had before it taught anything.

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, UInt32Type, UInt64Type};

use super::columns::Columns;
use crate::rows::SessionRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[SessionRow]) -> RecordBatch {
    Columns::of(rows)
        .text("session_id", |row| &row.session_id)
        .number::<UInt32Type>("part", |row| row.part)
        .time("started_at", |row| row.started_at)
        .time("ended_at", |row| row.ended_at)
        .text("end_reason", |row| row.end_reason.as_str())
        .text("tenant", |row| &row.tenant)
        .text("principal", |row| &row.principal)
        .text("server", |row| &row.server)
        .number::<UInt64Type>("messages", |row| row.messages)
        .number::<UInt64Type>("calls", |row| row.calls)
        .number::<UInt64Type>("errors", |row| row.errors)
        .flag_or_null("flagged", |row| row.flagged)
        .flag("taught", |row| row.taught)
        .assessment(rows, |row| row.assessment.as_ref())
        .number::<UInt32Type>("taught_eighths", |row| row.taught_eighths)
        .number_or_null::<UInt64Type>("cell", |row| row.cell)
        .text_or_null("cluster", |row| &row.cluster)
        .source(|row| row.source)
        .into_batch()
}
