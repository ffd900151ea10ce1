//! The envelope of a JSON-RPC body: just enough to route it, to answer it with an error, and to label it.
//!
//! Not here: facts (the edge reads them itself, from the same bytes). Invariant: borrows from the body and never
//! changes it; what it cannot read is `Unreadable`, never an error.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use undercurrent_schemas::v1;

/// Messages of one batch; more make it unreadable.
const BATCH_MAX: usize = 1024;

/// What a body is.
#[derive(Debug)]
pub(crate) enum Envelope<'a> {
    One(Message<'a>),
    /// 2025-03-26 alone has these.
    Batch(Vec<&'a RawValue>),
    Unreadable,
}

/// One message's outer fields.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Message<'a> {
    /// As JSON text.
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) params: Option<&'a RawValue>,
}

/// What becomes of a message, by its shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Request,
    Notification,
    Response,
}

/// What `params._meta` says to an intermediary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// W3C trace context; empty = none with a trace id.
    pub(crate) traceparent: String,
    pub(crate) protocol_version: String,
}

impl Meta {
    /// W3C trace id; empty = none.
    pub(crate) fn trace_id(&self) -> &str {
        trace_id(&self.traceparent).unwrap_or_default()
    }
}

impl<'a> Envelope<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Self {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        match first {
            Some(b'{') => object(body).map_or(Self::Unreadable, Self::One),
            Some(b'[') => {
                serde_json::from_slice(body).map_or(Self::Unreadable, |batch: Batch<'_>| Self::Batch(batch.0))
            }
            _ => Self::Unreadable,
        }
    }

    /// The ids of the requests in it, as JSON text: what an error must be addressed to.
    pub(crate) fn ids(&self) -> RequestIds {
        match self {
            Self::One(message) => message.request_id().map_or(RequestIds::None, |id| RequestIds::One(id.to_owned())),
            Self::Batch(batch) => RequestIds::Many(batch.iter().filter_map(|one| request_id(one)).collect()),
            Self::Unreadable => RequestIds::None,
        }
    }

    /// `mcp.method.name`, out of a closed set.
    pub(crate) fn method_label(&self) -> &'static str {
        match self {
            Self::One(Message { method: Some(method), .. }) => method_label(method),
            Self::One(_) => "response",
            Self::Batch(_) => "batch",
            Self::Unreadable => "unreadable",
        }
    }

    pub(crate) fn is_initialize(&self) -> bool {
        match self {
            Self::One(message) => message.is_initialize(),
            Self::Batch(_) | Self::Unreadable => false,
        }
    }

    pub(crate) fn meta(&self) -> Meta {
        match self {
            Self::One(message) => message.meta(),
            Self::Batch(_) | Self::Unreadable => Meta::default(),
        }
    }
}

impl<'a> Message<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        object(bytes)
    }

    pub(crate) fn shape(&self) -> Shape {
        match (&self.method, self.id) {
            (Some(_), Some(_)) => Shape::Request,
            (Some(_), None) => Shape::Notification,
            (None, _) => Shape::Response,
        }
    }

    pub(crate) fn is_initialize(&self) -> bool {
        self.shape() == Shape::Request && self.method.as_deref() == Some("initialize")
    }

    /// Its id, if it is a request.
    pub(crate) fn request_id(&self) -> Option<&'a str> {
        self.id.filter(|_| self.method.is_some()).map(RawValue::get)
    }

    pub(crate) fn meta(&self) -> Meta {
        #[derive(Deserialize)]
        struct Params<'a> {
            #[serde(borrow, rename = "_meta")]
            meta: Option<RawMeta<'a>>,
        }
        #[derive(Deserialize)]
        struct RawMeta<'a> {
            #[serde(borrow, default)]
            traceparent: Option<Cow<'a, str>>,
            #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
            protocol_version: Option<Cow<'a, str>>,
        }
        let params = self.params.and_then(|params| object::<Params<'_>>(params.get().as_bytes()));
        let Some(meta) = params.and_then(|params| params.meta) else { return Meta::default() };
        Meta {
            traceparent: meta.traceparent.filter(|text| trace_id(text).is_some()).unwrap_or_default().into_owned(),
            protocol_version: meta.protocol_version.unwrap_or_default().into_owned(),
        }
    }
}

/// The fields of a JSON object. Derived readers alone would also take an array for a struct, field by field.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.trim_ascii_start().first() == Some(&b'{') { serde_json::from_slice(json).ok() } else { None }
}

/// The ids an error answer is addressed to, as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequestIds {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

/// `error.type` of a server's message: `tool_error`, the JSON-RPC code if it is a well-known one, else `rpc_error`.
/// `None` for all that is no response, and for results.
pub(crate) fn error_type(body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(default)]
        method: Option<IgnoredAny>,
        #[serde(default)]
        error: Option<RpcError>,
        #[serde(default)]
        result: Option<ToolResult>,
    }
    #[derive(Deserialize)]
    struct RpcError {
        #[serde(default)]
        code: i64,
    }
    #[derive(Deserialize)]
    struct ToolResult {
        #[serde(default, rename = "isError")]
        is_error: bool,
    }
    // Most bodies hold neither word and need no second parse.
    memchr::memmem::find(body, b"rror\"")?;
    let response: Response = object(body)?;
    match response {
        Response { method: Some(_), .. } => None,
        Response { error: Some(RpcError { code }), .. } => Some(error_label(&code.to_string())),
        Response { result: Some(ToolResult { is_error: true }), .. } => Some("tool_error"),
        Response { .. } => None,
    }
}

