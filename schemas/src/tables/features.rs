//! Table `features`: changes of one entity's features over one window; sum `diff` to see what holds.

use arrow::array::RecordBatch;
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef};

use super::columns::Columns;
use crate::rows::{FeatureRow, ReportedSums};

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[FeatureRow]) -> RecordBatch {
    Columns::of(rows)
        .text("kind", |row| row.kind.as_str())
        .text("tenant", |row| &row.tenant)
        .text("entity", |row| &row.entity)
        .time("window_start", |row| row.window_start)
        .number::<Int64Type>("window_us", |row| row.window_us)
        .number::<Int64Type>("diff", |row| row.diff)
        .number::<Int64Type>("calls", |row| row.calls)
        .number::<Int64Type>("errors", |row| row.errors)
        .number::<Int64Type>("request_bytes", |row| row.request_bytes)
        .number::<Int64Type>("response_bytes", |row| row.response_bytes)
        .number::<Int64Type>("answered", |row| row.answered)
        .number::<Int64Type>("latency_sum_us", |row| row.latency_sum_us)
        .number_or_null::<Float64Type>("latency_p50_us", |row| row.latency_p50_us)
        .number_or_null::<Float64Type>("latency_p95_us", |row| row.latency_p95_us)
        // Came later: NULL in files that were written before, and where nothing was reported.
        .number_or_null::<Int64Type>("reported_points", |row| reported(row, |sums| sums.points))
        .number_or_null::<Int64Type>("reported_calls", |row| reported(row, |sums| sums.calls))
        .number_or_null::<Int64Type>("reported_errors", |row| reported(row, |sums| sums.errors))
        .number_or_null::<Int64Type>("reported_latency_sum_us", |row| reported(row, |sums| sums.latency_sum_us))
        .number_or_null::<Float64Type>("cpu", |row| mean(row.reported.cpu_millionths, row.reported.cpu_points))
        .number_or_null::<Float64Type>("memory", |row| mean(row.reported.memory_millionths, row.reported.memory_points))
        .number_or_null::<Int64Type>("tool_errors", |row| Some(row.tool_errors))
        .number_or_null::<Int64Type>("rpc_errors", |row| Some(row.rpc_errors))
        .number_or_null::<Int64Type>("new_hosts", |row| Some(row.new_hosts))
        .number_or_null::<Int64Type>("hosts", |row| Some(row.hosts))
        .number_or_null::<Int64Type>("new_tools", |row| Some(row.new_tools))
        .number_or_null::<Int64Type>("distinct_tools", |row| Some(row.distinct_tools))
        .number_or_null::<Int64Type>("distinct_shapes", |row| Some(row.distinct_shapes))
        .number_or_null::<Int64Type>("arguments", |row| Some(row.arguments))
        .number_or_null::<Int64Type>("text_arguments", |row| Some(row.text_arguments))
        .number_or_null::<Int64Type>("sourced_arguments", |row| Some(row.sourced_arguments))
        .number_or_null::<Int64Type>("shape_millibits", |row| Some(row.shape_millibits))
        .number_or_null::<Int64Type>("fresh_millibits", |row| Some(row.fresh_millibits))
        .number_or_null::<Int64Type>("argument_entropy_millibits", |row| Some(row.argument_entropy_millibits))
        .source(|row| row.source)
        .into_batch()
}

fn reported(row: &FeatureRow, of: impl Fn(&ReportedSums) -> i64) -> Option<i64> {
    (row.reported.points != 0).then(|| of(&row.reported))
}

fn mean(millionths: i64, points: i64) -> Option<f64> {
    (points != 0).then(|| millionths as f64 / points as f64 / 1e6)
}
