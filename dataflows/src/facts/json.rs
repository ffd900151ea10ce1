//! A cursor over text that is known to be JSON: one pass, no allocation, no recursion of its own.
//!
//! It is not a parser: [`super::envelope`] has the text checked by `serde_json` first, so the cursor only has to find
//! where things end. Its invariant: whatever it is given, it moves forward or stops, and never panics.

use std::borrow::Cow;

use memchr::memchr;

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A position in valid JSON. Each method that consumes a value leaves the cursor just behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes consumed so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The kind of the value that comes next.
    pub(super) fn kind(&mut self) -> Kind {
        match self.peek() {
            b'"' => Kind::String,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b't' | b'f' => Kind::Bool,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => Kind::Null,
        }
    }

    /// Steps into the object or array that comes next; false (and no step) if it is neither.
    pub(super) fn enter(&mut self) -> bool {
        let enters = matches!(self.peek(), b'{' | b'[');
        self.at += usize::from(enters);
        enters
    }

    /// In an object: the next key as it is written, without its quotes. The caller then consumes the value.
    pub(super) fn next_key(&mut self) -> Option<&'a str> {
        if !self.next_item() {
            return None;
        }
        let key = self.string();
        if self.peek() == b':' {
            self.at += 1;
        }
        Some(key)
    }

    /// In an array: whether another value comes, which the caller then consumes. Leaves the array at its end.
    pub(super) fn next_item(&mut self) -> bool {
        if self.peek() == b',' {
            self.at += 1;
        }
        match self.peek() {
            b'}' | b']' => {
                self.at += 1;
                false
            }
            0 => false,
            _ => true,
        }
    }

    /// Consumes a string; what is between its quotes, escapes included. Empty for any other value, which is skipped.
    pub(super) fn string(&mut self) -> &'a str {
        if self.peek() != b'"' {
            self.raw();
            return "";
        }
        let start = self.at + 1;
        self.at = string_end(self.text.as_bytes(), start);
        self.text.get(start..self.at.saturating_sub(1)).unwrap_or_default()
    }

    /// Consumes any value; its text.
    pub(super) fn raw(&mut self) -> &'a str {
        let first = self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at = match first {
            b'"' => string_end(bytes, start + 1),
            b'{' | b'[' => container_end(bytes, start),
            _ => start + bytes[start..].iter().position(|byte| ends_scalar(*byte)).unwrap_or(bytes.len() - start),
        };
        // A stray separator is no value; stepping over it keeps the cursor moving.
        self.at += usize::from(self.at == start && start < bytes.len());
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Next byte that is not white space; 0 at the end.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }
}

/// The JSON texts of some members of an object, in one pass; empty for those that it lacks, and for
/// the empty name. Of equal keys the last wins.
pub(super) fn members<'a, const N: usize>(object: &'a str, names: [&str; N]) -> [&'a str; N] {
    let mut found = [""; N];
    let mut cursor = Cursor::new(object);
    if cursor.kind() == Kind::Object {
        cursor.enter();
        while let Some(key) = cursor.next_key() {
            let value = cursor.raw();
            let key = unescape(key);
            if let Some(index) = names.iter().position(|name| *name == key && !name.is_empty()) {
                found[index] = value;
            }
        }
    }
    found
}

/// The characters of a JSON string; empty if the value is none.
pub(super) fn text_of(value: &str) -> Cow<'_, str> {
    unescape(Cursor::new(value).string())
}

/// A string's characters, given what is between its quotes. A lone surrogate becomes U+FFFD, as in lenient parsers.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = memchr(b'\\', raw.as_bytes()) else {
        return Cow::Borrowed(raw);
    };
    let mut text = String::with_capacity(raw.len());
    text.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(escape) = rest.as_bytes().get(1) {
        let mut used = 2;
        match escape {
            b'n' => text.push('\n'),
            b't' => text.push('\t'),
            b'r' => text.push('\r'),
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'u' => {
                let (character, length) = unicode_escape(rest);
                text.push(character);
                used = length;
            }
            // Valid JSON has only `"`, `\` and `/` left.
            other => text.push(char::from(*other)),
        }
        rest = rest.get(used..).unwrap_or_default();
        let next = memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        text.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Cow::Owned(text)
}

/// The character of `\uXXXX` or of a surrogate pair, and the bytes that it takes.
fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else { return (char::REPLACEMENT_CHARACTER, 2) };
    let pair = [first, unit(6).unwrap_or_default()];
    match char::decode_utf16(pair).next() {
        Some(Ok(character)) => (character, if character.len_utf16() == 2 { 12 } else { 6 }),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// The beginning of a text: at most `bytes_max` bytes, whole characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Position behind the closing quote of a string whose first character is at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    // Quotes are rarer than escapes. One is escaped by an odd run of backslashes, and no run is looked at twice.
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'"', rest)) {
        at += found + 1;
        let escapes = bytes[start..at - 1].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Position behind the bracket that closes the one at `at`.
fn container_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

fn ends_scalar(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t')
}

/// Deepest nesting of arrays and objects, without recursion and without trust in the text.
pub(super) fn nesting(bytes: &[u8], enough: usize) -> usize {
    // Brackets inside strings included, few brackets cannot nest deeply: one vectorised pass settles most messages.
    let bracket = |byte: &u8| u8::from(*byte | 0x20 == b'{');
    let brackets: usize = bytes.chunks(255).map(|chunk| usize::from(chunk.iter().map(bracket).sum::<u8>())).sum();
    if brackets <= enough {
        return brackets;
    }
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
