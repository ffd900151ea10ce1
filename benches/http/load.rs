//! The load: connections that each send a call, wait for its answer, and send the next.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What one round measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) calls_per_second: f64,
}

/// What is called, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) tool: &'static str,
    /// It makes the ids of sessions; the others take any.
    pub(crate) makes_sessions: bool,
}

/// Calls wait no longer than that to be learned once the load is over.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// Never used twice, so that what pairs requests and answers by id sees what it would see in life.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Runs one round; every connection is a session of its own.
pub(crate) async fn run(
    address: SocketAddr,
    endpoint: Endpoint,
    connections: usize,
    round: Duration,
) -> Result<Measured> {
    let started = Instant::now();
    let end = started + round;
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(connection(address, endpoint, end))).collect();
    let mut nanos = Vec::new();
    for task in tasks {
        nanos.extend(task.await.context("join a connection")??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    nanos.sort_unstable();
    ensure!(!nanos.is_empty(), "no call was answered");
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    Ok(Measured { p50_us: at(0.5), p99_us: at(0.99), calls_per_second: nanos.len() as f64 / elapsed })
}

async fn connection(address: SocketAddr, endpoint: Endpoint, end: Instant) -> Result<Vec<u64>> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let Endpoint { path, tool, makes_sessions } = endpoint;
    let mut buffer = Vec::with_capacity(4096);
    let session = if makes_sessions {
        open(&mut stream, address, path, &mut buffer).await?
    } else {
        format!("bench-{}", NEXT_ID.fetch_add(1, Ordering::Relaxed))
    };
    let text = "x".repeat(200);
    let mut nanos = Vec::new();
    while Instant::now() < end {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"{text}"}}}}}}"#
        );
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
             Mcp-Session-Id: {session}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let answer = response(&mut stream, &mut buffer).await?;
        nanos.push(u64::try_from(sent.elapsed().as_nanos())?);
        let expect = format!("\"id\":{id},");
        ensure!(memchr::memmem::find(answer, expect.as_bytes()).is_some(), "the answer has another id");
        ensure!(memchr::memmem::find(answer, b"\"result\":").is_some(), "the call failed");
    }
    // The session has ended, so it teaches, and the next ones are assessed by what it taught.
    let end = format!("DELETE {path} HTTP/1.1\r\nHost: {address}\r\nMcp-Session-Id: {session}\r\n\r\n");
    stream.write_all(end.as_bytes()).await?;
    response(&mut stream, &mut buffer).await?;
    Ok(nanos)
}

/// A new session's id.
async fn open(stream: &mut TcpStream, address: SocketAddr, path: &str, buffer: &mut Vec<u8>) -> Result<String> {
    let post = |session: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{session}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let parameters =
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}"#;
    let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{parameters}}}"#);
    stream.write_all(post("", &body).as_bytes()).await?;
    response(stream, buffer).await?;
    let head = String::from_utf8_lossy(buffer);
    let id = head.split("mcp-session-id: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let id = id.context("no session was opened")?.to_owned();
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let session = format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n");
    stream.write_all(post(&session, body).as_bytes()).await?;
    response(stream, buffer).await?;
    Ok(id)
}

/// Waits until every call is in a published tick: how long that took, and how many calls there are.
pub(crate) async fn drained(admin: SocketAddr) -> Result<(Duration, u64)> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(admin).await.context("connect to the admin listener")?;
    let mut buffer = Vec::new();
    while started.elapsed() < DRAINED_WITHIN {
        let request = format!("GET /status HTTP/1.1\r\nHost: {admin}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let status: serde_json::Value = serde_json::from_slice(response(&mut stream, &mut buffer).await?)?;
        let number = |name: &str| status.pointer(name).and_then(serde_json::Value::as_u64);
        let (lag, queued) = (number("/lag_ticks"), number("/queued_events"));
        ensure!(lag.is_some() && queued.is_some(), "the status has no lag");
        if (lag, queued) == (Some(0), Some(0)) {
            return Ok((started.elapsed(), number("/learned/calls").context("the status has no calls")?));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the log was not drained within {DRAINED_WITHIN:?}")
}

/// The body of the next response, chunked or of a length that it states. Chunks are passed over, not joined: what is
/// looked for is in one of them.
async fn response<'a>(stream: &mut TcpStream, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    buffer.clear();
    let mut body = None;
    loop {
        if body.is_none()
            && let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
            ensure!(head.starts_with("http/1.1 20"), "status: {head}");
            let field = |name: &str| head.split(name).nth(1).and_then(|rest| rest.split("\r\n").next());
            let length = match field("\r\ncontent-length:") {
                Some(length) => Some(length.trim().parse::<usize>()?),
                None if field("\r\ntransfer-encoding:").is_some() => None,
                None => Some(0),
            };
            body = Some((end + 4, length));
        }
        let end = match body {
            Some((start, Some(length))) => Some((start, start + length)),
            Some((start, None)) => {
                memchr::memmem::find(&buffer[start..], b"\r\n0\r\n\r\n").map(|at| (start, start + at))
            }
            None => None,
        };
        if let Some((start, end)) = end
            && buffer.len() >= end
        {
            return Ok(&buffer[start..end]);
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("connection closed in the middle of a response");
        }
    }
}
