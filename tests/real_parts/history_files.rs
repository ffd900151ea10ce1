//! The history's files after they were written: read while they are merged, brought to a store that comes and goes.

#[path = "../../src/history/tests/sample.rs"]
#[expect(dead_code, reason = "the history's own tests use more of it")]
mod sample;

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use undercurrent::history::{Compaction, History, HistoryOptions, HistoryWriter, Retries, TickRows};
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::tables::Table;

use crate::support::files::copy;
use crate::support::gateway::Serve;
use crate::support::history::History as Reader;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, python_script};
use crate::support::process::Process;
use crate::support::raw::read_all;
use crate::support::s3::Bucket;
use crate::support::wait::wait_until;

/// A tick every five minutes: two days pass in a test.
fn tick(number: u64) -> TickRows {
    let time = Micros(sample::START + number as i64 * 300_000_000);
    let mut rows = sample::tick(number);
    rows.watermark = time;
    rows.messages.iter_mut().for_each(|row| row.event.ts_us = time.0);
    rows.calls.iter_mut().for_each(|row| row.ts = time);
    rows.sessions.iter_mut().for_each(|row| row.ended_at = time);
    rows.features.iter_mut().for_each(|row| row.window_start = time);
    rows.labels.iter_mut().for_each(|row| row.ts = time);
    rows.tools.iter_mut().for_each(|row| row.ts = time);
    rows.telemetry.iter_mut().for_each(|row| row.point.ts_us = time.0);
    rows.dead_letters.iter_mut().for_each(|row| row.ts = time);
    rows
}

