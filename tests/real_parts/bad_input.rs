//! What must not happen to a gateway, and does: each time a clear answer, a count, and business as usual afterwards.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Serve};
use crate::support::history::History;
use crate::support::http::{Message, get};
use crate::support::load::plain_call;
use crate::support::names::{MALFORMED, REQUESTS};
use crate::support::parts::HttpServer;
use crate::support::raw::{HttpSession, initialize, initialized, post, tools_call};
use crate::support::wait::wait_until;

/// The codes that JSON-RPC reserves: an error of ours must not look like a peer's. Its own two for "not JSON" and "not
/// JSON-RPC" say exactly that, and come with a status that says it too.
const RESERVED: std::ops::RangeInclusive<i64> = -32768..=-32000;

/// A gateway in front of the demo server, and a session that has nothing to do with the bad input.
struct Scene {
    data: TempDir,
    server: HttpServer,
    gateway: Gateway,
    bystander: HttpSession,
}

impl Scene {
    fn new() -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let server = HttpServer::demo();
        let gateway = Serve::new(data.path()).upstream("demo", &server.url()).impatient().start();
        let bystander = HttpSession::connect(gateway.listen, "/mcp/demo");
        Self { data, server, gateway, bystander }
    }

    /// Sends a body in a session of its own.
    fn post(&self, body: &[u8]) -> Message {
        HttpSession::connect(self.gateway.listen, "/mcp/demo").post(body)
    }

    /// A good call works, in the bystander's session and in a new one; gives the history after a graceful stop, and
    /// the directory that it lives in. Beside the two good ones, `calls` became calls.
    fn goes_on(self, calls: u64) -> (TempDir, History) {
        let (tool, arguments) = plain_call();
        self.bystander.call(1, tool, &arguments);
        HttpSession::connect(self.gateway.listen, "/mcp/demo").call(2, tool, &arguments);
        assert_eq!(get(self.gateway.admin, "/healthz").status(), 200);
        let said = self.gateway.process.stderr();
        assert!(!said.contains("panicked"), "{said}");
        self.gateway.settle_calls(calls + 2);
        let history = self.gateway.stop();
        let good = "SELECT count(*) FROM calls WHERE outcome = 'result' AND jsonrpc_id IN ('1', '2')";
        assert_eq!(history.number(good), 2);
        (self.data, history)
    }
}

/// Refused with a status, or answered with an error that cannot be taken for the upstream's.
#[track_caller]
fn assert_refused(answer: &Message) {
    assert!((400..500).contains(&answer.status()), "{answer:?}");
    assert!(!answer.body.is_empty(), "a refusal says why: {answer:?}");
}

#[track_caller]
fn check_malformed(body: &[u8]) {
    let scene = Scene::new();
    let before = scene.gateway.metrics().sum_all(&MALFORMED);
    assert_refused(&scene.post(body));
    // It is read once it was relayed.
    wait_until("it is counted", || scene.gateway.metrics().sum_all(&MALFORMED) > before);
    scene.goes_on(0);
}

#[test]
fn not_json() {
    check_malformed(b"{\"jsonrpc\": \"2.0\", \"id\": 1, ");
}

#[test]
fn not_json_rpc() {
    check_malformed(br#"{"hello": "world"}"#);
}

#[test]
fn invalid_utf8() {
    let mut body = tools_call(7, "get_balance", &json!({"note": "MARK"})).to_string().into_bytes();
    let at = body.windows(4).position(|window| window == b"MARK").expect("it is there");
    body[at..at + 4].copy_from_slice(b"\xff\xfe\xc0\x80");
    check_malformed(&body);
}

#[test]
fn nesting_of_ten_thousand() {
    let scene = Scene::new();
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"get_balance","arguments":{{"a":{open}{close}}}}}}}"#
    );
    let before = scene.gateway.metrics().sum_all(&MALFORMED);
    let answer = scene.post(body.as_bytes());
    // The upstream may take it; what the gateway cannot look into it counts.
    assert!(answer.status() == 200 || (400..500).contains(&answer.status()), "{answer:?}");
    wait_until("it is counted", || scene.gateway.metrics().sum_all(&MALFORMED) > before);
    scene.goes_on(0);
}

