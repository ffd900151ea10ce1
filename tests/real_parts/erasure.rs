//! `undercurrent forget --erase`: nobody finds a session any more, and everybody else's is as it was.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use crate::support::command::Words;
use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, undercurrent};
use crate::support::process::Process;
use crate::support::raw::read_all;

const SESSIONS: usize = 3;
const CALLS: u64 = 12;

#[test]
fn an_erased_session_is_nowhere_and_the_others_are_where_they_were() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let serve = || Serve::new(&data).upstream("demo", &server.url());
    let gateway = serve().start();
    Load::bounded(gateway.listen, "/mcp/demo", SESSIONS, CALLS).join();
    gateway.settle();
    let said =
        run(&data, &["forget", "--session", "nobody", "--erase"]).expect_err("the gateway has the data directory");
    assert!(said.contains("stop it first"), "{said}");
    let history = gateway.stop();
    let sessions = history.rows("SELECT DISTINCT session_id FROM calls ORDER BY 1");
    let gone = sessions[0]["session_id"].as_str().expect("a session").to_owned();
    let left = sessions[1]["session_id"].as_str().expect("another").to_owned();
    let before = rows_of(&history, &left);
    assert!(holds(&data.join("log"), &gone), "the log has it");

    let said = run(&data, &["forget", "--session", &gone, "--erase"]).expect("erased");
    assert!(said.contains("unlearned   1 of 1 sessions"), "{said}");
    assert_eq!(rows_of(&history, &gone), [0; 4], "no row names it: {said}");
    let after = rows_of(&history, &left);
    assert_eq!(after[..3], before[..3], "the others' rows are there: {said}");
    // A window may have become full meanwhile.
    assert!(after[3] >= before[3], "the others' windows are there: {said}");
    assert!(!holds(&data.join("log"), &gone), "the log has not a byte of it");
    let again = run(&data, &["forget", "--session", &gone, "--erase"]).expect("nothing is left to erase");
    assert!(again.contains("taken out of"), "{again}");
    run(&data, &["state", "verify"]).expect("state and history are as they should be");

    let gateway = serve().start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, CALLS).join();
    gateway.settle();
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(DISTINCT session_id) FROM calls"), SESSIONS as u64, "life goes on");
    run(&data, &["state", "verify"]).expect("state and history are as they should be");
    run(&data, &["label", &left, "benign"]).expect("what others taught can still be corrected");
}

#[test]
fn a_new_key_of_digests_is_of_new_events_and_the_old_ones_are_learned_as_before() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let live = || {
        let gateway = Serve::new(&data).upstream("demo", &server.url()).start();
        Load::bounded(gateway.listen, "/mcp/demo", 1, CALLS).join();
        gateway.settle();
        gateway
    };
    let gateway = live();
    let said = run(&data, &["state", "rotate-key"]).expect_err("the gateway has the data directory");
    assert!(said.contains("stop it"), "{said}");
    gateway.stop();
    let said = run(&data, &["state", "rotate-key"]).expect("rotated");
    assert!(said.contains("new digests are of key"), "{said}");
    let history = live().stop();
    assert_eq!(history.number("SELECT count(DISTINCT digest_key) FROM messages"), 2);
    run(&data, &["state", "verify"]).expect("state and history are as they should be");
}

/// Rows that name a session, in the tables that have it.
fn rows_of(history: &History, session: &str) -> [u64; 4] {
    ["messages", "calls", "sessions", "features"].map(|table| {
        let column = if table == "features" { "entity" } else { "session_id" };
        if !history.has(table) {
            // No window is full yet.
            return 0;
        }
        history.number(&format!("SELECT count(*) FROM {table} WHERE {column} = '{session}'"))
    })
}

/// Whether some file has the text.
fn holds(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).expect("listed").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).expect("read");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// A command on the data directory: what it said, on success or failure.
fn run(data: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Words::new(undercurrent()).and_all(arguments).and("--data").and(data).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start("undercurrent", command);
    let said = read_all(process.take_stdout());
    let status = process.wait();
    let said = said.join().expect("the reader does not panic");
    if status.success() { Ok(said) } else { Err(format!("{said}{}", process.stderr())) }
}
