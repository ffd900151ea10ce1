//! Facts: what can be said of a message at the edge, once, so that its payload need not travel.
//!
//! Upstream: raw JSON-RPC bytes, one whole message at a time. Downstream: [`undercurrent_schemas::v1::Message`].
//! Not here: ids, times, verdicts, transports. Invariants: the same messages in the same order under the same key give
//! the same facts; nothing a peer sends makes a session hold more than its [`Limits`] allow.

mod arguments;
mod entropy;
mod envelope;
mod host;
mod json;
mod mix;
mod provenance;
mod results;
mod session;
mod shape;
#[cfg(test)]
mod tests;
mod value;
mod words;

use std::{hash::Hasher, sync::Arc};

use siphasher::sip::SipHasher24;
use undercurrent_schemas::v1::{CallFacts, Direction, Kind, Message, ResultFacts};

use self::{
    arguments::Arguments,
    envelope::{Body, Envelope, Malformed},
    json::{cut, members, text_of},
    provenance::Provenance,
    results::{Indexer, error_facts, result_facts, tool_definitions},
    session::{Calls, Hosts, OpenRequests, Request},
};

/// Longest method, tool name, URI or header-like text that a message carries; longer ones are cut.
const TEXT_BYTES_MAX: usize = 512;
/// `params._meta` of 2026-07-28.
const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// Bounds on what one message or session may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deepest nesting of JSON values that is looked into; deeper messages are malformed.
    pub depth_max: usize,
    /// Argument leaves listed per call; the rest is counted.
    pub leaves_max: usize,
    /// Words that one session's provenance index holds (8 to 12 bytes each); the oldest leave first.
    pub index_values_max: usize,
    /// Bytes of one result that are indexed; the rest is not looked into.
    pub index_bytes_max: usize,
    /// Requests of one session that wait for an answer; the oldest is forgotten first.
    pub open_requests_max: usize,
    /// Whether arguments, results and definitions are looked into; without that only envelopes are told.
    pub looks_inside: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 128,
            leaves_max: 64,
            index_values_max: 16 * 1024,
            index_bytes_max: 256 * 1024,
            open_requests_max: 1024,
            looks_inside: true,
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
        SipHasher24::new_with_key(&self.secret).hash(value)
    }

    /// Digest of parts that are written one after the other; the tag tells what they are.
    fn hasher(&self, tag: u8) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(&[tag]);
        hasher
    }

    /// Seed of the hashes that stay inside.
    fn inner_seed(&self) -> u64 {
        self.hasher(b'~').finish()
    }
}

/// What the edge remembers of one session: open requests, the last tools, and which result held which value.
#[derive(Debug)]
pub struct SessionFacts {
    limits: Limits,
    open: OpenRequests,
    calls: Calls,
    hosts: Hosts,
    /// Made with the first message, under its key.
    provenance: Option<Provenance>,
    /// What `initialize` settled on.
    protocol_version: String,
}

