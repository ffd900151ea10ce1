//! An upstream that dies in the middle of an answer, over HTTP and over standard input and output.

use std::io::Read;
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use crate::support::command::Words;
use crate::support::fake::{begin_events, respond, upstream};
use crate::support::gateway::Serve;
use crate::support::http::{Side, cut, messages, open};
use crate::support::names::REQUESTS;
use crate::support::parts::python;
use crate::support::raw::{HttpSession, POST_HEADERS, tools_call};
use crate::support::wait::{PATIENCE, wait_until};

const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;

/// The client gets the events that came, and then an end that it cannot take for a whole answer, at once.
#[test]
fn upstream_dies_in_the_middle_of_its_events() {
    let data = TempDir::new().expect("a temporary directory");
    let address = upstream(|request, socket| match request.text() {
        body if body.contains("\"initialize\"") => {
            let result = json!({"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}}, "serverInfo": {"name": "fake", "version": "1"}}});
            respond(socket, "200 OK", "Mcp-Session-Id: fake\r\n", &result.to_string());
        }
        body if body.contains("\"dies\"") => {
            begin_events(socket, &[PROGRESS]);
            cut(socket);
        }
        body if body.contains("tools/call") => {
            respond(socket, "200 OK", "", r#"{"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#);
        }
        _ => respond(socket, "202 Accepted", "", ""),
    });
    let gateway = Serve::new(data.path()).upstream("fake", &format!("http://{address}/mcp")).impatient().start();
    let session = HttpSession::connect(gateway.listen, "/mcp/fake");

    let begun = Instant::now();
    let headers = [POST_HEADERS[0], POST_HEADERS[1], session.header()];
    let body = tools_call(1, "dies", &json!({})).to_string();
    let mut socket = open(gateway.listen, "POST", "/mcp/fake", &headers, body.as_bytes());
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received);
    assert!(begun.elapsed() < PATIENCE, "it ends when the upstream does");
    let answer = messages(Side::Server, &received, true).remove(0);
    let payloads = answer.payloads();
    assert_eq!(payloads.first().map(Vec::as_slice), Some(PROGRESS.as_bytes()), "what came, came");
    // Either the stream breaks off, or the gateway closes it with an error for the open request.
    let errors = payloads.iter().filter(|payload| String::from_utf8_lossy(payload).contains("\"error\"")).count();
    assert!(!answer.complete || errors == 1, "{}", answer.text());
    wait_until("it is counted", || gateway.metrics().sum(&format!("{REQUESTS}{{outcome=\"aborted\"}}")) >= 1.0);

    session.call(2, "lives", &json!({}));
    gateway.settle_calls(2);
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE tool = 'dies' AND outcome <> 'result'"), 1);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE tool = 'lives' AND outcome = 'result'"), 1);
}

/// A command that ends with a request open: the request is answered with an error, and a new session works.
#[test]
fn a_command_dies_with_a_request_open() {
    let directory = TempDir::new().expect("a temporary directory");
    let script = directory.path().join("dies.py");
    std::fs::write(&script, MORTAL).expect("write a script");
    let server = Words::new(python()).and(&script).line();
    let gateway = Serve::new(&directory.path().join("data")).upstream("mortal", &server).impatient().start();
    for _ in 0..2 {
        let session = HttpSession::connect(gateway.listen, "/mcp/mortal");
        session.call(1, "live", &json!({}));
        let answer = session.post(tools_call(2, "die", &json!({})).to_string().as_bytes());
        let json = answer.json();
        assert_eq!(json["id"], 2, "{answer:?}");
        let code = json["error"]["code"].as_i64().unwrap_or_else(|| panic!("not an error: {json}"));
        assert!(!(-32768..=-32000).contains(&code), "{json}");
    }
    gateway.settle_calls(4);
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE tool = 'die' AND outcome <> 'result'"), 2);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE tool = 'live' AND outcome = 'result'"), 2);
}

/// A server that ends when the tool `die` is called.
const MORTAL: &str = r#"
import json, sys

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    if request.get("params", {}).get("name") == "die":
        sys.exit(3)
    result = {"content": []}
    if request["method"] == "initialize":
        result = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "mortal", "version": "1"},
        }
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"#;
