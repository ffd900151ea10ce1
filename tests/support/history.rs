//! The history as an analyst sees it: SQL over Parquet by DuckDB, in a process of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::command::Words;
use super::parts::python_script;
use super::process::Process;
use super::raw::read_all;

/// The history below one DATA directory.
#[derive(Clone, Debug)]
pub(crate) struct History(PathBuf);

impl History {
    pub(crate) fn of_data(data: &Path) -> Self {
        Self(data.join("history"))
    }

    pub(crate) fn has(&self, table: &str) -> bool {
        self.0.join(table).is_dir()
    }

    /// The rows of a query over the tables by name.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Value> {
        self.try_rows(sql).unwrap_or_else(|said| panic!("{sql}\n{said}"))
    }

    /// As [`History::rows`]; a table may not be there yet.
    pub(crate) fn try_rows(&self, sql: &str) -> Result<Vec<Value>, String> {
        if !self.0.is_dir() {
            return Err(format!("{} is not there", self.0.display()));
        }
        let answer = python(python_script("query.py").and(&self.0), sql)?;
        serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))
    }

    /// The single number that a query gives.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let rows = self.rows(sql);
        let number = rows.first().and_then(|row| row.as_object()?.values().next()?.as_u64());
        number.unwrap_or_else(|| panic!("not a number: {sql}: {rows:?}"))
    }

    /// What DuckDB, pyarrow and Polars each make of every table.
    #[track_caller]
    pub(crate) fn readers(&self) -> Value {
        self.try_readers().unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same where files are of several versions: each reader is asked for the union of their columns.
    #[track_caller]
    pub(crate) fn readers_together(&self) -> Value {
        let report = python(python_script("readers.py").and(&self.0).and("--together"), "");
        report.and_then(|report| parsed(&report)).unwrap_or_else(|said| panic!("{said}"))
    }

    /// As [`History::readers`]; a file that one of them has listed may leave before it is opened.
    pub(crate) fn try_readers(&self) -> Result<Value, String> {
        parsed(&python(python_script("readers.py").and(&self.0), "")?)
    }
}

fn parsed(report: &str) -> Result<Value, String> {
    serde_json::from_str(report).map_err(|error| format!("{error}: {report}"))
}

fn python(script: Words, input: &str) -> Result<String, String> {
    let mut command = script.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start("python", command);
    let output = read_all(process.take_stdout());
    process.take_stdin().write_all(input.as_bytes()).map_err(|error| error.to_string())?;
    let status = process.wait();
    let output = output.join().expect("the reader does not panic");
    if status.success() { Ok(output) } else { Err(process.stderr()) }
}
