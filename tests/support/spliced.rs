//! Messages with the one field masked that a gateway may have to splice: the request id.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Only the field that may be spliced; all other bytes are compared as they are.
#[derive(Deserialize)]
struct Ids<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// The message as text, with `*` in place of its id. What is not JSON stays as it is.
pub(crate) fn without_ids(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message).into_owned();
    let Ok(Ids { id: Some(id) }) = serde_json::from_str::<Ids<'_>>(&text) else { return text };
    // A raw value borrows from the text, so its place in it is where it starts.
    let start = id.get().as_ptr() as usize - text.as_ptr() as usize;
    let end = start + id.get().len();
    format!("{}*{}", &text[..start], &text[end..])
}

/// For comparing as multisets.
pub(crate) fn sorted(messages: impl Iterator<Item = String>) -> Vec<String> {
    let mut messages: Vec<String> = messages.collect();
    messages.sort();
    messages
}
