//! A `sessions` table written by hand, in the contract's types.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Float64Builder, Int32Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;

use super::{Reason, SessionRow};

pub(crate) fn row(session_id: &str, second: i64, score: Option<f64>) -> SessionRow {
    SessionRow {
        session_id: session_id.to_owned(),
        part: 0,
        principal: format!("127.10.0.{second}"),
        started_at_us: second * 1_000_000,
        ended_at_us: second * 1_000_000 + 500_000,
        score,
        p_value: score.map(|score| 1.0 / (1.0 + score)),
        flagged: score.is_some_and(|score| score > 10.0),
        model_version: score.map(|_| 4),
        reasons: score.map(|weight| vec![Reason { text: "rare next tool".to_owned(), weight }]).unwrap_or_default(),
    }
}

pub(crate) fn write(history: &Path, name: &str, rows: &[SessionRow]) {
    let folder = history.join("sessions/date=2026-11-22/hour=10");
    std::fs::create_dir_all(&folder).unwrap();
    let text =
        |get: fn(&SessionRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(get))) };
    let time = |get: fn(&SessionRow) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(get)).with_timezone("UTC"))
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("session_id", text(|row| &row.session_id), false),
        ("part", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.part as i32))) as ArrayRef, false),
        ("principal", text(|row| &row.principal), false),
        ("started_at", time(|row| row.started_at_us), false),
        ("ended_at", time(|row| row.ended_at_us), false),
        ("score", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.score))) as ArrayRef, true),
        ("p_value", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.p_value))) as ArrayRef, true),
        (
            "flagged",
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.score.map(|_| row.flagged)))) as ArrayRef,
            true,
        ),
        (
            "model_version",
            Arc::new(UInt64Array::from_iter(rows.iter().map(|row| row.model_version.map(|version| version as u64))))
                as ArrayRef,
            true,
        ),
        ("reasons", reasons(rows), true),
    ])
    .unwrap();
    let file = File::create(folder.join(format!("{name}.parquet"))).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn reasons(rows: &[SessionRow]) -> ArrayRef {
    let fields = vec![
        Field::new("term", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("weight", DataType::Float64, false),
    ];
    let mut lists = ListBuilder::new(StructBuilder::from_fields(fields, rows.len()));
    for row in rows {
        for reason in &row.reasons {
            let terms = lists.values();
            terms.field_builder::<StringBuilder>(0).unwrap().append_value("term");
            terms.field_builder::<StringBuilder>(1).unwrap().append_value(&reason.text);
            terms.field_builder::<Float64Builder>(2).unwrap().append_value(reason.weight);
            terms.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
