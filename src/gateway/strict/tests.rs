//! The law of the strict relay: what it accepts, hyper accepts, with the same framing.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::framing::Framing;
use super::head::{self, Length};

/// Pieces of heads, the usual ones and those that smuggling is made of.
fn line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Host",
        "Mcp-Session-Id",
        "Origin",
        "Expect",
        "X-Other",
        "Content-Length ",
        " Content-Length",
        "Content-Type",
        "Te",
        "Upgrade",
        "Trailer",
        "X\tY",
        "Keep-Alive",
        "",
    ]);
    let value = prop::sample::select(vec![
        "5",
        "05",
        "+5",
        "-5",
        "5, 5",
        "5,6",
        " 5 ",
        "5\t",
        "0",
        "",
        "chunked",
        "Chunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "close",
        "keep-alive",
        "Keep-Alive",
        "content-length",
        "localhost",
        "a",
        "b\rc",
        "b\u{e9}",
        "99999999999999999999",
        "100-continue",
        "h2c",
        "\u{0}",
    ]);
    let colon = prop::sample::select(vec![": ", ":", " : ", ""]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r\n ", "\r"]);
    let odd = (name, colon, value, end).prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"));
    let usual = prop::sample::select(vec![
        "Content-Type: application/json\r\n",
        "MCP-Protocol-Version: 2025-11-25\r\n",
        "Connection: keep-alive\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Accept-Encoding: gzip, br\r\n",
        "X-Other:\tb \r\n",
    ]);
    // Half of all heads of three lines have no odd one.
    prop_oneof![4 => usual.prop_map(str::to_owned), 1 => odd]
}

fn request_head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "POST /mcp/a HTTP/1.1\r\n",
        "POST /mcp/a?b=c HTTP/1.1\r\n",
        "POST /mcp/a  HTTP/1.1\r\n",
        "POST /mcp/a HTTP/1.0\r\n",
        "POST /mcp/a HTTP/1.1\n",
        "\r\nPOST /mcp/a HTTP/1.1\r\n",
        "POST /mcp/a?\u{e9} HTTP/1.1\r\n",
        "POST /mcp/%zz HTTP/1.1\r\n",
        "POST /mcp/a#b HTTP/1.1\r\n",
        "POST /mcp/a?\"<>{} HTTP/1.1\r\n",
    ]);
    // Most have what every request needs, or hardly any would be accepted.
    let first = prop_oneof![3 => Just("POST /mcp/a?b=c HTTP/1.1\r\n"), 1 => first];
    let needed = prop_oneof![6 => Just("Host: h\r\nContent-Length: 5\r\n"), 1 => Just("Host: h\r\n"), 1 => Just("")];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\n", ""]);
    (first, needed, prop::collection::vec(line(), 0..4), end)
        .prop_map(|(first, needed, lines, end)| format!("{first}{needed}{}{end}", lines.concat()).into_bytes())
}

fn response_head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 x\r\n",
        "HTTP/1.1 202 Accepted\r\n",
        "HTTP/1.1 99 x\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1 200 \u{e9}\r\n",
    ]);
    let first = prop_oneof![3 => Just("HTTP/1.1 200 OK\r\n"), 1 => first];
    let length = prop::sample::select(vec!["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""]);
    let end = prop_oneof![6 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")];
    (first, length, prop::collection::vec(line(), 0..4), end)
        .prop_map(|(first, length, lines, end)| format!("{first}{length}{}{end}", lines.concat()).into_bytes())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// The requests that hyper's server makes of these bytes, by the lengths of their bodies.
fn as_hyper_serves(bytes: &[u8]) -> Vec<(Method, HeaderMap, usize)> {
    block_on(async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let service = service_fn(|request: Request<Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (parts, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    seen.lock().expect("whole").push((parts.method, parts.headers, body.to_bytes().len()));
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        client.write_all(bytes).await.expect("fits");
        client.shutdown().await.expect("open");
        let served =
            hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
        let drain = async { client.read_to_end(&mut Vec::new()).await };
        let _ = tokio::join!(served, drain);
        Arc::into_inner(seen).expect("the service is gone").into_inner().expect("whole")
    })
}

/// The body that hyper's client makes of these bytes; `None` where it refuses them.
fn as_hyper_receives(bytes: &[u8]) -> Option<Vec<u8>> {
    block_on(async {
        let (mut server, client) = tokio::io::duplex(64 << 10);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(client)).await.expect("no bytes yet");
        let driven = tokio::spawn(connection);
        let request = Request::post("/").header("host", "h").body(Full::default()).expect("a request");
        let answer = tokio::spawn(sender.send_request(request));
        let mut asked = [0];
        server.read_exact(&mut asked).await.expect("a request");
        server.write_all(bytes).await.expect("fits");
        server.shutdown().await.expect("open");
        let response = answer.await.expect("no panic").ok()?;
        let body = response.into_body().collect().await.ok()?.to_bytes().to_vec();
        driven.abort();
        Some(body)
    })
}

const BODY: &[u8] = b"5\r\nhello\r\n0\r\n\r\nPOST /mcp/other HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_accepted_request_is_the_same_to_hyper(head in request_head()) {
        let bytes = [&head[..], BODY].concat();
        let mut passed = Vec::new();
        if let Ok(Some(head)) = head::request(&bytes, &mut passed) {
            let whole = bytes.get(..head.bytes + head.content_length);
            prop_assume!(whole.is_some());
            let served = as_hyper_serves(whole.expect("assumed"));
            prop_assert_eq!(served.len(), 1);
            let (method, headers, length) = &served[0];
            prop_assert_eq!((method, *length), (&Method::POST, head.content_length));
            prop_assert!(!headers.contains_key("transfer-encoding"));

            // And so is what is sent on.
            let uri = "http://up:1/mcp?own=1".parse().expect("a URI");
            let plain = super::Plain::new(&uri, &"up:1".parse().expect("a host"), &Default::default(), &Default::default()).expect("plain");
            let mut sent = Vec::new();
            plain.write_head(head.query.map(|query| &bytes[query]), &passed, &mut sent);
            sent.extend_from_slice(&bytes[head.bytes..head.bytes + head.content_length]);
            let served = as_hyper_serves(&sent);
            prop_assert_eq!(served.len(), 1);
            prop_assert_eq!(served[0].2, head.content_length);
            prop_assert_eq!(served[0].1.get_all("host").iter().count(), 1);
        }
    }

    #[test]
    fn an_accepted_response_is_the_same_to_hyper(head in response_head()) {
        let bytes = [&head[..], BODY].concat();
        let mut passed = Vec::new();
        if let Ok(Some(head)) = head::response(&bytes, &mut passed) {
            let mut framing = Framing::new(head.length);
            let mut body = Vec::new();
            let rest = &bytes[head.bytes..];
            let read = framing.advance(rest, |range| body.extend_from_slice(&rest[range]));
            prop_assume!(read.is_ok() && (framing.is_done() || head.length == Length::UntilClose));
            prop_assert_eq!(as_hyper_receives(&bytes), Some(body.clone()));

            // And so is what the client gets.
            let sent = [&passed[..], b"\r\n", &rest[..read.expect("assumed")]].concat();
            prop_assert_eq!(as_hyper_receives(&sent), Some(body));
        }
    }
}
