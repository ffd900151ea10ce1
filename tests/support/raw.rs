//! Speaking MCP by hand, byte for byte: over standard input and output, and over HTTP.
//!
//! For tests that need to send what no client library would, or thousands of calls at a known rate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use super::command::Words;
use super::http::{Message, request};
use super::process::Process;
use super::wait::PATIENCE;

/// Reads a pipe to its end on a thread of its own, so that the writer never waits for us.
pub(crate) fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has ended.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

pub(crate) fn initialize(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "undercurrent-tests", "version": "1"}}})
}

pub(crate) fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

pub(crate) fn tools_call(id: u64, tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// A stdio server, or a wrap around one, and our end of its pipes.
#[derive(Debug)]
pub(crate) struct StdioPeer {
    pub(crate) process: Process,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl StdioPeer {
    /// Starts the command; nothing is said yet.
    #[track_caller]
    pub(crate) fn start(name: &str, words: &Words) -> Self {
        let mut command = words.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(name, command);
        let stdin = Some(process.take_stdin());
        let stdout = BufReader::new(process.take_stdout());
        let (sender, lines) = sync_channel(4096);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, stdin, lines }
    }

    /// Starts the command and shakes hands.
    #[track_caller]
    pub(crate) fn connect(name: &str, words: &Words) -> Self {
        let mut peer = Self::start(name, words);
        peer.handshake();
        peer
    }

    /// Shakes hands, in the legacy era.
    #[track_caller]
    pub(crate) fn handshake(&mut self) {
        let answer = self.ask(&initialize(0));
        assert!(answer["result"]["serverInfo"].is_object(), "{answer}");
        self.send(&initialized().to_string());
    }

    /// Sends one line.
    #[track_caller]
    pub(crate) fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the server reads");
    }

    /// The next line, if one comes before patience ends or the server does.
    pub(crate) fn next_line(&mut self) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(PATIENCE)
    }

    /// Sends a request and waits for the response with its id; other messages are passed over.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(&request.to_string());
        loop {
            let line = self.next_line().unwrap_or_else(|error| panic!("{error}: no answer to {request}"));
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if message["id"] == request["id"] && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Calls a tool and asserts that it was answered with a result.
    #[track_caller]
    pub(crate) fn call(&mut self, id: u64, tool: &str, arguments: &Value) -> Value {
        let answer = self.ask(&tools_call(id, tool, arguments));
        assert!(answer["result"].is_object(), "{tool}: {answer}");
        answer
    }

    /// Ends its input, which ends the session.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// Ends its input and waits until it ended with success.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.close();
        let status = self.process.wait();
        assert!(status.success(), "{status}: {}", self.process.stderr());
    }
}

/// What every POST of a client says.
pub(crate) const POST_HEADERS: [(&str, &str); 2] =
    [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];

/// Posts a body as it is.
#[track_caller]
pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Message {
    request(address, "POST", path, &POST_HEADERS, body)
}

/// A session of the legacy era over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct HttpSession {
    address: SocketAddr,
    path: String,
    id: String,
}

impl HttpSession {
    /// Shakes hands.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Self {
        let answer = post(address, path, initialize(0).to_string().as_bytes());
        assert_eq!(answer.status(), 200, "initialize: {answer:?}");
        let id = answer.header("mcp-session-id").unwrap_or_else(|| panic!("no session: {answer:?}")).to_owned();
        let session = Self { address, path: path.to_owned(), id };
        let accepted = session.post(initialized().to_string().as_bytes());
        assert_eq!(accepted.status(), 202, "{accepted:?}");
        session
    }

    /// Posts a body as it is, in this session.
    #[track_caller]
    pub(crate) fn post(&self, body: &[u8]) -> Message {
        let headers = [POST_HEADERS[0], POST_HEADERS[1], self.header(), ("MCP-Protocol-Version", "2025-06-18")];
        request(self.address, "POST", &self.path, &headers, body)
    }

    /// Calls a tool and asserts that it was answered with a result.
    #[track_caller]
    pub(crate) fn call(&self, id: u64, tool: &str, arguments: &Value) -> Value {
        let answer = self.post(tools_call(id, tool, arguments).to_string().as_bytes());
        assert_eq!(answer.status(), 200, "{tool}: {answer:?}");
        let json = answer.json();
        assert!(json["result"].is_object(), "{tool}: {json}");
        json
    }

    pub(crate) fn header(&self) -> (&str, &str) {
        ("Mcp-Session-Id", &self.id)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}
