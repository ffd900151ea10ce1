//! The suite as a command: its parts, and one run of one of them.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use super::Path;
use super::checks::Checks;
use super::support::command::Words;
use super::support::parts::node_script;
use super::support::process::Process;

/// What is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// A part of the suite: one release of it, and what of that release is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    package: &'static str,
    choice: [&'static str; 2],
    /// Scenarios that a run has at least: an empty run would differ in nothing.
    servers_min: usize,
    clients_min: usize,
}

/// What a client does in time is judged in a run of its own: in the others all scenarios run at once.
pub(crate) const TIMED: &[Part] = &[
    Part {
        name: "0.1.16, sse-retry",
        package: "conformance-0.1",
        choice: ["--scenario", "sse-retry"],
        servers_min: 0,
        clients_min: 1,
    },
    Part {
        name: "0.2.0-alpha.12, sse-retry",
        package: "conformance-0.2",
        choice: ["--scenario", "sse-retry"],
        servers_min: 0,
        clients_min: 1,
    },
];

pub(crate) const PARTS: &[Part] = &[
    Part {
        name: "0.1.16, all",
        package: "conformance-0.1",
        choice: ["--suite", "all"],
        servers_min: 32,
        clients_min: 26,
    },
    Part {
        name: "0.2.0-alpha.12, 2025-11-25",
        package: "conformance-0.2",
        choice: ["--requirements", "2025-11-25"],
        servers_min: 33,
        clients_min: 25,
    },
    Part {
        name: "0.2.0-alpha.12, 2026-07-28",
        package: "conformance-0.2",
        choice: ["--requirements", "2026-07-28"],
        servers_min: 50,
        clients_min: 38,
    },
];

/// The check that measures how long a client waits.
const TIMING: &str = "client-sse-retry-timing";
/// What a client may take on a loaded machine.
const SCENARIO_MS: &str = "110000";

/// Where the results of the last runs are.
pub(crate) fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance")
}

/// Runs a part against a server.
#[track_caller]
pub(crate) fn server(part: &Part, path: Path, url: &str) -> Checks {
    let checks = run(part, Side::Server, path, |words| words.and("server").and("--url").and(url));
    assert!(checks.scenarios() >= part.servers_min, "{}: {} scenarios only", part.name, checks.scenarios());
    checks
}

/// Runs a part against a client.
#[track_caller]
pub(crate) fn client(part: &Part, path: Path, client: &Words) -> Checks {
    let checks = run(part, Side::Client, path, |words| {
        words.and("client").and("--timeout").and(SCENARIO_MS).and("--command").and(client.line())
    });
    assert!(checks.scenarios() >= part.clients_min, "{}: {} scenarios only", part.name, checks.scenarios());
    checks
}

#[track_caller]
fn run(part: &Part, side: Side, path: Path, against: impl FnOnce(Words) -> Words) -> Checks {
    let results = results().join(format!("{side:?}-{path:?}-{}-{}", part.package, part.choice[1]).to_lowercase());
    if results.exists() {
        fs::remove_dir_all(&results).expect("the last run's results can go");
    }
    fs::create_dir_all(&results).expect("make a directory");
    let words = against(node_script(&format!("node_modules/{}/dist/index.js", part.package)));
    let mut command = words.and_all(part.choice).and("--output-dir").and(&results).command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // Its exit code says whether all is well; the question here is what has changed.
    Process::start(part.name, command).wait();
    let mut checks = Checks::read(&results);
    if side == Side::Client && part.choice[0] != "--scenario" {
        checks.forget(TIMING);
    }
    checks
}
