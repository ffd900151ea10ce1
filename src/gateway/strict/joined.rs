//! The answer to a call of `/mcp` on its way to the client: it names no session of the upstream's, and what the upstream
//! asks in between says who asks.
//!
//! Events change, so they are framed anew; everything else passes in the upstream's own framing. Not here: which calls
//! these are (`aggregate::shortcut`).

use std::ops::Range;
use std::sync::Arc;

use http::StatusCode;

use super::head::{Length, ResponseHead};
use crate::gateway::aggregate::{Addresser, Shortcut};
use crate::gateway::call::SESSION_ID;
use crate::gateway::tap::Content;

/// What an exchange knows of the call that it was made for.
#[derive(Debug)]
pub(crate) struct Joined {
    shortcut: Arc<Shortcut>,
    bytes_max: usize,
    /// Its answer is a stream of events.
    events: Option<Addresser>,
    /// What becomes of events is sent in chunks, rather than up to the end of the connection.
    is_chunked: bool,
}

impl Joined {
    pub(crate) const fn new(shortcut: Arc<Shortcut>, bytes_max: usize) -> Self {
        Self { shortcut, bytes_max, events: None, is_chunked: false }
    }

    pub(crate) fn is_denied(&self, status: StatusCode) -> bool {
        self.shortcut.is_denied(status)
    }

    /// Changes the header lines of a response, those after `start` in `out`.
    pub(crate) fn begin(&mut self, head: &ResponseHead, content: Content, out: &mut Vec<u8>, start: usize) {
        let is_events = matches!(content, Content::Events) && head.length != Length::Known(0);
        if is_events {
            self.events = Some(self.shortcut.addresser(self.bytes_max));
            self.is_chunked = head.length != Length::UntilClose;
        }
        if !is_events && head.session_id.is_none() {
            return;
        }
        let goes = |line: &[u8]| {
            let is = |name: &str| line.get(..name.len()).is_some_and(|part| part.eq_ignore_ascii_case(name.as_bytes()));
            is(SESSION_ID) || (is_events && (is("content-length:") || is("transfer-encoding:")))
        };
        let lines = out.split_off(start);
        lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !goes(line)).for_each(|line| out.extend(line));
        if self.is_chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
    }

    /// Adds what the client gets of `passing`, in which `payload` is not framing. `is_done`: nothing follows.
    pub(crate) fn pass(&mut self, passing: &[u8], payload: &[Range<usize>], is_done: bool, out: &mut Vec<u8>) {
        let Some(events) = &mut self.events else { return out.extend_from_slice(passing) };
        payload.iter().for_each(|range| events.push(&passing[range.clone()]));
        if is_done {
            events.end();
        }
        while let Some(event) = events.next() {
            if self.is_chunked {
                super::write_chunk(&event, out);
            } else {
                out.extend_from_slice(&event);
            }
        }
        if is_done && self.is_chunked {
            out.extend_from_slice(super::LAST_CHUNK);
        }
    }
}
