//! The access log and spans of the built binary, read by who would read them: lines of JSON, and a collector.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake;
use crate::support::gateway::{Gateway, Serve};
use crate::support::http::{Message, Side, get, messages, request};
use crate::support::keep_alive::KeepAlive;
use crate::support::parts::{HttpServer, server_demo};
use crate::support::raw::{HttpSession, POST_HEADERS, post, tools_call};
use crate::support::wait::{PATIENCE, wait_until};

/// A trace of a client's, and the flags of spans in it that are recorded.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const META: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-2222222222222222-00";

const SECRET: &str = "s3cret-value";

/// A POST over a connection that stays open, which the gateway's fast way takes.
fn kept_open(address: SocketAddr, path: &str, headers: &str, body: &str) -> Message {
    let mut socket = TcpStream::connect(address).expect("the gateway listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    socket.write_all(format!("{head}{body}").as_bytes()).expect("send a request");
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = socket.read(&mut buffer).expect("an answer comes");
        assert!(read > 0, "the connection ended: {:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..read]);
        if let Some(message) = messages(Side::Server, &received, false).pop().filter(|message| message.complete) {
            return message;
        }
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[track_caller]
fn one<'a>(lines: &'a [Value], what: &[(&str, Value)]) -> &'a Value {
    let fits = |line: &&Value| what.iter().all(|(key, value)| line[*key] == *value);
    let found: Vec<&Value> = lines.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{what:?} in {lines:#?}");
    found[0]
}

/// A line for each exchange, whichever way it took, with names and sizes and nothing of its content.
#[test]
fn each_exchange_is_a_line_in_the_access_log() {
    let directory = TempDir::new().expect("a temporary directory");
    let (log, rotated) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let server = HttpServer::demo();
    let gateway = Serve::new(&directory.path().join("data"))
        .upstream("web", &server.url())
        .upstream("pipe", &server_demo().line())
        .setting("ACCESS_LOG__FILE", log.to_str().expect("paths are UTF-8"))
        .start();
    let mut raw_ids = Vec::new();
    for name in ["web", "pipe"] {
        let session = HttpSession::connect(gateway.listen, &format!("/mcp/{name}"));
        session.call(1, "get_balance", &json!({"account": SECRET}));
        let mut kept = KeepAlive::open(&session);
        kept.call(2, "get_balance", &json!({"account": SECRET})).expect("an answer");
        kept.end().expect("an answer");
        raw_ids.push(session.header().1.to_owned());
    }
    let body = tools_call(3, "get_balance", &json!({})).to_string();
    let headers: Vec<(&str, &str)> = POST_HEADERS.into_iter().chain([("traceparent", HEADER)]).collect();
    assert_eq!(request(gateway.listen, "POST", "/mcp/nobody", &headers, body.as_bytes()).status(), 404);
    let unknown = [("Mcp-Session-Id", "unknown-session")];
    let headers: Vec<(&str, &str)> = POST_HEADERS.into_iter().chain(unknown).chain([("traceparent", HEADER)]).collect();
    assert_eq!(request(gateway.listen, "POST", "/mcp/pipe", &headers, body.as_bytes()).status(), 404);

    // Two handshakes of two messages each, two calls and a DELETE each, and what was refused.
    wait_until("all exchanges are in the file", || lines(&log).len() == 12);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(!text.contains(SECRET) && raw_ids.iter().all(|id| !text.contains(id.as_str())), "{text}");
    let seen = lines(&log);
    for name in ["web", "pipe"] {
        let server = ("server", json!(name));
        let hello = one(&seen, &[server.clone(), ("method", json!("initialize"))]);
        let calls: Vec<&Value> = seen
            .iter()
            .filter(|line| line["server"] == name && line["target"] == "get_balance" && line["status"] == 200)
            .collect();
        assert_eq!(calls.len(), 2, "{name}: {seen:#?}");
        for call in calls {
            assert_eq!(call["method"], "tools/call");
            assert_eq!(call["session"], hello["session"], "{name}");
            assert_eq!((&call["principal"], &call["outcome"]), (&json!("127.0.0.1"), &json!("relayed")));
            assert!(call["bytes_in"].as_u64() > Some(50) && call["bytes_out"].as_u64() > Some(10), "{call}");
            assert_eq!(call["verdict"], "allow", "{call}");
            assert!(call["duration_us"].as_u64().is_some() && call["time"].as_str().is_some_and(|t| t.ends_with('Z')));
        }
        one(&seen, &[server.clone(), ("http_method", json!("DELETE")), ("session", hello["session"].clone())]);
        one(&seen, &[server, ("method", json!("notifications/initialized")), ("status", json!(202))]);
    }
    one(&seen, &[("server", json!("none")), ("outcome", json!("unknown_upstream")), ("status", json!(404))]);
    let refused = one(&seen, &[("outcome", json!("unknown_session")), ("status", json!(404))]);
    assert_eq!(refused["trace_id"], TRACE, "{refused}");

    // Rotated by somebody else: moved away, and a signal.
    fs::rename(&log, &rotated).expect("move a file");
    gateway.process.signal("HUP");
    wait_until("there is a new file", || log.exists());
    HttpSession::connect(gateway.listen, "/mcp/web");
    wait_until("exchanges are in the new file", || lines(&log).len() == 2);
    assert_eq!(lines(&rotated).len(), 12);
    assert!((gateway.metrics().sum("undercurrent_access_log_lines_total") - 14.0).abs() < 0.5);
    gateway.stop();
}

/// What a collector was given.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collector {
    /// Listens, and takes what comes.
    fn start(&self) -> SocketAddr {
        let taken = Arc::clone(&self.0);
        fake::upstream(move |request, socket| {
            assert_eq!(request.start, "POST /v1/traces HTTP/1.1");
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            let export = ExportTraceServiceRequest::decode(&request.body[..]).expect("an export");
            taken.lock().expect("nobody panics").push(export);
            let body = ExportTraceServiceResponse::default().encode_to_vec();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length:";
            // The gateway may have left.
            let _ = socket.write_all(&[format!("{head} {}\r\n\r\n", body.len()).as_bytes(), &body].concat());
        })
    }

    fn spans(&self) -> Vec<Span> {
        let taken = self.0.lock().expect("nobody panics").clone();
        let scopes = taken.into_iter().flat_map(|export| export.resource_spans).flat_map(|one| one.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The `service.name` of the first export.
    fn service(&self) -> String {
        let taken = self.0.lock().expect("nobody panics");
        let resource = taken[0].resource_spans[0].resource.clone().expect("a resource");
        let name = resource.attributes.into_iter().find(|one| one.key == "service.name").expect("a name");
        text(name.value.and_then(|value| value.value))
    }
}

fn text(value: Option<Any>) -> String {
    match value {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("neither a text nor a number: {other:?}"),
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == name);
    found.map_or_else(String::new, |one| text(one.value.clone().and_then(|value| value.value)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that answers everything, and keeps what it was sent.
fn answering(seen: &Arc<Mutex<Vec<Message>>>) -> SocketAddr {
    let seen = Arc::clone(seen);
    fake::upstream(move |request, socket| {
        seen.lock().expect("nobody panics").push(request.clone());
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let result = match asked["method"].as_str() {
            Some("initialize") => {
                json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "fake", "version": "1"}})
            }
            Some("tools/call") => json!({"content": [], "isError": asked["params"]["name"] == "fail"}),
            _ => json!({}),
        };
        match asked.get("id") {
            Some(id) => {
                let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
                fake::respond(socket, "200 OK", "Mcp-Session-Id: raw-session-id\r\n", &body);
            }
            None => fake::respond(socket, "202 Accepted", "", ""),
        }
    })
}

fn traced(directory: &TempDir, upstream: SocketAddr, collector: SocketAddr) -> Serve {
    Serve::new(&directory.path().join("data"))
        .upstream("fake", &format!("http://{upstream}/mcp"))
        .setting("TRACING__OTLP_ENDPOINT", &format!("http://{collector}"))
        .setting("TRACING__EXPORT_INTERVAL_MS", "50")
        .setting("TRACING__EXPORT_TIMEOUT_MS", "2000")
}

/// One span for each request, under the parent that the message names, else its HTTP request; and what goes on to the
/// server is what came, byte for byte.
#[test]
fn each_request_is_a_span_at_the_collector() {
    let directory = TempDir::new().expect("a temporary directory");
    let seen = Arc::default();
    let collector = Collector::default();
    let serve = traced(&directory, answering(&seen), collector.start()).setting("TRACING__SERVICE_NAME", "tested");
    let gateway = serve.start();
    let session = HttpSession::connect(gateway.listen, "/mcp/fake");
    let meta = |id: u64, tool: &str| {
        let params = json!({"name": tool, "arguments": {"a": SECRET}, "_meta": {"traceparent": META}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let headers =
        |traceparent: &str| format!("Mcp-Session-Id: {}\r\ntraceparent: {traceparent}\r\n", session.header().1);
    let both = meta(1, "get");
    kept_open(gateway.listen, "/mcp/fake", &headers(HEADER), &both);
    let header_only = tools_call(2, "fail", &json!({})).to_string();
    kept_open(gateway.listen, "/mcp/fake", &headers(HEADER), &header_only);
    kept_open(gateway.listen, "/mcp/fake", &headers(UNSAMPLED), &tools_call(3, "unsampled", &json!({})).to_string());
    // Over hyper, and with a parent in the message alone.
    session.post(meta(4, "by-hyper").as_bytes());

    wait_until("all spans are there", || collector.spans().len() >= 5);
    let port = gateway.listen.port().to_string();
    // What is still queued is exported before the end.
    gateway.stop();
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let expected =
        ["initialize", "notifications/initialized", "tools/call get", "tools/call fail", "tools/call by-hyper"];
    assert_eq!(names, expected);
    assert_eq!(collector.service(), "tested");

    let [hello, _, get, fail, by_hyper] = &spans[..] else { unreachable!("there are five") };
    for (span, parent) in [(get, "00f067aa0ba902b7"), (fail, "1111111111111111"), (by_hyper, "00f067aa0ba902b7")] {
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), parent.to_owned()), "{span:?}");
        assert_eq!(span.kind, 2, "a server's span");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        for (name, value) in [
            ("mcp.method.name", "tools/call"),
            ("gen_ai.operation.name", "execute_tool"),
            ("network.transport", "tcp"),
            ("server.port", &port),
            ("client.address", "127.0.0.1"),
            ("undercurrent.upstream", "fake"),
            ("http.response.status_code", "200"),
        ] {
            assert_eq!(attribute(span, name), value, "{name} of {span:?}");
        }
    }
    assert!(hello.parent_span_id.is_empty() && hello.trace_id != get.trace_id, "{hello:?}");
    let session_id = attribute(get, "mcp.session.id");
    assert!(
        !session_id.is_empty() && session_id != "raw-session-id" && session_id == attribute(hello, "mcp.session.id")
    );
    assert_eq!((attribute(get, "gen_ai.tool.name"), attribute(get, "error.type")), ("get".into(), String::new()));
    assert_eq!(attribute(fail, "error.type"), "tool_error");
    assert!(fail.status.as_ref().is_some_and(|status| status.code == 2), "{fail:?}");
    assert!(!format!("{spans:?}").contains(SECRET));

    let seen = seen.lock().expect("nobody panics");
    let sent = |body: &str| seen.iter().find(|message| message.text() == body).unwrap_or_else(|| panic!("no {body}"));
    assert_eq!(sent(&both).header("traceparent"), Some(HEADER));
    assert_eq!(sent(&header_only).header("traceparent"), Some(HEADER));
}

/// Nobody waits for a collector that is not there; what it does not get is counted.
#[test]
fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let directory = TempDir::new().expect("a temporary directory");
    let nobody = crate::support::wait::free_address();
    let gateway: Gateway = traced(&directory, answering(&Arc::default()), nobody).start();
    let session = HttpSession::connect(gateway.listen, "/mcp/fake");
    session.call(1, "get", &json!({}));
    wait_until("three spans are counted as lost", || {
        (gateway.metrics().sum("undercurrent_spans_dropped_total{cause=\"export_failed\"}") - 3.0).abs() < 0.5
    });
    assert!(gateway.process.stderr().contains("export spans"), "{}", gateway.process.stderr());
    gateway.stop();
}

/// With both off there are no lines, no spans, and nothing to pay for.
#[test]
fn nobody_is_told_who_did_not_ask() {
    let directory = TempDir::new().expect("a temporary directory");
    let gateway = Serve::new(&directory.path().join("data"))
        .upstream("fake", &format!("http://{}/mcp", answering(&Arc::default())))
        .start();
    assert_eq!(post(gateway.listen, "/mcp/nobody", b"{}").status(), 404);
    HttpSession::connect(gateway.listen, "/mcp/fake").call(1, "get", &json!({}));
    let scrape = get(gateway.admin, "/metrics").text();
    assert!(scrape.contains("undercurrent_spans_exported_total 0"), "{scrape}");
    assert!(scrape.contains("undercurrent_access_log_lines_total 0"), "{scrape}");
    gateway.stop();
}
