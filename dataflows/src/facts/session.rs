//! What a session remembers of its own past, apart from values: open requests, the last calls, hosts, the version.

use std::{
    collections::{VecDeque, vec_deque},
    sync::Arc,
};

use undercurrent_schemas::v1::Direction;

use super::{
    arguments::canonical_number,
    json::{Cursor, Kind, unescape},
};
use crate::{model::name_hash, session::EARLIER_TOOLS_MAX};

/// Hosts of arguments that a session remembers; the oldest is forgotten first.
const HOSTS_MAX: usize = 256;

/// A request that waits for its response.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Arc<str>,
    pub(super) target: Arc<str>,
}

/// Requests by direction and id. Few are open at a time, so a list that is searched from its newest end is fastest,
/// and a reused id means its newest request.
#[derive(Debug)]
pub(super) struct OpenRequests {
    requests: VecDeque<(Direction, String, Request)>,
    requests_max: usize,
}

impl OpenRequests {
    pub(super) fn new(requests_max: usize) -> Self {
        Self { requests: VecDeque::new(), requests_max: requests_max.max(1) }
    }

    pub(super) fn insert(&mut self, direction: Direction, id: &str, request: Request) {
        if self.requests.len() >= self.requests_max {
            self.requests.pop_front();
        }
        self.requests.push_back((direction, canonical_id(id), request));
    }

    /// Takes the request that a response going in `direction` answers.
    pub(super) fn answered(&mut self, direction: Direction, id: &str) -> Option<Request> {
        let id = canonical_id(id);
        let asked = |entry: &(Direction, String, Request)| entry.0 != direction && entry.1 == id;
        let index = self.requests.iter().rposition(asked)?;
        self.requests.remove(index).map(|(_, _, request)| request)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let texts = |(_, id, request): &(_, String, Request)| id.len() + request.method.len() + request.target.len();
        self.requests.capacity() * size_of::<(Direction, String, Request)>() + self.iter().map(texts).sum::<usize>()
    }

    fn iter(&self) -> vec_deque::Iter<'_, (Direction, String, Request)> {
        self.requests.iter()
    }
}

/// An id as peers that parse and write it again see it: `"\u0061"` is `"a"`, `1.0` is `1`.
fn canonical_id(id: &str) -> String {
    match Cursor::new(id).kind() {
        Kind::Number => canonical_number(id).into_owned(),
        Kind::String => unescape(id).into_owned(),
        Kind::Null | Kind::Bool | Kind::Array | Kind::Object => String::new(),
    }
}

/// Digests of the hosts that arguments pointed to.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    digests: VecDeque<u64>,
}

impl Hosts {
    pub(super) fn contains(&self, host: u64) -> bool {
        self.digests.contains(&host)
    }

    pub(super) fn insert(&mut self, host: u64) {
        if host == 0 || self.contains(host) {
            return;
        }
        if self.digests.len() == HOSTS_MAX {
            self.digests.pop_front();
        }
        self.digests.push_back(host);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.digests.capacity() * size_of::<u64>()
    }
}

/// The calls so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Calls made; stops at the largest number.
    pub(super) made: u32,
    /// The last two tools, nearest first.
    previous: [Option<Arc<str>>; 2],
    last_fingerprint: Option<u64>,
    repeats: u32,
    /// Bytes of the largest result of a call.
    pub(super) largest_result: u64,
    /// Name hashes of the tools called, each once, in the order of their first calls.
    pub(super) tools: Vec<u64>,
}

impl Calls {
    pub(super) fn previous_tools(&self) -> Vec<String> {
        self.previous.iter().flatten().map(|tool| tool.to_string()).collect()
    }

    /// Counts a call; how many calls before it, without a break, had its fingerprint.
    pub(super) fn push(&mut self, tool: Arc<str>, fingerprint: u64) -> u32 {
        self.repeats = if self.last_fingerprint == Some(fingerprint) { self.repeats.saturating_add(1) } else { 0 };
        self.last_fingerprint = Some(fingerprint);
        self.made = self.made.saturating_add(1);
        let name = name_hash(&[&tool]);
        if self.tools.len() < EARLIER_TOOLS_MAX && !self.tools.contains(&name) {
            self.tools.push(name);
        }
        self.previous = [Some(tool), self.previous[0].take()];
        self.repeats
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.tools.capacity() * size_of::<u64>() + self.previous.iter().flatten().map(|tool| tool.len()).sum::<usize>()
    }
}
