//! What ties a message to a request: the ids in it, where they stand, so that they can be replaced (`edge::splice`).

use std::borrow::Cow;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::splice;

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
