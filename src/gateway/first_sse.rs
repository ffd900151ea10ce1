//! HTTP+SSE, the transport of 2024-11-05, before an upstream that speaks it: one stream from the server, and a place to
//! post to, which the stream's first event names.
//!
//! The client has to be given a place at the gateway, so that event is the one thing that changes. Not here: stdio
//! upstreams (`stdio`), which have no such event. Invariant: a place is valid while its stream is open, leads to the
//! upstream's own origin, and cannot be guessed; the stream is the session.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Uri;
use hyper::body::Frame;
use url::Url;

use super::call::{BodyError, Call};
use super::forward::HttpUpstream;
use super::held::next_event;
use super::relay::RelayBody;
use crate::edge::EdgeSession;

/// An endpoint event is one line; a first event that is larger is none.
const EVENT_BYTES_MAX: usize = 8 << 10;

/// Where the messages of open streams go.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<String, Uri>>>);

/// A place that is valid; it ends with its stream, and so does the session.
struct Place {
    places: Places,
    token: String,
    session: Arc<EdgeSession>,
}

/// A GET stream that may be one of this transport.
pub(super) struct FirstSse {
    inner: RelayBody,
    /// `None` once it is clear what stream this is.
    looking: Option<Looking>,
    _place: Option<Place>,
    ended: bool,
}

struct Looking {
    held: Vec<u8>,
    upstream: Arc<HttpUpstream>,
    call: Call,
}

/// The path that clients post to.
pub(super) fn path(name: &str, token: &str) -> String {
    format!("/mcp/{name}/messages/{token}")
}

/// Name and token of such a path, what follows `/mcp/`.
pub(super) fn parse(path: &str) -> Option<(&str, &str)> {
    let (name, token) = path.split_once("/messages/")?;
    (!name.contains('/') && !token.is_empty() && !token.contains('/')).then_some((name, token))
}

/// It is all that a client needs to use a session, so it must not be guessed.
pub(super) fn new_token() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?))
}

impl Places {
    pub(super) fn get(&self, token: &str) -> Option<Uri> {
        self.lock().get(token).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Uri>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(&self.token);
        self.session.end();
    }
}

impl FirstSse {
    pub(super) const fn new(inner: RelayBody, upstream: Arc<HttpUpstream>, call: Call) -> Self {
        let looking = Some(Looking { held: Vec::new(), upstream, call });
        Self { inner, looking, _place: None, ended: false }
    }

    /// What may go out, now that this has come; `None`: nothing yet.
    fn look(&mut self, data: Bytes) -> Result<Option<Bytes>, BodyError> {
        let Some(mut looking) = self.looking.take() else { return Ok(Some(data)) };
        looking.held.extend_from_slice(&data);
        let Some(end) = next_event(&looking.held) else {
            if self.ended || looking.held.len() > EVENT_BYTES_MAX {
                return Ok(Some(looking.held.into()));
            }
            self.looking = Some(looking);
            return Ok(None);
        };
        let event = String::from_utf8_lossy(&looking.held[..end]).into_owned();
        let mut lines = event.split(['\r', '\n']).filter(|line| !line.is_empty()).peekable();
        if lines.peek().is_none_or(|line| line.starts_with(':')) {
            // A sign of life in front of the first event.
            let rest = looking.held.split_off(end);
            let passed = std::mem::replace(&mut looking.held, rest);
            self.looking = Some(looking);
            let more = self.look(Bytes::new())?.unwrap_or_default();
            return Ok(Some([passed, more.to_vec()].concat().into()));
        }
        let field = |name: &str| {
            let mut values = event.split(['\r', '\n']).filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.next().map(str::trim)
        };
        if field("event") != Some("endpoint") {
            return Ok(Some(looking.held.into()));
        }
        let to = looking.upstream.at_home(field("data").unwrap_or_default());
        let to = to.ok_or("the upstream names a place to post to that is not its own")?;
        let place = Place::open(&looking, to)?;
        self.inner.belongs_to(&place.session);
        let changed = format!("event: endpoint\ndata: {}\n\n", path(looking.upstream.name(), &place.token));
        self._place = Some(place);
        Ok(Some([changed.as_bytes(), &looking.held[end..]].concat().into()))
    }
}

impl Place {
    fn open(looking: &Looking, to: Uri) -> Result<Self, BodyError> {
        let Looking { upstream, call, .. } = looking;
        let (token, places) = (new_token()?, upstream.places().clone());
        let session = upstream.session(call, &token);
        places.lock().insert(token.clone(), to);
        Ok(Self { places, token, session })
    }
}

/// The URL that `named` means to who reads it at `base`, if it is of the same origin.
pub(super) fn at_home(base: &Uri, named: &str) -> Option<Uri> {
    let base = Url::parse(&base.to_string()).ok()?;
    let to = base.join(named).ok()?;
    let own = to.origin() == base.origin() && to.username().is_empty() && to.password().is_none();
    own.then(|| to.as_str().parse().ok()).flatten()
}

impl hyper::body::Body for FirstSse {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let data = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.ended = true;
                    Bytes::new()
                }
            };
            match self.look(data) {
                Ok(Some(out)) if !out.is_empty() => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_of_the_upstream_itself_are_posted_to() {
        let base = Uri::from_static("http://up:1/sse?key=k");
        let check = |named: &str, expect: Option<&str>| {
            assert_eq!(at_home(&base, named).map(|uri| uri.to_string()).as_deref(), expect, "{named}");
        };
        check("/messages?sessionId=1", Some("http://up:1/messages?sessionId=1"));
        check("messages", Some("http://up:1/messages"));
        check("http://up:1/m", Some("http://up:1/m"));
        check("http://evil/m", None);
        check("//evil/m", None);
        check("https://up:1/m", None);
        check("http://u:p@up:1/m", None);
    }

    #[test]
    fn paths_name_upstream_and_token() {
        assert_eq!(parse("a.b/messages/t"), Some(("a.b", "t")));
        for wrong in ["a", "a/messages/", "a/b/messages/t", "a/messages/t/u", "/mcp/a/messages/t"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(path("a", "t"), "/mcp/a/messages/t");
    }
}
