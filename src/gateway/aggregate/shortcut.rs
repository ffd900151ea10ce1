//! A tool call of `/mcp` that one upstream can answer at once: all that it needs is known, and nobody has to be asked.
//!
//! Nearly every request of a session is one. The strict relay sends it as it would on the upstream's own endpoint; all
//! others go the long way (`routes`), which does the same by hyper. Not here: connections. Invariant: the upstream gets
//! what it would get the long way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;

use super::events::{Addresser, Stream};
use super::member::{Member, is_of_message};
use super::routes::with_name;
use super::sessions::{AtUpstream, Opened};
use super::{Aggregate, NAME, Params, names, text};
use crate::gateway::Upstream;
use crate::gateway::call::{Call, Client, Era, SESSION_ID};
use crate::gateway::envelope::{self, Shape};
use crate::gateway::forward::HttpUpstream;
use crate::gateway::rescue::Refusal;
use crate::gateway::stdio::LEGACY_VERSIONS;

/// Where such a call goes, and what changes on the way.
#[derive(Debug)]
pub(in crate::gateway) struct Shortcut {
    pub(in crate::gateway) upstream: Arc<HttpUpstream>,
    member: Arc<Member>,
    at: Arc<AtUpstream>,
    opened: Arc<Opened>,
    body: Bytes,
}

impl Aggregate {
    /// `lines` are the headers that the client sent.
    pub(in crate::gateway) fn shortcut<'a>(
        &self,
        call: &Call,
        mut lines: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Option<Shortcut> {
        // What repeats the body would have to change with it.
        if call.era != Era::Legacy || lines.any(|(name, value)| repeats_body(name) || is_unknown_version(name, value)) {
            return None;
        }
        let session = self.sessions.get(call.session_id()?, &call.client).ok()?;
        let message = envelope::Message::read(&call.body)?;
        if message.shape() != Shape::Request || message.method.as_deref() != Some("tools/call") {
            return None;
        }
        let raw = Params::read(message.params).ok()?.name?;
        let shown = text(raw).ok()?;
        let (prefix, name) = shown.split_once(&*self.settings.separator)?;
        let member = self.members.iter().find(|member| member.prefix == prefix)?;
        if names::is_shortened(name) {
            return None;
        }
        let at = session.at(&member.name);
        let opened = at.now().filter(|opened| opened.is_told.load(Ordering::Acquire))?;
        let upstream = match member.upstream() {
            Upstream::Http(places) => Arc::clone(places.of_session(opened.id.as_deref())),
            Upstream::Stdio(_) => return None,
        };
        let body = with_name(&call.body, raw, name);
        Some(Shortcut { upstream, member: Arc::clone(member), at, opened, body })
    }

    /// A request that was answered by a shortcut.
    pub(in crate::gateway) fn relayed(&self) {
        self.shared.metrics.requests.with_label_values(&[NAME, "relayed"]).inc();
    }

    /// What a client is told whom the upstream did not let in.
    pub(in crate::gateway) fn not_signed_in(&self, shortcut: &Shortcut) -> Refusal {
        let refusal = Refusal::NotSignedIn { upstream: shortcut.member.name.to_string() };
        self.shared.metrics.requests.with_label_values(&[NAME, refusal.reason()]).inc();
        refusal
    }
}

impl Shortcut {
    /// The call as the upstream's own endpoint would have read it.
    pub(in crate::gateway) fn call(&self, parts: http::request::Parts, client: Client) -> Call {
        let (id, version) = (self.opened.id.as_deref().map(Box::from), Some(&*self.opened.version));
        Call::new(parts, id, version, self.body.clone(), client)
    }

    /// Header lines for the upstream, made of the client's.
    pub(in crate::gateway) fn write_lines<'a>(
        &self,
        lines: impl Iterator<Item = (&'a str, &'a [u8])>,
        out: &mut Vec<u8>,
    ) {
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        };
        for (name, value) in lines {
            let is_ours = OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
            if !is_ours && (self.member.takes_credential || is_of_message(name)) {
                line(name, value);
            }
        }
        line("content-length", self.body.len().to_string().as_bytes());
        line("mcp-protocol-version", self.opened.version.as_bytes());
        if let Some(id) = &self.opened.id {
            line(SESSION_ID, id.as_bytes());
        }
    }

    /// Whether the client is not to see this answer: the upstream does not know the session any more, or the caller.
    pub(in crate::gateway) fn is_denied(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || (status == StatusCode::NOT_FOUND && self.opened.id.is_some())
    }

    /// The upstream has forgotten the session.
    pub(in crate::gateway) fn lose(&self) {
        self.at.lose(&self.opened);
    }

    /// What becomes of events that the upstream answers with.
    pub(in crate::gateway) fn addresser(&self, bytes_max: usize) -> Addresser {
        Addresser::new(Arc::clone(&self.member.name), bytes_max, Stream::OfOne)
    }
}

/// Set anew for the upstream, or of a stream that is not continued here.
const OURS: [&str; 4] = ["content-length", SESSION_ID, "mcp-protocol-version", "last-event-id"];

/// A revision that is refused the long way.
fn is_unknown_version(name: &str, value: &[u8]) -> bool {
    name.eq_ignore_ascii_case("mcp-protocol-version")
        && !LEGACY_VERSIONS.iter().any(|version| version.as_bytes() == value)
}

fn repeats_body(name: &str) -> bool {
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|part| part.eq_ignore_ascii_case(prefix));
    begins("mcp-param-") || ["mcp-name", "mcp-method"].iter().any(|other| name.eq_ignore_ascii_case(other))
}
