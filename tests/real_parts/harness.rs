//! The harness against real servers with nothing between them: what holds without the gateway must hold here first.

use std::panic::catch_unwind;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::exchange::assert_same;
use crate::support::history::History;
use crate::support::http::Message;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, server_filesystem, server_time};
use crate::support::pipe::PipeTee;
use crate::support::scenario::{ALL, Calls, LEGACY, Target, run};
use crate::support::tee::Tee;

/// Two tees in a row see the same bytes, and the clients are content with a server behind them.
#[test]
fn tees_over_http_are_equal() {
    let server = HttpServer::everything();
    for client in LEGACY {
        let behind = Tee::to(server.address);
        let before = Tee::to(behind.address());
        let calls = Calls::everything();
        let report = run(client, &Target::Url(format!("http://{}/mcp", before.address())), &calls);
        let seen = before.exchanges();
        let payloads: Vec<Value> = seen
            .iter()
            .filter_map(|exchange| exchange.response.as_ref())
            .flat_map(Message::payloads)
            .map(|payload| serde_json::from_slice(&payload).expect("a server sends JSON"))
            .collect();
        for received in &report.received {
            assert!(payloads.contains(received), "{client:?} received what the tee did not see: {received}");
        }
        assert_eq!(report.received.len(), payloads.len(), "{client:?}");
        assert_same(&seen, &behind.exchanges());
        let posts = seen.iter().filter(|exchange| exchange.request.method() == "POST").count();
        assert!(posts > calls.len(), "{client:?}: {posts} posts");
    }
}

/// A pipe tee around a server keeps both directions, and two in a row keep the same.
#[test]
fn tees_over_stdio_are_equal() {
    let directory = TempDir::new().expect("a temporary directory");
    let files = directory.path().join("files");
    std::fs::create_dir(&files).expect("make a directory");
    std::fs::write(files.join("note.txt"), "noted\n").expect("write a file");
    let servers =
        [(server_filesystem(&files), Calls::filesystem(&files), &LEGACY[..]), (server_time(), Calls::time(), &ALL[..])];
    for (at, (server, calls, clients)) in servers.into_iter().enumerate() {
        for client in clients {
            let inner = PipeTee::new(&directory.path().join(format!("{at}-{client:?}-inner")));
            let outer = PipeTee::new(&directory.path().join(format!("{at}-{client:?}-outer")));
            run(*client, &Target::Command(outer.around(&inner.around(&server))), &calls);
            let kept = outer.kept();
            assert_eq!(kept, inner.kept(), "{client:?}");
            assert!(kept.iter().any(|piped| piped.output.len() > 500), "{client:?}: {kept:?}");
        }
    }
}

/// A relay of bytes would pass a changed byte on; the comparison must not.
#[test]
fn a_changed_byte_is_noticed() {
    let server = HttpServer::everything();
    let tee = Tee::to(server.address);
    let calls = Calls::everything();
    run(LEGACY[0], &Target::Url(format!("http://{}/mcp", tee.address())), &calls);
    let seen = tee.exchanges();
    assert_same(&seen, &seen);
    for at in 0..seen.len() {
        let mut changed = seen.clone();
        let response = changed[at].response.as_mut().expect("each request was answered");
        match response.body.last_mut().filter(|_| response.complete) {
            Some(last) => *last ^= 1,
            None => response.start = String::from("HTTP/1.1 599 Changed"),
        }
        assert!(catch_unwind(|| assert_same(&seen, &changed)).is_err(), "exchange {at}: {:?}", seen[at]);
    }
    assert!(catch_unwind(|| assert_same(&seen[1..], &seen)).is_err(), "an exchange that no client had");
}

/// The hand-made sessions that put load on the gateway, with nothing between them and the demo server.
#[test]
fn load_reaches_the_demo_server() {
    let server = HttpServer::demo();
    assert_eq!(Load::bounded(server.address, "/mcp", 4, 100).join(), 400);
    let load = Load::start(server.address, "/mcp", 2);
    load.advance(50);
    assert!(load.stop() >= 100);
}

/// A server that ends with calls open ends the load, too.
#[test]
fn load_ends_with_its_server() {
    let mut server = HttpServer::demo();
    let load = Load::start(server.address, "/mcp", 2);
    load.advance(50);
    server.process.kill();
    let answered = load.answered();
    assert!(load.stop() >= answered);
}

/// A history of a known content, as the three readers and the queries see it.
#[test]
fn queries_and_readers_see_the_same_rows() {
    let directory = TempDir::new().expect("a temporary directory");
    let history = History::of_data(directory.path());
    assert!(history.try_rows("SELECT 1").is_err(), "there is none yet");
    let hour = directory.path().join("history/calls/date=2026-01-02/hour=03");
    std::fs::create_dir_all(&hour).expect("make a directory");
    // DuckDB writes the file, so that the harness needs nothing of ours.
    let file = hour.join("0.parquet");
    let copy = format!("COPY (SELECT 'a' AS tool, range AS n FROM range(5)) TO '{}'", file.display());
    history.rows(&copy);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE tool = 'a'"), 5);
    let report = history.readers();
    for reader in ["duckdb", "pyarrow", "polars"] {
        let read = &report["calls"][reader];
        assert_eq!((&read["rows"], &read["columns"]), (&json!(5), &json!(["date", "hour", "n", "tool"])), "{reader}");
        assert_eq!((&read["values"]["n"], &read["values"]["tool"]), (&json!(5), &json!(5)), "{reader}");
    }
}
