//! The edge: what happens to each message besides being relayed. Facts, assessment, decision, event.
//!
//! Upstream: the HTTP gateway, `wrap` and `replay`, which hand it the bytes they relay. Downstream: the log.
//! Invariant: nothing here awaits, blocks on I/O or fails; if learning is down the answer is `Assessment::Unknown`.

use std::sync::Arc;
use std::time::Duration;

/// How messages travel: `network.transport` of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Pipe,
    Tcp,
}

/// What identifies a session to the edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// `Mcp-Session-Id`, or a stdio process: a credential, never logged or published as it is.
    Id(String),
    /// The stateless era: principal and trace; the edge splits it at idle gaps.
    Stateless { trace_id: String },
}

/// Who talks to whom, and over what.
#[derive(Clone, Debug)]
pub struct SessionRef {
    pub server: Arc<str>,
    pub key: SessionKey,
    /// The authenticated subject, else the client's address without port.
    pub principal: Arc<str>,
    pub transport: Transport,
}

/// The right to forward one client message: only a decision makes one, and forwarding uses it up.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a message that was not forwarded"]
pub struct Permit(());

/// Why a message is not forwarded; what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReason {
    /// A stable code, e.g. `policy_block`.
    pub code: &'static str,
    /// In words, for the client.
    pub text: String,
}

/// What to do with a client message.
#[derive(Debug)]
pub enum Outcome {
    Forward(Permit),
    /// Forward, but only after this pause.
    Delay(Duration, Permit),
    /// Answer the client with an error and forward nothing.
    Block(BlockReason),
}

/// The edge of one process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Edge {}

/// One session at the edge; dropping it says nothing, `end` does.
#[derive(Debug)]
pub struct EdgeSession {}

impl Edge {
    /// The session's state, made on first sight.
    pub fn session(&self, session: &SessionRef) -> Arc<EdgeSession> {
        let _ = session;
        Arc::new(EdgeSession {})
    }
}

impl EdgeSession {
    /// Call with the whole body (one message or a batch) before it is forwarded. Microseconds; never waits.
    pub fn client_message(&self, body: &[u8]) -> Outcome {
        let _ = body;
        Outcome::Forward(Permit(()))
    }

    /// Call with each whole message from the server (a JSON body, the data of one SSE event, one stdio line) once it
    /// has been handed to the client.
    pub fn server_message(&self, body: &[u8]) {
        let _ = body;
    }

    /// The session ended: DELETE, end of input, process exit.
    pub fn end(&self) {}
}
