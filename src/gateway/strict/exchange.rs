//! One exchange with a plain upstream, from the sent request to the end of its response.
//!
//! Bytes that were read become bytes for the client, and afterwards messages for the tap; with or without a client.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::HeaderName;
use http::{Response, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::framing::Framing;
use super::head::{self, ResponseHead, Unusual};
use super::joined::Joined;
use super::{HEAD_BYTES_MAX, READ_BYTES};
use crate::edge::EdgeSession;
use crate::gateway::call::{Call, Era};
use crate::gateway::forward::HttpUpstream;
use crate::gateway::relay::UNHEARD_BYTES_MAX;
use crate::gateway::rescue::Refusal;
use crate::gateway::shared::{Account, Ending};
use crate::gateway::tap::{Content, Tap};
use crate::gateway::withdrawal::Withdrawal;

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) upstream: Arc<HttpUpstream>,
    pub(crate) call: Call,
    /// As the client named us.
    host: Bytes,
    pub(crate) connection: TcpStream,
    /// From the upstream, not yet understood.
    pub(crate) read: BytesMut,
    stage: Stage,
    /// Body bytes that are on their way to the client, and where payload is in them.
    passing: Bytes,
    payload: Vec<Range<usize>>,
    /// It was asked for at `/mcp`.
    joined: Option<Joined>,
}

#[derive(Debug)]
enum Stage {
    Head {
        account: Account,
        session: Option<Arc<EdgeSession>>,
    },
    Body {
        framing: Framing,
        tap: Tap,
        keep_alive: bool,
    },
    /// Refused, or ended.
    Over,
}

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It needs more bytes from the upstream.
    Unfinished,
    Relayed,
    /// Relayed, and only the end of the connection can say so to the client.
    RelayedUntilClose,
    /// The upstream ended, or spoke nonsense, in the middle of its response.
    Aborted,
    /// Of one that was asked for at `/mcp`: the client is not to see this answer, and none of it was passed on.
    Denied(StatusCode),
}

impl Exchange {
    pub(crate) fn new(
        upstream: Arc<HttpUpstream>,
        call: Call,
        host: Bytes,
        account: Account,
        session: Option<Arc<EdgeSession>>,
        connection: TcpStream,
        read: BytesMut,
    ) -> Self {
        let stage = Stage::Head { account, session };
        Self { upstream, call, host, connection, read, stage, passing: Bytes::new(), payload: Vec::new(), joined: None }
    }

    /// The same, on behalf of a call of `/mcp`.
    pub(crate) fn joined(self, joined: Option<Joined>) -> Self {
        Self { joined, ..self }
    }

