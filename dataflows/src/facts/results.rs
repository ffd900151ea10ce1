//! Facts of results and errors, and what of them enters the session's provenance index.
//!
//! Indexed are texts: `content[].text`, names and URIs of resources, prompts' texts, every key, string and number of
//! `structuredContent`, and the message of an error; never images, sounds and blobs.
//! Upstream: `result` or `error` of a checked envelope. Downstream: `ResultFacts`.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use undercurrent_schemas::v1::ResultFacts;

use super::{
    DigestKey,
    arguments::canonical_number,
    json::{Cursor, Kind, cut, members, unescape},
    provenance::Provenance,
    shape::Shape,
};

static UNICODE_ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u"));
/// `error.type` of a tool result with `isError`.
const TOOL_ERROR: &str = "tool_error";
/// Definitions of one `tools/list` result that are carried, and their bytes in all: what an event may hold.
const DEFINITIONS_MAX: usize = 4096;
const DEFINITIONS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Adds texts to the index until the bytes of one result are used up.
#[derive(Debug)]
pub(super) struct Indexer<'a> {
    provenance: Option<&'a mut Provenance>,
    bytes_left: usize,
    values: u32,
}

impl<'a> Indexer<'a> {
    /// Without an index, nothing is looked into: results of methods that hand out no values.
    pub(super) fn new(provenance: Option<&'a mut Provenance>, bytes_max: usize) -> Self {
        Self { provenance, bytes_left: bytes_max, values: 0 }
    }

    fn text(&mut self, raw: &str) {
        self.add(raw, Provenance::add);
    }

    fn add(&mut self, raw: &str, add: fn(&mut Provenance, &str) -> u32) {
        let Some(provenance) = &mut self.provenance else { return };
        let raw = cut(raw, self.bytes_left);
        self.bytes_left -= raw.len();
        // Words are told from other escapes as they stand; only `\u` may hide letters.
        let hides_letters = UNICODE_ESCAPE.find(raw.as_bytes()).is_some();
        let added = if hides_letters { add(provenance, &unescape(raw)) } else { add(provenance, raw) };
        self.values = self.values.saturating_add(added);
    }

    /// Every key, string and number of a value.
    fn value(&mut self, cursor: &mut Cursor<'_>) {
        match cursor.kind() {
            _ if self.bytes_left == 0 => {
                cursor.raw();
            }
            Kind::Object => {
                cursor.enter();
                while let Some(key) = cursor.next_key() {
                    self.add(key, Provenance::add_key);
                    self.value(cursor);
                }
            }
            Kind::Array => {
                cursor.enter();
                while cursor.next_item() {
                    self.value(cursor);
                }
            }
            Kind::String => self.text(cursor.string()),
            Kind::Number => self.text(&canonical_number(cursor.raw())),
            Kind::Null | Kind::Bool => {
                cursor.raw();
            }
        }
    }

    /// The texts of one content block, resource or prompt message; the bytes of its `text`.
    fn block(&mut self, cursor: &mut Cursor<'_>) -> u64 {
        let mut bytes = 0;
        if cursor.kind() != Kind::Object {
            cursor.raw();
            return bytes;
        }
        cursor.enter();
        while let Some(key) = cursor.next_key() {
            match (&*unescape(key), cursor.kind()) {
                ("text", Kind::String) => {
                    let text = cursor.string();
                    bytes += text.len() as u64;
                    self.text(text);
                }
                ("uri" | "name" | "title" | "description", Kind::String) => self.text(cursor.string()),
                ("resource" | "content", Kind::Object) => bytes += self.block(cursor),
                _ => {
                    cursor.raw();
                }
            }
        }
        bytes
    }

    /// The texts of a list of blocks; their number and the bytes of their `text`.
    fn blocks(&mut self, cursor: &mut Cursor<'_>) -> (u32, u64) {
        let (mut items, mut bytes) = (0_u32, 0);
        if cursor.kind() != Kind::Array {
            cursor.raw();
            return (items, bytes);
        }
        cursor.enter();
        while cursor.next_item() {
            items = items.saturating_add(1);
            bytes += self.block(cursor);
        }
        (items, bytes)
    }
}

/// Facts of a `result`.
pub(super) fn result_facts(
    result: &str,
    indexer: &mut Indexer<'_>,
    shape_bytes_max: usize,
    key: &DigestKey,
) -> ResultFacts {
    let mut facts = ResultFacts { shape: shape(result, shape_bytes_max, key), ..ResultFacts::default() };
    let mut cursor = Cursor::new(result);
    cursor.enter();
    while let Some(name) = cursor.next_key() {
        match &*unescape(name) {
            "isError" => facts.is_error = cursor.raw() == "true",
            "content" | "contents" | "messages" => {
                let (items, bytes) = indexer.blocks(&mut cursor);
                facts.content_items = facts.content_items.saturating_add(items);
                facts.content_bytes += bytes;
            }
            "structuredContent" => {
                let value = cursor.raw();
                facts.content_bytes += value.len() as u64;
                indexer.value(&mut Cursor::new(value));
            }
            _ => {
                cursor.raw();
            }
        }
    }
    facts.values_indexed = indexer.values;
    facts.error_type = if facts.is_error { TOOL_ERROR.to_owned() } else { String::new() };
    facts
}

/// Facts of an `error`.
pub(super) fn error_facts(
    error: &str,
    indexer: &mut Indexer<'_>,
    shape_bytes_max: usize,
    key: &DigestKey,
) -> ResultFacts {
    let mut facts = ResultFacts { shape: shape(error, shape_bytes_max, key), ..ResultFacts::default() };
    let mut cursor = Cursor::new(error);
    cursor.enter();
    while let Some(name) = cursor.next_key() {
        match (&*unescape(name), cursor.kind()) {
            ("code", Kind::Number) => facts.error_code = canonical_number(cursor.raw()).parse().unwrap_or_default(),
            ("message", Kind::String) => indexer.text(cursor.string()),
            _ => {
                cursor.raw();
            }
        }
    }
    facts.values_indexed = indexer.values;
    facts.error_type = facts.error_code.to_string();
    facts
}

/// The JSON text of each definition of a `tools/list` result.
pub(super) fn tool_definitions(result: &str) -> Vec<Vec<u8>> {
    let mut definitions = Vec::new();
    let mut bytes_left = DEFINITIONS_BYTES_MAX;
    let [tools] = members(result, ["tools"]);
    let mut cursor = Cursor::new(tools);
    if cursor.kind() == Kind::Array {
        cursor.enter();
        while definitions.len() < DEFINITIONS_MAX && cursor.next_item() {
            let definition = cursor.raw();
            let Some(left) = bytes_left.checked_sub(definition.len()) else { break };
            bytes_left = left;
            definitions.push(definition.as_bytes().to_vec());
        }
    }
    definitions
}

fn shape(value: &str, bytes_max: usize, key: &DigestKey) -> u64 {
    let mut shape = Shape::new(key);
    let root = shape.root();
    shape.add(&mut Cursor::new(value), root, bytes_max);
    shape.digest(key)
}
