//! DuckDB, pyarrow and Polars read every table while the writer runs, and agree when it has stopped.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::load::Load;
use crate::support::parts::HttpServer;
use crate::support::wait::wait_until;

const READERS: [&str; 3] = ["duckdb", "pyarrow", "polars"];
const TABLES: [&str; 5] = ["messages", "calls", "sessions", "features", "models"];

#[test]
fn every_table_is_readable_at_any_time() {
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway = Serve::new(data.path()).upstream("demo", &server.url()).setting("HISTORY__ROLL_SECONDS", "1").start();
    // Sessions that end, so that there are sessions and models to read.
    Load::bounded(gateway.listen, "/mcp/demo", 2, 20).join();
    let load = Load::start(gateway.listen, "/mcp/demo", 2);
    let history = gateway.history();
    wait_until("there are files of every table while calls go on", || TABLES.iter().all(|table| history.has(table)));
    for _ in 0..3 {
        load.advance(20);
        let report = history.readers();
        for (table, readers) in report.as_object().expect("tables by name") {
            // Each reader comes later than the one before it, so it sees no less.
            let rows = READERS.map(|reader| rows_of(readers, reader));
            assert!(rows.is_sorted(), "{table}: {rows:?}");
        }
    }
    load.stop();
    let history = gateway.stop();
    let report = history.readers();
    for table in TABLES {
        let readers = &report[table];
        let rows = READERS.map(|reader| rows_of(readers, reader));
        assert!(rows[0] > 0 && rows.iter().all(|count| *count == rows[0]), "{table}: {rows:?}");
        for reader in READERS {
            let columns = readers[reader]["columns"].as_array().expect("columns");
            assert!(
                columns.contains(&"date".into()) && columns.contains(&"hour".into()),
                "{table}: {reader} {columns:?}"
            );
            assert_eq!(columns, readers["duckdb"]["columns"].as_array().expect("columns"), "{table}: {reader}");
        }
    }
}

#[track_caller]
fn rows_of(readers: &Value, reader: &str) -> u64 {
    readers[reader]["rows"].as_u64().unwrap_or_else(|| panic!("{reader} read nothing: {readers}"))
}
