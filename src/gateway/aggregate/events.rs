//! An upstream's stream of events on its way to the client: whole events, with return addresses.
//!
//! The ids of a stream that is one upstream's say whose they are, so that it can be had again (`routes`); from one of
//! several upstreams ids and `retry` are dropped, for no id says where all of them stand. Not here: merging (`streams`).
//! Invariant: of an event that need not change, every other byte stays; at most one event is held, of a bounded size. One
//! above the bound passes in pieces as it is, or, where that would tear another apart, not at all.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::addresses::addressed;
use crate::gateway::call::Body;
use crate::gateway::held::rewrite;
use crate::gateway::sse::{SseEvent, SseParser};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Whose events a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// One upstream's, about one request.
    OfOne,
    /// Those of several, one between the other.
    OfAll,
}

/// Between an upstream's name and its event's id.
const OF: char = '~';

/// Reads the events of one response.
pub(super) struct Events {
    body: Body,
    addresser: Addresser,
    ended: bool,
}

/// Bytes of an upstream's stream in, events as the client gets them out.
#[derive(Debug)]
pub(in crate::gateway) struct Addresser {
    upstream: Arc<str>,
    splitter: Splitter,
    stream: Stream,
}

impl Addresser {
    pub(super) fn new(upstream: Arc<str>, bytes_max: usize, stream: Stream) -> Self {
        Self { upstream, splitter: Splitter::new(bytes_max), stream }
    }

    pub(in crate::gateway) fn push(&mut self, bytes: &[u8]) {
        self.splitter.push(bytes);
    }

    /// The stream has ended. An event that nothing ended is one for some clients all the same.
    pub(in crate::gateway) fn end(&mut self) {
        self.splitter.push(b"\n\n");
    }

    /// The next event, or part of one; `None`: more bytes are needed.
    pub(in crate::gateway) fn next(&mut self) -> Option<Bytes> {
        loop {
            match (self.splitter.next()?, self.stream) {
                (Piece::Event(event), _) => {
                    if let Some(event) = passed_on(event, &self.upstream, self.stream) {
                        return Some(event);
                    }
                }
                (Piece::Part(part), Stream::OfOne) => return Some(part),
                (Piece::Part(_), Stream::OfAll) => {}
            }
        }
    }
}

impl Events {
    pub(super) fn new(body: Body, upstream: Arc<str>, bytes_max: usize, stream: Stream) -> Self {
        Self { body, addresser: Addresser::new(upstream, bytes_max, stream), ended: false }
    }

    /// The next event as the client gets it; `None` once the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if let Some(event) = self.addresser.next() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.addresser.push(&data);
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => {
                    self.ended = true;
                    self.addresser.end();
                }
            }
        }
    }

    /// The rest of them as the body of a response.
    pub(super) fn into_body(self) -> Body {
        let events = futures_util::stream::unfold(self, |mut events| async move {
            let event = events.next().await?;
            Some((event.map(Frame::data), events))
        });
        StreamBody::new(events).boxed_unsync()
    }
}

/// Cuts bytes into events, each with the blank line behind it.
#[derive(Debug)]
struct Splitter {
    held: BytesMut,
    /// Where the line begins that has not ended yet.
    line: usize,
    bytes_max: usize,
    /// The event at hand was above the bound: the rest of it follows.
    is_torn: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Event(Bytes),
    /// Of an event above the bound.
    Part(Bytes),
}

impl Splitter {
    fn new(bytes_max: usize) -> Self {
        Self { held: BytesMut::new(), line: 0, bytes_max, is_torn: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Piece> {
        while let Some(end) = memchr::memchr2(b'\n', b'\r', &self.held[self.line..]) {
            let end = self.line + end;
            let next = match (self.held[end], self.held.get(end + 1)) {
                (b'\r', Some(b'\n')) => end + 2,
                // The LF that belongs to it may be on its way.
                (b'\r', None) => return None,
                _ => end + 1,
            };
            if end > self.line {
                self.line = next;
                continue;
            }
            self.line = 0;
            let event = self.held.split_to(next).freeze();
            let was_torn = std::mem::take(&mut self.is_torn);
            return Some(if was_torn { Piece::Part(event) } else { Piece::Event(event) });
        }
        if self.held.len() <= self.bytes_max {
            return None;
        }
        // What is left of the line is one that is not blank.
        let part = self.held.split_to(self.line.max(self.held.len() - 1)).freeze();
        self.line = 0;
        self.is_torn = true;
        (!part.is_empty()).then_some(Piece::Part(part))
    }
}

/// `None`: nothing is left of it.
fn passed_on(event: Bytes, upstream: &str, stream: Stream) -> Option<Bytes> {
    let mut data = None;
    SseParser::new(event.len()).feed(&event, |found| {
        if let SseEvent::Data(found) = found {
            data = Some(found.to_vec());
        }
    });
    let lines = || event.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty());
    let changed = data.as_deref().and_then(|data| addressed(data, upstream));
    if changed.is_none() && !lines().any(is_for_resuming) {
        return Some(event);
    }
    // An id alone opens a stream that can be resumed.
    let says_something = stream == Stream::OfOne || data.is_some() || lines().any(|line| line.starts_with(b":"));
    let mut rest = Vec::with_capacity(event.len() + 64);
    for line in lines() {
        match (is_for_resuming(line), stream) {
            (true, Stream::OfAll) => continue,
            (true, Stream::OfOne) => rest.extend_from_slice(&named(line, upstream)),
            (false, _) => rest.extend_from_slice(line),
        }
        rest.push(b'\n');
    }
    if let Some(changed) = changed {
        let mut out = Vec::with_capacity(rest.len() + 64);
        rewrite(&rest, &changed, &mut out);
        return Some(out.into());
    }
    rest.push(b'\n');
    says_something.then(|| rest.into())
}

/// The line of an id says whose it is.
fn named<'a>(line: &'a [u8], upstream: &str) -> Cow<'a, [u8]> {
    let Some(id) = line.strip_prefix(b"id:").map(|id| id.strip_prefix(b" ").unwrap_or(id)) else { return line.into() };
    if id.is_empty() {
        return line.into();
    }
    [b"id: ", upstream.as_bytes(), OF.to_string().as_bytes(), id].concat().into()
}

