//! `serve` killed without warning under load: what was durable is in `calls` exactly once, and the history is what the
//! log says.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::files::copy;
use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::load::Load;
use crate::support::parts::HttpServer;

const SESSIONS: usize = 4;

#[test]
fn a_kill_under_load_loses_nothing_that_was_durable() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let serve = |data: &Path| Serve::new(data).upstream("demo", &server.url());

    let gateway = serve(&data).start();
    let load = Load::start(gateway.listen, "/mcp/demo", SESSIONS);
    load.advance(200);
    let durable = load.answered();
    // One more each: by then the gateway has taken note of the answers counted.
    load.advance(1);
    gateway.settle();
    // More of them, some of which are in the queue or in a half-written commit when the kill comes.
    load.advance(50);
    let before = gateway.status().model_version;
    gateway.kill();
    let sent = load.stop();

    let gateway = serve(&data).start();
    let second = Load::bounded(gateway.listen, "/mcp/demo", 1, 10).join();
    gateway.settle();
    assert!(gateway.status().model_version >= before, "versions only grow, across restarts too");
    let history = gateway.stop();

    let rows = history.number("SELECT count(*) FROM calls");
    assert!((durable + second..=sent + second).contains(&rows), "{durable} durable of {sent}, {rows} rows");
    let per_call = "SELECT count(*) FROM (SELECT DISTINCT session_id, jsonrpc_id FROM calls)";
    assert_eq!(history.number(per_call), rows, "a call is recorded once");
    // In each session the rows are a beginning of what was sent: nothing in the middle is missing.
    let broken = "SELECT count(*) FROM (SELECT session_id FROM calls GROUP BY ALL \
                  HAVING max(CAST(jsonrpc_id AS INTEGER)) <> count(*))";
    assert_eq!(history.number(broken), 0, "a session has holes");
    assert!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'") >= 1, "the unclean stop is recorded");
    let doubles = "SELECT count(*) FROM (SELECT partition, \"offset\" FROM messages GROUP BY ALL HAVING count(*) > 1)";
    assert_eq!(history.number(doubles), 0, "a record stands in one file");

    // The log alone gives the same rows again: history and state are derived from it.
    let rebuilt = directory.path().join("rebuilt");
    copy(&data, &rebuilt);
    for derived in ["history", "state"] {
        let derived = rebuilt.join(derived);
        if derived.exists() {
            fs::remove_dir_all(&derived).expect("remove what is derived");
        }
    }
    let gateway = serve(&rebuilt).start();
    gateway.settle();
    let again = gateway.stop();
    for table in ["calls", "sessions"] {
        assert_eq!(contents(&history, table), contents(&again, table), "{table}");
    }
}

/// All rows of a table in an order of their own.
fn contents(history: &History, table: &str) -> Vec<Value> {
    history.rows(&format!("SELECT * FROM {table} ORDER BY tick, partition, ordinal"))
}
