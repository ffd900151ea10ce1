//! The law of the strict relay, as something that can be checked for any bytes: what it accepts, hyper accepts, with the
//! same framing.
//!
//! Proptest (`tests`) and the fuzzer (`fuzzing`) both ask here. Not here: which bytes are worth asking about.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::framing::Framing;
use super::head::{self, Length};

/// Checks what a client sent; `false` = the strict relay leaves it to hyper, or wants more of it.
pub(crate) fn request(bytes: &[u8]) -> bool {
    let mut passed = Vec::new();
    let Ok(Some(head)) = head::request(bytes, &mut passed) else { return false };
    let Some(whole) = head.bytes.checked_add(head.content_length).and_then(|end| bytes.get(..end)) else {
        return false;
    };
    let served = as_hyper_serves(whole);
    assert_eq!(served.len(), 1, "requests");
    let (method, headers, length) = &served[0];
    assert_eq!((method, *length), (&Method::POST, head.content_length));
    assert!(!headers.contains_key("transfer-encoding"));

    // And so is what is sent on.
    let uri = "http://up:1/mcp?own=1".parse().expect("a URI");
    let host = "up:1".parse().expect("a host");
    let plain = super::Plain::new(&uri, &host, &Default::default(), &Default::default()).expect("plain HTTP");
    let mut sent = Vec::new();
    plain.write_head(head.query.map(|query| &bytes[query]), &passed, &mut sent);
    sent.extend_from_slice(&whole[head.bytes..]);
    let served = as_hyper_serves(&sent);
    assert_eq!(served.len(), 1, "requests that are sent on");
    assert_eq!(served[0].2, head.content_length);
    assert_eq!(served[0].1.get_all("host").iter().count(), 1);
    true
}

/// Checks what an upstream sent; `false` = the strict relay refuses it, or wants more of it.
pub(crate) fn response(bytes: &[u8]) -> bool {
    let mut passed = Vec::new();
    let Ok(Some(head)) = head::response(bytes, &mut passed) else { return false };
    if head.status.is_informational() {
        // Dropped; what follows is a head of its own.
        return false;
    }
    let (mut framing, mut body) = (Framing::new(head.length), Vec::new());
    let rest = &bytes[head.bytes..];
    let Ok(taken) = framing.advance(rest, |range| body.extend_from_slice(&rest[range])) else { return false };
    if !framing.is_done() && head.length != Length::UntilClose {
        return false;
    }
    assert_eq!(as_hyper_receives(bytes), Some(body.clone()), "as it came");

    // And so is what the client gets.
    let sent = [&passed[..], b"\r\n", &rest[..taken]].concat();
    assert_eq!(as_hyper_receives(&sent), Some(body), "as it is passed on");
    true
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
