use std::future::Future;
use std::pin::Pin;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use undercurrent_schemas::otlp::{Encoding, Signal};
use undercurrent_schemas::v1::label::Verdict;

use super::*;
use crate::data_dir::DataDir;

#[derive(Debug)]
struct Fixed(Status);

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        self.0.clone()
    }
}

/// Somebody waits with the ticket `t`.
#[derive(Debug)]
struct OneTicket;

impl Tickets for OneTicket {
    fn open(&self) -> Vec<HeldTicket> {
        vec![HeldTicket {
            ticket: "t".into(),
            principal: "alice".into(),
            server: "bank".into(),
            tool: "transfer".into(),
            p_value: None,
            reasons: Vec::new(),
            message: "{}".into(),
            waited_s: 1.5,
            is_waited_for: true,
        }]
    }

    fn answer(&self, ticket: &str, _answer: HoldAnswer) -> bool {
        ticket == "t"
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

/// Takes all that is not `full`, and one point less.
#[derive(Debug)]
struct AnyReport;

impl Intake for AnyReport {
    fn take(&self, body: &[u8], _: Encoding, _: Signal) -> Taken {
        match body {
            b"full" => Taken::Full,
            b"odd" => Taken::Unreadable { reason: "odd".into() },
            _ => Taken::Taken { rejected: 1, reason: Some("no time".into()) },
        }
    }
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

/// One request over a real connection, with exactly these headers.
async fn ask(status: Status, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_with(status, method, path, headers, "").await
}

async fn ask_with(status: Status, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let data = tempfile::tempdir().unwrap();
    let token = DataDir::open(data.path()).unwrap().admin_token().clone();
    let registry = Registry::new();
    let metrics = crate::telemetry::Metrics::register(&registry).unwrap();
    metrics.log.committed(std::time::Duration::ZERO, true);
    let state = AdminState {
        source: Arc::new(Fixed(status)),
        registry,
        hosts: Arc::default(),
        labeller: Arc::new(TwoSessions),
        tickets: Arc::new(OneTicket),
        intake: Arc::new(AnyReport),
        report_bytes_max: 100,
        token: token.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, state, std::future::pending()));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, value.replace("TOKEN", token.reveal()));
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
    for id in ["state", "upstreams", "learned", "flagged", "alerts", "partitions"] {
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
    for (authorization, body, expect, says) in [
        ("", BAD, 401, "admin.token"),
        ("Bearer 00", BAD, 401, "admin.token"),
        ("TOKEN", BAD, 401, "admin.token"),
        ("Bearer TOKEN", BAD, 200, r#"{"outcome":"applied","parts":2}"#),
        ("Bearer TOKEN", OLD, 409, "engine.unlearn_horizon_s"),
        ("Bearer TOKEN", BUSY, 503, "full"),
        ("Bearer TOKEN", "{}", 400, "session_id"),
        ("Bearer TOKEN", r#"{"session_id": "s-1", "label": "odd"}"#, 400, "label"),
        ("Bearer TOKEN", r#"{"session_id": "", "label": "clear"}"#, 400, "session_id"),
    ] {
        let headers = [("host", "localhost"), ("authorization", authorization)];
        let answer = ask_with(example(), "POST", "/api/v1/labels", &headers, body).await;
        assert_eq!(answer.status, expect, "{authorization} {body}: {}", answer.body);
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    let foreign = [("host", "evil.example"), ("authorization", "Bearer TOKEN")];
    let answer = ask_with(example(), "POST", "/api/v1/labels", &foreign, BAD).await;
    assert_eq!(answer.status, 403, "rebinding a name gets nothing, token or not");
}

#[tokio::test]
async fn what_waits_for_a_person_is_shown_to_who_has_the_token() {
    let path = "/api/v1/holds";
    for wrong in ["", "Bearer ", "Bearer 00", "TOKEN", "Basic TOKEN"] {
        let answer = ask(example(), "GET", path, &[("host", "localhost"), ("authorization", wrong)]).await;
        assert_eq!((answer.status, answer.body.contains("admin.token")), (401, true), "{wrong}");
    }
    let answer = ask(example(), "GET", path, &[("host", "localhost"), ("authorization", "Bearer TOKEN")]).await;
    insta::assert_snapshot!(answer.body);
    // The check of `Host` comes first, token or not.
    let foreign = ask(example(), "GET", path, &[("host", "evil.example"), ("authorization", "Bearer TOKEN")]).await;
    assert_eq!(foreign.status, 403);
}

#[tokio::test]
async fn reports_are_taken_from_who_has_the_token_and_answered_as_otlp_says() {
    async fn send(path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let all = [&[("host", "localhost"), ("authorization", "Bearer TOKEN")][..], headers].concat();
        ask_with(example(), "POST", path, &all, body).await
    }
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    for path in ["/v1/metrics", "/v1/logs"] {
        let bare = [("host", "localhost"), ("content-type", "application/json")];
        assert_eq!(ask_with(example(), "POST", path, &bare, "{}").await.status, 401);
        assert_eq!(send(path, "full", JSON).await.status, 503);
        assert_eq!(send(path, "odd", JSON).await.status, 400);
        assert_eq!(send(path, "{}", &[]).await.status, 415);
        assert_eq!(
            send(path, "{}", &[("content-type", "application/json"), ("content-encoding", "gzip")]).await.status,
            415
        );
        assert_eq!(send(path, &"x".repeat(101), JSON).await.status, 413);
        assert_eq!(send(path, "", &[("content-type", "application/x-protobuf")]).await.body, "");
        assert_eq!(send(path, "{}", &[JSON[0], ("origin", "https://evil.example")]).await.status, 403);
    }
    let answer = send("/v1/metrics", "{}", JSON).await;
    assert_eq!(answer.body, r#"{"partialSuccess":{"errorMessage":"no time","rejectedDataPoints":"1"}}"#);
}
