//! Clients and upstreams that mean harm, where no memory needs to be measured (that is in `tests/real_parts`).

use std::io::{Read as _, Write as _};
use std::sync::Mutex;

use http_body_util::Full;
use hyper_util::rt::TokioIo;

use super::*;

const HOST: &str = "host: localhost\r\n";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// Short enough for a test, long enough for all else in it.
const SOON: Duration = Duration::from_millis(200);

/// Bodies of requests, in the order in which an honest server made them out.
type Served = Arc<Mutex<Vec<String>>>;

/// An honest upstream: hyper's reading of what arrives is what it serves.
async fn honest() -> (SocketAddr, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Served::default();
    let seen = Arc::clone(&served);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    seen.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
                    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
                    let json = http::HeaderValue::from_static("application/json");
                    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
                    Ok::<_, hyper::Error>(response)
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, served)
}

/// The statuses of the responses to some bytes: as many as are expected, and all up to the end if one says that it comes.
async fn statuses(gateway: &Running, bytes: &[u8], expect: usize) -> Vec<String> {
    let mut client = Peer::connect(gateway.address).await;
    // A refusal may come, and the connection go, before all is written.
    let _ = client.stream.write_all(bytes).await;
    let mut answer = String::new();
    for _ in 0..expect {
        answer += &client.until("\r\n\r\n").await;
    }
    if answer.contains("connection: close") {
        answer += &client.rest().await;
    }
    answer.split("HTTP/1.1 ").skip(1).map(|response| response[..3].to_owned()).collect()
}

/// A good call of another client, beside whatever is going on.
async fn bystander(gateway: &Running) {
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", CALL).await;
    assert!(client.until(ANSWER).await.starts_with("HTTP/1.1 200 "));
}

/// Whatever the framing says: what the upstream serves is what was relayed, message for message, and no request hides in
/// another's body.
#[tokio::test]
async fn no_request_is_smuggled_in_another() {
    let (upstream, served) = honest().await;
    let gateway = before(upstream).await;
    let inner = format!("POST /mcp/up HTTP/1.1\r\n{HOST}content-length: 5\r\n\r\ninner");
    let chunked = "5\r\nouter\r\n0\r\n\r\n";
    for (framing, body, expect) in [
        // One of the two lengths is a lie.
        ("content-length: 5\r\ncontent-length: 6\r\n", "outer", &["400"][..]),
        ("content-length: 5, 6\r\n", "outer", &["400"]),
        ("content-length: +5\r\n", "outer", &["400"]),
        ("content-length: 0x5\r\n", "outer", &["400"]),
        ("content-length: 5 5\r\n", "outer", &["400"]),
        ("content-length:\r\n", "outer", &["400"]),
        // Chunks that are none, or not the last coding: nobody knows where such a body ends.
        ("transfer-encoding: xchunked\r\n", chunked, &["400"]),
        ("transfer-encoding: chunked, identity\r\n", chunked, &["400"]),
        ("transfer-encoding: identity\r\n", chunked, &["400"]),
        // Lines that readers disagree about.
        ("x-a: b\r\n content-length: 5\r\n", "outer", &["400"]),
        ("content-length : 5\r\n", "outer", &["400"]),
        ("content-length: 5\r\nx-a: \0\r\n", "outer", &["400"]),
    ] {
        served.lock().unwrap().clear();
        let before = gateway.requests("up", "relayed");
        let head = format!("POST /mcp/up HTTP/1.1\r\n{HOST}{framing}\r\n");
        let seen = statuses(&gateway, format!("{head}{body}{inner}").as_bytes(), 1).await;
        assert_eq!(seen, expect, "{framing:?}");
        let relayed = gateway.requests("up", "relayed") - before;
        assert_eq!((served.lock().unwrap().len() as u64, relayed), (0, 0), "{framing:?}");
    }
    // Here the framing is clear. What follows is a request of its own, assessed like any other; where a length stands
    // beside the chunks, which count, nothing that follows is believed.
    for (framing, expect) in [
        ("transfer-encoding: chunked\r\n", &["outer", "inner"][..]),
        ("content-length: 3\r\ntransfer-encoding: chunked\r\n", &["outer"]),
    ] {
        served.lock().unwrap().clear();
        let head = format!("POST /mcp/up HTTP/1.1\r\n{HOST}{framing}\r\n");
        let before = gateway.requests("up", "relayed");
        let seen = statuses(&gateway, format!("{head}{chunked}{inner}").as_bytes(), expect.len()).await;
        assert_eq!(seen, vec!["200"; expect.len()], "{framing:?}");
        until(|| gateway.requests("up", "relayed") - before == expect.len() as u64).await;
        assert_eq!(*served.lock().unwrap(), expect, "{framing:?}");
    }
    bystander(&gateway).await;
    gateway.stop().await;
}

