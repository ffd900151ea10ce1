use std::future::Future;
use std::pin::Pin;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use undercurrent_schemas::v1::label::Verdict;

use super::*;

#[derive(Debug)]
struct Fixed(Status);

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        self.0.clone()
    }
}

fn example() -> Status {
    Status {
        version: "0.0.0",
        uptime_s: 7,
        data_dir: "data".into(),
        upstreams: vec![UpstreamStatus {
            name: "files".into(),
            endpoint: "http://127.0.0.1:8808/mcp/files".into(),
            target: "npx".into(),
        }],
        partitions: vec![PartitionStatus { partition: 0, durable: 9, bound: 8, learned: 7 }],
        queued_events: 3,
        model: Some(ModelStatus { version: 42, age_ms: 1500 }),
        watermark_us: Some(1_790_000_000_000_000),
        lag_ticks: 1,
        history: HistoryStatus { dir: "data/history".into(), covered_tick: Some(41) },
        learned: Learned { calls: 5, sessions_scored: 2, sessions_flagged: 1, ..Learned::default() },
        recent_flagged: vec![FlaggedSession {
            session_id: "s<script>".into(),
            part: 0,
            server: "files".into(),
            ended_at_us: 1_790_000_000_000_000,
            score: 12.5,
            p_value: 0.004,
            reasons: vec!["first use of `write_file` here".into()],
        }],
        ..Status::default()
    }
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

/// Knows one session, and one that ended long ago.
#[derive(Debug)]
struct TwoSessions;

impl Labeller for TwoSessions {
    fn label(&self, session_id: &str, verdict: Verdict) -> Pin<Box<dyn Future<Output = Labelled> + Send + '_>> {
        let labelled = match (session_id, verdict) {
            ("s-1", Verdict::Malicious) => Labelled::Applied { parts: 2 },
            ("s-old", _) => Labelled::TooOld,
            _ => Labelled::Full,
        };
        Box::pin(async move { labelled })
    }
}

/// The token of a fresh DATA, and its text.
fn token() -> (AdminToken, String) {
    let dir = tempfile::TempDir::new().unwrap();
    let root = dir.path().join("data");
    let token = crate::data_dir::DataDir::open(&root).unwrap().admin_token().clone();
    (token, std::fs::read_to_string(root.join("admin.token")).unwrap().trim().to_owned())
}

/// One request over a real connection, with exactly these headers.
async fn ask(status: Status, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_with(status, token().0, method, path, headers, "").await
}

