//! What is live, as tables for a program on the same host: the model's sums, and what entities do right now.
//!
//! Not tables of the history: each is one batch that takes the place of the one before.

use arrow::array::RecordBatch;
use arrow::datatypes::{Float64Type, Int64Type, UInt32Type, UInt64Type};

use super::columns::Columns;
use crate::ids::Micros;
use crate::rows::EntityKind;

/// One count of the live model, in words, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSum {
    pub part: &'static str,
    /// Name of the server.
    pub scope: String,
    pub key: String,
    pub bin: u32,
    pub scope_hash: u64,
    pub key_hash: u64,
    pub total: u64,
    /// The total in whole sessions' worth.
    pub sessions: f64,
    /// Its part of all totals of this part and scope.
    pub share: f64,
}

/// The newest window of one size of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveFeature {
    pub kind: EntityKind,
    pub tenant: String,
    pub entity: String,
    pub window_start: Micros,
    pub window_us: i64,
    pub calls: i64,
    pub errors: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    pub answered: i64,
    pub latency_sum_us: i64,
    pub latency_p50_us: Option<f64>,
    pub latency_p95_us: Option<f64>,
    pub tool_errors: i64,
    pub new_hosts: i64,
    pub hosts: i64,
    pub new_tools: i64,
    pub arguments: i64,
    pub text_arguments: i64,
    pub sourced_arguments: i64,
    /// `shape_bits` and `fresh_bits` of its calls as the request path said them, thousandths of a bit, added up.
    pub shape_millibits: i64,
    pub fresh_millibits: i64,
    pub argument_entropy_millibits: i64,
    pub distinct_tools: i64,
    pub distinct_shapes: i64,
}

/// The model's rows as columns, in their order.
#[must_use]
pub fn sums(rows: &[LiveSum]) -> RecordBatch {
    Columns::of(rows)
        .text("part", |row| row.part)
        .text("scope", |row| &row.scope)
        .text("key", |row| &row.key)
        .number::<UInt32Type>("bin", |row| row.bin)
        .number::<UInt64Type>("scope_hash", |row| row.scope_hash)
        .number::<UInt64Type>("key_hash", |row| row.key_hash)
        .number::<UInt64Type>("total", |row| row.total)
        .number::<Float64Type>("sessions", |row| row.sessions)
        .number::<Float64Type>("share", |row| row.share)
        .into_batch()
}

/// The entities' rows as columns, in their order.
#[must_use]
pub fn features(rows: &[LiveFeature]) -> RecordBatch {
    Columns::of(rows)
        .text("kind", |row| row.kind.as_str())
        .text("tenant", |row| &row.tenant)
        .text("entity", |row| &row.entity)
        .time("window_start", |row| row.window_start)
        .number::<Int64Type>("window_us", |row| row.window_us)
        .number::<Int64Type>("calls", |row| row.calls)
        .number::<Int64Type>("errors", |row| row.errors)
        .number::<Int64Type>("request_bytes", |row| row.request_bytes)
        .number::<Int64Type>("response_bytes", |row| row.response_bytes)
        .number::<Int64Type>("answered", |row| row.answered)
        .number::<Int64Type>("latency_sum_us", |row| row.latency_sum_us)
        .number_or_null::<Float64Type>("latency_p50_us", |row| row.latency_p50_us)
        .number_or_null::<Float64Type>("latency_p95_us", |row| row.latency_p95_us)
        .number::<Int64Type>("tool_errors", |row| row.tool_errors)
        .number::<Int64Type>("new_hosts", |row| row.new_hosts)
        .number::<Int64Type>("hosts", |row| row.hosts)
        .number::<Int64Type>("new_tools", |row| row.new_tools)
        .number::<Int64Type>("arguments", |row| row.arguments)
        .number::<Int64Type>("text_arguments", |row| row.text_arguments)
        .number::<Int64Type>("sourced_arguments", |row| row.sourced_arguments)
        .number::<Int64Type>("shape_millibits", |row| row.shape_millibits)
        .number::<Int64Type>("fresh_millibits", |row| row.fresh_millibits)
        .number::<Int64Type>("argument_entropy_millibits", |row| row.argument_entropy_millibits)
        .number::<Int64Type>("distinct_tools", |row| row.distinct_tools)
        .number::<Int64Type>("distinct_shapes", |row| row.distinct_shapes)
        .into_batch()
}
