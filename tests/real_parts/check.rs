//! `undercurrent check`: what it says of configurations, and what it tries.

use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake;
use crate::support::gateway::Serve;
use crate::support::parts::{HttpServer, server_demo, undercurrent};

fn check(directory: &TempDir, arguments: &[&str]) -> Output {
    let data = directory.path().join("data");
    let mut command = Command::new(undercurrent());
    command.arg("check").arg("--data").arg(data).args(arguments);
    command.output().expect("run undercurrent check")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("a report is text")
}

/// What can be served is described, nothing is made, and no secret is shown.
#[test]
fn a_configuration_is_told_in_words() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = directory.path().join("undercurrent.toml");
    let text = "[engine]\nworkers = 2\n[upstreams.files]\ncommand = \"no-such-program\"\nargs = [\"s3cret\"]\n\
                env = { TOKEN = \"s3cret\" }\n[upstreams.web]\nurl = \"http://mcp.example.com/mcp?key=s3cret\"\n";
    std::fs::write(&config, text).expect("write a file");
    let config = config.to_str().expect("paths are UTF-8");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
    let listen = taken.local_addr().expect("a bound listener has an address").to_string();

    let output = check(&directory, &["--config", config, "--listen", &listen]);
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    for part in [
        "is made at the first start",
        &format!("http://{listen}/mcp/files"),
        "no-such-program",
        "flag --listen",
        "undercurrent.toml:2:1",
        "there is no program `no-such-program`",
        "in the clear",
        "is in use by another program",
        "observe",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
    assert!(!directory.path().join("data").exists(), "a check makes nothing");

    let json: Value = serde_json::from_str(&stdout(&check(&directory, &["--config", config, "--json"]))).expect("JSON");
    assert_eq!(json["valid"], true);
    assert_eq!(json["upstreams"][1]["target"], "http://mcp.example.com/mcp");
    assert_eq!(json["given"][0]["key"], "engine.workers");
}

/// What `serve` refuses, `check` refuses in the same words.
#[test]
fn a_mistake_is_the_same_mistake_to_serve() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = directory.path().join("undercurrent.toml");
    std::fs::write(&config, "[engine]\nworker = 2\n").expect("write a file");
    let config = config.to_str().expect("paths are UTF-8");
    let served = Serve::new(&directory.path().join("data")).with("--config", config).refused();
    let output = check(&directory, &["--config", config]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), served);
    let json: Value = serde_json::from_str(&stdout(&check(&directory, &["--config", config, "--json"]))).expect("JSON");
    assert_eq!(json["valid"], false);
    assert!(json["error"].as_str().is_some_and(|error| error.contains("did you mean `workers`?")), "{json}");
}

/// A server of the era without sessions knows no `initialize`, and is found all the same.
#[test]
fn a_probe_speaks_both_eras() {
    let directory = TempDir::new().expect("a temporary directory");
    let server = fake::upstream(|request, socket| {
        let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
        let result = match asked["method"].as_str() {
            Some("server/discover") => json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "modern", "version": "9"}}}),
            Some("tools/list") => json!({"tools": [{"name": "a", "inputSchema": {"type": "object"}}]}),
            _ => {
                let error = json!({"code": -32601, "message": "no such method"});
                let body = json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string();
                return fake::respond(socket, "404 Not Found", "", &body);
            }
        };
        assert_eq!(request.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(request.header("mcp-method"), asked["method"].as_str());
        assert_eq!(asked["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        let body = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
        fake::respond(socket, "200 OK", "", &body);
    });
    let output = check(&directory, &["--upstream", &format!("new=http://{server}/mcp"), "--probe"]);
    let said = stdout(&output);
    assert!(output.status.success() && said.contains("modern 9, MCP 2026-07-28, 1 tool, "), "{said}");
}

/// Both kinds of upstream are tried; one that is not there makes the command fail.
#[test]
fn probes_find_servers_and_their_tools() {
    let directory = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let (web, pipe) = (format!("web={}", server.url()), format!("pipe={}", server_demo().line()));
    let both = ["--upstream", &web, "--upstream", &pipe, "--probe", "--json"];
    let output = check(&directory, &both);
    let json: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert!(output.status.success(), "{json}");
    for upstream in json["upstreams"].as_array().expect("upstreams") {
        let probe = &upstream["probe"];
        assert_eq!(probe["state"], "answered", "{upstream}");
        assert_eq!(probe["server"], "undercurrent-demo", "{upstream}");
        assert!(probe["tools"].as_u64().is_some_and(|tools| tools > 5), "{upstream}");
    }
    let gone = ["--upstream", "gone=http://127.0.0.1:9/mcp", "--probe", "--probe-seconds", "20"];
    let output = check(&directory, &gone);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("FAILED"), "{}", stdout(&output));
}