/// Whose event an id names, and what it is there.
pub(super) fn of_event(id: &str) -> Option<(&str, &str)> {
    id.split_once(OF)
}

fn is_for_resuming(line: &[u8]) -> bool {
    [&b"id"[..], b"retry"]
        .iter()
        .any(|field| line.strip_prefix(*field).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(stream: &[u8], chunk: usize, bytes_max: usize) -> Vec<Piece> {
        let mut splitter = Splitter::new(bytes_max);
        let mut pieces = Vec::new();
        for chunk in stream.chunks(chunk) {
            splitter.push(chunk);
            while let Some(piece) = splitter.next() {
                pieces.push(piece);
            }
        }
        pieces
    }

    #[test]
    fn events_are_cut_behind_blank_lines_wherever_chunks_end() {
        let stream = b": c\n\ndata: 1\ndata: 2\r\n\r\nid: 3\r\rdata: 4\n\ndata: 5\n";
        for chunk in 1..=stream.len() {
            let expect = [&b": c\n\n"[..], b"data: 1\ndata: 2\r\n\r\n", b"id: 3\r\r", b"data: 4\n\n"];
            let expect: Vec<_> = expect.into_iter().map(|event| Piece::Event(Bytes::from_static(event))).collect();
            assert_eq!(split(stream, chunk, 100), expect, "chunks of {chunk}");
        }
    }

    #[test]
    fn an_event_above_the_bound_comes_in_parts_and_the_next_is_whole_again() {
        let stream = b"data: 0123456789\ndata: 0123456789012345\n\ndata: 1\n\n";
        for chunk in 1..=stream.len() {
            let mut pieces = split(stream, chunk, 20);
            if chunk < 40 {
                assert_eq!(pieces.pop(), Some(Piece::Event(Bytes::from_static(b"data: 1\n\n"))), "chunks of {chunk}");
                let parts = pieces.iter().flat_map(|piece| match piece {
                    Piece::Part(part) => part.clone(),
                    Piece::Event(event) => panic!("{event:?} in chunks of {chunk}"),
                });
                assert_eq!(parts.collect::<Vec<u8>>(), &stream[..stream.len() - 9]);
            }
        }
    }

    #[test]
    fn what_is_for_resuming_goes_and_requests_are_addressed() {
        let check = |event: &'static str, expect: Option<&str>| {
            let passed = passed_on(Bytes::from_static(event.as_bytes()), "up", Stream::OfAll);
            assert_eq!(passed.as_deref(), expect.map(str::as_bytes), "{event:?}");
        };
        check("event: message\r\ndata: {\"id\":1}\r\n\r\n", Some("event: message\r\ndata: {\"id\":1}\r\n\r\n"));
        check(": alive\n\n", Some(": alive\n\n"));
        check("id: 1\nretry: 5\ndata: {\"a\":1}\n\n", Some("data: {\"a\":1}\n\n"));
        check("id: 1\nretry: 5\ndata: \n\n", None);
        check("id: 1\n\n", None);
        check(
            "id: 1\nevent: message\ndata: {\"id\":1,\"method\":\"roots/list\"}\n\n",
            Some("event: message\ndata: {\"id\":\"up~1\",\"method\":\"roots/list\"}\n\n"),
        );
    }

    #[test]
    fn the_ids_of_one_upstream_say_whose_they_are() {
        let check = |event: &'static str, expect: &str| {
            let passed = passed_on(Bytes::from_static(event.as_bytes()), "up", Stream::OfOne);
            assert_eq!(passed.as_deref(), Some(expect.as_bytes()), "{event:?}");
        };
        check("event: message\r\ndata: {\"id\":1}\r\n\r\n", "event: message\r\ndata: {\"id\":1}\r\n\r\n");
        check("id: 1~2\nretry: 5\ndata: \n\n", "id: up~1~2\nretry: 5\ndata: \n\n");
        check("id:1\n\n", "id: up~1\n\n");
        check("id\ndata: 1\n\n", "id\ndata: 1\n\n");
        check(
            "id: 1\ndata: {\"id\":1,\"method\":\"roots/list\"}\n\n",
            "id: up~1\ndata: {\"id\":\"up~1\",\"method\":\"roots/list\"}\n\n",
        );
        assert_eq!(of_event("up~1~2"), Some(("up", "1~2")));
    }
}
