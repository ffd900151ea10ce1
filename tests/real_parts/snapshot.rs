//! A Python process reads what is live from a mapped file, without copying it, while it is replaced.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, python_script};
use crate::support::process::Process;
use crate::support::raw::read_all;
use crate::support::wait::wait_until;

/// The aim is 50 µs; what is asserted has room for a machine that does other things, too.
const READ_US_MAX: f64 = 1000.0;

fn read(file: &Path) -> Value {
    let mut command = python_script("snapshot.py").and(file).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start("snapshot.py", command);
    let output = read_all(process.take_stdout());
    assert!(process.wait().success(), "{}", process.stderr());
    serde_json::from_str(&output.join().expect("the reader does not panic")).expect("snapshot.py prints JSON")
}

#[test]
fn python_maps_the_live_model_and_copies_nothing() {
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway =
        Serve::new(data.path()).upstream("demo", &server.url()).setting("SNAPSHOT__INTERVAL_MS", "50").start();
    Load::bounded(gateway.listen, "/mcp/demo", 2, 20).join();
    let dir = data.path().join("state/snapshot");
    wait_until("there is a model", || dir.join("model.arrow").exists() && dir.join("features.arrow").exists());
    let load = Load::start(gateway.listen, "/mcp/demo", 2);
    for name in ["model.arrow", "features.arrow"] {
        load.advance(20);
        let found = read(&dir.join(name));
        println!("{name}: {} rows, {} bytes, a read takes {} µs", found["rows"], found["bytes"], found["read_us"]);
        assert!(found["rows"].as_u64() > Some(0) && found["same"] == true, "{found}");
        assert_eq!(found["copied"], 0, "nothing is copied: {found}");
        assert!(found["read_us"]["median"].as_f64().is_some_and(|us| us < READ_US_MAX), "{found}");
    }
    load.stop();
    gateway.settle();
    let live = gateway.status().model_version;
    drop(gateway.stop());
    assert_eq!(read(&dir.join("model.arrow"))["version"].as_u64(), live, "the last one is published at a stop");
}
