//! The demo server as its clients see it: the real binary, both protocol eras over HTTP, and stdio.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

use std::process::Stdio;
use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::transport::{ConfigureCommandExt as _, TokioChildProcess};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use undercurrent_demo::agents::client::{Client, Endpoint, Reply};
use undercurrent_demo::agents::plan::{Era, Settings};
use undercurrent_demo::agents::{Run, drive};
use undercurrent_demo::truth::Truth;

const BINARY: &str = env!("CARGO_BIN_EXE_undercurrent-demo");

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// The server on a port of its own, and its endpoint.
async fn http_server() -> (Child, String) {
    let mut child = Command::new(BINARY)
        .args(["server", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    (child, line.split_whitespace().last().unwrap().to_owned())
}

async fn check_era(era: Era, version: &str) {
    let (_server, url) = http_server().await;
    let endpoint = Endpoint { url, local: None, era, name: "test".to_owned(), trace: 1 };
    let client = Client::connect(&endpoint).await.unwrap();
    assert_eq!(client.protocol_version(), version);
    assert_eq!(client.list_tools().await.unwrap().len(), 14);
    let reply = client.call("get_contact", object(json!({ "name": "kestrel" }))).await.unwrap();
    assert!(matches!(&reply, Reply::Result(contact) if contact["company"] == "Kestrel Couriers"), "{reply:?}");
    let reply = client.call("read_file", object(json!({ "path": "nope" }))).await.unwrap();
    assert!(matches!(&reply, Reply::ToolError(text) if text == "no such file: nope"), "{reply:?}");
    client.close().await;
}

#[tokio::test]
async fn legacy_clients_are_served() {
    check_era(Era::Legacy, "2025-11-25").await;
}

#[tokio::test]
async fn stateless_clients_are_served() {
    check_era(Era::Stateless, "2026-07-28").await;
}

#[tokio::test]
async fn stdio_clients_are_served() {
    let command = Command::new(BINARY).configure(|command| {
        command.args(["server", "--stdio"]);
    });
    let client = ClientConfig::default().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    assert_eq!(client.list_tools(None).await.unwrap().tools.len(), 14);
    let result = client.call_tool(CallToolRequestParams::new("get_balance")).await.unwrap();
    assert_eq!(result.structured_content.unwrap()["currency"], "EUR");
    client.cancel().await.unwrap();
}

/// The population against the bare server: every kind of session does what its plan says, twice alike.
#[tokio::test]
async fn a_population_lives_its_plan() {
    let settings = Settings {
        seed: 7,
        agents: 12,
        sessions: 60,
        duration: Duration::from_millis(300),
        attack_rate: 0.3,
        warm_up: 0.2,
        stateless: 0.3,
    };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (_server, url) = http_server().await;
        let truths = drive(&Run { url, settings, think: Duration::ZERO }).await.unwrap();
        for truth in &truths {
            assert_eq!(truth.failure, None, "{truth:?}");
            assert!(truth.calls >= 2, "{truth:?}");
            assert_eq!(truth.first_bad_call.is_some(), truth.truth.is_attack(), "{truth:?}");
        }
        for kind in Truth::ALL {
            assert!(truths.iter().any(|truth| truth.truth == kind), "no {kind:?} session");
        }
        let shape = |t: &undercurrent_demo::truth::SessionTruth| (t.number, t.habit.clone(), t.truth, t.calls);
        runs.push(truths.iter().map(shape).collect::<Vec<_>>());
    }
    assert_eq!(runs[0], runs[1]);
}
