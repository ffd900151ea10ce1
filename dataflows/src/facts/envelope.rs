//! The envelope: what a JSON-RPC 2.0 message is, and where its parts stand in the bytes.
//!
//! `serde_json` checks the text once, as a [`RawValue`]; the parts are slices of it. Duplicate keys: the last one wins,
//! as in `JSON.parse` and Python's `json`, so that the facts are about what such a server acts on.
//! Not here: what the parts mean. Upstream: bytes of one whole message. Downstream: [`super::SessionFacts::observe`].

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{Cursor, Kind, nesting, text_of, unescape};

/// Longest JSON text of an id that is kept to pair a response with its request. Ids in use are counters and UUIDs.
pub(super) const ID_BYTES_MAX: usize = 256;

/// Messages in one batch; each one becomes an event, so a short text must not become a million of them.
pub(super) const BATCH_MAX: usize = 256;

/// Why bytes are no JSON-RPC 2.0 message. The texts never quote the message.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("invalid utf-8 after byte {0}")]
    Encoding(usize),
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    #[error("not json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("neither an object nor a batch")]
    NotAnObject,
    #[error("empty batch")]
    EmptyBatch,
    #[error("batch of more than {BATCH_MAX} messages")]
    LongBatch,
    #[error("no `\"jsonrpc\": \"2.0\"`")]
    Version,
    #[error("none of `method`, `result` and `error`")]
    NoBody,
    #[error("more than one of `method`, `result` and `error`")]
    TwoBodies,
    #[error("`method` is no string")]
    Method,
    #[error("`params` is neither an object nor an array")]
    Params,
    #[error("`error` is no object")]
    Error,
    #[error("`id` is neither a string nor a number")]
    Id,
    #[error("`id` is longer than {ID_BYTES_MAX} bytes")]
    LongId,
    #[error("a result without an `id`")]
    ResultWithoutId,
}

/// One message and its parts, each the JSON text as it was sent.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// Empty if there is none (or `null`, in an error that answers nothing in particular).
    pub(super) id: &'a str,
    pub(super) body: Body<'a>,
}

#[derive(Debug)]
pub(super) enum Body<'a> {
    /// A notification if the envelope has no id. `params` is empty if absent.
    Call {
        method: Cow<'a, str>,
        params: &'a str,
    },
    Result(&'a str),
    Error(&'a str),
}

/// JSON text of a message or of a batch, checked: valid JSON that is not nested too deeply.
pub(super) fn checked(bytes: &[u8], depth_max: usize) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| Malformed::Encoding(error.valid_up_to()))?;
    if nesting(bytes, depth_max) > depth_max {
        return Err(Malformed::TooDeep(depth_max));
    }
    Ok(serde_json::from_str::<&RawValue>(text)?.get())
}

/// The texts of the messages of a batch; `None` if the text is no array.
pub(super) fn batch(text: &str) -> Result<Option<Vec<&str>>, Malformed> {
    let mut cursor = Cursor::new(text);
    if cursor.kind() != Kind::Array {
        return Ok(None);
    }
    let mut messages = Vec::new();
    cursor.enter();
    while cursor.next_item() {
        if messages.len() == BATCH_MAX {
            return Err(Malformed::LongBatch);
        }
        messages.push(cursor.raw());
    }
    if messages.is_empty() { Err(Malformed::EmptyBatch) } else { Ok(Some(messages)) }
}

/// The parts of one message, given text that [`checked`] has let through.
pub(super) fn parse(text: &str) -> Result<Envelope<'_>, Malformed> {
    let mut cursor = Cursor::new(text);
    if cursor.kind() != Kind::Object {
        return Err(Malformed::NotAnObject);
    }
    let (mut version, mut id, mut method, mut params, mut result, mut error) = ("", None, None, "", None, None);
    cursor.enter();
    while let Some(key) = cursor.next_key() {
        let value = cursor.raw();
        match &*unescape(key) {
            "jsonrpc" => version = value,
            "id" => id = Some(value),
            "method" => method = Some(value),
            "params" => params = value,
            "result" => result = Some(value),
            "error" => error = Some(value),
            _ => {}
        }
    }
    if version != "\"2.0\"" && text_of(version) != "2.0" {
        return Err(Malformed::Version);
    }
    let body = match (method, result, error) {
        (Some(method), None, None) => call(method, params)?,
        (None, Some(result), None) => Body::Result(result),
        (None, None, Some(error)) if error.starts_with('{') => Body::Error(error),
        (None, None, Some(_)) => return Err(Malformed::Error),
        (None, None, None) => return Err(Malformed::NoBody),
        _ => return Err(Malformed::TwoBodies),
    };
    Ok(Envelope { id: checked_id(id, &body)?, body })
}

fn call<'a>(method: &'a str, params: &'a str) -> Result<Body<'a>, Malformed> {
    if !method.starts_with('"') {
        return Err(Malformed::Method);
    }
    let params = match params.as_bytes().first() {
        Some(b'{' | b'[') => params,
        // `null` is not allowed either, but clients send it for "none", and servers take it so.
        None | Some(b'n') => "",
        Some(_) => return Err(Malformed::Params),
    };
    Ok(Body::Call { method: text_of(method), params })
}

/// The id's JSON text. `null` is for errors only: MCP forbids it in requests, and no result answers nothing.
fn checked_id<'a>(id: Option<&'a str>, body: &Body<'_>) -> Result<&'a str, Malformed> {
    match (id.map(|id| (id, Cursor::new(id).kind())), body) {
        (Some((id, Kind::String | Kind::Number)), _) if id.len() <= ID_BYTES_MAX => Ok(id),
        (Some((_, Kind::String | Kind::Number)), _) => Err(Malformed::LongId),
        (None, Body::Call { .. } | Body::Error(_)) | (Some((_, Kind::Null)), Body::Error(_)) => Ok(""),
        (None, Body::Result(_)) => Err(Malformed::ResultWithoutId),
        (Some(_), _) => Err(Malformed::Id),
    }
}
