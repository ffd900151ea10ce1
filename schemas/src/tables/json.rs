//! Rows of a table as JSON objects, for topics: the same names and values as in files.
//!
//! Times are microseconds since 1970, bytes are hexadecimal, what is NULL is left out. Not `arrow-json`: it does not know
//! the two latter, and the tables have but a handful of types.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type};
use serde_json::{Map, Value};

/// Every row, in order.
#[must_use]
pub fn rows(batch: &RecordBatch) -> Vec<Value> {
    let mut rows = vec![Map::new(); batch.num_rows()];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        for (at, row) in rows.iter_mut().enumerate() {
            if let Some(value) = value(column, at) {
                row.insert(field.name().clone(), value);
            }
        }
    }
    rows.into_iter().map(Value::Object).collect()
}

/// One value; `None` = NULL, or of a type that no table has.
fn value(column: &dyn Array, at: usize) -> Option<Value> {
    if column.is_null(at) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).into(),
        DataType::Boolean => column.as_boolean().value(at).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(at).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(at).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(at).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(at).into(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(at).into(),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(at);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(at);
            (0..items.len()).filter_map(|item| value(&items, item)).collect::<Vec<_>>().into()
        }
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let inner = fields.iter().zip(columns);
            let inner = inner.filter_map(|(field, column)| Some((field.name().clone(), value(column, at)?)));
            Value::Object(inner.collect())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Table;

    fn is_known(of: &DataType) -> bool {
        match of {
            DataType::List(item) => is_known(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| is_known(field.data_type())),
            DataType::Utf8 | DataType::Boolean | DataType::UInt64 | DataType::UInt32 | DataType::Int64 => true,
            DataType::UInt8 | DataType::Float64 | DataType::Timestamp(..) | DataType::Binary => true,
            _ => false,
        }
    }

    #[test]
    fn every_type_of_a_table_has_a_form() {
        for table in Table::ALL {
            for field in table.schema().fields() {
                assert!(is_known(field.data_type()), "{}: {field:?}", table.name());
            }
        }
    }

    #[test]
    fn a_row_has_its_columns_and_no_null() {
        let row = crate::rows::AlertRow {
            source: crate::rows::Source::default(),
            alert_id: "a".to_owned(),
            ts: crate::ids::Micros(7),
            kind: crate::rows::AlertKind::ServerDegraded,
            state: crate::rows::AlertState::Open,
            server: "s".to_owned(),
            subject: "s/x".to_owned(),
            opened_at: crate::ids::Micros(5),
            times: 3,
            text: "t".to_owned(),
        };
        let rows = rows(&crate::tables::alerts::batch(&[row]));
        assert_eq!(rows[0]["alert_id"], "a");
        assert_eq!((&rows[0]["ts"], &rows[0]["times"]), (&Value::from(7), &Value::from(3)));
    }
}
