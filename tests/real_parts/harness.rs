//! The harness against real servers with nothing between them: what holds without the gateway must hold here first.

use std::panic::catch_unwind;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::exchange::assert_same;
use crate::support::http::Message;
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
