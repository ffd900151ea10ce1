//! Table `telemetry`: what was reported from outside, a point a row.

use arrow::array::RecordBatch;
use arrow::datatypes::{Float64Type, SchemaRef, UInt32Type, UInt64Type};

use super::columns::Columns;
use crate::ids::Micros;
use crate::rows::TelemetryRow;
use crate::v1::{Attribute, PointKind};

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[TelemetryRow]) -> RecordBatch {
    let attributes: Vec<&Attribute> = rows.iter().flat_map(|row| &row.point.attributes).collect();
    let attributes =
        Columns::of(&attributes).text("key", |attribute| &attribute.key).text("value", |attribute| &attribute.value);
    Columns::of(rows)
        .time("ts", |row| Micros(row.point.ts_us))
        .time("received_at", |row| row.received)
        .text("tenant", |row| &row.tenant)
        .text_or_null("server", |row| &row.server)
        .text("source", |row| &row.point.source)
        .text("name", |row| &row.point.name)
        .text_or_null("unit", |row| &row.point.unit)
        .text_or_null("kind", |row| kind_text(row.point.kind()))
        .flag("cumulative", |row| row.point.cumulative)
        .number_or_null::<Float64Type>("value", |row| row.point.value)
        .number_or_null::<UInt64Type>("count", |row| of_histogram(row, row.point.count))
        .number_or_null::<Float64Type>("sum", |row| of_histogram(row, row.point.sum))
        .number_or_null::<UInt32Type>("severity", |row| {
            (row.point.kind() == PointKind::Log).then_some(row.point.severity)
        })
        .structs("attributes", |row| row.point.attributes.len(), attributes)
        .source(|row| row.source)
        .into_batch()
}

fn of_histogram<T>(row: &TelemetryRow, value: T) -> Option<T> {
    (row.point.kind() == PointKind::Histogram).then_some(value)
}

const fn kind_text(kind: PointKind) -> &'static str {
    match kind {
        PointKind::Unspecified => "",
        PointKind::Gauge => "gauge",
        PointKind::Sum => "sum",
        PointKind::Histogram => "histogram",
        PointKind::Log => "log",
    }
}
