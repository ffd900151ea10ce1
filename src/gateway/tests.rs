//! The gateway as a client sees it: real sockets, small upstreams that do exactly one thing.

mod hostile;
mod judged;
mod patience;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::edge::testing::ListLog;
use crate::upstream::UpstreamConfig;

/// Everything in these tests is local and at once; what takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) metrics: GatewayMetrics,
    pub(super) gateway: Gateway,
    log: Arc<ListLog>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        within(self.served).await.unwrap();
    }

    /// Whom the events so far are of.
    pub(super) fn principals(&self) -> BTreeSet<String> {
        self.log.events().into_iter().map(|event| event.principal).collect()
    }

    pub(super) fn requests(&self, server: &str, outcome: &str) -> u64 {
        self.metrics.requests.with_label_values(&[server, outcome]).get()
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Waits for something that another task is about to do.
pub(super) async fn until(mut done: impl FnMut() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) async fn gateway(config: GatewayConfig) -> Running {
    let metrics = GatewayMetrics::register(&prometheus::Registry::new()).unwrap();
    let (edge, log) = crate::edge::testing::edge();
    let gateway = Gateway::new(config, edge, metrics.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, gateway.clone(), async move { drop(stopped.await) }));
    Running { address, metrics, gateway, log, stop, served }
}

fn test_edge() -> Edge {
    crate::edge::testing::edge().0
}

async fn before(upstream: SocketAddr) -> Running {
    gateway(config(&format!("up=http://{upstream}/base?own=1"))).await
}

pub(super) fn config(upstream: &str) -> GatewayConfig {
    let upstreams = vec![upstream.parse::<UpstreamConfig>().unwrap()];
    let timeouts = Timeouts { shutdown: Duration::from_secs(1), ..Timeouts::default() };
    GatewayConfig { upstreams, timeouts, ..GatewayConfig::default() }
}

/// An upstream that takes one connection and is scripted by the test.
async fn scripted<F>(script: impl FnOnce(Peer) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(Peer::new(stream)).await;
    });
    (address, task)
}

/// An upstream that answers every request with the head it got, as the text of a result.
pub(super) async fn mirror() -> SocketAddr {
    serving(|head| {
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"head": head}}).to_string();
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s1\r\n";
        format!("{head}content-length: {length}\r\n\r\n{body}")
    })
    .await
}

/// An upstream that answers each request, of which it is shown the head, with these bytes.
pub(super) async fn serving(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut peer = Peer::new(listener.accept().await.unwrap().0);
            let answer = answer.clone();
            tokio::spawn(async move {
                while let Some(head) = peer.head().await {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                    peer.bytes(length.parse().unwrap()).await;
                    peer.send(&answer(&head)).await;
                }
            });
        }
    });
    address
}

/// One end of a connection, spoken to in plain text.
pub(super) struct Peer<S = TcpStream> {
    stream: S,
    seen: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) const fn over(stream: S) -> Self {
        Self { stream, seen: Vec::new() }
    }

    pub(super) async fn send(&mut self, text: &str) {
        within(self.stream.write_all(text.as_bytes())).await.unwrap();
    }

    /// Reads until `end` has come, and returns all up to and including it.
    pub(super) async fn until(&mut self, end: &str) -> String {
        within(async {
            loop {
                if let Some(at) = memchr::memmem::find(&self.seen, end.as_bytes()) {
                    let rest = self.seen.split_off(at + end.len());
                    return String::from_utf8(std::mem::replace(&mut self.seen, rest)).unwrap();
                }
                let read = self.stream.read_buf(&mut self.seen).await.unwrap();
                assert!(read > 0, "closed before {end:?}: {:?}", String::from_utf8_lossy(&self.seen));
            }
        })
        .await
    }

    /// The next head; `None` once the other side has closed.
    async fn head(&mut self) -> Option<String> {
        while memchr::memmem::find(&self.seen, b"\r\n\r\n").is_none() {
            if !matches!(self.stream.read_buf(&mut self.seen).await, Ok(1..)) {
                return None;
            }
        }
        Some(self.until("\r\n\r\n").await)
    }

    /// The next request, head and body; `None` once the other side has closed.
    pub(super) async fn request(&mut self) -> Option<(String, String)> {
        let head = self.head().await?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let length: usize = length.parse().unwrap();
        while self.seen.len() < length {
            assert!(within(self.stream.read_buf(&mut self.seen)).await.unwrap() > 0);
        }
        Some((head, String::from_utf8(self.seen.drain(..length).collect()).unwrap()))
    }

    async fn bytes(&mut self, count: usize) {
        while self.seen.len() < count {
            assert!(within(self.stream.read_buf(&mut self.seen)).await.unwrap() > 0);
        }
        self.seen.drain(..count);
    }

    /// One exchange whose answer has a known length: all of the answer.
    pub(super) async fn exchange(&mut self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n");
        self.send(&(head + body)).await;
        let head = self.until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let length: usize = length.parse().unwrap();
        while self.seen.len() < length {
            assert!(within(self.stream.read_buf(&mut self.seen)).await.unwrap() > 0);
        }
        head + std::str::from_utf8(&self.seen.drain(..length).collect::<Vec<_>>()).unwrap()
    }

    /// Reads until the other side closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut bytes = std::mem::take(&mut self.seen);
        // A reset is an end too.
        let _ = within(self.stream.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    pub(super) async fn post(&mut self, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n");
        self.send(&(head + body)).await;
    }
}