impl SessionFacts {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: OpenRequests::new(limits.open_requests_max),
            calls: Calls::default(),
            hosts: Hosts::default(),
            provenance: None,
            protocol_version: String::new(),
        }
    }

    /// Facts of one message in the order in which the edge saw it; one per element for a batch, else exactly one.
    /// Anything that is not JSON-RPC 2.0 gives one message of kind `MALFORMED` that says why.
    pub fn observe(&mut self, direction: Direction, bytes: &[u8], key: &DigestKey) -> Vec<Message> {
        let elements =
            envelope::checked(bytes, self.limits.depth_max).and_then(|text| Ok((text, envelope::batch(text)?)));
        match elements {
            Err(reason) => vec![malformed(direction, bytes.len(), &reason)],
            Ok((text, None)) => vec![self.message(direction, text, bytes.len(), key)],
            Ok((_, Some(texts))) => (1..)
                .zip(texts)
                .map(|(batch_index, text)| Message { batch_index, ..self.message(direction, text, text.len(), key) })
                .collect(),
        }
    }

    /// Bytes that this session holds, for the bound over all sessions.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.open.held_bytes()
            + self.calls.held_bytes()
            + self.hosts.held_bytes()
            + self.protocol_version.capacity()
            + self.provenance.as_ref().map_or(0, Provenance::held_bytes)
    }

    /// Forgets which result held which value (the oldest idle session goes first when memory is short).
    pub fn forget_values(&mut self) {
        if let Some(provenance) = &mut self.provenance {
            provenance.forget();
        }
        self.hosts = Hosts::default();
    }

    fn message(&mut self, direction: Direction, text: &str, size: usize, key: &DigestKey) -> Message {
        let Envelope { id, body } = match envelope::parse(text) {
            Ok(envelope) => envelope,
            Err(reason) => return malformed(direction, size, &reason),
        };
        let message = match body {
            Body::Call { method, params } => self.call(direction, id, &method, params, key),
            Body::Result(result) => self.result(direction, id, result, key),
            Body::Error(error) => self.error(direction, id, error, key),
        };
        let protocol_version =
            if message.protocol_version.is_empty() { self.protocol_version.clone() } else { message.protocol_version };
        Message {
            direction: direction.into(),
            jsonrpc_id: id.to_owned(),
            size_bytes: size as u64,
            protocol_version,
            ..message
        }
    }

    fn call(&mut self, direction: Direction, id: &str, method: &str, params: &str, key: &DigestKey) -> Message {
        let method = cut(method, TEXT_BYTES_MAX);
        let names = [target_name(method), "_meta", "protocolVersion", "arguments"];
        let [target, meta, initialize_version, arguments] = members(params, names);
        let [traceparent, meta_version] = members(meta, ["traceparent", META_PROTOCOL_VERSION]);
        let version = if method == "initialize" { initialize_version } else { meta_version };
        let mut message = Message {
            kind: if id.is_empty() { Kind::Notification } else { Kind::Request }.into(),
            method: method.to_owned(),
            target: text(target),
            traceparent: text(traceparent),
            protocol_version: text(version),
            ..Message::default()
        };
        if id.is_empty() {
            return message;
        }
        let target: Arc<str> = message.target.as_str().into();
        if method == "tools/call" && direction == Direction::ClientToServer {
            message.call = Some(self.call_facts(&target, arguments, key));
        }
        self.open.insert(direction, id, Request { method: method.into(), target });
        message
    }

    fn call_facts(&mut self, tool: &Arc<str>, arguments: &str, key: &DigestKey) -> CallFacts {
        let arguments = if arguments == "null" { "" } else { arguments };
        if !self.limits.looks_inside {
            return CallFacts { arguments_bytes: arguments.len() as u64, ..CallFacts::default() };
        }
        let provenance = provenance(&mut self.provenance, &self.limits, key);
        let mut walk = Arguments::new(key, self.limits.leaves_max, provenance, &self.hosts);
        let fingerprint = walk.walk(tool, arguments);
        let (shape, leaves, leaves_dropped) = (walk.shape(), walk.leaves, walk.leaves_dropped);
        // Only now: two leaves of one call do not make a host known to each other.
        leaves.iter().for_each(|leaf| self.hosts.insert(leaf.host));
        CallFacts {
            shape,
            fingerprint,
            arguments_bytes: arguments.len() as u64,
            leaves,
            leaves_dropped,
            previous_tools: self.calls.previous_tools(),
            earlier_tools: self.calls.tools.clone(),
            position: self.calls.made,
            largest_result_bytes: self.calls.largest_result,
            repeats: self.calls.push(Arc::clone(tool), fingerprint),
        }
    }

    fn result(&mut self, direction: Direction, id: &str, result: &str, key: &DigestKey) -> Message {
        let request = self.open.answered(direction, id);
        let method = request.as_ref().map_or("", |request| &*request.method);
        let mut message = Message { kind: Kind::Result.into(), ..Message::default() };
        match method {
            "initialize" => {
                let [version] = members(result, ["protocolVersion"]);
                message.protocol_version = text(version);
                self.protocol_version.clone_from(&message.protocol_version);
            }
            "tools/list" if self.limits.looks_inside => message.tool_definitions = tool_definitions(result),
            "tools/call" => self.calls.largest_result = self.calls.largest_result.max(result.len() as u64),
            _ => {}
        }
        let facts = self.answer(direction, request.as_ref(), result, key, result_facts);
        with_request(Message { result: Some(facts), ..message }, request)
    }

    fn error(&mut self, direction: Direction, id: &str, error: &str, key: &DigestKey) -> Message {
        let request = if id.is_empty() { None } else { self.open.answered(direction, id) };
        let facts = self.answer(direction, request.as_ref(), error, key, error_facts);
        with_request(Message { kind: Kind::Error.into(), result: Some(facts), ..Message::default() }, request)
    }

    /// Facts of an answer; what a server hands out as content enters the index.
    fn answer(
        &mut self,
        direction: Direction,
        request: Option<&Request>,
        text: &str,
        key: &DigestKey,
        facts: fn(&str, &mut Indexer<'_>, usize, &DigestKey) -> ResultFacts,
    ) -> ResultFacts {
        let source = request.filter(|_| direction == Direction::ServerToClient).and_then(source_name);
        let bytes_max = if self.limits.looks_inside { self.limits.index_bytes_max } else { 0 };
        let provenance = source.filter(|_| self.limits.looks_inside).map(|source| {
            let provenance = provenance(&mut self.provenance, &self.limits, key);
            provenance.begin(source);
            provenance
        });
        facts(text, &mut Indexer::new(provenance, bytes_max), bytes_max, key)
    }
}

/// The session's index, under the key of its first use: a rotated key does not make it forget.
fn provenance<'a>(index: &'a mut Option<Provenance>, limits: &Limits, key: &DigestKey) -> &'a mut Provenance {
    index.get_or_insert_with(|| Provenance::new(limits.index_values_max, key.inner_seed()))
}

/// As what an answer is a source of values: its tool; resources and prompts, whose names vary, by their method.
fn source_name(request: &Request) -> Option<&Arc<str>> {
    match &*request.method {
        "tools/call" => Some(&request.target),
        "resources/read" | "prompts/get" => Some(&request.method),
        _ => None,
    }
}

fn with_request(message: Message, request: Option<Request>) -> Message {
    match request {
        Some(Request { method, target }) => {
            Message { method: method.to_string(), target: target.to_string(), ..message }
        }
        None => message,
    }
}

/// Which parameter says what a request is about: tool or prompt name, resource URI, or task id; empty
/// if it is about nothing in particular.
fn target_name(method: &str) -> &'static str {
    match method {
        "tools/call" | "prompts/get" => "name",
        "notifications/resources/updated" => "uri",
        _ if method.starts_with("resources/") => "uri",
        _ if method.starts_with("tasks/") || method.starts_with("notifications/tasks") => "taskId",
        _ => "",
    }
}

/// The characters of a JSON string, as many of them as a message carries.
fn text(value: &str) -> String {
    cut(&text_of(value), TEXT_BYTES_MAX).to_owned()
}

fn malformed(direction: Direction, size: usize, reason: &Malformed) -> Message {
    Message {
        direction: direction.into(),
        kind: Kind::Malformed.into(),
        size_bytes: size as u64,
        malformed: reason.to_string(),
        ..Message::default()
    }
}
