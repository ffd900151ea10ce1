//! Changing ids in a message without touching anything else of it.
//!
//! Invariant: all bytes outside the replaced values are as they were. Only JSON values that the parser itself found are
//! replaced, never text that looks like them.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::envelope;

/// The values in a message that tie it to a request.
#[derive(Debug, Default)]
pub(crate) struct Ties<'a> {
    pub(crate) id: Option<&'a RawValue>,
    pub(crate) method: Option<Cow<'a, str>>,
    /// `params._meta.progressToken` of a request, `params.progressToken` of a progress notification.
    pub(crate) token: Option<&'a RawValue>,
    /// The id of the `subscriptions/listen` request that the message belongs to.
    pub(crate) subscription: Option<&'a RawValue>,
    /// `params.requestId` of a cancellation.
    pub(crate) request: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "requestId")]
    request: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/subscriptionId")]
    subscription: Option<&'a RawValue>,
}

impl<'a> Ties<'a> {
    /// `None` if the message is no JSON object.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let outer: Outer<'a> = envelope::object(message)?;
        // Params may be an array, and `_meta` anything: then they hold no ties.
        let inner: Inner<'a> = fields(outer.params.or(outer.result));
        let meta: Meta<'a> = fields(inner.meta);
        let of_params = outer.params.is_some();
        Some(Self {
            id: outer.id,
            method: outer.method,
            token: inner.token.or(meta.token).filter(|_| of_params),
            subscription: meta.subscription,
            request: inner.request.filter(|_| of_params),
        })
    }
}

fn fields<'a, T: Default + Deserialize<'a>>(value: Option<&'a RawValue>) -> T {
    value.and_then(|value| envelope::object(value.get().as_bytes())).unwrap_or_default()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expect: &str) {
        let ties = Ties::read(message.as_bytes()).unwrap();
        let edits = [(ties.id, "7"), (ties.token, "8"), (ties.subscription, "9"), (ties.request, "6")];
        assert_eq!(String::from_utf8(splice(message.as_bytes(), &edits)).unwrap(), expect);
    }

    #[test]
    fn only_the_ties_change() {
        check(
            r#"{ "params":{"_meta":{"progressToken" : "t"},"id":1.50,"x":"\"id\":5"},"id": "a\u0041", "n":1e3 }"#,
            r#"{ "params":{"_meta":{"progressToken" : 8},"id":1.50,"x":"\"id\":5"},"id": 7, "n":1e3 }"#,
        );
        check(
            r#"{"method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
            r#"{"method":"notifications/progress","params":{"progressToken":8,"progress":1}}"#,
        );
        check(
            r#"{"id":3,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":3},"progressToken":5}}"#,
            r#"{"id":7,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":9},"progressToken":5}}"#,
        );
        check(r#"{"method":"x","params":{"requestId":"z"}}"#, r#"{"method":"x","params":{"requestId":6}}"#);
        check(r#"{"method":"x","params":[1]}"#, r#"{"method":"x","params":[1]}"#);
    }

    #[test]
    fn what_is_no_object_has_no_ties() {
        assert!(Ties::read(b"nonsense").is_none());
        assert!(Ties::read(b"[]").is_none());
    }
}