/// The metric's label for an `error.type`: codes come from the upstream, so that only the well-known ones are labels.
pub(crate) fn error_label(error_type: &str) -> &'static str {
    const KNOWN: [&str; 13] = [
        "tool_error",
        "-32700",
        "-32603",
        "-32602",
        "-32601",
        "-32600",
        "-32042",
        "-32022",
        "-32021",
        "-32020",
        "-32002",
        "-32001",
        "-32000",
    ];
    KNOWN.iter().find(|known| **known == error_type).copied().unwrap_or("rpc_error")
}

/// The label of a message that the edge has read.
pub(crate) fn label_of(message: &v1::Message) -> &'static str {
    match (message.kind(), message.batch_index) {
        (v1::Kind::Malformed, _) => "unreadable",
        (_, 1..) => "batch",
        (v1::Kind::Request | v1::Kind::Notification, _) => method_label(&message.method),
        (v1::Kind::Result | v1::Kind::Error | v1::Kind::Unspecified, _) => "response",
    }
}

fn method_label(method: &str) -> &'static str {
    METHODS.iter().find(|known| **known == method).copied().unwrap_or("other")
}

/// The methods of all revisions: labels must come from a closed set, or a client could fill the registry.
const METHODS: [&str; 31] = [
    "tools/call",
    "tools/list",
    "initialize",
    "notifications/initialized",
    "server/discover",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
    "prompts/list",
    "completion/complete",
    "logging/setLevel",
    "ping",
    "subscriptions/listen",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "tasks/list",
    "tasks/result",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/message",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "notifications/elicitation/complete",
    "notifications/tools/list_changed",
];

fn request_id(message: &RawValue) -> Option<String> {
    Message::read(message.get().as_bytes())?.request_id().map(str::to_owned)
}

/// The 32 hex digits in the middle of `00-…-…-01`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

struct Batch<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Batch<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Batch<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a batch of at most {BATCH_MAX} messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = seq.next_element()? {
                    if messages.len() == BATCH_MAX {
                        return Err(serde::de::Error::invalid_length(BATCH_MAX + 1, &self));
                    }
                    messages.push(message);
                }
                Ok(Batch(messages))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_as_they_are_written() {
        let check =
            |body: &str, expect: RequestIds| assert_eq!(Envelope::read(body.as_bytes()).ids(), expect, "{body}");
        check(r#" {"id" : "a\u0041" , "method":"x"}"#, RequestIds::One(r#""a\u0041""#.into()));
        check(r#"{"id":1.50,"method":"x"}"#, RequestIds::One("1.50".into()));
        check(r#"{"id":1,"result":{}}"#, RequestIds::None);
        check(r#"{"method":"x"}"#, RequestIds::None);
        check(
            r#"[{"id":1,"method":"x"},{"method":"y"},5,{"id":2,"method":"z"}]"#,
            RequestIds::Many(vec!["1".into(), "2".into()]),
        );
        check("nonsense", RequestIds::None);
        check(r#"[[1,"method"]]"#, RequestIds::Many(vec![]));
    }

    #[test]
    fn batches_are_bounded() {
        let body = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
        assert!(matches!(Envelope::read(body(BATCH_MAX).as_bytes()), Envelope::Batch(_)));
        assert!(matches!(Envelope::read(body(BATCH_MAX + 1).as_bytes()), Envelope::Unreadable));
    }

    #[test]
    fn labels_come_from_a_closed_set() {
        let check = |body: &str, expect| assert_eq!(Envelope::read(body.as_bytes()).method_label(), expect, "{body}");
        check(r#"{"method":"tools/call"}"#, "tools/call");
        check(r#"{"method":"tools\/list"}"#, "tools/list");
        check(r#"{"method":"made/up"}"#, "other");
        check(r#"{"id":1,"result":1}"#, "response");
        check("[]", "batch");
        check(r#"{"method":1}"#, "unreadable");
    }

    #[test]
    fn meta_names_trace_and_revision() {
        let body = r#"{"method":"x","params":{"a":1,"_meta":{"traceparent":"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01","io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let meta = Envelope::read(body.as_bytes()).meta();
        assert_eq!(meta.trace_id(), "0123456789abcdef0123456789abcdef");
        assert_eq!(meta.protocol_version, "2026-07-28");
        let broken = r#"{"method":"x","params":{"_meta":{"traceparent":"no"}}}"#;
        assert_eq!(Envelope::read(broken.as_bytes()).meta(), Meta::default());
        let array = br#"{"method":"x","params":[{"traceparent":"00-0123456789abcdef0123456789abcdef-0-01"}]}"#;
        assert_eq!(Envelope::read(array).meta(), Meta::default());
    }

    #[test]
    fn error_types_of_responses() {
        let check = |body: &str, expect| assert_eq!(error_type(body.as_bytes()), expect, "{body}");
        check(r#"{"id":1,"result":{"isError":true}}"#, Some("tool_error"));
        check(r#"{"id":1,"result":{"isError":false}}"#, None);
        check(r#"{"id":1,"error":{"code":-32601,"message":""}}"#, Some("-32601"));
        check(r#"{"id":1,"error":{"code":77}}"#, Some("rpc_error"));
        check(r#"{"method":"x","error":{"code":77}}"#, None);
        check(r#"{"id":1,"result":{"text":"error\""}}"#, None);
    }
}