/// Sends a byte at a time until the gateway has had enough, and gives what it said.
async fn dribbled(gateway: &Running, begin: &str) -> String {
    let mut client = Peer::connect(gateway.address).await;
    client.send(begin).await;
    let mut answer = Vec::new();
    within(async {
        loop {
            let pause = tokio::time::sleep(SOON / 20);
            tokio::select! {
                read = client.stream.read_buf(&mut answer) => if !matches!(read, Ok(1..)) { break },
                () = pause => if client.stream.write_all(b"a").await.is_err() { break },
            }
        }
    })
    .await;
    String::from_utf8(answer).unwrap()
}

/// Time counts from the first byte, not from the last: whoever sends slowly has no more of it.
#[tokio::test]
async fn slow_heads_and_bodies_run_out_of_time() {
    let (upstream, served) = honest().await;
    let mut config = config(&format!("up=http://{upstream}/"));
    (config.timeouts.head, config.timeouts.body) = (SOON, SOON);
    let gateway = gateway(config).await;
    for head in ["", "POST /mcp/up HTTP/1.1\r\nx-a: ", "GET /mcp/up HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-a: "] {
        let answer = dribbled(&gateway, head).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{head:?}: {answer}");
        bystander(&gateway).await;
    }
    for framing in ["content-length: 100000\r\n", "content-length: 100000\r\nte: trailers\r\n"] {
        let answer = dribbled(&gateway, &format!("POST /mcp/up HTTP/1.1\r\n{HOST}{framing}\r\n{{")).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{framing:?}: {answer}");
        bystander(&gateway).await;
    }
    assert!(served.lock().unwrap().iter().all(|body| body == CALL), "only bystanders were served");
    gateway.stop().await;
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_lines() {
    let (upstream, _) = honest().await;
    let gateway = before(upstream).await;
    let post = |headers: String| format!("POST /mcp/up HTTP/1.1\r\n{HOST}content-length: 0\r\n{headers}\r\n");
    let lines = |count: usize| (0..count).map(|at| format!("x-{at}: 1\r\n")).collect::<String>();
    for (headers, expect) in [
        (lines(90), "200"),
        (lines(200), "431"),
        (format!("x-a: {}\r\n", "x".repeat(30 << 10)), "200"),
        (format!("x-a: {}\r\n", "x".repeat(300 << 10)), "431"),
    ] {
        let what = headers.len();
        assert_eq!(statuses(&gateway, post(headers).as_bytes(), 1).await, [expect], "{what} bytes");
    }
    // One that never ends is not waited for.
    let endless = format!("POST /mcp/up HTTP/1.1\r\n{HOST}x-a: {}", "x".repeat(1 << 20));
    assert_eq!(statuses(&gateway, endless.as_bytes(), 1).await, ["431"]);
    bystander(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn more_connections_than_allowed_wait_their_turn() {
    let (upstream, _) = honest().await;
    let mut config = config(&format!("up=http://{upstream}/"));
    config.limits.connections_max = 2;
    let gateway = gateway(config).await;
    let (first, mut second) = (Peer::connect(gateway.address).await, Peer::connect(gateway.address).await);
    until(|| gateway.metrics.connections.get() == 2).await;
    let mut third = Peer::connect(gateway.address).await;
    third.post("/mcp/up", "", CALL).await;
    second.post("/mcp/up", "", CALL).await;
    second.until(ANSWER).await;
    assert_eq!((gateway.metrics.connections.get(), gateway.requests("up", "relayed")), (2, 1));
    drop(first);
    third.until(ANSWER).await;
    gateway.stop().await;
}

/// Bytes of a header that are no text pass as they are, unless they are in a place that is read.
#[tokio::test]
async fn headers_that_are_not_text() {
    for (headers, expect) in [
        (&b"host: localhost\r\nx-a: \xff\xfe\r\n"[..], "200"),
        (b"host: localhost\r\nmcp-session-id: \xff\r\n", "200"),
        (b"host: localhost\r\nmcp-protocol-version: \xff\r\n", "200"),
        (b"host: \xff\r\n", "403"),
        (b"host: localhost\r\norigin: \xff\r\n", "403"),
        (b"host: localhost\r\n\xff: a\r\n", "400"),
    ] {
        let (upstream, served) = scripted(|mut peer| async move {
            let mut head = Vec::new();
            while memchr::memmem::find(&head, CALL.as_bytes()).is_none()
                && peer.stream.read_buf(&mut head).await.unwrap() > 0
            {}
            let length = ANSWER.len();
            peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{ANSWER}")).await;
            let marks = head.iter().filter(|byte| **byte >= 0xfe).count();
            assert!(marks > 0, "{head:?}");
        })
        .await;
        let gateway = before(upstream).await;
        let length = format!("content-length: {}\r\n\r\n{CALL}", CALL.len());
        let request = [b"POST /mcp/up HTTP/1.1\r\n", headers, length.as_bytes()].concat();
        assert_eq!(statuses(&gateway, &request, 1).await, [expect], "{}", headers.escape_ascii());
        if expect == "200" {
            within(served).await.unwrap();
        }
        gateway.stop().await;
    }
}

/// An upstream on a thread of its own that writes as fast as it is read: `head` once, then `more` until it is cut off.
fn flooding(head: &'static str, more: &'static str) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let flood = more.repeat(1 + (64 << 10) / more.len().max(1));
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(head.as_bytes());
                while !flood.is_empty() && stream.write_all(flood.as_bytes()).is_ok() {}
                // What says no more stays silent.
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}

/// Interim responses without end are no response, however fast they come.
#[tokio::test]
async fn a_flood_of_interim_responses_is_no_answer() {
    let flood = flooding("", "HTTP/1.1 100 Continue\r\n\r\n");
    let (upstream, _) = honest().await;
    let mut config = config(&format!("flood=http://{flood}/"));
    config.upstreams.push(format!("up=http://{upstream}/").parse().unwrap());
    config.timeouts.response = SOON;
    let gateway = gateway(config).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/flood", "", CALL).await;
    bystander(&gateway).await;
    client.until("upstream_timeout").await;
    bystander(&gateway).await;
    gateway.stop().await;
}

/// A head that never ends is refused once it is too large.
#[tokio::test]
async fn an_endless_head_of_a_response_is_refused() {
    let gateway = before(flooding("HTTP/1.1 200 OK\r\nx-a: ", "xxxxxxxx")).await;
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", CALL).await;
    assert!(client.until("upstream_gone").await.starts_with("HTTP/1.1 502 "));
    gateway.stop().await;
}

/// An exchange that goes on without its client has its bounds: so many bytes, and the end of the gateway.
#[tokio::test]
async fn what_nobody_hears_any_more_comes_to_an_end() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    for headers in ["", "te: trailers\r\n"] {
        for more in ["data: 1\n", ""] {
            let gateway = before(flooding(head, more)).await;
            let mut client = Peer::connect(gateway.address).await;
            client.post("/mcp/up", headers, CALL).await;
            client.until("\r\n\r\n").await;
            drop(client);
            if !more.is_empty() {
                until(|| gateway.requests("up", "client_left") == 1).await;
            }
            until(|| gateway.metrics.connections.get() == 0).await;
            let abandoned = gateway.metrics.abandoned.clone();
            until(|| abandoned.get() == i64::from(more.is_empty())).await;
            gateway.stop().await;
            until(|| abandoned.get() == 0).await;
        }
    }
}

/// What an upstream says behind its answer is nobody's: the next request must not get it.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut peer = Peer::new(listener.accept().await.unwrap().0);
            tokio::spawn(async move {
                peer.until(CALL).await;
                let whole = |body: &str| {
                    format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    )
                };
                peer.send(&(whole(ANSWER) + &whole("{\"poison\":1}"))).await;
                peer.rest().await;
            });
        }
    });
    let gateway = before(upstream).await;
    let mut client = Peer::connect(gateway.address).await;
    for headers in ["", "", "te: trailers\r\n", "te: trailers\r\n"] {
        client.post("/mcp/up", headers, CALL).await;
        let answer = client.until(ANSWER).await;
        assert!(!answer.contains("poison"), "{answer}");
    }
    gateway.stop().await;
}

/// Where a redirect points is for the client to judge: the gateway goes nowhere that it was not configured to.
#[tokio::test]
async fn redirects_are_relayed_and_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (elsewhere, served) = honest().await;
        let location = format!("location: http://{elsewhere}/mcp\r\n");
        let response = format!("HTTP/1.1 {status}\r\n{location}content-length: 0\r\n\r\n");
        let (upstream, done) = scripted(move |mut peer| async move {
            for _ in 0..2 {
                peer.until(CALL).await;
                peer.send(&response).await;
            }
        })
        .await;
        let gateway = before(upstream).await;
        let mut client = Peer::connect(gateway.address).await;
        for headers in ["", ""] {
            client.post("/mcp/up", headers, CALL).await;
            let head = client.until("\r\n\r\n").await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")) && head.contains(&location), "{head}");
        }
        within(done).await.unwrap();
        assert!(served.lock().unwrap().is_empty());
        gateway.stop().await;
    }
}
