//! Facts of a call's arguments: its leaves, its shape and its fingerprint, in one walk.
//!
//! Invariant: white space, key order, escapes and number notation of the JSON never change a shape or a fingerprint;
//! of a key that comes twice the last value counts for the fingerprint, and both are listed as leaves.
//! Upstream: `params.arguments` of a checked envelope. Downstream: `CallFacts`.

use std::{borrow::Cow, hash::Hasher};

use undercurrent_schemas::v1::{Leaf, LeafType, Place};

use super::{
    DigestKey,
    entropy::entropy_millibits,
    host::url_host,
    json::{Cursor, Kind, cut, unescape},
    provenance::Provenance,
    session::Hosts,
    shape::Shape,
    value::Value,
};

/// Longest path that a leaf carries; its digest in the shape is of the whole.
const PATH_BYTES_MAX: usize = 256;

/// What the walk collects.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    key: &'a DigestKey,
    leaves_max: usize,
    provenance: &'a Provenance,
    hosts: &'a Hosts,
    shape: Shape,
    path: String,
    whole: Value,
    part: Value,
    /// Members of the objects around the cursor, to be sorted: (path, fingerprint).
    members: Vec<(u64, u64)>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) leaves_dropped: u32,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(key: &'a DigestKey, leaves_max: usize, provenance: &'a Provenance, hosts: &'a Hosts) -> Self {
        Self {
            key,
            leaves_max,
            provenance,
            hosts,
            shape: Shape::new(key),
            path: String::new(),
            whole: Value::new(provenance.seed()),
            part: Value::new(provenance.seed()),
            members: Vec::new(),
            leaves: Vec::with_capacity(leaves_max.min(8)),
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
        let mut hasher = self.key.hasher(b'c');
        hasher.write(&value.to_le_bytes());
        hasher.write(tool.as_bytes());
        hasher.finish()
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
                self.leaf(LeafType::Number, path, &number);
                self.scalar(b'n', &number)
            }
            kind @ (Kind::Bool | Kind::Null) => {
                let text = cursor.raw();
                self.leaf(if kind == Kind::Bool { LeafType::Bool } else { LeafType::Null }, path, text);
                self.scalar(b'l', text)
            }
        }
    }

    fn string(&mut self, raw: &str, path: u64) -> u64 {
        let text = unescape(raw);
        self.leaf(LeafType::String, path, &text);
        self.scalar(b's', &text)
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
            self.leaf(LeafType::Empty, path, "{}");
        }
        // Stable, so of equal keys the last one stands last.
        self.members[first..].sort_by_key(|(key, _)| *key);
        let members = &self.members[first..];
        let mut hasher = self.key.hasher(b'o');
        for (index, (key, value)) in members.iter().enumerate() {
            if members.get(index + 1).is_none_or(|(next, _)| next != key) {
                hasher.write(&key.to_le_bytes());
                hasher.write(&value.to_le_bytes());
            }
        }
        self.members.truncate(first);
        hasher.finish()
    }

    fn array(&mut self, cursor: &mut Cursor<'_>, path: u64) -> u64 {
        let parent = self.path.len();
        let mut hasher = self.key.hasher(b'a');
        let mut empty = true;
        self.push_path("[]");
        let items = self.shape.items(path);
        cursor.enter();
        while cursor.next_item() {
            hasher.write(&self.value(cursor, items).to_le_bytes());
            empty = false;
        }
        self.path.truncate(parent);
        if empty {
            self.leaf(LeafType::Empty, path, "[]");
        }
        hasher.finish()
    }

    /// Lists one leaf.
    fn leaf(&mut self, kind: LeafType, path: u64, text: &str) {
        self.shape.leaf(path, kind);
        if self.leaves.len() == self.leaves_max {
            self.leaves_dropped = self.leaves_dropped.saturating_add(1);
            return;
        }
        let is_string = kind == LeafType::String;
        // A truth value or an empty list would only match by accident.
        let compared = is_string || kind == LeafType::Number;
        self.whole.set(text);
        let value = self.key.digest(if is_string { self.whole.normal() } else { text.as_bytes() });
        let origin = if compared { self.provenance.origin(&self.whole, text, &mut self.part) } else { None };
        let source = origin.map(|origin| origin.tool.to_string()).unwrap_or_default();
        let place = origin.map_or(Place::Unspecified, |origin| origin.place);
        let place_of_part = origin.is_some_and(|origin| origin.of_part);
        let (host, host_known) = if is_string { self.host(text) } else { (0, false) };
        self.leaves.push(Leaf {
            path: self.path.clone(),
            r#type: kind.into(),
            value,
            source,
            bytes: text.len() as u64,
            entropy_millibits: if is_string { entropy_millibits(text.as_bytes()) } else { 0 },
            host,
            host_known,
            place: place.into(),
            place_of_part,
        });
    }

    /// Digest of the host that a text points to (0 = none), and whether the session has seen it before.
    fn host(&mut self, text: &str) -> (u64, bool) {
        let Some(host) = url_host(text) else { return (0, false) };
        let digest = self.key.digest(host.as_bytes());
        self.part.set(&host);
        (digest, self.hosts.contains(digest) || self.provenance.holds(&self.part))
    }

    fn push_path(&mut self, part: &str) {
        let room = PATH_BYTES_MAX.saturating_sub(self.path.len());
        self.path.push_str(cut(part, room));
    }

    /// Fingerprint of a scalar; the tag tells `1` from `"1"`.
    fn scalar(&self, tag: u8, text: &str) -> u64 {
        let mut hasher = self.key.hasher(tag);
        hasher.write(text.as_bytes());
        hasher.finish()
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