const JSON_END: &str = "}\n";

#[tokio::test]
async fn bytes_status_headers_and_query_pass_both_ways() {
    let body = "{\"jsonrpc\" :\t\"2.0\", \"id\":1.50,\"method\":\"tools/call\",\"unknown\":[1e3,\"\\u0041\"]}\n";
    let (upstream, served) = scripted(move |mut peer| async move {
        let request = peer.until(JSON_END).await;
        let (head, sent) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(sent, body);
        assert!(head.starts_with("POST /base?own=1&q=%20 HTTP/1.1\r\n"), "{head}");
        let host = format!("host: {}", peer.stream.local_addr().unwrap());
        for header in ["mcp-param-x: =?base64?eA==?=", "accept-encoding: identity", "authorization: Bearer t", &host] {
            assert!(head.contains(header), "{header} in {head}");
        }
        for header in ["x-hop", "keep-alive", "gzip", "localhost\r\n"] {
            assert!(!head.contains(header), "{header} not in {head}");
        }
        let answer = "{ \"jsonrpc\":\"2.0\",  \"result\":{\"new\":1.50} }\n";
        let length = answer.len();
        peer.send(&format!("HTTP/1.1 418 Odd\r\ncontent-type: application/json\r\nx-mine: 1\r\nx-mine: 2\r\nconnection: keep-alive\r\ncontent-length: {length}\r\n\r\n{answer}")).await;
    })
    .await;
    let gateway = before(upstream).await;
    let mut client = Peer::connect(gateway.address).await;
    let headers = "accept-encoding: gzip\r\nmcp-param-x: =?base64?eA==?=\r\nauthorization: Bearer t\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 1\r\n";
    client.post("/mcp/up?q=%20", headers, body).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 418"), "{head}");
    assert!(head.contains("x-mine: 1\r\nx-mine: 2\r\n"), "{head}");
    assert_eq!(client.until(" }\n").await, "{ \"jsonrpc\":\"2.0\",  \"result\":{\"new\":1.50} }\n");
    within(served).await.unwrap();
    until(|| gateway.requests("up", "relayed") == 1).await;
    gateway.stop().await;
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let seen = Arc::new(Notify::new());
    let first_seen = Arc::clone(&seen);
    let (upstream, _served) = scripted(move |mut peer| async move {
        peer.until(JSON_END).await;
        peer.send(&(EVENTS.to_owned() + &chunk(": hi\nid: 1\ndata: {\"one\":1}\n\n"))).await;
        first_seen.notified().await;
        peer.send(&(chunk("data: {\"two\":2}\n\n") + "0\r\n\r\n")).await;
    })
    .await;
    let gateway = before(upstream).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", "{\"id\":1,\"method\":\"x\"}\n").await;
    client.until(": hi\nid: 1\ndata: {\"one\":1}\n\n").await;
    seen.notify_one();
    client.until("data: {\"two\":2}\n\n").await;
    client.until("0\r\n\r\n").await;
    until(|| gateway.requests("up", "relayed") == 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_dies_in_the_middle_is_no_clean_end() {
    let (upstream, _served) = scripted(|mut peer| async move {
        peer.until(JSON_END).await;
        peer.send(&(EVENTS.to_owned() + &chunk("data: {\"one\":1}\n\n"))).await;
    })
    .await;
    let gateway = before(upstream).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", "{\"id\":1,\"method\":\"x\"}\n").await;
    let all = client.rest().await;
    assert!(all.contains("data: {\"one\":1}\n\n") && !all.ends_with("0\r\n\r\n"), "{all}");
    until(|| gateway.requests("up", "aborted") == 1).await;
    gateway.stop().await;
}

const LEGACY: &str = "mcp-protocol-version: 2025-06-18\r\n";

/// The upstream holds its answer, or what comes behind this event, until the client has left; `expect_cancelled` says
/// what it then finds.
async fn check_disconnect(headers: &str, first: Option<&'static str>, expect_cancelled: bool) {
    let left = Arc::new(Notify::new());
    let client_left = Arc::clone(&left);
    let (upstream, served) = scripted(move |mut peer| async move {
        peer.until(JSON_END).await;
        if let Some(event) = first {
            peer.send(&(EVENTS.to_owned() + &chunk(event))).await;
        }
        client_left.notified().await;
        if expect_cancelled {
            assert_eq!(peer.rest().await, "");
        } else {
            let head = if first.is_none() { EVENTS } else { "" };
            peer.send(&(head.to_owned() + &chunk("data: {\"late\":1}\n\n") + "0\r\n\r\n")).await;
            // Kept alive: the gateway has read to the end.
            let again = within(peer.stream.readable());
            drop(again);
        }
    })
    .await;
    let gateway = before(upstream).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", headers, "{\"id\":1,\"method\":\"x\"}\n").await;
    match first {
        None => until(|| gateway.metrics.overhead.get_sample_count() == 1).await,
        Some(event) => drop(client.until(event).await),
    }
    drop(client);
    until(|| gateway.metrics.connections.get() == 0).await;
    left.notify_one();
    within(served).await.unwrap();
    let outcome = if expect_cancelled { "client_left" } else { "relayed" };
    until(|| gateway.requests("up", outcome) == 1).await;
    until(|| gateway.metrics.abandoned.get() == 0).await;
    gateway.stop().await;
}

/// Found by reading: what stood before the break was heard as if it had been passed on.
#[tokio::test]
async fn broken_framing_aborts_the_response_and_nothing_else() {
    for body in ["5\r\nhello\r\nnonsense", "5\r\nhelloX", "nonsense"] {
        let (upstream, served) = scripted(move |mut peer| async move {
            peer.until("}\n").await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            peer.send(&format!("{head}{body}")).await;
            assert_eq!(peer.rest().await, "", "the connection is not used again");
        })
        .await;
        let gateway = before(upstream).await;
        let mut client = Peer::connect(gateway.address).await;
        client.post("/mcp/up", "mcp-session-id: s\r\n", "{\"id\":1,\"method\":\"x\"}\n").await;
        assert!(!client.rest().await.contains("0\r\n\r\n"), "it does not look whole");
        until(|| gateway.requests("up", "aborted") == 1).await;
        within(served).await.unwrap();
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_legacy_client_that_leaves_cancels_nothing() {
    check_disconnect(LEGACY, None, false).await;
    check_disconnect(LEGACY, Some("data: 1\n\n"), false).await;
}

/// Found with the official SDKs: an upstream wrote on to a stream that nobody read any more, and had nothing left for the
/// client when it came back with `Last-Event-ID`.
#[tokio::test]
async fn a_legacy_client_that_leaves_a_resumable_stream_is_seen_to_leave() {
    let event = Some("id: 1\ndata: 1\n\n");
    check_disconnect(LEGACY, event, true).await;
    let over_hyper = format!("{LEGACY}te: trailers\r\n");
    check_disconnect(&over_hyper, event, true).await;
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels() {
    let modern = "mcp-protocol-version: 2026-07-28\r\n";
    check_disconnect(modern, None, true).await;
    check_disconnect(modern, Some("data: 1\n\n"), true).await;
}

async fn check_refused(gateway: &Running, request: &str, status: &str, expect: &str) {
    let mut client = Peer::connect(gateway.address).await;
    client.send(request).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    client.until(expect).await;
}

#[tokio::test]
async fn what_cannot_be_relayed_is_answered_as_json_rpc() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = config(&format!("up=http://{free}/"));
    config.limits.body_bytes_max = 64;
    let gateway = gateway(config).await;
    let local = "host: localhost\r\n";
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
    check_refused(&gateway, &get("/mcp/dwon", local), "404", "no upstream `dwon`; known upstreams: up").await;
    check_refused(&gateway, &get("/mcp/up/more", local), "404", "unknown_path").await;
    check_refused(&gateway, &get("/", local), "404", "unknown_path").await;
    check_refused(&gateway, &get("/mcp/up", "host: evil.example\r\n"), "403", "host_not_allowed").await;
    let origin = format!("{local}origin: http://evil.example\r\n");
    check_refused(&gateway, &get("/mcp/up", &origin), "403", "origin_not_allowed").await;
    let post =
        |length: usize, body: &str| format!("POST /mcp/up HTTP/1.1\r\n{local}content-length: {length}\r\n\r\n{body}");
    check_refused(&gateway, &post(65, ""), "413", "\"code\":1006").await;
    let chunked =
        format!("POST /mcp/up HTTP/1.1\r\n{local}transfer-encoding: chunked\r\n\r\n{}", chunk(&"x".repeat(65)));
    check_refused(&gateway, &chunked, "413", "body_too_large").await;
    let body = r#"{"jsonrpc":"2.0","id":"a b","method":"x"}"#;
    check_refused(&gateway, &post(body.len(), body), "502", r#"{"jsonrpc":"2.0","id":"a b","error":{"code":1009"#)
        .await;
    assert_eq!(gateway.requests("up", "upstream_unreachable"), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_says_nothing_times_out_and_one_that_hangs_up_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&format!("up=http://{}/", listener.local_addr().unwrap()));
    config.timeouts.response = Duration::from_millis(20);
    let silent = gateway(config).await;
    let post = "POST /mcp/up HTTP/1.1\r\nhost: localhost\r\ncontent-length: 22\r\n\r\n{\"id\":7,\"method\":\"x\"} ";
    check_refused(&silent, post, "504", r#""id":7,"error":{"code":1010"#).await;
    silent.stop().await;

    let (upstream, _served) = scripted(|mut peer| async move { drop(peer.until("x\"} ").await) }).await;
    let gone = before(upstream).await;
    check_refused(&gone, post, "502", r#""id":7,"error":{"code":1011"#).await;
    gone.stop().await;
}

#[tokio::test]
async fn what_is_not_json_rpc_is_for_the_upstream_to_judge() {
    let (upstream, _served) = scripted(|mut peer| async move {
        let request = peer.until("nonsense\n").await;
        assert!(request.ends_with("\r\n\r\nnonsense\n"));
        peer.send("HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nno").await;
    })
    .await;
    let gateway = before(upstream).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", "nonsense\n").await;
    client.until("\r\n\r\nno").await;
    assert_eq!(gateway.metrics.malformed.with_label_values(&["up"]).get(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_response_above_the_capture_bound_is_relayed_and_counted() {
    let (upstream, _served) = scripted(|mut peer| async move {
        peer.until(JSON_END).await;
        let body = "x".repeat(200);
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n{body}"))
            .await;
    })
    .await;
    let mut config = config(&format!("up=http://{upstream}/"));
    config.limits.capture_bytes_max = 100;
    let gateway = gateway(config).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", "{\"id\":1,\"method\":\"x\"}\n").await;
    client.until(&"x".repeat(200)).await;
    until(|| gateway.metrics.unread.with_label_values(&["up", "too_large"]).get() == 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn names_are_checked_and_given_once() {
    let metrics = || GatewayMetrics::register(&prometheus::Registry::new()).unwrap();
    let mut config = config("up=http://localhost/");
    config.upstreams.push(config.upstreams[0].clone());
    assert!(matches!(Gateway::new(config.clone(), test_edge(), metrics()), Err(GatewayError::DuplicateName(_))));
    config.upstreams[0].name = "a/b".into();
    assert!(matches!(Gateway::new(config, test_edge(), metrics()), Err(GatewayError::Name { .. })));
}

/// Answers each request for a path with a JSON document, or that there is none.
pub(super) fn scripted_many(listener: TcpListener, document: impl Fn(&str) -> Option<String> + Clone + Send + 'static) {
    tokio::spawn(async move {
        loop {
            let mut peer = Peer::new(listener.accept().await.unwrap().0);
            let document = document.clone();
            tokio::spawn(async move {
                while let Some(head) = peer.head().await {
                    let found = document(head.split(' ').nth(1).unwrap());
                    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
                    let body = found.unwrap_or_default();
                    peer.send(&format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
                }
            });
        }
    });
}

#[tokio::test]
async fn a_principal_that_asks_too_much_is_told_to_wait() {
    let mut config = config(&format!("up=http://{}/", mirror().await));
    let count = |n| std::num::NonZeroU32::new(n).unwrap();
    config.rate = Some(crate::config::Rate { per_minute: count(1), burst: count(2) });
    let gateway = gateway(config).await;
    let mut client = Peer::connect(gateway.address).await;
    for expect in ["200", "200", "429"] {
        let answer = client.exchange("POST", "/mcp/up", "", "{\"id\":1,\"method\":\"x\"}").await;
        assert_eq!(answer.split(' ').nth(1), Some(expect), "{answer}");
        assert_eq!(answer.contains("retry-after: "), expect == "429", "{answer}");
    }
    assert_eq!(gateway.requests("up", "rate_limited"), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_left_alone_and_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = config(&format!("up=http://{free}/"));
    let (failures, pause) = (std::num::NonZeroU32::new(2).unwrap(), Duration::from_millis(200));
    config.upstreams[0].terms.breaker = Some(crate::config::BreakerSettings { failures, pause, pause_max: pause });
    let gateway = gateway(config).await;
    let mut client = Peer::connect(gateway.address).await;
    let mut ask = async || client.exchange("POST", "/mcp/up", "", "{\"id\":1,\"method\":\"x\"}").await;
    for expect in ["upstream_unreachable", "upstream_unreachable", "circuit_open"] {
        let answer = ask().await;
        assert!(answer.contains(expect), "{expect}: {answer}");
    }
    let open = || gateway.metrics.breaker_open.with_label_values(&["up"]).get();
    assert_eq!(open(), 1);
    let listener = TcpListener::bind(free).await.unwrap();
    scripted_many(listener, |_| None);
    within(async {
        while ask().await.contains("circuit_open") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(open(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_reload_changes_what_it_names_and_cuts_nobody_off() {
    let (first, second) = (mirror().await, mirror().await);
    let both = |second: SocketAddr| {
        let mut both = config(&format!("up=http://{first}/"));
        both.upstreams.extend(config(&format!("other=http://{second}/")).upstreams);
        both
    };
    let gateway = gateway(both(second)).await;
    let mut client = Peer::connect(gateway.address).await;
    let mut ask = async |name: &str| client.exchange("POST", &format!("/mcp/{name}"), "", "{\"id\":1}").await;
    assert!(ask("other").await.contains(&format!("host: {second}")));
    // Its address changes, and the connection of the client stays.
    let third = mirror().await;
    gateway.gateway.reload(both(third)).unwrap();
    assert!(ask("other").await.contains(&format!("host: {third}")));
    assert!(ask("up").await.contains(&format!("host: {first}")));
    // A name that is gone; a file that is wrong changes nothing.
    gateway.gateway.reload(config(&format!("up=http://{first}/"))).unwrap();
    assert!(ask("other").await.contains("unknown_upstream"));
    let mut twice = both(second);
    twice.upstreams.extend(both(second).upstreams);
    assert!(matches!(gateway.gateway.reload(twice), Err(GatewayError::DuplicateName(_))));
    assert!(ask("up").await.contains("200 OK"));
    gateway.stop().await;
}
