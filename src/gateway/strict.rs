//! The strict relay: an ordinary POST to a plain HTTP/1.1 upstream, with heads read once and bodies passed as bytes.
//!
//! One task has both directions; connections to the upstream are kept between exchanges. Everything unusual (other
//! methods, other framing, large bodies, TLS, stdio, whatever will be refused) is left to hyper, which gets the
//! connection with the bytes that were read. Requests for `/mcp` stay here whatever becomes of them, for a session's first
//! is never a usual one. Decision, tap and accounts are the same on both paths.
//! Invariant: what is accepted here means the same to hyper; a message is sent only against a `Right`.

mod aggregated;
mod connection;
mod exchange;
mod framing;
mod head;
mod joined;
#[cfg(any(fuzzing, test))]
pub(super) mod law;
mod pool;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, Uri};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub(super) use connection::{Reached, serve};

use super::config::Timeouts;
use super::hop::Right;
use pool::Pool;

/// Largest request body that is relayed here: one that fits in a few reads.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Largest head; hyper answers larger ones.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Room for one read.
const READ_BYTES: usize = 16 << 10;

/// A plain HTTP upstream as the strict relay knows it.
#[derive(Debug)]
pub(crate) struct Plain {
    pool: Arc<Pool>,
    /// Path and own query, as in a request line.
    path: String,
    has_query: bool,
    host: HeaderValue,
    /// Set on each request, in place of the client's.
    own: HeaderMap,
}

impl Plain {
    /// `None` where the upstream is not plain HTTP.
    pub(crate) fn new(uri: &Uri, host: &HeaderValue, own: &HeaderMap, timeouts: &Timeouts) -> Option<Self> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Some(Self {
            pool: Pool::new(uri, timeouts),
            path,
            has_query: uri.query().is_some(),
            host: host.clone(),
            own: own.clone(),
        })
    }

    pub(crate) fn give_back(&self, connection: TcpStream) {
        self.pool.give_back(connection);
    }

    /// Writes the head of a request for this upstream; `lines` are the headers that are passed on.
    fn write_head(&self, query: Option<&[u8]>, lines: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"POST ");
        out.extend_from_slice(self.path.as_bytes());
        if let Some(query) = query {
            out.push(if self.has_query { b'&' } else { b'?' });
            out.extend_from_slice(query);
        }
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(self.host.as_bytes());
        // A compressed response could only be read for facts by unpacking it.
        out.extend_from_slice(b"\r\naccept-encoding: identity\r\n");
        if self.own.is_empty() {
            out.extend_from_slice(lines);
        } else {
            self.replace(lines, out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The client's lines, but for those that the upstream gets from us.
    fn replace(&self, lines: &[u8], out: &mut Vec<u8>) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let name = memchr::memchr(b':', line).and_then(|colon| HeaderName::from_bytes(&line[..colon]).ok());
            if !name.is_some_and(|name| self.own.contains_key(name)) {
                out.extend_from_slice(line);
            }
        }
        for (name, value) in &self.own {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Sends a whole request.
async fn send(right: Right, connection: &mut TcpStream, request: &[u8], timeouts: &Timeouts) -> io::Result<()> {
    // Nearly always it fits into the socket's buffer, and needs no timer.
    let sent = match connection.try_write(request) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    // Now, as what was seen of the message goes to the log with it, and the message is on its way.
    right.use_up();
    if sent == request.len() {
        return Ok(());
    }
    let rest = connection.write_all(&request[sent..]);
    tokio::time::timeout(timeouts.response, rest).await.map_err(|_| io::ErrorKind::TimedOut)?
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An empty one would end the body.
fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// The head of a response, without the line that ends it; how the body ends is said by whoever writes the body.
fn write_status_and_headers<T>(response: &Response<T>, out: &mut Vec<u8>) {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    let of_framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    for (name, value) in response.headers().iter().filter(|(name, _)| !of_framing.contains(name)) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// A response of the gateway's own, as bytes.
fn write_response(response: &Response<bytes::Bytes>, out: &mut Vec<u8>) {
    write_status_and_headers(response, out);
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
    out.extend_from_slice(response.body());
}
