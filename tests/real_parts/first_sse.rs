//! HTTP+SSE, the transport of 2024-11-05: the official client, before the official server that speaks it, and before a
//! command that knows nothing of HTTP.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::http::request;
use crate::support::parts::{HttpServer, python_script, server_demo};
use crate::support::raw::POST_HEADERS;
use crate::support::wait::wait_until;

/// What the client saw.
fn client(url: &str, tool: &str, arguments: &Value) -> Value {
    let words = python_script("first_sse.py").and(url).and(tool).and(arguments.to_string());
    let done = words.command().stdin(Stdio::null()).output().expect("run the client");
    assert!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("the client prints JSON")
}

#[test]
fn clients_of_the_first_transport_are_served() {
    let data = TempDir::new().expect("a temporary directory");
    let everything = HttpServer::everything_sse();
    let direct = format!("http://{}/sse", everything.address);
    let gateway =
        Serve::new(data.path()).upstream("everything", &direct).upstream("demo", &server_demo().line()).start();
    let through = |name: &str| format!("http://{}/mcp/{name}", gateway.listen);

    let echo = json!({"message": "as it was"});
    let expect = client(&direct, "echo", &echo);
    assert_eq!(client(&through("everything"), "echo", &echo), expect);
    assert!(expect["texts"][0].as_str().is_some_and(|text| text.contains("as it was")), "{expect}");

    let demo = client(&through("demo"), "list_emails", &json!({}));
    assert_eq!(demo["texts"].as_array().map(Vec::len), Some(1), "{demo}");

    // A place that nobody named leads nowhere; a stream that has ended leaves nothing behind.
    for name in ["everything", "demo"] {
        let path = format!("/mcp/{name}/messages/00000000000000000000000000000000");
        assert_eq!(request(gateway.listen, "POST", &path, &POST_HEADERS, b"{}").status(), 404, "{name}");
    }
    wait_until("the child has ended", || gateway.metrics().sum("undercurrent_gateway_stdio_sessions") == 0.0);
    gateway.settle_calls(2);
    // The stream is the session: what was posted and what came back on it are one call.
    let history = gateway.stop();
    for tool in ["echo", "list_emails"] {
        let answered = format!("SELECT count(*) FROM calls WHERE tool = '{tool}' AND outcome = 'result'");
        assert_eq!(history.number(&answered), 1, "{tool}");
    }
    assert_eq!(history.number("SELECT count(*) FROM sessions"), 2);
}
