//! The official MCP conformance suite as a gate: whatever a server or a client passes without the gateway, it passes
//! through the gateway.
//!
//! Each part of the suite runs twice or thrice: direct, and through the gateway over HTTP and, for servers, to the same
//! server as a command. Then the results are compared check by check (`checks`); what may differ, and why, is in
//! `exceptions`. Not here: what the suite checks. Invariant: the direct run is the reference, never a list of ours.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "one harness for several test binaries; this one needs a part of it")]
mod support;

mod checks;
mod exceptions;
mod fixtures;
mod suite;
mod table;

use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use self::checks::Checks;
use self::exceptions::Excuses;
use self::suite::{PARTS, Part, Side, TIMED};
use self::support::gateway::Serve;
use self::support::parts::{node_script, undercurrent};
use self::table::Table;

/// The suite measures time here and there: one side at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The way that messages take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Nothing of ours in between.
    Direct,
    /// Through the gateway to a server over HTTP.
    Http,
    /// Through the gateway to the same server as a command.
    Stdio,
}

#[test]
fn the_gateway_adds_no_failure_to_a_server() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = TempDir::new().expect("a temporary directory");
    let server = fixtures::over_http();
    let gateway = Serve::new(directory.path())
        .upstream("http", &server.url())
        .upstream("stdio", &fixtures::over_stdio().line())
        // A server on a pipe has no stream to close; the gateway does it before the suite's long call is answered.
        .setting("STDIO__STREAM_MAX_MS", &fixtures::STREAM_MAX_MS.to_string())
        .start();
    let url = |path| match path {
        // The suite refuses to run its DNS rebinding checks against anything but localhost.
        Path::Direct => format!("http://localhost:{}/mcp", server.address.port()),
        Path::Http => format!("http://localhost:{}/mcp/http", gateway.listen.port()),
        Path::Stdio => format!("http://localhost:{}/mcp/stdio", gateway.listen.port()),
    };
    let run = |part: &Part, path| suite::server(part, path, &url(path));
    compare(Side::Server, PARTS, &[Path::Direct, Path::Http, Path::Stdio], run);
    gateway.stop();
}

#[test]
fn the_gateway_adds_no_failure_to_a_client() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let client = node_script("conformance_client.mjs");
    let script = support::parts::part("node/conformance_client.mjs");
    let through = node_script("through_gateway.mjs").and(undercurrent()).and(script);
    let run = |part: &Part, path| match path {
        Path::Direct => suite::client(part, path, &client),
        Path::Http | Path::Stdio => suite::client(part, path, &through),
    };
    let parts = [PARTS, TIMED].concat();
    compare(Side::Client, &parts, &[Path::Direct, Path::Http], run);
}

/// Runs every part over every path, prints what came out, and panics about what the gateway added.
#[track_caller]
fn compare(side: Side, parts: &[Part], paths: &[Path], run: impl Fn(&Part, Path) -> Checks) {
    let mut table = Table::new(side, paths);
    let mut excuses = Excuses::default();
    let mut added = Vec::new();
    for part in parts {
        let all: Vec<Checks> = paths.iter().map(|path| run(part, *path)).collect();
        let (direct, through) = all.split_first().expect("the direct run is always there");
        for (path, checks) in paths[1..].iter().zip(through) {
            let differences = excuses.unexcused(side, *path, checks.worse_than(direct));
            added.extend(
                differences.into_iter().map(|difference| format!("{side:?}, {}, {path:?}: {difference}", part.name)),
            );
        }
        table.row(part.name, &all);
    }
    added.extend(excuses.stale(side));
    eprintln!("\n{table}");
    assert!(
        added.is_empty(),
        "added by the gateway ({} in all; results in {}):\n{}",
        added.len(),
        suite::results().display(),
        added.join("\n")
    );
}