    /// Understands what has been read, and adds to `out` what the client is to get. `closing`: the client is told that
    /// its connection ends with this response. An error withholds the response: see [`Self::refuse`].
    pub(crate) fn advance(&mut self, closing: bool, out: &mut Vec<u8>) -> Result<Progress, Refusal> {
        while matches!(self.stage, Stage::Head { .. }) {
            let start = out.len();
            match head::response(&self.read, out) {
                Ok(Some(head)) if head.status.is_informational() => {
                    out.truncate(start);
                    self.read.advance(head.bytes);
                    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                        return Err(self.nonsense("it switched protocols"));
                    }
                }
                Ok(Some(head)) if self.joined.as_ref().is_some_and(|joined| joined.is_denied(head.status)) => {
                    out.truncate(start);
                    // What follows is nobody's, and goes the usual way.
                    self.joined = None;
                    return Ok(Progress::Denied(head.status));
                }
                Ok(Some(head)) => {
                    let content = self.content(&head);
                    match &mut self.joined {
                        Some(joined) => joined.begin(&head, content, out, start),
                        None => self.upstream.resource().readdress_lines(head.status, out, start, &self.host),
                    }
                    self.begin(&head, content, closing, out).inspect_err(|_| out.truncate(start))?;
                }
                Ok(None) if self.read.len() > HEAD_BYTES_MAX => return Err(self.nonsense("its head is too large")),
                Ok(None) => return Ok(Progress::Unfinished),
                Err(Unusual) => {
                    out.truncate(start);
                    return Err(self.nonsense("its head is ambiguous"));
                }
            }
        }
        let Stage::Body { framing, .. } = &mut self.stage else { return Ok(Progress::Aborted) };
        let payload = &mut self.payload;
        let Ok(taken) = framing.advance(&self.read, |range| payload.push(range)) else {
            // What was found before the break is not passed on, so it is not heard either.
            payload.clear();
            tracing::warn!(upstream = %self.upstream.name(), "the framing of a response is broken");
            return Ok(Progress::Aborted);
        };
        self.passing = self.read.split_to(taken).freeze();
        let is_done = framing.is_done();
        match &mut self.joined {
            Some(joined) => joined.pass(&self.passing, &self.payload, is_done, out),
            None => out.extend_from_slice(&self.passing),
        }
        Ok(if is_done { Progress::Relayed } else { Progress::Unfinished })
    }

    fn content(&self, head: &ResponseHead) -> Content {
        let value = |span: &Option<head::Span>| span.as_ref().map(|span| &self.read[span.clone()]);
        Content::of(value(&head.content_type), value(&head.content_encoding))
    }

    /// The head is whole: the decision about an `initialize`, and the tap.
    fn begin(
        &mut self,
        head: &ResponseHead,
        content: Content,
        closing: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Stage::Head { session, .. } = &mut self.stage else { return Ok(()) };
        let session = match session.take() {
            Some(session) => session,
            None => {
                let id = head.session_id.as_ref().and_then(|span| head::ascii(&self.read[span.clone()]));
                self.upstream.opened(&self.call, id)?
            }
        };
        let Stage::Head { account, .. } = std::mem::replace(&mut self.stage, Stage::Over) else { return Ok(()) };
        let framing = Framing::new(head.length);
        if closing || framing.may_close() {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.read.advance(head.bytes);
        let tap = Tap::new(session, head.status, content, self.upstream.capture_bytes_max(), account);
        self.stage = Stage::Body { framing, tap, keep_alive: head.keep_alive };
        Ok(())
    }

    fn nonsense(&self, what: &str) -> Refusal {
        tracing::warn!(upstream = %self.upstream.name(), "a response was refused: {what}");
        Refusal::UpstreamGone
    }

    /// The client has what was passed: the tap may read it.
    pub(crate) fn hear(&mut self) {
        let passed = std::mem::take(&mut self.passing);
        let Stage::Body { tap, .. } = &mut self.stage else { return };
        for range in self.payload.drain(..) {
            tap.feed(&passed.slice(range));
        }
    }

    /// The upstream has closed the connection.
    pub(crate) fn closed(&mut self, out: &mut Vec<u8>) -> Result<Progress, Refusal> {
        match &self.stage {
            Stage::Head { .. } => Err(Refusal::UpstreamGone),
            Stage::Body { framing, .. } if framing.may_close() => {
                if let Some(joined) = &mut self.joined {
                    joined.pass(&[], &[], true, out);
                }
                Ok(Progress::RelayedUntilClose)
            }
            Stage::Body { .. } | Stage::Over => Ok(Progress::Aborted),
        }
    }

    /// A part of the response may be with the client already.
    pub(crate) const fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Body { .. })
    }

    /// A stream that is listened to has begun.
    pub(crate) fn may_be_silent(&self) -> bool {
        self.has_begun() && self.call.listens()
    }

    /// It took too long: the upstream is told, unless its client can come back for the rest. `lines` are the request's.
    pub(crate) fn withdraw(&self, lines: &[u8]) {
        if matches!(&self.stage, Stage::Body { tap, .. } if tap.is_resumable()) {
            return;
        }
        // Those of a request at `/mcp` are not its upstream's.
        let header = |name: &HeaderName| self.joined.is_none().then(|| head::line(lines, name.as_str())).flatten();
        if let Some(withdrawal) = Withdrawal::of(&self.upstream, &self.call, header) {
            withdrawal.send();
        }
    }

    /// The answer in place of a response.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) -> Option<Response<Bytes>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Head { account, .. } => Some(account.refused(refusal, &self.call)),
            Stage::Body { .. } | Stage::Over => None,
        }
    }

    /// Ends the account, and keeps the connection where it can be used again. What was read into comes back, empty: what
    /// the upstream said behind its answer is no answer to the next request.
    pub(crate) fn end(mut self, ending: Ending) -> BytesMut {
        if let Stage::Body { framing, mut tap, keep_alive } = std::mem::replace(&mut self.stage, Stage::Over) {
            tap.end(ending);
            if keep_alive && framing.is_done() && self.read.is_empty() {
                self.upstream.give_back(self.connection);
            }
        }
        self.read.clear();
        self.read
    }

    /// The client has left. In the era in which that cancels, the exchange ends with its connection; before, it goes on,
    /// unless the client can come back: see `relay::Abandon`.
    pub(crate) fn abandon(mut self) {
        // What could not be written any more was said all the same.
        self.hear();
        let resumable = matches!(&self.stage, Stage::Body { tap, .. } if tap.is_resumable());
        if self.call.era == Era::Modern || resumable {
            self.end(Ending::ClientLeft);
            return;
        }
        let finish = self.upstream.finish().clone();
        finish.spawn(self.finish());
    }

    async fn finish(mut self) {
        let (mut unheard, mut unheard_bytes) = (Vec::new(), 0);
        loop {
            let progress = self.advance(true, &mut unheard);
            unheard_bytes += unheard.len();
            unheard.clear();
            self.hear();
            match progress {
                // Asked again, it goes on as any other.
                Ok(Progress::Denied(_)) => continue,
                Ok(Progress::Unfinished) if unheard_bytes <= UNHEARD_BYTES_MAX => {}
                Ok(Progress::Unfinished) => return drop(self.end(Ending::ClientLeft)),
                Ok(Progress::Relayed | Progress::RelayedUntilClose) => return drop(self.end(Ending::Relayed)),
                Ok(Progress::Aborted) => return drop(self.end(Ending::Aborted)),
                Err(refusal) => return drop(self.refuse(&refusal)),
            }
            self.read.reserve(READ_BYTES);
            if matches!(self.connection.read_buf(&mut self.read).await, Ok(0) | Err(_)) {
                match self.closed(&mut unheard) {
                    Ok(Progress::RelayedUntilClose) => drop(self.end(Ending::Relayed)),
                    Ok(_) => drop(self.end(Ending::Aborted)),
                    Err(refusal) => drop(self.refuse(&refusal)),
                }
                return;
            }
        }
    }
}
