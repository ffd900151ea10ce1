//! The part of the history that a report needs, read from the Parquet files as any analyst would.
//!
//! It asks for columns by name and takes them in any string or time type, so the tables can grow under it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use arrow::array::{Array, ArrayRef, AsArray as _, ListArray, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One term of a score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reason {
    pub text: String,
    pub weight: f64,
}

/// A row of `sessions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionRow {
    pub session_id: String,
    pub part: i64,
    pub principal: String,
    pub started_at_us: i64,
    pub ended_at_us: i64,
    /// `None` = no model was live when it ended.
    pub score: Option<f64>,
    pub p_value: Option<f64>,
    pub flagged: bool,
    pub model_version: Option<i64>,
    pub reasons: Vec<Reason>,
}

/// What `calls` says, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    pub calls: usize,
    /// Calls that the request path had a score for.
    pub assessed: usize,
    pub by_tool: BTreeMap<String, usize>,
}

/// All sessions, in the order of their starts; a row that stands in two files counts once.
pub fn sessions(history: &Path) -> anyhow::Result<Vec<SessionRow>> {
    const COLUMNS: &[&str] = &[
        "session_id",
        "part",
        "principal",
        "started_at",
        "ended_at",
        "score",
        "p_value",
        "flagged",
        "model_version",
        "reasons",
    ];
    let mut rows = BTreeMap::new();
    scan(&history.join("sessions"), COLUMNS, |batch| {
        for row in session_rows(batch)? {
            rows.insert((row.session_id.clone(), row.part), row);
        }
        Ok(())
    })?;
    let mut rows: Vec<SessionRow> = rows.into_values().collect();
    rows.sort_by_key(|row| row.started_at_us);
    Ok(rows)
}

pub fn call_counts(history: &Path) -> anyhow::Result<CallCounts> {
    let mut counts = CallCounts::default();
    scan(&history.join("calls"), &["tool", "score"], |batch| {
        let tools = strings(column(batch, "tool")?)?;
        let scores = column(batch, "score")?;
        for (row, tool) in tools.into_iter().enumerate() {
            counts.calls += 1;
            counts.assessed += usize::from(scores.is_valid(row));
            *counts.by_tool.entry(tool).or_default() += 1;
        }
        Ok(())
    })?;
    Ok(counts)
}

fn scan(
    table: &Path,
    columns: &[&str],
    mut each: impl FnMut(&RecordBatch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for path in parquet_files(table)? {
        let context = || format!("read {}", path.display());
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).with_context(context)?);
        let reader = reader.with_context(context)?;
        let mask = ProjectionMask::columns(reader.parquet_schema(), columns.iter().copied());
        for batch in reader.with_projection(mask).build().with_context(context)? {
            each(&batch.with_context(context)?).with_context(context)?;
        }
    }
    Ok(())
}

/// Every Parquet file of a table, in the order of their names; no directory = no file yet.
fn parquet_files(table: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![table.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn session_rows(batch: &RecordBatch) -> anyhow::Result<Vec<SessionRow>> {
    let ids = strings(column(batch, "session_id")?)?;
    let principals = strings(column(batch, "principal")?)?;
    let parts = integers(column(batch, "part")?)?;
    let versions = integers(column(batch, "model_version")?)?;
    let (starts, ends) = (micros(column(batch, "started_at")?)?, micros(column(batch, "ended_at")?)?);
    let (scores, p_values) = (floats(column(batch, "score")?)?, floats(column(batch, "p_value")?)?);
    let flags = cast(column(batch, "flagged")?, &DataType::Boolean)?;
    let flags = flags.as_boolean();
    let reasons = cast_reasons(column(batch, "reasons")?)?;
    let rows =
        ids.into_iter().zip(principals).zip(reasons).enumerate().map(|(row, ((session_id, principal), reasons))| {
            SessionRow {
                session_id,
                principal,
                reasons,
                part: parts[row].unwrap_or(0),
                started_at_us: starts[row].unwrap_or(0),
                ended_at_us: ends[row].unwrap_or(0),
                score: scores[row],
                p_value: p_values[row],
                flagged: flags.is_valid(row) && flags.value(row),
                model_version: versions[row],
            }
        });
    Ok(rows.collect())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> anyhow::Result<&'a ArrayRef> {
    batch.column_by_name(name).with_context(|| format!("find column `{name}`"))
}

fn strings(array: &ArrayRef) -> anyhow::Result<Vec<String>> {
    let array = cast(array, &DataType::Utf8)?;
    Ok(array.as_string::<i32>().iter().map(|value| value.unwrap_or_default().to_owned()).collect())
}

fn integers(array: &ArrayRef) -> anyhow::Result<Vec<Option<i64>>> {
    let array = cast(array, &DataType::Int64)?;
    Ok(array.as_primitive::<Int64Type>().iter().collect())
}

fn micros(array: &ArrayRef) -> anyhow::Result<Vec<Option<i64>>> {
    integers(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?)
}

fn floats(array: &ArrayRef) -> anyhow::Result<Vec<Option<f64>>> {
    let array = cast(array, &DataType::Float64)?;
    Ok(array.as_primitive::<Float64Type>().iter().collect())
}

fn cast_reasons(array: &ArrayRef) -> anyhow::Result<Vec<Vec<Reason>>> {
    let lists: &ListArray = array.as_list_opt::<i32>().context("`reasons` is not a list")?;
    let each = (0..lists.len()).map(|row| {
        if lists.is_null(row) {
            return Ok(Vec::new());
        }
        let list = lists.value(row);
        let terms: &StructArray = list.as_struct_opt().context("`reasons` holds no structs")?;
        let texts = strings(terms.column_by_name("text").context("find `reasons.text`")?)?;
        let weights = floats(terms.column_by_name("weight").context("find `reasons.weight`")?)?;
        let reasons = texts.into_iter().zip(weights);
        Ok(reasons.map(|(text, weight)| Reason { text, weight: weight.unwrap_or(0.0) }).collect())
    });
    each.collect()
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_written_and_once() {
        let history = tempfile::tempdir().unwrap();
        let mut rows = vec![fixture::row("b", 20, Some(3.5)), fixture::row("a", 10, None)];
        fixture::write(history.path(), "part-1", &rows);
        fixture::write(history.path(), "part-2", &rows[..1]);
        rows.reverse();
        assert_eq!(sessions(history.path()).unwrap(), rows);
    }

    #[test]
    fn a_history_that_is_not_there_yet_is_empty() {
        let history = tempfile::tempdir().unwrap();
        assert_eq!(sessions(history.path()).unwrap(), vec![]);
        assert_eq!(call_counts(history.path()).unwrap(), CallCounts::default());
    }
}
