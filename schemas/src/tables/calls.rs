//! Table `calls`: one row per `tools/call` request, with what the request path thought and did.

use arrow::array::RecordBatch;
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef, UInt8Type, UInt32Type, UInt64Type};

use super::assessed::decision_text;
use super::columns::Columns;
use crate::rows::CallRow;

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[CallRow]) -> RecordBatch {
    Columns::of(rows)
        .text("session_id", |row| &row.session_id)
        .time("ts", |row| row.ts)
        .text("jsonrpc_id", |row| &row.jsonrpc_id)
        .text("tenant", |row| &row.tenant)
        .text("principal", |row| &row.principal)
        .text("server", |row| &row.server)
        .text("tool", |row| &row.tool)
        .text("outcome", |row| row.outcome.as_str())
        .text_or_null("error_type", |row| &row.error_type)
        .number_or_null::<Int64Type>("latency_us", |row| row.latency_us)
        .number::<UInt64Type>("request_bytes", |row| row.request_bytes)
        .number::<UInt64Type>("response_bytes", |row| row.response_bytes)
        .text_or_null("verdict", |row| row.verdict.as_ref().map_or("", decision_text))
        .flag_or_null("enforced", |row| row.verdict.as_ref().map(|verdict| verdict.enforced))
        .assessment(rows, |row| row.verdict.as_ref().and_then(|verdict| verdict.assessment.as_ref()))
        .number_or_null::<UInt8Type>("result_shape", |row| row.result_shape)
        .text_or_null("expected_tool", |row| &row.expected.tool)
        .number_or_null::<UInt32Type>("tool_rank", |row| row.expected.tool_rank)
        .number_or_null::<Int64Type>("expected_latency_us", |row| row.expected.latency_us)
        .number_or_null::<Float64Type>("failure_p", |row| row.expected.failure_p)
        .source(|row| row.source)
        .into_batch()
}
