//! HTTP/1.1 as bytes: just enough to take a recorded stream apart, and to talk to a listener without a client library
//! that would be too polite for bad input.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::wait::PATIENCE;

/// One request or response as it was on the wire, its body without transfer coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Request line or status line.
    pub(crate) start: String,
    /// Names in lower case, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Its end was seen.
    pub(crate) complete: bool,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The second word of the first line of a response.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.unwrap_or_else(|| panic!("not a status line: {:?}", self.start))
    }

    /// The first word of the first line of a request.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON-RPC messages that the body carries: itself, or the data of its events.
    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return event_data(&self.body);
        }
        if self.body.is_empty() { Vec::new() } else { vec![self.body.clone()] }
    }

    /// The first payload as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let payloads = self.payloads();
        // An event without data comes first on streams that can be resumed.
        let first = payloads.first().unwrap_or_else(|| panic!("no payload in {self:?}"));
        serde_json::from_slice(first).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// The data of each complete event that has any.
fn event_data(body: &[u8]) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    let mut data: Option<Vec<u8>> = None;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            events.extend(data.take().filter(|data| !data.is_empty()));
        } else if let Some(rest) = line.strip_prefix(b"data:") {
            let rest = rest.strip_prefix(b" ").unwrap_or(rest);
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(rest);
                }
                None => data = Some(rest.to_vec()),
            }
        }
    }
    events
}

/// Which side of a connection a stream of bytes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Takes one side of a connection apart; `ended` says that no more bytes will come.
pub(crate) fn messages(side: Side, mut bytes: &[u8], ended: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((mut message, rest)) = head(bytes) {
        let interim = side == Side::Server && message.start.split(' ').nth(1).is_some_and(|code| code.starts_with('1'));
        let used = if interim {
            message.complete = true;
            0
        } else {
            body(side, &mut message, rest, ended)
        };
        bytes = &rest[used..];
        if !interim {
            messages.push(message);
        }
    }
    messages
}

fn head(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let end = find(bytes, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some((Message { start, headers, body: Vec::new(), complete: false }, &bytes[end + 4..]))
}

/// Fills in the body and says how many bytes it took.
fn body(side: Side, message: &mut Message, rest: &[u8], ended: bool) -> usize {
    let bodiless = side == Side::Server && matches!(message.status(), 204 | 304);
    if message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return chunked(message, rest);
    }
    let length = message.header("content-length").and_then(|length| length.parse().ok());
    match length {
        _ if bodiless => message.complete = true,
        Some(length) => {
            message.body = rest[..rest.len().min(length)].to_vec();
            message.complete = rest.len() >= length;
        }
        None if side == Side::Client => message.complete = true,
        None => {
            message.body = rest.to_vec();
            message.complete = ended;
        }
    }
    message.body.len()
}

fn chunked(message: &mut Message, rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(line) = find(&rest[at..], b"\r\n") {
        let size = String::from_utf8_lossy(&rest[at..at + line]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).expect("a chunk size");
        let start = at + line + 2;
        if size == 0 {
            // Nobody here sends trailers.
            message.complete = rest.len() >= start + 2;
            return rest.len().min(start + 2);
        }
        message.body.extend_from_slice(&rest[start..rest.len().min(start + size)]);
        if rest.len() < start + size + 2 {
            return rest.len();
        }
        at = start + size + 2;
    }
    rest.len()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Sends one request on a connection of its own and reads the response to its end.
#[track_caller]
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
    let mut socket = open(address, method, path, headers, body);
    let mut received = Vec::new();
    // A server may reset the connection after it refused a body that it did not read.
    let ended = socket.read_to_end(&mut received);
    let mut found = messages(Side::Server, &received, true);
    assert!(!found.is_empty(), "no response to {method} {path} from {address} ({ended:?})");
    found.remove(0)
}

/// Sends one request and leaves the connection to the caller.
#[track_caller]
pub(crate) fn open(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).expect("send a head");
    // A refusal may come before the whole body went out.
    let _ = socket.write_all(body);
    socket
}

#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Message {
    request(address, "GET", path, &[], &[])
}

/// Cuts a connection in both directions.
pub(crate) fn cut(socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Both);
}