#[test]
fn body_of_ten_mebibytes() {
    let scene = Scene::new();
    let note = "x".repeat(10 << 20);
    let requests = |outcome: &str| scene.gateway.metrics().sum(&format!("{REQUESTS}{{outcome=\"{outcome}\"}}"));
    let before = requests("body_too_large");
    let answer = scene.post(tools_call(7, "get_balance", &json!({"note": note})).to_string().as_bytes());
    assert_eq!(answer.status(), 413, "{}", answer.start);
    let error = &answer.json()["error"];
    assert!(!RESERVED.contains(&error["code"].as_i64().expect("a code")), "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("larger than")), "{error}");
    assert_eq!(requests("body_too_large"), before + 1.0);
    scene.goes_on(0);
}

/// Each call of a batch is a call; a server that has no batches says so.
#[test]
fn batch() {
    let scene = Scene::new();
    let (tool, arguments) = plain_call();
    let batch = Value::Array((11..=13).map(|id| tools_call(id, tool, &arguments)).collect());
    let answer = scene.post(batch.to_string().as_bytes());
    assert!(answer.status() == 200 || (400..500).contains(&answer.status()), "{answer:?}");
    assert!(!answer.body.is_empty(), "{answer:?}");
    let (_data, history) = scene.goes_on(3);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE jsonrpc_id IN ('11', '12', '13')"), 3);
}

/// Honest clients use an id again; each call is one.
#[test]
fn duplicate_ids() {
    let scene = Scene::new();
    let (tool, arguments) = plain_call();
    let session = HttpSession::connect(scene.gateway.listen, "/mcp/demo");
    for _ in 0..3 {
        session.call(77, tool, &arguments);
    }
    let at_once: Vec<_> = (0..4)
        .map(|_| {
            // Sessions of their own: a server need not answer two requests of one id in one session, and this one
            // leaves the first of them waiting.
            let (session, arguments) = (HttpSession::connect(scene.gateway.listen, "/mcp/demo"), arguments.clone());
            std::thread::spawn(move || session.post(tools_call(78, tool, &arguments).to_string().as_bytes()))
        })
        .collect();
    for call in at_once {
        let answer = call.join().expect("a post does not panic");
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    let (_data, history) = scene.goes_on(7);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE jsonrpc_id = '77' AND outcome = 'result'"), 3);
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE jsonrpc_id = '78' AND outcome = 'result'"), 4);
}

/// A client's response to a request that nobody made is the server's affair: it passes, and is recorded.
#[test]
fn response_to_no_request() {
    let scene = Scene::new();
    let answer = scene.post(br#"{"jsonrpc":"2.0","id":4711,"result":{"roots":[]}}"#);
    assert!(answer.status() == 202 || (400..500).contains(&answer.status()), "{answer:?}");
    let (_data, history) = scene.goes_on(0);
    assert_eq!(history.number("SELECT count(*) FROM messages WHERE jsonrpc_id = '4711' AND kind = 'result'"), 1);
}

#[test]
fn unknown_upstream() {
    let scene = Scene::new();
    let answer = post(scene.gateway.listen, "/mcp/nobody", initialize(1).to_string().as_bytes());
    assert_eq!(answer.status(), 404, "{answer:?}");
    let error = &answer.json()["error"];
    assert!(!RESERVED.contains(&error["code"].as_i64().expect("a code")), "{error}");
    let text = error["message"].as_str().expect("a message");
    assert!(text.contains("nobody") && text.contains("demo"), "names what was asked for and what there is: {text}");
    wait_until("it is counted", || {
        scene.gateway.metrics().sum(&format!("{REQUESTS}{{outcome=\"unknown_upstream\"}}")) >= 1.0
    });
    scene.goes_on(0);
}

/// A notification to a server that has gone away has nobody to answer it but the gateway.
#[test]
fn upstream_gone() {
    let mut scene = Scene::new();
    scene.server.process.kill();
    let answer = scene.bystander.post(tools_call(5, "get_balance", &json!({})).to_string().as_bytes());
    assert_eq!(answer.status(), 502, "{answer:?}");
    let error = answer.json();
    assert_eq!(error["id"], 5, "{error}");
    assert!(!RESERVED.contains(&error["error"]["code"].as_i64().expect("a code")), "{error}");
    assert_eq!(scene.bystander.post(initialized().to_string().as_bytes()).status(), 502);
    assert_eq!(get(scene.gateway.admin, "/healthz").status(), 200);
    scene.gateway.settle_calls(1);
    let history = scene.gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE jsonrpc_id = '5' AND outcome <> 'result'"), 1);
}
