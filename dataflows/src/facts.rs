//! Facts: what can be said of a message at the edge, once, so that its payload need not travel.
//!
//! Upstream: raw JSON-RPC bytes. Downstream: [`undercurrent_schemas::v1::Message`]. Not here: ids, times, verdicts.

use undercurrent_schemas::v1::{Direction, Message};

/// Bounds on what one message or session may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deepest nesting of JSON values that is looked into; deeper messages are malformed.
    pub depth_max: usize,
    /// Argument leaves listed per call; the rest is counted.
    pub leaves_max: usize,
    /// Values that one session's provenance index holds; the oldest leave first.
    pub index_values_max: usize,
    /// Bytes of one result that are indexed; the rest is not looked into.
    pub index_bytes_max: usize,
    /// Requests of one session that wait for an answer; the oldest is forgotten first.
    pub open_requests_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 128,
            leaves_max: 64,
            index_values_max: 4096,
            index_bytes_max: 256 * 1024,
            open_requests_max: 1024,
        }
    }
}

/// The key of a deployment's digests: equal values have equal digests under one key, and no meaning without it.
#[derive(Clone)]
pub struct DigestKey {
    pub id: u32,
    pub secret: [u8; 16],
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DigestKey({}, ..)", self.id)
    }
}

impl DigestKey {
    /// The key of replays: their result depends on the file alone.
    pub const REPLAY: Self = Self { id: 0, secret: [0; 16] };

    /// Keyed digest (SipHash-2-4) of a value.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> u64 {
        let _ = value;
        0
    }
}

/// What the edge remembers of one session: open requests, the last tools, and which result held which value.
#[derive(Debug)]
pub struct SessionFacts {
    limits: Limits,
}

impl SessionFacts {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Facts of one message in the order in which the edge saw it; one per element for a batch, else exactly one.
    /// Anything that is not JSON-RPC 2.0 gives one message of kind `MALFORMED` that says why.
    pub fn observe(&mut self, direction: Direction, bytes: &[u8], key: &DigestKey) -> Vec<Message> {
        let _ = (direction, bytes, key, self.limits);
        Vec::new()
    }

    /// Bytes that this session holds, for the bound over all sessions.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        0
    }

    /// Forgets which result held which value (the oldest idle session goes first when memory is short).
    pub fn forget_values(&mut self) {}
}
