//! Changing values in a message without touching anything else of it.
//!
//! Invariant: all bytes outside the replaced values are as they were. Only JSON values that the parser itself found are
//! replaced, never text that looks like them.

use std::ops::Range;

use serde_json::value::RawValue;

/// `message` with each of the values, which were read from it, replaced by a text.
pub(crate) fn splice(message: &[u8], edits: &[(Option<&RawValue>, &str)]) -> Vec<u8> {
    let mut edits: Vec<(Range<usize>, &str)> =
        edits.iter().filter_map(|(value, text)| Some((place(message, (*value)?.get())?, *text))).collect();
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = Vec::with_capacity(message.len() + edits.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut done = 0;
    for (range, text) in edits {
        out.extend_from_slice(&message[done..range.start]);
        out.extend_from_slice(text.as_bytes());
        done = range.end;
    }
    out.extend_from_slice(&message[done..]);
    out
}

/// Where `part` stands in `whole`, from which it was borrowed.
fn place(whole: &[u8], part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start + part.len();
    (end <= whole.len()).then_some(start..end)
}
