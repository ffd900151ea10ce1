//! Facts of a call's arguments: its leaves, its shape and its fingerprint, in one walk.
//!
//! Invariant: white space, key order, escapes and number notation of the JSON never change a shape or a fingerprint;
//! of a key that comes twice the last value counts for the fingerprint, and both are listed as leaves.
//! Upstream: `params.arguments` of a checked envelope. Downstream: `CallFacts`.

use std::borrow::Cow;

use undercurrent_schemas::v1::{Leaf, LeafType};

use super::{
    DigestKey,
    entropy::entropy_millibits,
    host::url_host,
    json::{Cursor, Kind, unescape},
    provenance::Provenance,
    session::Hosts,
    shape::Shape,
    words::Normal,
};

/// Longest path that a leaf carries; its digest in the shape is of the whole.
const PATH_BYTES_MAX: usize = 256;

/// What the walk collects.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    key: &'a DigestKey,
    leaves_max: usize,
    provenance: &'a mut Provenance,
    hosts: &'a Hosts,
    shape: Shape,
    path: String,
    normal: Normal,
    /// Members of the objects around the cursor, to be sorted: (path, fingerprint).
    members: Vec<(u64, u64)>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) leaves_dropped: u32,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(key: &'a DigestKey, leaves_max: usize, provenance: &'a mut Provenance, hosts: &'a Hosts) -> Self {
        Self {
            key,
            leaves_max,
            provenance,
            hosts,
            shape: Shape::new(key),
            path: String::new(),
            normal: Normal::default(),
            members: Vec::new(),
            leaves: Vec::new(),
            leaves_dropped: 0,
        }
    }

    /// Walks the arguments; the fingerprint of this call of `tool`.
    pub(super) fn walk(&mut self, tool: &str, arguments: &str) -> u64 {
        let root = self.shape.root();
        let mut cursor = Cursor::new(arguments);
        // Without arguments a call has the fingerprint of one with `{}`, and no leaf.
        let empty = arguments.is_empty() || { cursor.enter() && !cursor.next_item() };
        let value = if empty { 0 } else { self.value(&mut Cursor::new(arguments), root) };
        self.digest(b'c', &[tool.as_bytes(), &value.to_le_bytes()])
    }

    pub(super) fn shape(&mut self) -> u64 {
        self.shape.digest(self.key)
    }

    /// Walks one value; its fingerprint. Recursion is as deep as the JSON, which the envelope has bounded.
    fn value(&mut self, cursor: &mut Cursor<'_>, path: u64) -> u64 {
        match cursor.kind() {
            Kind::Object => self.object(cursor, path),
            Kind::Array => self.array(cursor, path),
            Kind::String => self.string(cursor.string(), path),
            Kind::Number => {
                let number = canonical_number(cursor.raw());
                self.leaf(LeafType::Number, path, &number, &number);
                self.digest(b'n', &[number.as_bytes()])
            }
            kind @ (Kind::Bool | Kind::Null) => {
                let text = cursor.raw();
                self.leaf(if kind == Kind::Bool { LeafType::Bool } else { LeafType::Null }, path, text, "");
                self.digest(b'l', &[text.as_bytes()])
            }
        }
    }

    fn string(&mut self, raw: &str, path: u64) -> u64 {
        let text = unescape(raw);
        self.leaf(LeafType::String, path, &text, &text);
        self.digest(b's', &[text.as_bytes()])
    }

    fn object(&mut self, cursor: &mut Cursor<'_>, path: u64) -> u64 {
        let first = self.members.len();
        let parent = self.path.len();
        cursor.enter();
        while let Some(key) = cursor.next_key() {
            let key = unescape(key);
            if parent > 0 {
                self.push_path(".");
            }
            self.push_path(&key);
            let path = self.shape.key(path, &key);
            let value = self.value(cursor, path);
            self.members.push((path, value));
            self.path.truncate(parent);
        }
        if self.members.len() == first {
            self.leaf(LeafType::Empty, path, "{}", "");
        }
        // Stable, so of equal keys the last one stands last.
        self.members[first..].sort_by_key(|(key, _)| *key);
        let members = &self.members[first..];
        let mut bytes = Vec::with_capacity(members.len() * 16);
        for (index, (key, value)) in members.iter().enumerate() {
            if members.get(index + 1).is_none_or(|(next, _)| next != key) {
                bytes.extend_from_slice(&key.to_le_bytes());
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        self.members.truncate(first);
        self.digest(b'o', &[&bytes])
    }

    fn array(&mut self, cursor: &mut Cursor<'_>, path: u64) -> u64 {
        let parent = self.path.len();
        let mut state = 0_u64;
        let mut empty = true;
        self.push_path("[]");
        let items = self.shape.items(path);
        cursor.enter();
        while cursor.next_item() {
            let value = self.value(cursor, items);
            state = self.digest(b'i', &[&state.to_le_bytes(), &value.to_le_bytes()]);
            empty = false;
        }
        self.path.truncate(parent);
        if empty {
            self.leaf(LeafType::Empty, path, "[]", "");
        }
        self.digest(b'a', &[&state.to_le_bytes()])
    }

    /// Lists one leaf. `compared` is what provenance looks for: empty for what can only match by accident.
    fn leaf(&mut self, kind: LeafType, path: u64, text: &str, compared: &str) {
        self.shape.leaf(path, kind);
        if self.leaves.len() == self.leaves_max {
            self.leaves_dropped = self.leaves_dropped.saturating_add(1);
            return;
        }
        let is_string = kind == LeafType::String;
        let host = if is_string { url_host(text) } else { None };
        let host_digest = host.as_ref().map_or(0, |host| self.key.digest(host.as_bytes()));
        let source = if compared.is_empty() { None } else { self.provenance.source(compared) };
        let source = source.map(|tool| tool.to_string()).unwrap_or_default();
        self.leaves.push(Leaf {
            path: self.path.clone(),
            r#type: kind.into(),
            value: self.key.digest(if is_string { self.normal.set(text) } else { text }.as_bytes()),
            source,
            bytes: text.len() as u64,
            entropy_millibits: if is_string { entropy_millibits(text.as_bytes()) } else { 0 },
            host: host_digest,
            host_known: host.is_some_and(|host| self.hosts.contains(host_digest) || self.provenance.holds(&host)),
        });
    }

    fn push_path(&mut self, part: &str) {
        let room = PATH_BYTES_MAX.saturating_sub(self.path.len());
        self.path.push_str(&part[..part.floor_char_boundary(room)]);
    }

    fn digest(&self, tag: u8, parts: &[&[u8]]) -> u64 {
        self.key.digest_parts(tag, parts)
    }
}

/// One text for one number, whatever its notation: `1.50` and `15e-1` are `1.5`, `-0.0` is `0`. Whole numbers keep all
/// their digits; others have the precision of a double.
pub(super) fn canonical_number(text: &str) -> Cow<'_, str> {
    if text != "-0" && !text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Cow::Borrowed(text);
    }
    match text.parse::<f64>() {
        Ok(0.0) => Cow::Borrowed("0"),
        Ok(number) if number.is_finite() => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(text),
    }
}
