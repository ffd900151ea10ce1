//! A value under comparison: its words as the index knows them, and its normal form as digests are taken of it.
//!
//! Not here: where the value stands; that is [`super::provenance`].

use super::{
    mix::mix_caseless,
    words::{self, Sink},
};

/// Words of a value that are compared; a longer value is known by how it begins.
const WORDS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Value {
    seed: u64,
    /// Digests of the words.
    pub(super) words: Vec<u32>,
    /// Letters and digits in these words.
    pub(super) letters: usize,
    /// Index of the longest word: the rarest, by which places are found.
    pub(super) anchor: usize,
    anchor_letters: usize,
    normal: Vec<u8>,
}

impl Value {
    /// A value to be compared under a seed; empty until [`Self::set`].
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, words: Vec::new(), letters: 0, anchor: 0, anchor_letters: 0, normal: Vec::new() }
    }

    /// Becomes this text. A link is known without its scheme, which people and servers write or leave out.
    pub(super) fn set(&mut self, text: &str) {
        self.words.clear();
        self.normal.clear();
        self.normal.reserve(text.len() + 8);
        (self.letters, self.anchor, self.anchor_letters) = (0, 0, 0);
        words::split(without_scheme(text), self);
        self.normal.make_ascii_lowercase();
        if self.normal.is_empty() {
            self.normal.extend_from_slice(text.trim().as_bytes());
        }
    }

    /// The words with one space between them; of a text without any word (`"+"`), the trimmed text itself.
    pub(super) fn normal(&self) -> &[u8] {
        &self.normal
    }
}

impl Sink for Value {
    fn word(&mut self, word: &[u8], _opens: bool) {
        if !self.normal.is_empty() {
            self.normal.push(b' ');
        }
        self.normal.extend_from_slice(word);
        if self.words.len() == WORDS_MAX {
            return;
        }
        if word.len() > self.anchor_letters {
            (self.anchor, self.anchor_letters) = (self.words.len(), word.len());
        }
        self.letters += word.len();
        self.words.push(word_digest(word, self.seed));
    }

    fn close(&mut self) {}
    fn key(&mut self) {}
}

/// 29 bits, never 0, of a word in any case. Not for other eyes: speed counts here, and the seed is secret.
pub(super) fn word_digest(word: &[u8], seed: u64) -> u32 {
    ((mix_caseless(word, seed) >> 35) as u32).max(1)
}

fn without_scheme(text: &str) -> &str {
    match find_scheme(text) {
        Some(at) if at > 0 && text.as_bytes()[..at].iter().all(u8::is_ascii_alphanumeric) => &text[at + 3..],
        _ => text,
    }
}

/// Position of the first `://`.
pub(super) fn find_scheme(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b':', bytes).find(|at| bytes[at + 1..].starts_with(b"//"))
}

/// The parts of a text that name one thing: with an inner `@`, `.`, `/`, `_` or `:`, with letters and digits mixed, or
/// with four digits or more. They are split at white space, commas, quotes and brackets.
pub(super) fn identifying_parts(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            let (mut digits, mut letters, mut end, mut joints, mut inner_joints) =
                (0_usize, 0_usize, start, 0_usize, 0_usize);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'0'..=b'9' => digits += 1,
                    b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => letters += 1,
                    b'@' | b'.' | b'/' | b'_' | b':' => joints += usize::from(end > start),
                    0..=b' ' | b',' | b';' | b'"' | b'<' | b'>' | b'(' | b')' | b'|' => break,
                    _ => {}
                }
                at += 1;
                if byte.is_ascii_alphanumeric() || *byte >= 0x80 {
                    // Joints count once a letter follows them: `end.` has none.
                    (end, inner_joints) = (at, joints);
                }
            }
            at += 1;
            let mixed = inner_joints > 0 || (letters > 0 && digits > 0);
            if digits >= 4 || (mixed && letters + digits >= 5) {
                return text.get(start..end);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::identifying_parts;

    fn check(text: &str, expect: &[&str]) {
        assert_eq!(identifying_parts(text).collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn parts() {
        check("Hello, this is plain prose. With an end: yes!", &[]);
        check("mail <ana@b.example>, see (https://c.example/d).", &["ana@b.example", "https://c.example/d"]);
        check("the key is 1a7b3d. Pay 1150 to DE89370400440532013000;", &["1a7b3d", "1150", "DE89370400440532013000"]);
        check("a.b 12 x/y 3rd ...name... report_2.txt", &["report_2.txt"]);
        check("", &[]);
        check("größe_1", &["größe_1"]);
    }
}
