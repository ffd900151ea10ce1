//! Words: the normal form in which values are compared, so that a value is found again however it was re-formatted.
//!
//! A word is a maximal run of letters and digits in lower case; a decimal number is one word without trailing zeros
//! (`1.50` is `1.5`); scripts written without spaces give one word a character. All punctuation, quoting and white
//! space only separates. So an address, a date, a path or a sentence is a *sequence* of words, and it is held by every
//! text that has these words in a row. Word borders are also marked where a *unit* begins or ends: at quotes,
//! brackets, commas, line ends and `key: `.
//! Upstream: argument leaves and result texts. Downstream: [`super::provenance`] and [`super::value`].

/// Receives the words of a text in order.
pub(super) trait Sink {
    /// A word in any case of ASCII letters, else in lower case; `opens`: a unit begins with it.
    fn word(&mut self, word: &[u8], opens: bool);
    /// The last word ended a unit.
    fn close(&mut self);
    /// The last word was the key of what follows: a colon stood behind it.
    fn key(&mut self);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Unit,
    Word,
    Wide,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Space; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => Class::Word,
            b'"' | b'\'' | b'`' | b'[' | b']' | b'{' | b'}' | b'(' | b')' | b'<' | b'>' => Class::Unit,
            b',' | b';' | b'|' | b'=' | b'\n' | b'\r' | b'\t' => Class::Unit,
            0x80..=0xff => Class::Wide,
            _ => Class::Space,
        };
        byte += 1;
    }
    classes
};

/// Splits a text into its words.
pub(super) fn split(text: &str, sink: &mut impl Sink) {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut opens = true;
    while let Some(byte) = bytes.get(at) {
        match CLASSES[usize::from(*byte)] {
            Class::Word => {
                let end = ascii_end(bytes, at);
                if bytes.get(end).is_some_and(|next| *next >= 0x80) {
                    at = wide_run(text, at, &mut opens, sink);
                } else {
                    at = ascii_word(bytes, at, end, opens, sink);
                    opens = false;
                }
            }
            Class::Wide => at = wide_run(text, at, &mut opens, sink),
            Class::Unit => {
                opens = unit_border(opens, sink);
                at += 1;
            }
            Class::Space => {
                // `key: value`, and `\n` written out inside a quoted text.
                let next = bytes.get(at + 1).copied().unwrap_or(b' ');
                let escape = *byte == b'\\' && matches!(next, b'n' | b'r' | b't');
                if *byte == b':' && is_behind_key(bytes, at) {
                    sink.key();
                }
                if escape || (*byte == b':' && matches!(next, b' ' | b'\n')) {
                    opens = unit_border(opens, sink);
                }
                at += 1 + usize::from(escape);
            }
        }
    }
    unit_border(opens, sink);
}

/// Whether the colon at this place ends a key: a word (in quotes or not) stands right before it, and what follows is no
/// more of the same word, as in `12:30` or `https://`. Results may hold JSON as text, with its quotes escaped.
fn is_behind_key(bytes: &[u8], colon: usize) -> bool {
    let before = bytes[..colon].strip_suffix(b"\"").or_else(|| bytes[..colon].strip_suffix(b"'"));
    let before = before.map_or(&bytes[..colon], |word| word.strip_suffix(b"\\").unwrap_or(word));
    let follows = match &bytes[colon + 1..] {
        [] | [b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'\'' | b'[' | b'{', ..] => true,
        [b'\\', escaped, ..] => matches!(escaped, b'n' | b'r' | b't' | b'"'),
        _ => false,
    };
    follows && before.last().is_some_and(|byte| matches!(CLASSES[usize::from(*byte)], Class::Word | Class::Wide))
}

fn unit_border(open_already: bool, sink: &mut impl Sink) -> bool {
    if !open_already {
        sink.close();
    }
    true
}

fn ascii_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    while end < bytes.len() && CLASSES[usize::from(bytes[end])] == Class::Word {
        end += 1;
    }
    end
}

/// Emits the word at `start..end`, with its fraction if it is a decimal number; returns where it ended.
fn ascii_word(bytes: &[u8], start: usize, end: usize, opens: bool, sink: &mut impl Sink) -> usize {
    if bytes[end - 1].is_ascii_digit()
        && bytes.get(end) == Some(&b'.')
        && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)
        && let Some(behind) = decimal_end(bytes, start, end)
    {
        let zeros = bytes[end + 1..behind].iter().rev().take_while(|digit| **digit == b'0').count();
        let whole = behind - zeros == end + 1;
        sink.word(&bytes[start..if whole { end } else { behind - zeros }], opens);
        return behind;
    }
    sink.word(&bytes[start..end], opens);
    end
}

/// End of the fraction if `start..end` and the point behind it are a decimal number, not a version or a file name.
fn decimal_end(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    let follows_point = start >= 2 && bytes[start - 1] == b'.' && bytes[start - 2].is_ascii_alphanumeric();
    if follows_point || !bytes[start..end].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let behind = ascii_end(bytes, end + 1);
    let goes_on = bytes.get(behind) == Some(&b'.') && bytes.get(behind + 1).is_some_and(u8::is_ascii_alphanumeric);
    (!goes_on && bytes[end + 1..behind].iter().all(u8::is_ascii_digit)).then_some(behind)
}

/// Emits the words of a run that has characters beyond ASCII; returns where the run ended.
fn wide_run(text: &str, start: usize, opens: &mut bool, sink: &mut impl Sink) -> usize {
    let mut word = String::new();
    let mut end = text.len();
    let flush = |word: &mut String, opens: &mut bool, sink: &mut _| {
        if !word.is_empty() {
            Sink::word(sink, word.as_bytes(), *opens);
            *opens = false;
            word.clear();
        }
    };
    for (offset, character) in text[start..].char_indices() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            end = start + offset;
            break;
        }
        if !character.is_alphanumeric() {
            flush(&mut word, opens, sink);
        } else if character >= '\u{2e80}' {
            flush(&mut word, opens, sink);
            word.push(character);
            flush(&mut word, opens, sink);
        } else {
            word.extend(character.to_lowercase());
        }
    }
    flush(&mut word, opens, sink);
    end
}
