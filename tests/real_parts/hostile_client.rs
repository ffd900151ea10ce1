//! Clients that mean harm, and what the gateway then holds and does. Smuggling, slow-loris, large heads and the cap on
//! connections are tried in process, in `src/gateway/tests/hostile.rs`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::support::fake;
use crate::support::http::{Message, Side, messages, request};
use crate::support::memory::MIB;
use crate::support::parts::{FlowsServer, server_demo, server_time};
use crate::support::raw::{POST_HEADERS, initialize, post, tools_call};
use crate::support::siege::Siege;
use crate::support::wait::PATIENCE;

/// An upstream that does in the modern era what its revision asks for, as far as headers and body are concerned.
fn careful() -> SocketAddr {
    fake::upstream(|request, socket| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let same = request.header("mcp-method") == body["method"].as_str()
            && request.header("mcp-name") == body["params"]["name"].as_str();
        let (status, answer) = if same {
            ("200 OK", json!({"jsonrpc": "2.0", "id": body["id"], "result": {"content": []}}))
        } else {
            let error = json!({"code": -32020, "message": "headers and body differ"});
            ("400 Bad Request", json!({"jsonrpc": "2.0", "id": body["id"], "error": error}))
        };
        fake::respond(socket, status, "", &answer.to_string());
    })
}

fn modern_call(tool: &str) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "hostile", "version": "1"},
    });
    let mut call = tools_call(9, tool, &json!({"timezone": "UTC"}));
    call["params"]["_meta"] = meta;
    call
}

/// Who reads the headers must not see another call than who reads the body. Behind HTTP the upstream refuses, and its
/// answer passes; the gateway itself goes by the body alone. Behind stdio the gateway is the server, and refuses.
#[test]
fn headers_that_contradict_the_body() {
    let careful = careful();
    let time = server_time().line();
    let siege = Siege::of(|serve| serve.upstream("careful", &format!("http://{careful}/mcp")).upstream("time", &time));
    let version = ("MCP-Protocol-Version", "2026-07-28");
    for (path, tool) in [("/mcp/careful", "delete_all"), ("/mcp/time", "get_current_time")] {
        let body = modern_call(tool).to_string();
        for (method, name, expect) in [
            ("tools/call", tool, 200),
            ("tools/call", "harmless", 400),
            ("tools/list", tool, 400),
            ("Tools/Call", tool, 400),
        ] {
            let headers = [POST_HEADERS[0], POST_HEADERS[1], version, ("Mcp-Method", method), ("Mcp-Name", name)];
            let answer = request(siege.gateway.listen, "POST", path, &headers, body.as_bytes());
            assert_eq!(answer.status(), expect, "{path} {method} {name}: {answer:?}");
            let json = answer.json();
            assert_eq!((&json["id"], json["error"]["code"].as_i64()), (&json!(9), (expect == 400).then_some(-32020)));
        }
        siege.bystander_is_served();
    }
    siege.gateway.settle_calls(5);
    let (_data, history) = siege.ends();
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE server = 'careful' AND tool = 'delete_all'"), 4);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE tool = 'harmless'"), 0);
}

/// Ids as long as a body: over HTTP they pass, and come back as they were; to a child, where the gateway must keep them,
/// they are refused. Nothing holds them, while their requests are open or later.
#[test]
fn huge_ids() {
    let echo = fake::upstream(|request, socket| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer = json!({"jsonrpc": "2.0", "id": body["id"], "result": {"content": []}});
        // Those that are to stay open are taken, and never answered.
        if body["params"]["name"] == "open" {
            fake::respond(socket, "202 Accepted", "", "");
        } else {
            fake::respond(socket, "200 OK", "", &answer.to_string());
        }
    });
    let demo = server_demo().line();
    let siege = Siege::of(|serve| serve.upstream("echo", &format!("http://{echo}/mcp")).upstream("child", &demo));
    let siege = siege.growing_at_most(32 * MIB);
    let huge = |last: usize| format!("{}{last}", "x".repeat(1 << 20));
    let body = |id: String, tool: &str| {
        let mut call = tools_call(0, tool, &json!({}));
        call["id"] = Value::String(id);
        call.to_string()
    };
    let answer = in_session(siege.gateway.listen, "/mcp/echo", "huge", body(huge(0), "answered").as_bytes());
    assert!(answer.json()["id"] == huge(0), "it comes back as it was");
    // 40 MiB, if they were kept.
    for at in 0..40 {
        let taken = in_session(siege.gateway.listen, "/mcp/echo", "huge", body(huge(at), "open").as_bytes());
        assert_eq!(taken.status(), 202, "{taken:?}");
    }
    siege.bystander_is_served();

    let opened = post(siege.gateway.listen, "/mcp/child", initialize(0).to_string().as_bytes());
    let session = opened.header("mcp-session-id").expect("a session").to_owned();
    let answer = in_session(siege.gateway.listen, "/mcp/child", &session, body(huge(1), "get_balance").as_bytes());
    assert_eq!((answer.status(), answer.json()["error"]["code"].as_i64()), (400, Some(-32600)), "{}", answer.start);
    for id in [json!({"a": 1}), json!([1]), json!(true)] {
        let mut call = tools_call(0, "get_balance", &json!({}));
        call["id"] = id;
        // What is no id of JSON-RPC is the server's to refuse, or to answer.
        let answer = in_session(siege.gateway.listen, "/mcp/echo", "huge", call.to_string().as_bytes());
        assert!(matches!(answer.status(), 200 | 400), "{answer:?}");
    }
    siege.ends();
}

