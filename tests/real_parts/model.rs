//! `undercurrent model`: what one site learned is scored with at another, until it is taken back.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use crate::support::command::Words;
use crate::support::gateway::Serve;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, undercurrent};
use crate::support::process::Process;
use crate::support::raw::read_all;

/// A command on a data directory: what it said, on success or failure.
fn run(data: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Words::new(undercurrent()).and_all(arguments).and("--data").and(data).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start("undercurrent", command);
    let said = read_all(process.take_stdout());
    let status = process.wait();
    let said = said.join().expect("the reader does not panic");
    if status.success() { Ok(said) } else { Err(format!("{said}{}", process.stderr())) }
}

#[test]
fn what_one_site_learned_counts_at_another_until_it_is_taken_back() {
    let directory = TempDir::new().expect("a temporary directory");
    let site = |name: &str| directory.path().join(name);
    let file = |name: &str| site(name).to_str().expect("a path in UTF-8").to_owned();
    let server = HttpServer::demo();
    let serve = |name: &str| Serve::new(&site(name)).upstream("demo", &server.url());
    let said = run(&site("a"), &["model", "export", &file("nothing.model")]).expect_err("nothing was learned");
    assert!(said.contains("no checkpoint yet"), "{said}");
    let gateway = serve("a").start();
    Load::bounded(gateway.listen, "/mcp/demo", 3, 20).join();
    gateway.settle();
    gateway.stop();
    let said = run(&site("a"), &["model", "export", &file("a.model")]).expect("exported");
    assert!(said.contains("exported"), "{said}");

    // Another site shares no key; it has nothing of its own, and scores its first session by what it was given.
    let gateway = serve("b").start();
    let said = run(&site("b"), &["model", "import", &file("a.model")]).expect("beside the gateway");
    let id = said.split_whitespace().find(|word| word.starts_with("import:")).unwrap_or_else(|| panic!("{said}"));
    gateway.settle();
    let version = gateway.status().model_version;
    assert!(version.is_some(), "a model is live");
    Load::bounded(gateway.listen, "/mcp/demo", 1, 5).join();
    gateway.settle();
    let again = run(&site("b"), &["model", "import", &file("a.model")]);
    assert!(again.is_ok_and(|said| said.contains("accepted")), "a gateway that runs says no more than that");
    run(&site("b"), &["forget", "--import", id]).expect("taken to the log");
    gateway.settle();
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE score IS NOT NULL"), 5);
    let labels = history.rows("SELECT label, outcome FROM labels ORDER BY tick, ordinal");
    assert_eq!(
        labels.iter().map(|row| format!("{} {}", row["label"], row["outcome"])).collect::<Vec<_>>(),
        [r#""import" "applied""#, r#""import" "too_old""#, r#""forget" "applied""#],
    );
    run(&site("b"), &["state", "verify"]).expect("an import is replayed like everything else");
    let said = run(&site("b"), &["forget", "--import", id]).expect_err("it is gone");
    assert!(said.contains("does not count here"), "{said}");

    // What both saw.
    run(&site("b"), &["model", "export", &file("b.model")]).expect("exported");
    let said = run(&site("b"), &["model", "merge", &file("a.model"), &file("b.model"), "-o", &file("c.model")]);
    assert!(said.as_ref().is_ok_and(|said| said.contains("merged")), "{said:?}");
    fs::create_dir_all(site("c")).expect("make a directory");
    let said = run(&site("c"), &["model", "import", &file("c.model")]).expect("as the owner of an empty site");
    assert!(said.contains("imported"), "{said}");
}
