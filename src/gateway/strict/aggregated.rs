//! Requests for the endpoint of all upstreams, on a connection of the strict relay.
//!
//! What has a shortcut is an exchange with its upstream as any other; the rest is answered as hyper's path answers it, and
//! written here. Not here: which is which (`aggregate`).

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::connection::{Connection, Next};
use super::head::{self, RequestHead};
use super::joined::Joined;
use super::{LAST_CHUNK, write_chunk, write_status_and_headers};
use crate::gateway::aggregate::{Aggregate, Shortcut};
use crate::gateway::call::{Body, Call};

impl Connection<'_> {
    pub(super) async fn aggregated(
        &mut self,
        head: &RequestHead,
        aggregate: Arc<Aggregate>,
        stopped: &watch::Receiver<()>,
    ) -> Next {
        let call = self.call(head);
        if let Some(shortcut) = aggregate.shortcut(&call, head::fields(&self.lines)) {
            let edge = &self.gateway.shared.edge;
            let is_held = edge.holds_answers(&call.client.principal, shortcut.upstream.name());
            if !is_held && shortcut.upstream.plain().is_some() {
                match self.joined(Arc::new(shortcut), &call, &aggregate, stopped).await {
                    // The upstream did nothing: the long way opens another session there.
                    Next::Denied(_) => {}
                    next => return next,
                }
            }
        }
        self.the_long_way(call, aggregate, stopped).await
    }

    async fn joined(
        &mut self,
        shortcut: Arc<Shortcut>,
        call: &Call,
        aggregate: &Aggregate,
        stopped: &watch::Receiver<()>,
    ) -> Next {
        let upstream = Arc::clone(&shortcut.upstream);
        let Some(plain) = upstream.plain() else { return Next::Denied(StatusCode::NOT_FOUND) };
        let mut lines = Vec::with_capacity(self.lines.len() + 64);
        shortcut.write_lines(head::fields(&self.lines), &mut lines);
        self.out.clear();
        plain.write_head(None, &lines, &mut self.out);
        let of_upstream = shortcut.call(self.parts(), call.client.clone());
        let joined = Joined::new(Arc::clone(&shortcut), upstream.capture_bytes_max());
        match self.exchange(upstream, of_upstream, Some(joined), stopped).await {
            Next::Denied(StatusCode::UNAUTHORIZED) => {
                self.answer(&aggregate.not_signed_in(&shortcut).response(&call.ids())).await
            }
            Next::Denied(status) => {
                shortcut.lose();
                Next::Denied(status)
            }
            next => {
                aggregate.relayed();
                next
            }
        }
    }

    async fn the_long_way(&mut self, mut call: Call, aggregate: Arc<Aggregate>, stopped: &watch::Receiver<()>) -> Next {
        // What the strict relay takes for a header is one.
        let fields = head::fields(&self.lines).filter_map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
        });
        call.head.headers.clear();
        for (name, value) in fields {
            call.head.headers.append(name, value);
        }
        let after_write = call.client.after_write.clone();
        let answered = tokio::select! {
            biased;
            response = aggregate.answer(call) => Some(response),
            () = self.left() => None,
        };
        let next = match answered {
            Some(response) => self.write(response, stopped.has_changed().unwrap_or(true)).await,
            None => Next::Close,
        };
        after_write.run();
        next
    }

    /// Writes a response as it comes.
    async fn write(&mut self, response: Response<Body>, closing: bool) -> Next {
        self.out.clear();
        write_status_and_headers(&response, &mut self.out);
        if closing {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        let after_write = self.reached.client.after_write.clone();
        let status = response.status();
        let mut body = response.into_body();
        let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = body.size_hint().exact();
        match length {
            _ if is_bodiless => self.out.extend_from_slice(b"\r\n"),
            Some(length) => self.out.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes()),
            None => self.out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
        }
        let mut is_over = is_bodiless || length == Some(0);
        // A short answer leaves in one piece; of a stream, the client need not wait for the first event to know that it
        // has begun.
        let mut waits = length.is_some() && !is_over;
        loop {
            if !waits {
                if self.stream.write_all(&self.out).await.is_err() {
                    return Next::Close;
                }
                self.out.clear();
                after_write.run();
            }
            if is_over {
                return if closing { Next::Close } else { Next::Request };
            }
            waits = false;
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = self.left() => return Next::Close,
            };
            match (frame, length) {
                (Some(Ok(frame)), _) => {
                    let Ok(data) = frame.into_data() else { continue };
                    match length {
                        Some(_) => self.out.extend_from_slice(&data),
                        None => write_chunk(&data, &mut self.out),
                    }
                    is_over = length.is_some() && body.is_end_stream();
                }
                // The client must not take it for the whole.
                (Some(Err(_)), _) => return Next::Close,
                (None, Some(_)) => is_over = true,
                (None, None) => {
                    self.out.extend_from_slice(LAST_CHUNK);
                    is_over = true;
                }
            }
        }
    }
}
