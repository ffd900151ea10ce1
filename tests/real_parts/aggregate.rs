//! `/mcp`, one endpoint for two servers, with official clients.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::parts::{HttpServer, python_script, server_demo, server_everything, server_time};
use crate::support::raw::{HttpSession, tools_call};
use crate::support::scenario::{ALL, Calls, LEGACY, Target, run};
use crate::support::wait::wait_until;

const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const LEFT_OUT: &str = "undercurrent_gateway_aggregate_left_out_total";

fn serve(data: &std::path::Path) -> Serve {
    Serve::new(data).setting("AGGREGATE__ENABLED", "true")
}

fn names(session: &HttpSession) -> Vec<String> {
    let listed = session.post(LIST).json();
    let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {listed}"));
    tools.iter().map(|tool| tool["name"].as_str().expect("a tool has a name").to_owned()).collect()
}

/// The calls of all clients, by server and tool, are in the history under the servers' own names.
#[test]
fn clients_with_sessions_use_two_servers_as_one() {
    let data = TempDir::new().expect("a temporary directory");
    let everything = HttpServer::everything();
    let gateway =
        serve(data.path()).upstream("demo", &server_demo().line()).upstream("everything", &everything.url()).start();
    let calls = Calls::demo().of_upstream("demo").and(Calls::everything().of_upstream("everything"));
    for client in LEGACY {
        let report = run(client, &Target::Url(format!("http://{}/mcp", gateway.listen)), &calls);
        assert!(report.done["tools"].as_u64() > Some(15), "{client:?}: {}", report.done);
    }
    let pure = HttpSession::connect(gateway.listen, "/mcp/demo");
    assert!(names(&pure).contains(&"list_files".to_owned()), "its own endpoint has its own names");
    let history = gateway.stop();
    let rows = history.rows("SELECT server, tool, count(*) AS calls FROM calls GROUP BY ALL ORDER BY ALL");
    let expect = [
        ("demo", "get_balance", 1),
        ("demo", "list_files", 1),
        ("demo", "read_file", 1),
        ("everything", "echo", 1),
        ("everything", "get-structured-content", 1),
        ("everything", "get-sum", 2),
        ("everything", "trigger-long-running-operation", 1),
    ];
    let expect = expect.map(|(server, tool, calls)| json!({"server": server, "tool": tool, "calls": 3 * calls}));
    assert_eq!(rows, expect);
}

#[test]
fn clients_of_both_eras_use_servers_of_both_eras_as_one() {
    let data = TempDir::new().expect("a temporary directory");
    let demo = HttpServer::demo();
    let gateway = serve(data.path()).upstream("demo", &demo.url()).upstream("time", &server_time().line()).start();
    let calls = Calls::demo().of_upstream("demo").and(Calls::time().of_upstream("time"));
    for client in ALL {
        run(client, &Target::Url(format!("http://{}/mcp", gateway.listen)), &calls);
    }
    gateway.stop();
}

/// Both servers ask with the ids that their SDK counts from zero: the answers must not be mixed up. The client asks for
/// the era without sessions first, which one server of three knows, and then takes the one that all know.
#[test]
fn servers_ask_their_client_something_through_it() {
    let data = TempDir::new().expect("a temporary directory");
    let everything = HttpServer::everything();
    let gateway = serve(data.path())
        .upstream("demo", &server_demo().line())
        .upstream("http", &everything.url())
        .upstream("pipe", &server_everything().line())
        .start();
    let tools = ["trigger-sampling-request", "trigger-elicitation-request"];
    let names = ["http", "pipe"].into_iter().flat_map(|server| tools.map(|tool| format!("{server}__{tool}")));
    let words = python_script("asked_back.py").and(format!("http://{}/mcp", gateway.listen)).and_all(names);
    let output = words.command().stdin(Stdio::null()).output().expect("run the client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let texts: Vec<String> = serde_json::from_slice(&output.stdout).expect("a list of texts");
    let heard: Vec<bool> = texts.iter().map(|text| text.contains("sampled") || text.contains("elicited")).collect();
    assert_eq!(heard, [true; 4], "{texts:?}");
    gateway.stop();
}

#[test]
fn what_is_forbidden_is_hidden_and_a_server_that_is_down_is_missing() {
    let directory = TempDir::new().expect("a temporary directory");
    let policy = directory.path().join("policy.toml");
    std::fs::write(&policy, "[[access]]\nupstreams = [\"demo\"]\ntools = [\"write_*\"]\nallow = false\n")
        .expect("write the policy");
    let mut everything = HttpServer::everything();
    let gateway = serve(&directory.path().join("data"))
        .upstream("demo", &server_demo().line())
        .upstream("everything", &everything.url())
        .setting("POLICY__FILE", policy.to_str().expect("a path in UTF-8"))
        .start();
    let session = HttpSession::connect(gateway.listen, "/mcp");
    let before = names(&session);
    let has = |names: &[String], name: &str| names.iter().any(|listed| listed == name);
    assert!(has(&before, "demo__read_file") && has(&before, "everything__echo"), "{before:?}");
    assert!(!has(&before, "demo__write_file"), "{before:?}");
    let write = tools_call(2, "demo__write_file", &json!({"path": "/a", "content": "b"}));
    let refused: Value = session.post(write.to_string().as_bytes()).json();
    assert_eq!(refused["error"]["data"]["reason"], "tool_not_allowed", "{refused}");

    everything.process.kill();
    wait_until("the list has one server's tools", || {
        let after = names(&session);
        has(&after, "demo__read_file") && !after.iter().any(|name| name.starts_with("everything__"))
    });
    session.call(3, "demo__list_files", &json!({}));
    assert!(gateway.metrics().sum(&format!("{LEFT_OUT}{{server=\"everything\"}}")) >= 1.0);
    gateway.stop();
}