async fn ask_with(
    status: Status,
    token: AdminToken,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let registry = Registry::new();
    let metrics = crate::telemetry::Metrics::register(&registry).unwrap();
    metrics.log.committed(std::time::Duration::ZERO, true);
    let state = AdminState {
        source: Arc::new(Fixed(status)),
        registry,
        hosts: Arc::default(),
        labeller: Arc::new(TwoSessions),
        token,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, state, std::future::pending()));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response =
        sender.send_request(request.body(Full::new(bytes::Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    server.abort();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

async fn get(status: Status, path: &str) -> Answer {
    ask(status, "GET", path, &[("host", "localhost")]).await
}

#[tokio::test]
async fn status_has_the_shape_that_tools_rely_on() {
    let answer = get(example(), "/status").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

#[tokio::test]
async fn health_and_readiness_say_why_not() {
    assert_eq!(get(example(), "/healthz").await.status, 200);
    assert_eq!(get(example(), "/readyz").await.status, 200);
    let failing = |reason: &str| Check::Failing { reason: reason.into() };
    let status = Status { health: failing("log: disk full"), ready: failing("reading the log"), ..example() };
    let health = get(status.clone(), "/healthz").await;
    assert_eq!((health.status, health.body.as_str()), (503, "log: disk full\n"));
    let ready = get(status, "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "reading the log\n"));
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let answer = get(example(), "/metrics").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(answer.body.contains("\nundercurrent_log_commits_total 1\n"));
}

#[tokio::test]
async fn the_console_is_whole_and_can_run_nothing_foreign() {
    let page = get(example(), "/").await;
    let csp = page.headers["content-security-policy"].to_str().unwrap();
    assert!(csp.starts_with("default-src 'none'; script-src 'self'") && !csp.contains("unsafe"), "{csp}");
    assert!(page.body.contains("src=\"/console.js\"") && page.body.contains("href=\"/console.css\""));
    let script = get(example(), "/console.js").await;
    assert!(script.headers["content-type"].to_str().unwrap().starts_with("text/javascript"));
    for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!script.body.contains(markup), "{markup} would let text become markup");
    }
    assert_eq!(get(example(), "/console.css").await.status, 200);
    // Every id that the script fills is on the page.
    for id in ["state", "upstreams", "learned", "flagged", "partitions"] {
        assert!(page.body.contains(&format!("id=\"{id}\"")) && script.body.contains(&format!("\"{id}\"")), "{id}");
    }
}

// Goal: no route answers a page that rebound its name, and none can be forgotten.
#[tokio::test]
async fn every_route_checks_host_and_origin() {
    for path in ["/", "/console.js", "/metrics", "/healthz", "/readyz", "/status", "/nowhere"] {
        let rebound = ask(example(), "GET", path, &[("host", "evil.example:8809")]).await;
        assert_eq!(rebound.status, 403, "{path}");
        assert!(rebound.headers.contains_key("content-security-policy"));
        assert_eq!(ask(example(), "GET", path, &[]).await.status, 403, "{path}");
        let foreign = [("host", "127.0.0.1:8809"), ("origin", "https://evil.example")];
        assert_eq!(ask(example(), "GET", path, &foreign).await.status, 403, "{path}");
    }
    let two = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(ask(example(), "GET", "/status", &two).await.status, 403);
    let own = [("host", "127.0.0.1:8809"), ("origin", "http://127.0.0.1:8809")];
    assert_eq!(ask(example(), "GET", "/status", &own).await.status, 200);
}

#[tokio::test]
async fn nothing_can_be_written() {
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = ask(example(), method, "/status", &[("host", "localhost")]).await;
        assert_eq!(answer.status, 405, "{method}");
    }
    assert_eq!(get(example(), "/api").await.status, 404);
}

#[tokio::test]
async fn labels_want_the_token_and_say_what_became_of_them() {
    const BAD: &str = r#"{"session_id": "s-1", "label": "malicious"}"#;
    const OLD: &str = r#"{"session_id": "s-old", "label": "clear"}"#;
    const BUSY: &str = r#"{"session_id": "s-2", "label": "benign"}"#;
    let (token, text) = token();
    let bearer = format!("Bearer {text}");
    let wrong = format!("Bearer {}", "0".repeat(text.len()));
    for (authorization, body, expect, says) in [
        (None, BAD, 401, "admin.token"),
        (Some(wrong.as_str()), BAD, 401, "admin.token"),
        (Some(text.as_str()), BAD, 401, "admin.token"),
        (Some(bearer.as_str()), BAD, 200, r#"{"outcome":"applied","parts":2}"#),
        (Some(bearer.as_str()), OLD, 409, "engine.unlearn_horizon_s"),
        (Some(bearer.as_str()), BUSY, 503, "full"),
        (Some(bearer.as_str()), "{}", 400, "session_id"),
        (Some(bearer.as_str()), r#"{"session_id": "s-1", "label": "odd"}"#, 400, "label"),
        (Some(bearer.as_str()), r#"{"session_id": "", "label": "clear"}"#, 400, "session_id"),
    ] {
        let mut headers = vec![("host", "localhost")];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let answer = ask_with(example(), token.clone(), "POST", "/api/v1/labels", &headers, body).await;
        assert_eq!(answer.status, expect, "{authorization:?} {body}: {}", answer.body);
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    let foreign = [("host", "evil.example"), ("authorization", bearer.as_str())];
    let answer = ask_with(example(), token.clone(), "POST", "/api/v1/labels", &foreign, BAD).await;
    assert_eq!(answer.status, 403, "rebinding a name gets nothing, token or not");
    let get = ask(example(), "GET", "/api/v1/labels", &[("host", "localhost")]).await;
    assert_eq!(get.status, 405);
}
