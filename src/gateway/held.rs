//! Answers that are looked at before the client gets them: the second decision.
//!
//! A JSON answer is collected whole before its head is sent; of an event stream each event is held until it is whole, so
//! that a server that asks its client something meanwhile is not kept waiting. Not here: what may be shown (the edge),
//! and what was seen (the tap, which hears the server's own words). Invariant: bounded, and closed on failure: what
//! cannot be read is not shown.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::response::Parts;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Frame;

use super::call::{Body, BodyError};
use super::rescue::Refusal;
use super::sse::{SseEvent, SseParser};
use super::tap::Content;
use crate::edge::EdgeSession;

/// Bounds on what is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes_max: usize,
    pub(super) patience: Duration,
}

/// The response as the client may see it.
pub(super) async fn answer(
    mut head: Parts,
    body: impl hyper::body::Body<Data = Bytes, Error: Into<BodyError>> + Unpin + Send + 'static,
    session: Arc<EdgeSession>,
    bounds: Bounds,
) -> Result<Response<Body>, Refusal> {
    match Content::of_headers(&head.headers) {
        Content::Json => {
            let collected = Limited::new(body, bounds.bytes_max).collect();
            let collected = tokio::time::timeout(bounds.patience, collected).await;
            let body = match collected.map_err(|_| Refusal::UpstreamTimeout)? {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => return Err(unseen(bounds.bytes_max)),
                Err(_) => return Err(Refusal::UpstreamGone),
            };
            let shown = match session.shown(&body) {
                Some(shown) => {
                    changed(&mut head.headers);
                    Bytes::from(shown)
                }
                None => body,
            };
            head.headers.remove(header::CONTENT_LENGTH);
            Ok(Response::from_parts(head, Full::new(shown).map_err(|never| match never {}).boxed_unsync()))
        }
        Content::Events => Ok(events(head, body, session, bounds.bytes_max)),
        Content::Encoded => Err(unseen(bounds.bytes_max)),
        // Not a message.
        Content::Other => Ok(Response::from_parts(head, body.map_err(Into::into).boxed_unsync())),
    }
}

/// The same for what is known to be an event stream.
pub(super) fn events(
    mut head: Parts,
    body: impl hyper::body::Body<Data = Bytes, Error: Into<BodyError>> + Unpin + Send + 'static,
    session: Arc<EdgeSession>,
    bytes_max: usize,
) -> Response<Body> {
    head.headers.remove(header::CONTENT_LENGTH);
    let held =
        HeldEvents { inner: body, session, held: Vec::new(), searched: Searched::default(), bytes_max, ended: false };
    Response::from_parts(head, held.boxed_unsync())
}

fn unseen(bytes_max: usize) -> Refusal {
    Refusal::AnswerUnseen { bytes_max }
}

/// What described the body describes another one.
fn changed(headers: &mut HeaderMap) {
    const OF_BODY: [HeaderName; 4] = [
        header::ETAG,
        header::LAST_MODIFIED,
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    for name in &OF_BODY {
        headers.remove(name);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// A stream of events, each held until it is whole.
struct HeldEvents<B> {
    inner: B,
    session: Arc<EdgeSession>,
    held: Vec<u8>,
    /// How far the held bytes were searched.
    searched: Searched,
    bytes_max: usize,
    ended: bool,
}

impl<B: hyper::body::Body<Data = Bytes, Error: Into<BodyError>> + Unpin> hyper::body::Body for HeldEvents<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.held.extend_from_slice(&data);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.ended = true,
            }
            let this = &mut *self;
            let whole = if this.ended { this.held.len() } else { this.searched.whole_events(&this.held) };
            if self.held.len() - whole > self.bytes_max {
                self.ended = true;
                return Poll::Ready(Some(Err("an event is larger than can be looked at".into())));
            }
            let rest = self.held.split_off(whole);
            let events = std::mem::replace(&mut self.held, rest);
            if !events.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(shown(&events, &self.session, self.bytes_max)))));
            }
        }
    }
}

/// How far bytes were searched for the end of an event, so that none is looked at again when more come.
#[derive(Clone, Copy, Debug, Default)]
struct Searched {
    /// Where the line begins that has no end yet.
    line_start: usize,
    /// Up to where there is no end of that line.
    to: usize,
}

impl Searched {
    /// Up to where there are whole events; what is left counts from there on.
    fn whole_events(&mut self, bytes: &[u8]) -> usize {
        let mut whole = 0;
        while let Some(end) = self.next_event(bytes) {
            whole = end;
        }
        *self = Self { line_start: self.line_start - whole, to: self.to - whole };
        whole
    }

    /// Where the next event ends: behind a blank line. `None` while that has not come.
    fn next_event(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let Some(found) = memchr::memchr2(b'\n', b'\r', &bytes[self.to..]) else {
                self.to = bytes.len();
                return None;
            };
            let line_end = self.to + found;
            self.to = line_end;
            let next = match (bytes[line_end], bytes.get(line_end + 1)) {
                (b'\r', Some(b'\n')) => line_end + 2,
                // The LF that belongs to it may be on its way.
                (b'\r', None) => return None,
                _ => line_end + 1,
            };
            let is_blank = line_end == self.line_start;
            *self = Self { line_start: next, to: next };
            if is_blank {
                return Some(next);
            }
        }
    }
}

/// Where the first event ends, if it does.
pub(super) fn next_event(bytes: &[u8]) -> Option<usize> {
    Searched::default().next_event(bytes)
}

/// Whole events as the client may see them; what is not changed stays byte for byte.
fn shown(events: &[u8], session: &EdgeSession, bytes_max: usize) -> Bytes {
    let mut out = Vec::with_capacity(events.len());
    let mut rest = events;
    while !rest.is_empty() {
        let end = next_event(rest).unwrap_or(rest.len());
        let (event, after) = rest.split_at(end);
        let mut replaced = None;
        let mut parser = SseParser::new(bytes_max);
        let mut look = |found: SseEvent<'_>| {
            if let SseEvent::Data(data) = found {
                replaced = session.shown(data);
            }
        };
        parser.feed(event, &mut look);
        // One that nothing ended: some clients take it all the same.
        parser.feed(b"\n\n", &mut look);
        match replaced {
            Some(data) => rewrite(event, &data, &mut out),
            None => out.extend_from_slice(event),
        }
        rest = after;
    }
    out.into()
}

/// The event with other data; its id, type and comments stay.
pub(super) fn rewrite(event: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty());
    for line in lines.filter(|line| !line.starts_with(b"data:") && *line != b"data") {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_behind_a_blank_line() {
        for (bytes, expect) in [
            ("", 0),
            ("data: 1", 0),
            ("data: 1\n", 0),
            ("data: 1\n\n", 9),
            ("data: 1\r\n\r\ndata", 11),
            ("data: 1\r\n\r", 0),
            ("\n\ndata: 1\n\nx", 11),
            (": hi\r\rid: 2", 6),
        ] {
            assert_eq!(Searched::default().whole_events(bytes.as_bytes()), expect, "{bytes:?}");
            // The same when the bytes come one by one.
            let (mut searched, mut begin) = (Searched::default(), 0);
            for end in 0..=bytes.len() {
                begin += searched.whole_events(&bytes.as_bytes()[begin..end]);
            }
            assert_eq!(begin, expect, "{bytes:?}");
        }
    }

    #[test]
    fn of_a_changed_event_only_the_data_change() {
        let mut out = Vec::new();
        rewrite(b": c\r\nid: 7\r\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n", b"{\"b\":\n2}", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), ": c\nid: 7\nevent: message\ndata: {\"b\":\ndata: 2}\n\n");
    }
}
