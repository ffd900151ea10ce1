//! An MCP client that says hello and asks for the tools, in either era.

use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::Found;

/// The newest revision with sessions, and the first without.
const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

/// Bytes of one answer that are read.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Pages of a list of tools that are asked for.
const PAGES_MAX: usize = 100;

/// Why a probe found nothing.
#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum ProbeError {
    #[error("asks clients to sign in")]
    SignIn,
    #[error("send a request: {0}")]
    Send(#[from] hyper_util::client::legacy::Error),
    #[error("read an answer: {0}")]
    Read(#[from] hyper::Error),
    #[error("make a request: {0}")]
    Request(#[from] http::Error),
    #[error("{}", told(*status, text))]
    Status { status: StatusCode, text: String },
    #[error("it answers `{method}` with error {code}: {message}")]
    Rpc { method: String, code: i64, message: String },
    #[error("its answer is not MCP")]
    NotMcp,
    #[error("its answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

impl ProbeError {
    /// It is there, and wants to know who asks.
    pub(in crate::app) const fn is_sign_in(&self) -> bool {
        matches!(self, Self::SignIn)
    }
}

fn told(status: StatusCode, text: &str) -> String {
    if text.is_empty() { format!("it answers with status {status}") } else { text.to_owned() }
}

#[derive(Debug)]
pub(in crate::app) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    url: String,
    session: Option<String>,
    revision: Option<String>,
    next_id: u64,
}

impl Client {
    pub(in crate::app) fn new(url: String) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { http, url, session: None, revision: None, next_id: 1 }
    }

    /// Shakes hands, counts the tools, and leaves.
    pub(in crate::app) async fn probe(&mut self) -> Result<Found, ProbeError> {
        let started = Instant::now();
        let hello = match self.initialize().await {
            Ok(hello) => hello,
            Err(error @ (ProbeError::Status { .. } | ProbeError::Rpc { .. })) => {
                // A server of the era without sessions knows no `initialize`; what the others say of it is the reason.
                self.discover()
                    .await
                    .map_err(|second| if matches!(second, ProbeError::SignIn) { second } else { error })?
            }
            Err(error) => return Err(error),
        };
        let offers = hello["capabilities"].get("tools").is_some();
        let tools = if offers { Some(self.tools().await?) } else { None };
        self.leave().await;
        let text = |value: &Value| shortened(value.as_str().unwrap_or("(unnamed)"));
        Ok(Found::Answered {
            server: text(&hello["serverInfo"]["name"]),
            version: text(&hello["serverInfo"]["version"]),
            revision: self.revision.clone().unwrap_or_default(),
            tools,
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn initialize(&mut self) -> Result<Value, ProbeError> {
        let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info()});
        let hello = self.ask("initialize", params).await?;
        self.revision = Some(hello["protocolVersion"].as_str().ok_or(ProbeError::NotMcp)?.to_owned());
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        drop(self.post("notifications/initialized", &ready).await?);
        Ok(hello)
    }

    async fn discover(&mut self) -> Result<Value, ProbeError> {
        self.revision = Some(MODERN.to_owned());
        let mut hello = self.ask("server/discover", json!({})).await?;
        if hello.get("serverInfo").is_none() {
            // In this era a server may name itself beside each result.
            hello["serverInfo"] = hello["_meta"]["io.modelcontextprotocol/serverInfo"].clone();
        }
        Ok(hello)
    }

    async fn tools(&mut self) -> Result<usize, ProbeError> {
        let mut count = 0;
        let mut cursor = Value::Null;
        for _ in 0..PAGES_MAX {
            let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
            let page = self.ask("tools/list", params).await?;
            count += page["tools"].as_array().ok_or(ProbeError::NotMcp)?.len();
            cursor = page["nextCursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        Ok(count)
    }

    /// Ends the session, where there is one; whether the server minds is its own affair.
    async fn leave(&mut self) {
        if self.session.is_some() {
            let _ = self.send(Method::DELETE, "", Bytes::new()).await;
        }
    }

    /// Sends a request and gives its result.
    async fn ask(&mut self, method: &str, mut params: Value) -> Result<Value, ProbeError> {
        let id = self.next_id;
        self.next_id += 1;
        if self.revision.as_deref() == Some(MODERN) {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": client_info(),
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut answer = self.post(method, &body).await?;
        let message = answer.message(id).await?;
        if let Some(error) = message.get("error") {
            return Err(ProbeError::Rpc {
                method: method.to_owned(),
                code: error["code"].as_i64().unwrap_or_default(),
                message: shortened(error["message"].as_str().unwrap_or_default()),
            });
        }
        message.get("result").cloned().ok_or(ProbeError::NotMcp)
    }

    async fn post(&mut self, method: &str, message: &Value) -> Result<Answer, ProbeError> {
        let response = self.send(Method::POST, method, message.to_string().into()).await?;
        let status = response.status();
        if let Some(id) = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()) {
            self.session = Some(id.to_owned());
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut answer =
            Answer { events: kind.starts_with("text/event-stream"), body: response.into_body(), read: Vec::new() };
        match status {
            StatusCode::UNAUTHORIZED => Err(ProbeError::SignIn),
            status if status.is_success() => Ok(answer),
            status => {
                answer.rest().await?;
                Err(ProbeError::Status { status, text: reason(&answer.read) })
            }
        }
    }

    async fn send(&self, method: Method, name: &str, body: Bytes) -> Result<http::Response<Incoming>, ProbeError> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.url)
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if let Some(revision) = &self.revision {
            request = request.header("mcp-protocol-version", revision);
        }
        if self.revision.as_deref() == Some(MODERN) {
            request = request.header("mcp-method", name);
        }
        Ok(self.http.request(request.body(Full::new(body))?).await?)
    }
}

/// A response, as far as it was read.
struct Answer {
    /// It is a stream of events.
    events: bool,
    body: Incoming,
    read: Vec<u8>,
}

impl Answer {
    /// The response with this id; a stream is read no further than to it.
    async fn message(&mut self, id: u64) -> Result<Value, ProbeError> {
        let ours = |bytes: &[u8]| {
            let message = serde_json::from_slice::<Value>(bytes).ok()?;
            (message["id"] == id && message.get("method").is_none()).then_some(message)
        };
        if !self.events {
            self.rest().await?;
            return ours(&self.read).ok_or(ProbeError::NotMcp);
        }
        loop {
            if let Some(message) = data(&self.read).iter().find_map(|data| ours(data)) {
                return Ok(message);
            }
            if !self.more().await? {
                return Err(ProbeError::NotMcp);
            }
        }
    }

    async fn rest(&mut self) -> Result<(), ProbeError> {
        while self.more().await? {}
        Ok(())
    }

    /// Reads on; `false` = it has ended.
    async fn more(&mut self) -> Result<bool, ProbeError> {
        let Some(frame) = self.body.frame().await.transpose()? else { return Ok(false) };
        if let Some(data) = frame.data_ref() {
            if self.read.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(ProbeError::TooLarge);
            }
            self.read.extend_from_slice(data);
        }
        Ok(true)
    }
}

/// The data of every whole event.
fn data(stream: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n");
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let one = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n").into_bytes()
    };
    whole.split("\n\n").map(one).filter(|data| !data.is_empty()).collect()
}

/// What an error's body says in words, if it is one that speaks them.
fn reason(body: &[u8]) -> String {
    let message = serde_json::from_slice::<Value>(body).ok();
    shortened(message.as_ref().and_then(|message| message["error"]["message"].as_str()).unwrap_or_default())
}

/// Words of a stranger, fit for one line of a terminal.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect();
    if text.chars().count() > CHARS_MAX { clean + "…" } else { clean }
}

fn client_info() -> Value {
    json!({"name": "undercurrent-check", "version": env!("CARGO_PKG_VERSION")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_events_are_read() {
        let stream = b"id: 1\ndata: {\"a\":\ndata: 1}\n\n: still here\n\nevent: message\r\ndata: 2\r\n\r\ndata: 3";
        let expect: Vec<Vec<u8>> = vec![b"{\"a\":\n1}".to_vec(), b"2".to_vec()];
        assert_eq!(data(stream), expect);
    }

    #[test]
    fn a_stranger_cannot_write_on_the_terminal() {
        assert_eq!(shortened("a\u{1b}[2Jb\n"), "a [2Jb ");
    }
}
