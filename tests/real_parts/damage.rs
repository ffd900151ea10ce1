//! What a failing disk does to single files: each is named, the rest goes on, and what can be had again is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use undercurrent_schemas::tables::Table;

use crate::support::command::Words;
use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, undercurrent};
use crate::support::process::Process;
use crate::support::raw::read_all;
use crate::support::wait::wait_until;

/// Rows of every table, however many files they are in.
fn digests(history: &History) -> Vec<String> {
    let of = |table: &Table| {
        let name = table.name();
        history.has(name).then(|| {
            format!(
                "SELECT '{name}' AS name, count(*) AS rows, sum(hash(row)::HUGEINT)::VARCHAR AS hash FROM {name} row"
            )
        })
    };
    let parts: Vec<_> = Table::ALL.iter().filter_map(of).collect();
    history.rows(&format!("{} ORDER BY 1", parts.join(" UNION ALL "))).iter().map(ToString::to_string).collect()
}

fn state(data: &Path, what: &str) -> Result<String, String> {
    let mut command = Words::new(undercurrent()).and_all(["state", what, "--data"]).and(data).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start("undercurrent state", command);
    let said = read_all(process.take_stdout());
    let status = process.wait();
    let said = said.join().expect("the reader does not panic");
    if status.success() { Ok(said) } else { Err(format!("{said}{}", process.stderr())) }
}

/// The first file of a table, and its path below the history.
fn file_of(data: &Path, table: &str) -> (PathBuf, String) {
    fn first(dir: &Path) -> Option<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(dir).ok()?.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths.into_iter().find_map(|path| if path.is_dir() { first(&path) } else { Some(path) })
    }
    let history = data.join("history");
    let path = first(&history.join(table)).expect("the table has a file");
    let below = path.strip_prefix(&history).expect("it is below").to_string_lossy().into_owned();
    (path, below)
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).expect("damaged");
}

#[test]
fn a_damaged_file_of_the_history_is_named_set_aside_and_written_again() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let serve = Serve::new(&data).upstream("demo", &server.url()).setting("HISTORY__ROLL_SECONDS", "1");
    let gateway = serve.start();
    Load::bounded(gateway.listen, "/mcp/demo", 3, 20).join();
    gateway.settle();
    let history = gateway.stop();
    let whole = digests(&history);
    assert_eq!(state(&data, "repair").expect("nothing to repair"), "history: every file is what was written\n");

    let (calls, calls_name) = file_of(&data, "calls");
    let (messages, messages_name) = file_of(&data, "messages");
    flip(&calls);
    fs::remove_file(&messages).expect("removed");
    let said = state(&data, "verify").expect_err("it is not what was written");
    assert!(said.contains(&calls_name) && said.contains(&messages_name), "{said}");
    // Life goes on beside it.
    let gateway = serve.start();
    gateway.settle();
    gateway.stop();

    let said = state(&data, "repair").expect("the log has it all");
    assert!(said.contains(&format!("{calls_name} is written again")), "{said}");
    assert!(said.contains(&format!("{messages_name} is written again")), "{said}");
    assert!(data.join("history/.damaged").join(&calls_name).exists(), "what was there is kept");
    state(&data, "verify").expect("all is as it should be");
    let again = digests(&history);
    // The second life has rows of its own in some tables; of those that only calls make, all are as before.
    for before in whole.iter().filter(|row| row.contains("\"calls\"") || row.contains("\"sessions\"")) {
        assert!(again.contains(before), "{before} is not in {again:?}");
    }
}

#[test]
fn a_damaged_file_that_the_log_no_longer_has_is_reported() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let serve = Serve::new(&data)
        .upstream("demo", &server.url())
        .setting("HISTORY__ROLL_SECONDS", "1")
        .setting("ENGINE__CHECKPOINT_INTERVAL_S", "1")
        .setting("LOG__RETENTION_S", "1");
    let gateway = serve.start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, 20).join();
    gateway.settle();
    wait_until("the log is cut", || gateway.metrics().sum("undercurrent_log_first_tick") > 0.0);
    let history = gateway.stop();
    let before = history.number("SELECT count(*) FROM messages");
    let (messages, name) = file_of(&data, "messages");
    flip(&messages);
    let said = state(&data, "repair").expect_err("rows are gone");
    assert!(said.contains(&format!("{name} is lost")) && said.contains("restore it from a backup"), "{said}");
    assert!(history.number("SELECT count(*) FROM messages") < before, "readers are not in its way");
    state(&data, "verify").expect("what is left is as it should be");
    serve.start().stop();
}

