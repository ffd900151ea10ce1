//! The tap: reads a response that has been handed on, and tells the edge each whole message in it.
//!
//! Upstream: the chunks of one response, in order. Downstream: `EdgeSession::server_message` and the metrics of the
//! exchange. Not here: relaying. Invariant: nothing the tap does changes, delays or fails the response; what it cannot
//! read (encoded, too large, cut off) is counted.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::shared::{Account, Ending};
use super::sse::{SseEvent, SseParser};
use crate::edge::EdgeSession;

/// Reads one response.
#[derive(Debug)]
pub(crate) struct Tap {
    session: Arc<EdgeSession>,
    reader: Reader,
    account: Account,
    status: StatusCode,
}

#[derive(Debug)]
enum Reader {
    Json(Whole),
    Events(SseParser),
    Nothing,
}

/// A body as far as it has come.
#[derive(Debug)]
struct Whole {
    /// The usual body is one chunk, which is not copied.
    first: Bytes,
    /// All of it, once there is more than one chunk.
    joined: Vec<u8>,
    overflow: bool,
    bytes_max: usize,
}

impl Tap {
    pub(crate) fn new(
        session: Arc<EdgeSession>,
        status: StatusCode,
        content: Content,
        bytes_max: usize,
        mut account: Account,
    ) -> Self {
        account.answered();
        account.has_status(status);
        account.of_session(&session);
        let reader = match content {
            Content::Json => Reader::Json(Whole::new(bytes_max)),
            Content::Events => Reader::Events(SseParser::new(bytes_max)),
            Content::Encoded => {
                account.unread("encoded");
                Reader::Nothing
            }
            Content::Other => Reader::Nothing,
        };
        Self { session, reader, account, status }
    }

    pub(crate) fn belongs_to(&mut self, session: &Arc<EdgeSession>) {
        self.session = Arc::clone(session);
    }

    pub(crate) fn feed(&mut self, chunk: &Bytes) {
        self.account.passed(chunk.len());
        match &mut self.reader {
            Reader::Json(whole) => whole.push(chunk),
            Reader::Events(parser) => {
                let (session, account) = (&self.session, &self.account);
                parser.feed(chunk, |event| match event {
                    SseEvent::Data(data) => hear(session, Bytes::copy_from_slice(data), account),
                    SseEvent::TooLarge => account.unread("too_large"),
                });
            }
            Reader::Nothing => {}
        }
    }

    /// Its client can come back for what it misses, once the upstream knows that it has left.
    pub(crate) fn is_resumable(&self) -> bool {
        matches!(&self.reader, Reader::Events(parser) if parser.has_ids())
    }

    pub(crate) fn end(&mut self, ending: Ending) {
        if let Reader::Json(whole) = &mut self.reader {
            match (ending, whole.take()) {
                (Ending::Relayed, Some(body)) if is_message(self.status, &body) => {
                    hear(&self.session, body, &self.account);
                }
                (Ending::Relayed, Some(_)) => {}
                (Ending::Relayed, None) => self.account.unread("too_large"),
                (Ending::Aborted | Ending::ClientLeft | Ending::Refused(_), _) => self.account.unread("cut_off"),
            }
        }
        self.account.close(ending, status_error(self.status));
    }
}

/// Where every message of every server that answers over HTTP passes: tells the edge, and the exchange which error it
/// reports.
fn hear(session: &Arc<EdgeSession>, message: Bytes, account: &Account) {
    let read = Arc::clone(account.read());
    if account.is_observed() {
        return read.answer(session.server_message(&message));
    }
    session.server_message_later(message, move |error| read.answer(error));
}

impl Whole {
    const fn new(bytes_max: usize) -> Self {
        Self { first: Bytes::new(), joined: Vec::new(), overflow: false, bytes_max }
    }

    fn push(&mut self, chunk: &Bytes) {
        let held = self.joined.len().max(self.first.len());
        if self.overflow || held + chunk.len() > self.bytes_max {
            *self = Self { overflow: true, ..Self::new(self.bytes_max) };
        } else if held == 0 {
            self.first = chunk.clone();
        } else {
            if self.joined.is_empty() {
                self.joined.extend_from_slice(&self.first);
            }
            self.joined.extend_from_slice(chunk);
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        match (self.overflow, self.joined.is_empty()) {
            (true, _) => None,
            (false, true) => Some(std::mem::take(&mut self.first)),
            (false, false) => Some(std::mem::take(&mut self.joined).into()),
        }
    }
}

/// How a response is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Json,
    Events,
    /// Asking for `identity` did not help.
    Encoded,
    Other,
}

impl Content {
    /// By the values of `Content-Type` and `Content-Encoding`.
    pub(crate) fn of(kind: Option<&[u8]>, encoding: Option<&[u8]>) -> Self {
        let kind = kind.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let encoded = encoding.is_some_and(|encoding| encoding != b"identity");
        match () {
            () if kind.eq_ignore_ascii_case(b"application/json") && !encoded => Self::Json,
            () if kind.eq_ignore_ascii_case(b"text/event-stream") && !encoded => Self::Events,
            () if encoded => Self::Encoded,
            () => Self::Other,
        }
    }

    pub(crate) fn of_headers(headers: &HeaderMap) -> Self {
        let value = |name| headers.get(name).map(http::HeaderValue::as_bytes);
        Self::of(value(CONTENT_TYPE), value(CONTENT_ENCODING))
    }
}

/// Error statuses often carry JSON of other protocols (OAuth, plain HTTP): that is no message.
fn is_message(status: StatusCode, body: &[u8]) -> bool {
    !body.is_empty() && (status.is_success() || memchr::memmem::find(body, b"\"jsonrpc\"").is_some())
}

/// `error.type` of an exchange whose response said nothing more precise.
fn status_error(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        400 => Some("400"),
        401 => Some("401"),
        403 => Some("403"),
        404 => Some("404"),
        405 => Some("405"),
        429 => Some("429"),
        402 | 406..=428 | 430..=499 => Some("4xx"),
        500..=599 => Some("5xx"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(chunks: &[&'static str], bytes_max: usize) -> Option<String> {
        let mut whole = Whole::new(bytes_max);
        chunks.iter().for_each(|chunk| whole.push(&Bytes::from_static(chunk.as_bytes())));
        whole.take().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_body_is_joined_up_to_its_bound() {
        assert_eq!(whole(&["ab"], 4).as_deref(), Some("ab"));
        assert_eq!(whole(&["ab", "c", "d"], 4).as_deref(), Some("abcd"));
        assert_eq!(whole(&["ab", "c", "de", "f"], 4), None);
        assert_eq!(whole(&[], 4).as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_message_is_not_heard() {
        assert!(is_message(StatusCode::OK, b"{}"));
        assert!(!is_message(StatusCode::ACCEPTED, b""));
        assert!(!is_message(StatusCode::UNAUTHORIZED, br#"{"error":"invalid_token"}"#));
        assert!(is_message(StatusCode::NOT_FOUND, br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601}}"#));
    }
}