/// DuckDB, pyarrow and Polars over a glob, and a reader of pinned versions, while the writer writes and files are merged.
#[test]
fn readers_see_every_row_while_files_are_merged() {
    const TICKS: u64 = 360;
    let data = TempDir::new().expect("a temporary directory");
    let dir = data.path().join("history");
    let compaction = Some(Compaction { settle: Duration::from_secs(900), ..Compaction::default() });
    let options = HistoryOptions { compaction, ..sample::options() };
    let history = History::open(&dir, options).expect("open a history");
    let writer = HistoryWriter::spawn(history, 8, Retries::default()).expect("start the writer");

    let mut pinned = python_script("snapshot_reader.py").and(&dir).command();
    pinned.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut pinned = Process::start("a reader of versions", pinned);
    let said = read_all(pinned.take_stdout());
    let reader = Reader::of_data(data.path());
    for number in 1..=TICKS {
        writer.queue().send(tick(number)).expect("the writer runs");
        if number % 120 == 0 {
            let report = match reader.try_readers() {
                Err(said) if said.contains("No such file") || said.contains("No files found") => continue,
                read => read.unwrap_or_else(|said| panic!("{said}")),
            };
            for (table, readers) in report.as_object().expect("tables by name") {
                for (name, seen) in readers.as_object().expect("readers by name") {
                    assert!(seen["rows"].as_u64() > Some(0), "{table}: {name} read nothing");
                }
            }
        }
    }
    let kept = std::sync::Arc::clone(writer.kept());
    wait_until("files are merged", || kept.merged_files.load(std::sync::atomic::Ordering::Relaxed) > 1000);
    writer.finish().expect("write the rest");
    drop(pinned.take_stdin());
    let status = pinned.wait();
    assert!(status.success(), "{}", pinned.stderr());
    let pinned: Value = serde_json::from_str(&said.join().expect("the reader ends")).expect("JSON");
    assert!(pinned["reads"].as_u64() > Some(100) && pinned["versions"].as_u64() > Some(0), "{pinned}");

    // Nothing runs any more: everyone sees each row once.
    let report = reader.readers();
    for table in Table::ALL {
        let expected = (1..=TICKS).map(|number| sample::rows_of(&tick(number), table)).sum::<usize>();
        for name in ["duckdb", "pyarrow", "polars"] {
            assert_eq!(report[table.name()][name]["rows"].as_u64(), Some(expected as u64), "{}: {name}", table.name());
        }
    }
    assert_eq!(kept.failures.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// What an earlier version wrote, and this one beside it: three readers see all of both, and NULL where there was no
/// such column yet.
#[test]
fn files_of_an_earlier_version_are_read_together_with_new_ones() {
    let earlier = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/history_1").as_ref();
    let (old, both) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    for data in [&old, &both] {
        copy(earlier, &data.path().join("history"));
    }
    let ticks = 4..=40;
    let history = History::open(&both.path().join("history"), sample::options()).expect("open a history");
    let writer = HistoryWriter::spawn(history, 8, Retries::default()).expect("start the writer");
    for number in ticks.clone() {
        writer.queue().send(tick(number)).expect("the writer runs");
    }
    writer.finish().expect("write the rest");
    let (old, both) = (Reader::of_data(old.path()).readers(), Reader::of_data(both.path()).readers_together());
    let mut added = 0;
    for table in Table::ALL {
        let new = ticks.clone().map(|number| sample::rows_of(&tick(number), table)).sum::<usize>() as u64;
        for name in ["duckdb", "pyarrow", "polars"] {
            let (before, after) = (&old[table.name()][name], &both[table.name()][name]);
            let rows = before["rows"].as_u64().unwrap_or(0);
            assert_eq!(after["rows"].as_u64(), Some(rows + new), "{}: {name}", table.name());
            for (column, values) in after["values"].as_object().expect("columns") {
                let had = &before["values"][column];
                assert!(values.as_u64() >= had.as_u64(), "{}.{column}: {name} lost values", table.name());
                // A table of the earlier version, and a column that it did not have.
                if rows > 0 && had.is_null() {
                    assert!(values.as_u64() <= Some(new), "{}.{column}: {name}", table.name());
                    added += 1;
                }
            }
            let columns = before["columns"].as_array().into_iter().flatten();
            for column in columns.map(|column| column.as_str().expect("a name")) {
                assert!(after["values"].get(column).is_some(), "{}.{column} is gone: {name}", table.name());
            }
        }
    }
    assert!(added > 0, "the two versions have the same columns: nothing was shown");
}

/// A real S3-compatible server: it is away for a while under load, and has everything afterwards.
#[test]
fn a_bucket_has_what_the_files_here_have() {
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let bucket = Bucket::start("undercurrent");
    let serve = Serve::new(data.path())
        .upstream("demo", &server.url())
        .setting("HISTORY__ROLL_SECONDS", "1")
        .setting("HISTORY__URL", "s3://undercurrent/mcp/history");
    let serve = bucket.variables().into_iter().fold(serve, |serve, (name, value)| serve.variable(name, &value));
    let gateway = serve.start();
    // Some seconds of it, each with its files.
    let load = || Load::paced(gateway.listen, "/mcp/demo", 2, 100, Duration::from_millis(20)).join();
    load();
    let sent =
        |gateway: &crate::support::gateway::Gateway| gateway.metrics().sum("undercurrent_history_store_files_total");
    wait_until("files are in the bucket", || sent(&gateway) > 0.0);

    bucket.away(true);
    load();
    wait_until("the absence is counted", || gateway.metrics().sum("undercurrent_history_store_errors_total") > 0.0);
    wait_until("files wait", || gateway.metrics().sum("undercurrent_history_store_waiting_bytes") > 0.0);
    bucket.away(false);
    wait_until("nothing waits", || {
        gateway.settle();
        gateway.metrics().sum("undercurrent_history_store_waiting_bytes") == 0.0
    });
    let history = gateway.stop();

    let (there, here) = (bucket.content("mcp/history"), history.readers());
    for table in ["messages", "calls", "sessions", "features", "models"] {
        let rows = &here[table]["duckdb"]["rows"];
        assert!(rows.as_u64() > Some(0));
        let readers = &there["tables"][table];
        assert_eq!([&readers["pyarrow"], &readers["polars"]], [rows, rows], "{table}");
    }
    let lines = there["paths"].as_array().expect("paths").iter();
    assert!(lines.filter(|path| path.as_str().is_some_and(|path| path.starts_with("MANIFEST/"))).count() > 2);
}
