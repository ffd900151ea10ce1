//! Upstreams that mean harm: streams without end, floods, bombs, bodies that break off. What the client gets is what the
//! revision says, another session does not notice, and memory keeps its bound. More, in process, is in
//! `src/gateway/tests/hostile.rs`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::fake;
use crate::support::http::{Message, Side, cut, messages};
use crate::support::memory::MIB;
use crate::support::names::REQUESTS;
use crate::support::raw::tools_call;
use crate::support::siege::{GROWTH_OF_MESSAGES_MAX, Siege};
use crate::support::wait::{PATIENCE, wait_until};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Much more than the gateway may hold of it.
const FLOOD_BYTES: u64 = 128 * MIB;

/// A server that does one bad thing, whatever it is asked.
fn bad(harm: impl Fn(&mut TcpStream) + Clone + Send + 'static) -> Siege {
    let address = fake::upstream(move |_, socket| harm(socket));
    Siege::of(|serve| serve.upstream("bad", &format!("http://{address}/mcp")))
}

/// A header that sends an ordinary call over hyper; without one it is relayed byte by byte.
const WAYS: [&str; 2] = ["", "TE: trailers\r\n"];

fn call(gateway: SocketAddr, way: &str) -> TcpStream {
    let body = tools_call(1, "harm", &json!({})).to_string();
    let head = format!(
        "POST /mcp/bad HTTP/1.1\r\nHost: {gateway}\r\nContent-Type: application/json\r\nMcp-Session-Id: harmed\r\n\
         Accept: application/json, text/event-stream\r\n{way}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(gateway).expect("the gateway listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("the gateway reads");
    socket
}

/// The one response that comes, of so many bytes.
fn response(mut socket: TcpStream, body_bytes: usize) -> Message {
    let mut received = Vec::with_capacity(body_bytes + 1024);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = socket.read(&mut buffer).expect("an answer");
        received.extend_from_slice(&buffer[..read]);
        if read == 0 || received.len() >= body_bytes {
            let mut found = messages(Side::Server, &received, read == 0);
            if found.first().is_some_and(|message| message.complete) {
                return found.remove(0);
            }
            assert!(read > 0, "it breaks off");
        }
    }
}

/// Reads so much, and no more.
fn read(socket: &mut TcpStream, bytes: u64) -> u64 {
    std::io::copy(&mut socket.take(bytes), &mut std::io::sink()).expect("the stream goes on")
}

/// Writes one chunk over and over, until nobody reads any more.
fn flood(socket: &mut TcpStream, head: &str, piece: &str) {
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    let chunks = chunk.repeat(1 + (64 << 10) / chunk.len());
    let _ = socket.write_all(head.as_bytes());
    while socket.write_all(chunks.as_bytes()).is_ok() {}
}

/// One event that never ends: it passes, and nobody keeps it.
#[test]
fn an_event_without_end() {
    let siege = bad(|socket| flood(socket, EVENTS, &"x".repeat(16 << 10)));
    for way in WAYS {
        let mut socket = call(siege.gateway.listen, way);
        assert_eq!(read(&mut socket, FLOOD_BYTES), FLOOD_BYTES);
        siege.bystander_is_served();
        siege.memory_is_bounded();
    }
    siege.ends();
}

/// A client that does not read makes its upstream wait; the gateway holds next to nothing of the stream.
#[test]
fn a_flood_that_nobody_reads() {
    let siege = bad(|socket| flood(socket, EVENTS, &format!("data: {}\n\n", "x".repeat(16 << 10))));
    let unread: Vec<TcpStream> = (0..20).map(|at| call(siege.gateway.listen, WAYS[at % 2])).collect();
    for socket in &unread {
        assert!(socket.peek(&mut [0]).expect("it has begun") > 0);
    }
    siege.bystander_is_served();
    siege.memory_is_bounded();
    drop(unread);
    siege.ends();
}

