//! Taking back what an upstream was asked when it has not answered in time.
//!
//! Up to 2025-11-25 an upstream goes on when its connection ends, so it has to be told. Not here: when a call is given up
//! (`forward`, `relay`, `strict`), and the same for children (`stdio`). Invariant: it is said in the request's own
//! session, by the request's own sender, at most once, and nobody waits for it.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::call::{Call, Era, SESSION_ID};
use super::envelope::{Envelope, RequestIds};
use super::forward::HttpUpstream;
use super::stdio::cancellation;

/// What a message says of its revision and its sender.
pub(super) const OF_SENDER: [HeaderName; 2] = [HeaderName::from_static("mcp-protocol-version"), AUTHORIZATION];

/// A request that can be taken back.
#[derive(Debug)]
pub(crate) struct Withdrawal {
    upstream: Arc<HttpUpstream>,
    headers: HeaderMap,
    body: Bytes,
}

impl Withdrawal {
    /// `header` is of the request as the upstream gets it. `None` where the end of the exchange says the same
    /// (2026-07-28), and where no session tells whose request it is, as with `initialize`, which must not be cancelled.
    pub(crate) fn of(
        upstream: &Arc<HttpUpstream>,
        call: &Call,
        header: impl Fn(&HeaderName) -> Option<HeaderValue>,
    ) -> Option<Self> {
        let session = call.session_id().filter(|_| call.era == Era::Legacy && !call.by_first_sse && !call.listens())?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(SESSION_ID), HeaderValue::from_str(session).ok()?);
        headers.extend(OF_SENDER.iter().filter_map(|name| Some((name.clone(), header(name)?))));
        Some(Self { upstream: Arc::clone(upstream), headers, body: call.body.clone() })
    }

    /// Sends it, where a request was asked.
    pub(crate) fn send(self) {
        let Some(message) = message(&self.body) else { return };
        let Self { upstream, headers, .. } = self;
        let finish = upstream.finish().clone();
        finish.spawn(async move { upstream.withdraw(headers, message).await });
    }
}

/// The cancellation of what a body asks: a batch of a batch.
fn message(body: &[u8]) -> Option<Bytes> {
    let of = |id: &String| cancellation(id, "timeout");
    match Envelope::read(body).ids() {
        RequestIds::One(id) => Some(of(&id).into()),
        RequestIds::Many(ids) if !ids.is_empty() => {
            Some(format!("[{}]", ids.iter().map(of).collect::<Vec<_>>().join(",")).into())
        }
        RequestIds::Many(_) | RequestIds::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_back_and_nothing_else_is() {
        let check = |body: &str, expect: Option<&str>| {
            let message = message(body.as_bytes()).map(|message| String::from_utf8(message.to_vec()).unwrap());
            assert_eq!(message.as_deref(), expect, "{body}");
        };
        let one =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1.0,"reason":"timeout"}}"#;
        check(r#"{"jsonrpc":"2.0","id":1.0,"method":"x"}"#, Some(one));
        check(r#"[{"id":1.0,"method":"x"},{"method":"y"}]"#, Some(&format!("[{one}]")));
        check(r#"{"jsonrpc":"2.0","method":"x"}"#, None);
        check(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, None);
    }
}
