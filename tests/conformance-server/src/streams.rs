//! Closing the event stream of a call that is still running, so that its client has to come back for the answer.
//!
//! Only a legacy session over HTTP has such streams; elsewhere nothing happens.

use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

/// Exchanges of one session that are looked at; the suite has a handful.
const EXCHANGES: u64 = 32;
/// When the client may come back.
const RETRY: Duration = Duration::from_millis(300);

/// The streams of a server over HTTP, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Option<Arc<LocalSessionManager>>);

impl Streams {
    pub(crate) fn of(sessions: Arc<LocalSessionManager>) -> Self {
        Self(Some(sessions))
    }

    /// Closes all event streams of POST requests of the session that `ctx` belongs to: rmcp does not say which of them
    /// is the call's own.
    pub(crate) async fn close(&self, ctx: &RequestContext<RoleServer>) {
        let Some(sessions) = &self.0 else { return };
        let head = ctx.extensions.get::<http::request::Parts>();
        let id = head.and_then(|head| head.headers.get("mcp-session-id")).and_then(|id| id.to_str().ok());
        let Some(id) = id else { return };
        let session = sessions.sessions.read().await.get(id).cloned();
        let Some(session) = session else { return };
        for exchange in 0..EXCHANGES {
            // An exchange that is over, or never was, has no stream to close.
            let _ = session.close_sse_stream(exchange, Some(RETRY)).await;
        }
    }
}
