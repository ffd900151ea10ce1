//! Stdio upstreams as HTTP clients see them; the servers are small shell scripts.

use std::time::Duration;

use crate::config::Terms;
use crate::gateway::tests::{Peer, Running, gateway, until, within};
use crate::gateway::{GatewayConfig, Timeouts};
use crate::upstream::{StdioCommand, Target, UpstreamConfig};

/// Answers each request with the line that it got, as `result.got`, and obeys words in it.
const ECHO: &str = r#"
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id": *\("[^"]*"\|[0-9.]*\).*/\1/p')
  token=$(printf '%s' "$line" | sed -n 's/.*"progressToken": *\("[^"]*"\|[0-9.]*\).*/\1/p')
  case "$line" in *exit_now*) exit 3;; esac
  case "$line" in *progress_please*)
    printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}\n' "$token";; esac
  case "$line" in *say_changed*) printf '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n';; esac
  case "$line" in *stay_silent*) continue;; esac
  case "$line" in *take_long*) IFS= read -r line;; esac
  case "$line" in *unknown_method*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id"; continue;; esac
  case "$line" in *cancelled*) last=$line; continue;; esac
  case "$line" in *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"properties":{"a":{"x-mcp-header":"A"}}}}]}}\n' "$id"; continue;; esac
  case "$line" in *v999*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no"}}\n' "$id"; continue;; esac
  case "$line" in *invalid_params*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no"}}\n' "$id"; continue;; esac
  case "$line" in *tell_last*) printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "${last:-null}"; continue;; esac
  if [ -n "$id" ]; then printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" $$; fi
done
"#;

async fn echo(change: impl FnOnce(&mut GatewayConfig)) -> Running {
    let command =
        StdioCommand { program: "sh".into(), args: vec!["-c".into(), ECHO.into()], ..StdioCommand::default() };
    let timeouts = Timeouts {
        shutdown: Duration::from_secs(1),
        child_exit: Duration::from_millis(200),
        response: Duration::from_secs(5),
        ..Timeouts::default()
    };
    let upstreams = vec![UpstreamConfig { name: "up".into(), target: Target::Stdio(command), terms: Terms::default() }];
    let mut config = GatewayConfig { upstreams, timeouts, ..GatewayConfig::default() };
    change(&mut config);
    gateway(config).await
}

/// One request on a connection of its own: head, and body as far as `end`.
async fn ask(gateway: &Running, headers: &str, body: &str, end: &str) -> (String, String) {
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", headers, body).await;
    let head = client.until("\r\n\r\n").await;
    (head, client.until(end).await)
}

fn status(head: &str) -> &str {
    head["HTTP/1.1 ".len()..].split(' ').next().unwrap()
}

const BOTH: &str = "accept: application/json, text/event-stream\r\n";
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;

/// Opens a session, and returns the header that names it.
async fn open(gateway: &Running) -> String {
    open_with(gateway, INITIALIZE).await
}

