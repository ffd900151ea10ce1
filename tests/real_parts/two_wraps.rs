//! Two wraps of one DATA directory at once, and no `serve`: the normal case of a desktop client with two servers.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients_wrap::wrap;
use crate::support::history::History;
use crate::support::parts::server_time;
use crate::support::raw::{StdioPeer, tools_call};

/// Durable takes 50 ms; this is ten times that.
const SURELY_DURABLE: Duration = Duration::from_millis(500);

#[test]
fn both_are_recorded_and_scored_from_the_second_session_on() {
    let data = TempDir::new().expect("a temporary directory");
    for session in 0..3 {
        let mut peers = ["first", "second"].map(|name| connect(name, data.path()));
        for id in 1..=10 {
            for peer in &mut peers {
                call(peer, session * 100 + id);
            }
        }
        peers.into_iter().for_each(StdioPeer::finish);
    }
    let history = History::of_data(data.path());
    let rows = history.rows(
        "SELECT server, CAST(jsonrpc_id AS INTEGER) // 100 AS session, count(*) AS calls, count(score) AS scored, \
         count(DISTINCT session_id) AS sessions FROM calls GROUP BY ALL ORDER BY ALL",
    );
    let row = |server: &str, session: u64, scored: u64| json!({"server": server, "session": session, "calls": 10, "scored": scored, "sessions": 1});
    let expected: Vec<Value> = ["first", "second"]
        .into_iter()
        .flat_map(|server| (0..3).map(move |session| row(server, session, if session == 0 { 0 } else { 10 })))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn another_takes_over_from_a_killed_owner() {
    let data = TempDir::new().expect("a temporary directory");
    // The first to come owns the directory.
    let mut owner = connect("owner", data.path());
    let mut other = connect("other", data.path());
    for id in 1..=20 {
        call(&mut owner, id);
        call(&mut other, id);
    }
    // The owner's own calls are durable before it is killed; the other goes on calling meanwhile.
    let mut next = keep_calling(&mut other, 21, SURELY_DURABLE);
    // These are on their way, or held, when the owner goes.
    for id in next..next + 20 {
        other.send(&tools_call(id, "get_current_time", &json!({"timezone": "UTC"})).to_string());
    }
    owner.process.kill();
    for _ in 0..20 {
        other.next_line().expect("the server behind the other wrap answers");
    }
    next = keep_calling(&mut other, next + 20, SURELY_DURABLE);
    other.finish();

    let history = History::of_data(data.path());
    assert_eq!(ids(&history, "owner"), (1..=20).collect::<Vec<u64>>());
    assert_eq!(ids(&history, "other"), (1..next).collect::<Vec<u64>>());
}

/// Five wraps start at the same moment, as they do when a desktop client starts.
#[test]
fn five_start_at_once() {
    let data = TempDir::new().expect("a temporary directory");
    let names = ["one", "two", "three", "four", "five"];
    let peers = names.map(|name| StdioPeer::start(name, &wrap(name, data.path()).running(&server_time())));
    for mut peer in peers {
        peer.handshake();
        call(&mut peer, 1);
        peer.finish();
    }
    let history = History::of_data(data.path());
    assert_eq!(history.number("SELECT count(*) FROM calls"), 5);
    assert_eq!(history.number("SELECT count(DISTINCT server) FROM calls"), 5);
}

fn connect(name: &str, data: &Path) -> StdioPeer {
    StdioPeer::connect(name, &wrap(name, data).running(&server_time()))
}

fn call(peer: &mut StdioPeer, id: u64) {
    peer.call(id, "get_current_time", &json!({"timezone": "UTC"}));
}

/// Calls one after the other for a while and gives the next free id.
fn keep_calling(peer: &mut StdioPeer, first: u64, during: Duration) -> u64 {
    let end = Instant::now() + during;
    let mut id = first;
    while Instant::now() < end {
        call(peer, id);
        id += 1;
    }
    id
}

fn ids(history: &History, server: &str) -> Vec<u64> {
    let sql = format!("SELECT CAST(jsonrpc_id AS UBIGINT) AS id FROM calls WHERE server = '{server}' ORDER BY id");
    history.rows(&sql).iter().map(|row| row["id"].as_u64().expect("a number")).collect()
}