/// An id that is still open in its session names that request: a second one is refused, in other sessions it is as good
/// as any.
#[test]
fn ids_that_are_in_use() {
    let slow = FlowsServer::Python.words().line();
    let siege = Siege::of(|serve| serve.upstream("slow", &slow));
    let at = siege.gateway.listen;
    let open = || {
        let opened = post(at, "/mcp/slow", initialize(0).to_string().as_bytes());
        assert_eq!(opened.status(), 200, "{opened:?}");
        opened.header("mcp-session-id").expect("a session").to_owned()
    };
    let (one, other) = (open(), open());
    let mut wait = tools_call(5, "wait", &json!({"label": "used"}));
    // Its progress opens the stream.
    wait["params"]["_meta"] = json!({"progressToken": 1});
    let waiting = send(at, "/mcp/slow", &one, wait.to_string().as_bytes());
    assert!(waiting.peek(&mut [0]).expect("a stream begins") > 0);
    let echo = tools_call(5, "echo", &json!({"text": "mine", "wait_ms": 0})).to_string();
    let refused = in_session(at, "/mcp/slow", &one, echo.as_bytes());
    assert_eq!((refused.status(), refused.json()["error"]["code"].as_i64()), (400, Some(-32600)), "{refused:?}");
    let answered = in_session(at, "/mcp/slow", &other, echo.as_bytes());
    assert_eq!(answered.json()["result"]["content"][0]["text"], "mine", "{answered:?}");
    drop(waiting);
    siege.ends();
}

/// Ids of sessions that there are not: as many as one likes to try are answered by the upstream, and the table of
/// sessions keeps its bound.
#[test]
fn guessing_sessions() {
    const SESSIONS_MAX: usize = 300;
    let upstream = fake::upstream(|_, socket| {
        let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "no such session"}});
        fake::respond(socket, "404 Not Found", "", &error.to_string());
    });
    let siege = Siege::of(|serve| {
        let serve = serve.setting("GATEWAY__SESSIONS_MAX", &SESSIONS_MAX.to_string());
        serve.upstream("guarded", &format!("http://{upstream}/mcp"))
    });
    let call = tools_call(1, "t", &json!({})).to_string();
    for guess in 0..2 * SESSIONS_MAX {
        let answer = in_session(siege.gateway.listen, "/mcp/guarded", &format!("{guess:032x}"), call.as_bytes());
        assert_eq!(answer.status(), 404, "{answer:?}");
        if guess % 100 == 0 {
            siege.bystander_is_served();
        }
    }
    let sessions = siege.metrics().sum("undercurrent_edge_sessions");
    assert!((1.0..=SESSIONS_MAX as f64).contains(&sessions), "{sessions} sessions");
    siege.ends();
}

/// Connections on which a request has begun and does not go on: each costs little, and nobody waits for it.
#[test]
fn requests_that_do_not_go_on() {
    let siege = Siege::of(|serve| serve);
    let unfinished: Vec<TcpStream> = (0..300)
        .map(|at| {
            let begun = match at % 3 {
                0 => "POST /mcp/demo HTTP/1.1\r\nHost: ".to_owned(),
                1 => "POST /mcp/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n{".to_owned(),
                _ => format!("GET /mcp/demo HTTP/1.1\r\nX-A: {}", "x".repeat(8 << 10)),
            };
            let mut socket = TcpStream::connect(siege.gateway.listen).expect("the gateway listens");
            socket.write_all(begun.as_bytes()).expect("the gateway reads");
            socket
        })
        .collect();
    siege.bystander_is_served();
    siege.memory_is_bounded();
    drop(unfinished);
    siege.ends();
}

/// Sends a body in a session, over the strict relay, and leaves the rest to the caller.
fn send(gateway: SocketAddr, path: &str, session: &str, body: &[u8]) -> TcpStream {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {gateway}\r\nContent-Type: application/json\r\nMcp-Session-Id: {session}\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(gateway).expect("the gateway listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    socket.write_all(&[head.as_bytes(), body].concat()).expect("the gateway reads");
    socket
}

/// The same, with the answer.
fn in_session(gateway: SocketAddr, path: &str, session: &str, body: &[u8]) -> Message {
    let mut socket = send(gateway, path, session, body);
    let (mut received, mut buffer) = (Vec::new(), vec![0; MIB as usize]);
    loop {
        let read = socket.read(&mut buffer).expect("an answer");
        received.extend_from_slice(&buffer[..read]);
        if let Some(message) = messages(Side::Server, &received, read == 0).pop().filter(|message| message.complete) {
            return message;
        }
        assert!(read > 0, "no whole answer: {} bytes", received.len());
    }
}