async fn open_with(gateway: &Running, initialize: &str) -> String {
    let (head, body) = ask(gateway, BOTH, initialize, "}}").await;
    assert_eq!(status(&head), "200", "{head}");
    assert!(body.contains(r#""id":0,"result""#), "{body}");
    let id = head.split("mcp-session-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert_eq!(id.len(), 32);
    format!("{BOTH}mcp-session-id: {id}\r\n")
}

/// A session of a client that knows no streams which open with an empty event: what comes alone is JSON.
async fn open_earlier(gateway: &Running) -> String {
    open_with(gateway, &INITIALIZE.replace("2025-11-25", "2025-06-18")).await
}

/// Guesses name no session, and start no child.
#[tokio::test]
async fn sessions_that_are_guessed_are_unknown() {
    let gateway = echo(|_| {}).await;
    let session = open(&gateway).await;
    let call = r#"{"id":1,"method":"x"}"#;
    for guess in 0..100 {
        let headers = format!("{BOTH}mcp-session-id: {guess:032x}\r\n");
        let (head, _) = ask(&gateway, &headers, call, "unknown_session").await;
        assert_eq!(status(&head), "404");
    }
    assert_eq!(gateway.metrics.sessions.get(), 1);
    let (head, _) = ask(&gateway, &session, call, "}}").await;
    assert_eq!(status(&head), "200");
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_a_child_from_initialize_to_delete() {
    let gateway = echo(|_| {}).await;
    let (one, two) = (open_earlier(&gateway).await, open_earlier(&gateway).await);
    assert_ne!(one, two);
    assert_eq!(gateway.metrics.sessions.get(), 2);

    let (head, first) = ask(&gateway, &one, "{\"id\": \"a\",\r\n \"method\":\"x\"}", "}}").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(first.starts_with(r#"{"jsonrpc":"2.0","id":"a","result""#), "{first}");
    let (_, same) = ask(&gateway, &one, r#"{"id":"a","method":"y"}"#, "}}").await;
    assert_eq!(first, same);
    let (_, other) = ask(&gateway, &two, r#"{"id":"a","method":"y"}"#, "}}").await;
    assert_ne!(first, other);

    let (head, _) = ask(&gateway, &one, r#"{"method":"notifications/initialized"}"#, "").await;
    assert_eq!(status(&head), "202");

    let mut client = Peer::connect(gateway.address).await;
    client.send(&format!("DELETE /mcp/up HTTP/1.1\r\nhost: localhost\r\n{one}\r\n")).await;
    assert_eq!(status(&client.until("\r\n\r\n").await), "200");
    let (head, _) = ask(&gateway, &one, r#"{"id":1,"method":"y"}"#, "unknown_session").await;
    assert_eq!(status(&head), "404");
    until(|| gateway.metrics.sessions.get() == 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_comes_before_the_answer_makes_it_a_stream() {
    let gateway = echo(|_| {}).await;
    let session = open(&gateway).await;
    let ask_progress = r#"{"id":1,"method":"progress_please","params":{"_meta":{"progressToken":"t"}}}"#;
    let (head, body) = ask(&gateway, &session, ask_progress, "\r\n0\r\n\r\n").await;
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    let (progress, answer) = (body.find(r#""progressToken":"t""#), body.find(r#""id":1,"result""#));
    assert!(progress.unwrap() < answer.unwrap(), "{body}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_belongs_to_no_request_goes_to_the_get_stream_or_waits_for_it() {
    let gateway = echo(|_| {}).await;
    let session = open_earlier(&gateway).await;
    ask(&gateway, &session, r#"{"method":"say_changed"}"#, "").await;
    let listen = format!("GET /mcp/up HTTP/1.1\r\nhost: localhost\r\n{session}\r\n");
    let mut listener = Peer::connect(gateway.address).await;
    listener.send(&listen).await;
    listener.until("list_changed\"}\n\n").await;
    // With the stream open, a request's answer stays plain JSON.
    let (head, _) = ask(&gateway, &session, r#"{"id":1,"method":"say_changed"}"#, "}}").await;
    assert!(head.contains("application/json"), "{head}");
    listener.until("list_changed\"}\n\n").await;

    let mut second = Peer::connect(gateway.address).await;
    second.send(&listen).await;
    assert_eq!(status(&second.until("\r\n\r\n").await), "409");
    gateway.stop().await;
}

/// The id of the first event.
fn event_id(events: &str) -> String {
    events.split("id: ").nth(1).unwrap().split('\n').next().unwrap().to_owned()
}

/// All of a stream that is had again.
async fn come_back(gateway: &Running, session: &str, id: &str) -> String {
    let mut client = Peer::connect(gateway.address).await;
    let headers = format!("{session}last-event-id: {id}\r\nconnection: close\r\n");
    client.send(&format!("GET /mcp/up HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
    client.rest().await
}

/// How many streams of the upstream have met with this.
fn streams(gateway: &Running, event: &str) -> u64 {
    gateway.metrics.streams.with_label_values(&["up", event]).get()
}

#[tokio::test]
async fn a_result_alone_is_a_stream_that_opens_with_an_id() {
    let gateway = echo(|_| {}).await;
    let session = open(&gateway).await;
    let (head, body) = ask(&gateway, &session, r#"{"id":1,"method":"x"}"#, "\r\n0\r\n\r\n").await;
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    let (opening, answer) = (body.find("retry: 1000\ndata: \n\n"), body.find(r#"{"jsonrpc":"2.0","id":1,"result""#));
    assert!(opening.unwrap() < answer.unwrap(), "{body}");
    let json = session.replace(", text/event-stream", "");
    let (head, _) = ask(&gateway, &json, r#"{"id":1,"method":"x"}"#, "}}").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    gateway.stop().await;
}

/// `take_long` is answered once the child gets another line: until then each stream ends without an answer.
#[tokio::test]
async fn streams_that_are_closed_before_their_answer_are_polled() {
    let gateway = echo(|config| config.stdio.stream_max = Some(Duration::from_millis(1))).await;
    let session = open(&gateway).await;
    let progress = r#"{"id":"p","method":"progress_please take_long","params":{"_meta":{"progressToken":7}}}"#;
    let (head, body) = ask(&gateway, &session, progress, "\r\n0\r\n\r\n").await;
    assert!(head.contains("content-type: text/event-stream") && !body.contains("result"), "{head}{body}");
    let id = event_id(&body);
    let polled = come_back(&gateway, &session, &id).await;
    assert_eq!(event_id(&polled), id);
    assert!(polled.contains("retry: ") && !polled.contains("result"), "{polled}");
    ask(&gateway, &session, r#"{"method":"notifications/go_on"}"#, "").await;
    let answer = within(async {
        loop {
            let polled = come_back(&gateway, &session, &id).await;
            if polled.contains(r#""id":"p","result""#) {
                return polled;
            }
        }
    })
    .await;
    assert_eq!(answer.matches(r#""progressToken":7"#).count(), 1, "{answer}");
    assert!(streams(&gateway, "closed") >= 2 && streams(&gateway, "resumed") >= 2);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_no_longer_kept_is_refused() {
    let gateway = echo(|config| config.stdio.kept_events_max = 1).await;
    let session = open(&gateway).await;
    let mut ids = Vec::new();
    for request in 0..3 {
        let call = format!(r#"{{"id":{request},"method":"x"}}"#);
        ids.push(event_id(&ask(&gateway, &session, &call, "\r\n0\r\n\r\n").await.1));
    }
    let check = async |id: &str, expect: &str| {
        let came = come_back(&gateway, &session, id).await;
        assert!(came.contains(expect), "{id}: {came}");
    };
    check("99-1", "HTTP/1.1 410").await;
    check(&ids[0], r#""code":1033"#).await;
    check(&ids[1], r#""id":1,"error":{"code":1033"#).await;
    check(&ids[2], r#""id":2,"result""#).await;
    assert_eq!(streams(&gateway, "lost"), 1);
    gateway.stop().await;
}

/// `take_long` is answered once the child gets another line.
#[tokio::test]
async fn a_long_call_is_a_stream_that_its_client_can_have_again() {
    let gateway = echo(|_| {}).await;
    let session = open(&gateway).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", &session, r#"{"id":"long","method":"take_long"}"#).await;
    let opened = client.until("data: \n\n").await;
    let id = event_id(&opened);
    assert!(opened.contains("text/event-stream") && opened.contains("retry: "), "{opened}");
    drop(client);
    until(|| gateway.metrics.connections.get() == 0).await;
    let (head, _) = ask(&gateway, &session, r#"{"method":"notifications/go_on"}"#, "").await;
    assert_eq!(status(&head), "202");
    for _ in 0..2 {
        let answer = come_back(&gateway, &session, &id).await;
        assert_eq!(answer.matches(r#""id":"long","result""#).count(), 1, "{answer}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_before_2025_11_25_gets_no_empty_event() {
    let gateway = echo(|_| {}).await;
    let ask_progress = r#"{"id":1,"method":"progress_please","params":{"_meta":{"progressToken":"t"}}}"#;
    for (version, opens) in [("2025-06-18", false), ("2025-11-25", true)] {
        let session = open_with(&gateway, &INITIALIZE.replace("2025-11-25", version)).await;
        let (_, body) = ask(&gateway, &session, ask_progress, "\r\n0\r\n\r\n").await;
        assert_eq!(body.contains("data: \n"), opens, "{version}: {body}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_listener_that_comes_back_takes_its_stream_over() {
    let gateway = echo(|_| {}).await;
    let session = open(&gateway).await;
    let listen = |more: &str| format!("GET /mcp/up HTTP/1.1\r\nhost: localhost\r\n{session}{more}\r\n");
    let mut first = Peer::connect(gateway.address).await;
    first.send(&listen("")).await;
    first.until("\r\n\r\n").await;
    for _ in 0..2 {
        ask(&gateway, &session, r#"{"method":"say_changed"}"#, "").await;
    }
    let seen = first.until("list_changed\"}\n\n").await;
    let id = event_id(&seen);
    first.until("list_changed\"}\n\n").await;
    // It has not been noticed that the first connection is of no more use to its client.
    let mut second = Peer::connect(gateway.address).await;
    second.send(&listen(&format!("last-event-id: {id}\r\n"))).await;
    second.until("list_changed\"}\n\n").await;
    ask(&gateway, &session, r#"{"method":"say_changed"}"#, "").await;
    second.until("list_changed\"}\n\n").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_batch_is_split_and_answered_as_one() {
    let gateway = echo(|_| {}).await;
    let session = open_earlier(&gateway).await;
    let batch = r#"[{"id":1,"method":"x"},{"method":"notifications/y"},{"id":2,"method":"z"}]"#;
    let (_, body) = ask(&gateway, &session, batch, "]").await;
    let answers: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&1.into(), &2.into()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_child_that_dies_answers_its_requests_and_takes_its_session_with_it() {
    let gateway = echo(|_| {}).await;
    let session = open(&gateway).await;
    let (_, body) = ask(&gateway, &session, r#"{"id":"q","method":"exit_now"}"#, "}}").await;
    assert!(body.contains(r#""id":"q","error":{"code":1011"#), "{body}");
    until(|| gateway.metrics.sessions.get() == 0).await;
    let (head, _) = ask(&gateway, &session, r#"{"id":1,"method":"y"}"#, "unknown_session").await;
    assert_eq!(status(&head), "404");
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_stdio_server_must_not_get_is_refused_here() {
    let gateway = echo(|config| config.limits.sessions_max = 1).await;
    let session = open(&gateway).await;
    let check = async |headers: &str, body: &str, expect: (&str, &str)| {
        let (head, _) = ask(&gateway, headers, body, expect.1).await;
        assert_eq!(status(&head), expect.0, "{body}");
    };
    check(BOTH, INITIALIZE, ("503", "too_many_sessions")).await;
    check(&session, "nonsense", ("400", "-32700")).await;
    check(&session, "[]", ("400", "-32600")).await;
    check(&session, "5", ("400", "-32600")).await;
    check(BOTH, r#"{"id":1,"method":"x"}"#, ("400", "missing_session")).await;
    check(&format!("{session}mcp-protocol-version: 1999-01-01\r\n"), INITIALIZE, ("400", "not supported")).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_unanswered_request_times_out_and_is_cancelled() {
    let gateway = echo(|config| config.timeouts.response = Duration::from_millis(300)).await;
    let silent = r#"{"id":"s","method":"stay_silent"}"#;
    for (session, expect) in [(open_earlier(&gateway).await, "504"), (open(&gateway).await, "200")] {
        let (head, _) = ask(&gateway, &session, silent, r#""id":"s","error":{"code":1010"#).await;
        assert_eq!(status(&head), expect);
        let (_, last) = ask(&gateway, &session, r#"{"id":1,"method":"tell_last"}"#, "}}}").await;
        assert!(last.contains(r#""requestId":"s""#), "{last}");
    }
    gateway.stop().await;
}

/// The answer is there when its client comes back.
#[tokio::test]
async fn a_request_whose_client_has_left_times_out_too() {
    let gateway = echo(|config| config.timeouts.response = Duration::from_millis(300)).await;
    let session = open(&gateway).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", &session, r#"{"id":"s","method":"stay_silent"}"#).await;
    let opened = client.until("data: \n\n").await;
    drop(client);
    let answer = come_back(&gateway, &session, &event_id(&opened)).await;
    assert!(answer.contains(r#""id":"s","error":{"code":1010"#), "{answer}");
    gateway.stop().await;
}

fn modern(method: &str) -> String {
    format!("{BOTH}mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n")
}

#[tokio::test]
async fn clients_without_sessions_share_a_child_and_keep_their_ids() {
    let gateway = echo(|_| {}).await;
    let ask_progress = r#"{"id":"x","method":"progress_please","params":{"_meta":{"progressToken":5}}}"#;
    let headers = modern("progress_please");
    let ask_progress = || ask(&gateway, &headers, ask_progress, "\r\n0\r\n\r\n");
    let ((head, one), (_, two)) = tokio::join!(ask_progress(), ask_progress());
    assert!(!head.contains("mcp-session-id"), "{head}");
    for body in [&one, &two] {
        assert_eq!(body.matches(r#""progressToken":5"#).count(), 1, "{body}");
        assert_eq!(body.matches(r#""id":"x","result""#).count(), 1, "{body}");
    }
    let pid = |body: &str| body.split("\"pid\":").nth(1).unwrap().split('}').next().unwrap().to_owned();
    assert_eq!(pid(&one), pid(&two));
    let (head, _) = ask(&gateway, &modern("unknown_method"), r#"{"id":1,"method":"unknown_method"}"#, "}}").await;
    assert_eq!(status(&head), "404");
    gateway.stop().await;
}

#[tokio::test]
async fn progress_and_then_silence_is_given_up_and_cancelled() {
    let gateway = echo(|config| config.timeouts.response = Duration::from_millis(300)).await;
    let silent = r#"{"id":"s","method":"stay_silent progress_please","params":{"_meta":{"progressToken":1}}}"#;
    let (head, body) = ask(&gateway, &modern("stay_silent progress_please"), silent, "\r\n0\r\n\r\n").await;
    assert!(head.contains("text/event-stream"), "{head}");
    let (progress, error) = (body.find("notifications/progress"), body.find(r#""id":"s","error":{"code":1010"#));
    assert!(progress.unwrap() < error.unwrap(), "{body}");
    let (_, last) = ask(&gateway, &modern("tell_last"), r#"{"id":1,"method":"tell_last"}"#, "}}}").await;
    assert!(last.contains(r#""requestId":1"#), "{last}");
    gateway.stop().await;
}

/// A tool that no client has listed: the child is asked what its callers repeat as headers.
#[tokio::test]
async fn headers_must_repeat_the_arguments_that_a_schema_names() {
    let gateway = echo(|_| {}).await;
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"x"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let headers = format!("{}mcp-name: t\r\n", modern("tools/call"));
    let check = async |param: &str, expect: &str| {
        let (head, _) = ask(&gateway, &format!("{headers}{param}"), call, "}}").await;
        assert_eq!(status(&head), expect, "{param}");
    };
    check("", "400").await;
    check("mcp-param-a: y\r\n", "400").await;
    check("mcp-param-a: x\r\n", "200").await;
    check("mcp-param-a: =?base64?eA==?=\r\nmcp-param-other: 1\r\n", "200").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_revision_that_nobody_knows_is_refused_by_the_child() {
    let gateway = echo(|_| {}).await;
    let body = r#"{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"v999"}}}"#;
    let headers = format!("{BOTH}mcp-protocol-version: v999\r\nmcp-method: x\r\n");
    let (head, body) = ask(&gateway, &headers, body, "}}").await;
    assert_eq!((status(&head), body.contains("-32022")), ("400", true), "{body}");
    gateway.stop().await;
}

#[tokio::test]
async fn invalid_params_are_a_bad_request_only_where_meta_is_incomplete() {
    let gateway = echo(|_| {}).await;
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let capabilities = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
    let complete = format!("{version},{capabilities}");
    for (meta, expect) in [(version, "400"), (capabilities, "400"), (&complete, "200")] {
        let body = format!(r#"{{"id":1,"method":"invalid_params","params":{{"_meta":{{{meta}}}}}}}"#);
        let (head, _) = ask(&gateway, &modern("invalid_params"), &body, "}}").await;
        assert_eq!(status(&head), expect, "{meta}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_modern_client_that_leaves_sends_a_cancellation() {
    let gateway = echo(|_| {}).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", &modern("stay_silent"), r#"{"id":"gone","method":"stay_silent"}"#).await;
    until(|| gateway.metrics.overhead.get_sample_count() == 1).await;
    drop(client);
    until(|| gateway.metrics.connections.get() == 0).await;
    let told = within(async {
        loop {
            let (_, last) = ask(&gateway, &modern("tell_last"), r#"{"id":1,"method":"tell_last"}"#, "}").await;
            if last.contains("cancelled") {
                return last;
            }
        }
    })
    .await;
    assert!(told.contains(r#""requestId":1"#), "{told}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_command_that_cannot_start_is_a_bad_gateway() {
    let gateway = echo(|config| {
        let command = StdioCommand { program: "./no-such-program".into(), ..StdioCommand::default() };
        config.upstreams[0].target = Target::Stdio(command);
    })
    .await;
    let (head, _) = ask(&gateway, BOTH, INITIALIZE, "upstream_unreachable").await;
    assert_eq!(status(&head), "502");
    assert!(ask(&gateway, &modern("x"), r#"{"id":1,"method":"x"}"#, "upstream_unreachable").await.0.contains("502"));
    gateway.stop().await;
}