/// The files that checkpoints are in, oldest first.
fn checkpoints(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("state/checkpoints")).expect("listed");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("t=")));
    files.sort();
    files
}

/// The reserve is damaged and the newest is whole: the start does not need it, but the log would be cut up to it.
#[test]
fn a_damaged_reserve_is_none() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let serve = || Serve::new(&data).upstream("demo", &server.url()).setting("HISTORY__ROLL_SECONDS", "1");
    let gateway = serve().setting("ENGINE__CHECKPOINT_INTERVAL_S", "1").start();
    Load::bounded(gateway.listen, "/mcp/demo", 2, 20).join();
    gateway.settle();
    wait_until("there are two", || checkpoints(&data).len() == 2);
    gateway.stop();
    flip(&checkpoints(&data)[0]);
    state(&data, "verify").expect_err("it is named");
    let gateway = serve().setting("ENGINE__CHECKPOINT_INTERVAL_S", "3600").start();
    wait_until("it is set aside", || data.join("state/checkpoints/damaged.image").is_file());
    assert!(!gateway.process.stderr().contains("a checkpoint is of no use"), "the newest is gone on from");
    gateway.stop();
    state(&data, "verify").expect("all is as it should be");
}

/// The newest checkpoint is damaged, or all of them: a start goes on from an older one, or from the log.
#[test]
fn a_damaged_checkpoint_costs_time_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let serve = Serve::new(&data)
        .upstream("demo", &server.url())
        .setting("HISTORY__ROLL_SECONDS", "1")
        .setting("ENGINE__CHECKPOINT_INTERVAL_S", "1");
    let gateway = serve.start();
    Load::bounded(gateway.listen, "/mcp/demo", 2, 20).join();
    gateway.settle();
    wait_until("there are two", || checkpoints(&data).len() == 2);
    let version = gateway.status().model_version;
    gateway.stop();
    for damaged in [1, 2] {
        checkpoints(&data).iter().rev().take(damaged).for_each(|path| flip(path));
        let gateway = serve.start();
        gateway.settle();
        assert!(gateway.process.stderr().contains("a checkpoint is of no use"), "{}", gateway.process.stderr());
        assert_eq!(gateway.status().model_version, version, "the same model");
        let history = gateway.stop();
        assert_eq!(history.number("SELECT count(*) FROM calls"), 40);
        state(&data, "verify").expect("all is as it should be");
    }
}

/// A small disk that fills up under load, where this user may mount one; else the points at which files are written say
/// what a full disk says.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_stops_learning_and_not_the_traffic() {
    use std::process::Command;

    /// Unmounted when it goes, by whatever way.
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }

    let directory = TempDir::new().expect("a temporary directory");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256m", "none"]).arg(directory.path()).output();
    let mounted = mount.is_ok_and(|output| output.status.success()).then(|| Mounted(directory.path()));
    let data = directory.path().join("data");
    let server = HttpServer::demo();
    let mut serve = Serve::new(&data)
        .upstream("demo", &server.url())
        .setting("HISTORY__ROLL_SECONDS", "1")
        .setting("ENGINE__CHECKPOINT_INTERVAL_S", "1");
    if mounted.is_none() {
        eprintln!("no mount here: the disk is full at the points where files are written");
        let full = "=20*off->40*return(error)->off";
        serve = serve.variable("FAILPOINTS", &format!("log-begun{full};history-half=1*off->2*return(error)->off"));
    }
    let gateway = serve.start();
    let load = Load::start(gateway.listen, "/mcp/demo", 2);
    load.advance(50);
    let ballast = directory.path().join("ballast");
    if mounted.is_some() {
        // What is left of the disk, to the last block.
        let mut fill = Command::new("dd");
        let fill = fill.args(["if=/dev/zero", "bs=64k", "status=none"]).arg(format!("of={}", ballast.display()));
        assert!(!fill.output().expect("dd").status.success(), "the disk is full");
    }
    let errors = || gateway.metrics().sum(crate::support::names::LOG_COMMIT_ERRORS);
    wait_until("the failure is counted", || errors() >= 1.0);
    load.advance(50);
    let _ = fs::remove_file(&ballast);
    load.advance(50);
    let sent = load.stop();
    gateway.settle();
    let dropped = gateway.metrics().sum("undercurrent_log_events_dropped_total");
    assert_eq!(dropped, 0.0, "what waited was written");
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls"), sent);
    assert_eq!(history.number("SELECT count(*) FROM (SELECT DISTINCT session_id, jsonrpc_id FROM calls)"), sent);
    state(&data, "verify").expect("state and history are as they should be");
    drop(mounted);
}