/// Answers to questions that nobody asked: each passes, is learned from or dropped, and pairs with nothing.
#[test]
fn a_flood_of_answers_that_nobody_asked_for() {
    const EVENTS_SENT: usize = 10_000;
    let event = "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\n\n";
    let siege = bad(move |socket| {
        let events = event.repeat(EVENTS_SENT);
        let _ = socket.write_all(format!("{EVENTS}{:x}\r\n{events}\r\n0\r\n\r\n", events.len()).as_bytes());
    });
    let siege = siege.growing_at_most(GROWTH_OF_MESSAGES_MAX);
    for way in WAYS {
        let answer = response(call(siege.gateway.listen, way), EVENTS_SENT * event.len());
        assert_eq!(answer.payloads().len(), EVENTS_SENT);
        siege.bystander_is_served();
        siege.memory_is_bounded();
    }
    siege.ends();
}

/// What is compressed passes as it is: nobody unpacks it here.
#[test]
fn a_decompression_bomb() {
    // Some 30 KiB of it.
    let bomb = zstd::encode_all(std::io::repeat(0).take(FLOOD_BYTES), 1).expect("zeros can be compressed");
    assert!(bomb.len() < (FLOOD_BYTES >> 10) as usize, "{} bytes", bomb.len());
    let sent = bomb.clone();
    let siege = bad(move |socket| {
        let kind = "Content-Type: application/json\r\nContent-Encoding: zstd";
        let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n\r\n", sent.len());
        let _ = socket.write_all(&[head.as_bytes(), &sent].concat());
    });
    for way in WAYS {
        let answer = response(call(siege.gateway.listen, way), bomb.len());
        assert_eq!(answer.header("content-encoding"), Some("zstd"));
        assert!(answer.body == bomb, "as it was sent");
    }
    let unread = "undercurrent_gateway_unread_responses_total{cause=\"encoded\"}";
    wait_until("it is counted", || siege.metrics().sum(unread) >= 2.0);
    siege.ends();
}

/// A body that breaks off has no clean end for the client either, however its end was announced.
#[test]
fn bodies_that_break_off() {
    const HALF: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"res";
    let half = HALF.len();
    let broken = [
        ("Content-Length: 100", HALF.to_owned()),
        ("Transfer-Encoding: chunked", format!("64\r\n{HALF}")),
        ("Transfer-Encoding: chunked", format!("{half:x}\r\n{HALF}\r\n")),
        ("Transfer-Encoding: chunked", format!("{half:x}\r\n{HALF}\r\nnonsense\r\n")),
    ];
    let calls = broken.len() * WAYS.len();
    let next = Arc::new(AtomicUsize::new(0));
    let siege = bad(move |socket| {
        let (framing, body) = &broken[next.fetch_add(1, Ordering::Relaxed) / WAYS.len()];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n\r\n");
        let _ = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        cut(socket);
    });
    for at in 0..calls {
        let mut received = Vec::new();
        let _ = call(siege.gateway.listen, WAYS[at % WAYS.len()]).read_to_end(&mut received);
        let text = String::from_utf8_lossy(&received);
        assert!(text.starts_with("HTTP/1.1 200 ") && !text.ends_with("\r\n0\r\n\r\n"), "a clean end: {text}");
        let message = messages(Side::Server, &received, false).remove(0);
        assert!(!message.complete && HALF.starts_with(&message.text()), "{message:?}");
        siege.bystander_is_served();
    }
    let aborted = format!("{REQUESTS}{{outcome=\"aborted\"}}");
    wait_until("they are counted", || siege.metrics().sum(&aborted) >= calls as f64);
    siege.ends();
}

/// A result as deep and as wide as a body may be: it passes, and costs no more than its size.
#[test]
fn results_that_are_hard_to_read() {
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let wide = format!("{{{}\"z\":1}}", (0..100_000).map(|at| format!("\"k{at}\":{at},")).collect::<String>());
    let bodies = [deep, wide]
        .map(|result| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"structuredContent":{result}}}}}"#));
    let (sent, next) = (bodies.clone(), Arc::new(AtomicUsize::new(0)));
    let siege = bad(move |socket| {
        let at = next.fetch_add(1, Ordering::Relaxed) / WAYS.len();
        fake::respond(socket, "200 OK", "", &sent[at]);
    });
    for body in bodies {
        for way in WAYS {
            assert!(response(call(siege.gateway.listen, way), body.len()).body == body.as_bytes(), "as it was sent");
            siege.bystander_is_served();
        }
    }
    siege.ends();
}
