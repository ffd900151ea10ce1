//! Disks that lie, and disks that are full; and settings that nobody knows.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::load::Load;
use crate::support::parts::HttpServer;

const CALLS: u64 = 200;

#[test]
fn a_config_with_an_unknown_key_is_refused() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = directory.path().join("mine.toml");
    fs::write(&config, "[listen]\nmpc = \"127.0.0.1:0\"\n").expect("write a file");
    let path = config.to_str().expect("paths are UTF-8");
    let said = Serve::new(&directory.path().join("data")).with("--config", path).refused();
    for word in ["mine.toml:2", "mpc", "listen"] {
        assert!(said.contains(word), "names file, line and key: {said}");
    }
}

/// The last commit was half on disk when the power went.
#[test]
fn a_log_with_a_torn_tail_loses_the_tail_alone() {
    damaged(|journal| {
        let end = written(journal);
        let file = OpenOptions::new().write(true).open(journal).expect("open the journal");
        file.set_len(end - 20).expect("cut the journal");
    });
}

/// The last sector holds something else.
#[test]
fn a_log_with_a_garbled_tail_loses_the_tail_alone() {
    damaged(|journal| {
        let end = written(journal);
        let mut file = OpenOptions::new().write(true).open(journal).expect("open the journal");
        file.seek(SeekFrom::Start(end - 30)).expect("seek in the journal");
        file.write_all(&[0xA5; 30]).expect("write to the journal");
    });
}

/// Writes calls, kills, does harm to the journal, and starts again: all but the last commit must be there.
fn damaged(harm: impl Fn(&Path)) {
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let serve = Serve::new(data.path()).upstream("demo", &server.url());
    let gateway = serve.start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, CALLS).join();
    gateway.settle();
    gateway.kill();
    harm(&newest_journal(&data.path().join("log")));

    let gateway = serve.start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, 5).join();
    gateway.settle();
    let history = gateway.stop();
    let first = "SELECT count(*) FROM calls GROUP BY session_id ORDER BY min(ts) LIMIT 1";
    // A call's own commit comes before the last ones, which hold the end of the session and heartbeats.
    let kept = history.number(first);
    assert!((1..=CALLS).contains(&kept), "{kept} of {CALLS}");
    let whole = "SELECT count(*) FROM (SELECT session_id FROM calls GROUP BY ALL \
                 HAVING max(CAST(jsonrpc_id AS INTEGER)) = count(*))";
    assert_eq!(history.number(whole), 2, "what is kept is a beginning");
    assert!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'") >= 1, "the loss is recorded");
}

/// The journal written last, by its number.
fn newest_journal(log: &Path) -> PathBuf {
    let mut journals: Vec<(u64, PathBuf)> = files(log)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .map(|path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            (stem.parse().unwrap_or_else(|_| panic!("a journal is named by number: {}", path.display())), path)
        })
        .collect();
    journals.sort();
    journals.pop().unwrap_or_else(|| panic!("no journal in {}", log.display())).1
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Where the written part ends: journals are made longer than what is in them.
fn written(journal: &Path) -> u64 {
    let mut bytes = Vec::new();
    fs::File::open(journal).and_then(|mut file| file.read_to_end(&mut bytes)).expect("read the journal");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something is in the journal") + 1;
    assert!(end > 64, "{end} bytes in {}", journal.display());
    end as u64
}

/// A real limit of the kernel, put on the running process: writes beyond it fail as they do on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_log_and_not_the_traffic() {
    use crate::support::command::Words;
    use crate::support::http::get;
    use crate::support::names::LOG_COMMIT_ERRORS;
    use crate::support::wait::wait_until;

    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let serve = Serve::new(data.path()).upstream("demo", &server.url());
    // The signal that comes with the limit would end the process; a full disk sends none.
    let launcher = Words::new("sh").and("-c").and("trap '' XFSZ; exec \"$@\"").and("sh");
    let gateway = serve.clone().through(launcher).start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, CALLS).join();
    gateway.settle();

    limit_file_size(gateway.process.id(), "1");
    let load = Load::start(gateway.listen, "/mcp/demo", 1);
    load.advance(CALLS);
    wait_until("the failure is counted", || gateway.metrics().sum(LOG_COMMIT_ERRORS) >= 1.0);
    wait_until("health says so", || get(gateway.admin, "/healthz").status() == 503);
    let health = get(gateway.admin, "/healthz").text();
    assert!(health.contains("free space") || health.contains("log"), "it says what to do: {health}");
    load.advance(CALLS);

    limit_file_size(gateway.process.id(), "unlimited");
    let sent = load.stop();
    gateway.kill();

    let gateway = serve.start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, CALLS).join();
    gateway.settle();
    let history = gateway.stop();
    let rows = history.rows("SELECT count(*) AS calls FROM calls GROUP BY session_id ORDER BY min(ts)");
    let calls = |row: usize| rows[row]["calls"].as_u64().expect("a count");
    assert_eq!(calls(0), CALLS, "what was durable before");
    assert_eq!(calls(rows.len() - 1), CALLS, "what came after");
    assert!(rows.len() == 2 || calls(1) <= sent, "{rows:?}");
    assert!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'") >= 1, "the loss is recorded");
}

/// A disk that is full from the start: a refusal that names the directory.
#[cfg(target_os = "linux")]
#[test]
fn a_start_on_a_full_disk_is_refused() {
    use crate::support::command::Words;

    let data = TempDir::new().expect("a temporary directory");
    let launcher = Words::new("sh").and("-c").and("trap '' XFSZ; ulimit -f 1; exec \"$@\"").and("sh");
    let said = Serve::new(data.path()).upstream("demo", "http://127.0.0.1:9/mcp").through(launcher).refused();
    assert!(said.contains(data.path().to_str().expect("paths are UTF-8")), "names the directory: {said}");
}

#[cfg(target_os = "linux")]
fn limit_file_size(process: u32, bytes: &str) {
    let limited = std::process::Command::new("prlimit")
        .args([format!("--pid={process}"), format!("--fsize={bytes}:unlimited")])
        .status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit (util-linux) sets the limit");
}
