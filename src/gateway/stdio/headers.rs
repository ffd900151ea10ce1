//! The headers that repeat the body (SEP-2243): whoever reads the body must refuse a request in which they differ.
//!
//! An intermediary in front of us may have decided by the headers what the body then does otherwise. HTTP upstreams
//! check this themselves; for stdio upstreams we are the server. Not here: `Mcp-Param-*` (`params`), which takes the
//! tool's schema.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::gateway::call::Call;
use crate::gateway::envelope::object;
use crate::gateway::rescue::Refusal;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// A call of a tool, as far as headers repeat it.
#[derive(Debug, PartialEq)]
pub(super) struct ToolCall {
    pub(super) tool: String,
    pub(super) arguments: Value,
}

#[derive(Default, Deserialize)]
struct Required<'a> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "taskId")]
    task_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

/// Whether a request's `_meta` has all that the era without sessions asks for.
pub(super) fn meta_is_complete(body: &[u8]) -> bool {
    let meta = object::<Request<'_>>(body).and_then(|request| request.named().meta);
    let required: Required<'_> = meta.and_then(|meta| object(meta.get().as_bytes())).unwrap_or_default();
    required.version.is_some() && required.capabilities.is_some()
}

/// Checks a request of the era without sessions; gives what is left to check.
pub(super) fn check(call: &Call) -> Result<Option<ToolCall>, Refusal> {
    let headers = &call.head.headers;
    let version = one(headers, "mcp-protocol-version")?.ok_or(MISSING_VERSION)?;
    if call.meta_version().is_some_and(|meta| meta != version) {
        return Err(Refusal::HeaderMismatch("MCP-Protocol-Version is not the protocolVersion of _meta"));
    }
    let request: Request<'_> = object(&call.body).ok_or(Refusal::Parse)?;
    let named = request.named();
    let method = request.method.unwrap_or_default();
    if one(headers, "mcp-method")? != Some(&method) {
        return Err(Refusal::HeaderMismatch("Mcp-Method is not the method of the body"));
    }
    let name = match &*method {
        "tools/call" | "prompts/get" => named.name,
        "resources/read" => named.uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" => named.task_id,
        _ => None,
    };
    let Some(name) = name else {
        // A name that is there twice is none, and which one the server takes nobody knows.
        let is_named = NAMED.contains(&&*method) && one(headers, "mcp-name")?.is_some();
        return if is_named { Err(Refusal::HeaderMismatch("Mcp-Name is not the name in the body")) } else { Ok(None) };
    };
    if one(headers, "mcp-name")?.and_then(decoded).is_none_or(|header| header != name) {
        return Err(Refusal::HeaderMismatch("Mcp-Name is not the name in the body"));
    }
    if method != "tools/call" {
        return Ok(None);
    }
    let arguments = named.arguments.map_or(Ok(Value::Null), |arguments| serde_json::from_str(arguments.get()));
    let arguments = arguments.map_err(|_| Refusal::Parse)?;
    Ok(Some(ToolCall { tool: name.into_owned(), arguments }))
}

impl<'a> Request<'a> {
    fn named(&self) -> Named<'a> {
        self.params.and_then(|params| object(params.get().as_bytes())).unwrap_or_default()
    }
}

/// The requests that have a name, which `Mcp-Name` repeats.
const NAMED: [&str; 6] = ["tools/call", "prompts/get", "resources/read", "tasks/get", "tasks/update", "tasks/cancel"];

const MISSING_VERSION: Refusal = Refusal::HeaderMismatch("MCP-Protocol-Version is missing");

/// The header's value; two of them could mean different things to different readers.
pub(in crate::gateway) fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::to_str);
    match (first, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(Refusal::HeaderMismatch("a header that repeats the body is there twice, or is not text")),
    }
}

/// `=?base64?…?=` stands for what a header cannot hold.
pub(in crate::gateway) fn decoded(value: &str) -> Option<Cow<'_, str>> {
    match value.strip_prefix("=?base64?").and_then(|inner| inner.strip_suffix("?=")) {
        Some(inner) => String::from_utf8(BASE64_STANDARD.decode(inner).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::after_write::AfterWrite;
    use crate::gateway::call::Client;
    use bytes::Bytes;

    const BODY: &str = r#"{"id":1,"method":"tools/call","params":{"name":"\u00e4","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    fn checked(headers: &[(&'static str, &'static str)]) -> Result<Option<ToolCall>, Refusal> {
        checked_body(headers, BODY)
    }

    /// Found while fuzzing: of two names in the body neither was compared with the header.
    #[test]
    fn a_name_that_is_there_twice_is_not_the_one_of_the_header() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let headers = [version, ("mcp-method", "tools/call"), ("mcp-name", "a")];
        let body = r#"{"id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#;
        assert!(matches!(checked_body(&headers, body), Err(Refusal::HeaderMismatch(_))));
        assert_eq!(checked_body(&headers[..2], body), Ok(None));
    }

    fn checked_body(headers: &[(&'static str, &'static str)], body: &'static str) -> Result<Option<ToolCall>, Refusal> {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let client = Client::new([127, 0, 0, 1].into(), AfterWrite::default());
        check(&Call::read(head, Bytes::from_static(body.as_bytes()), client))
    }

    #[test]
    fn meta_names_revision_and_capabilities() {
        assert!(!meta_is_complete(BODY.as_bytes()));
        let body = BODY.replace(r#"_meta":{"#, r#"_meta":{"io.modelcontextprotocol/clientCapabilities":{},"#);
        assert!(meta_is_complete(body.as_bytes()));
    }

    #[test]
    fn headers_must_say_what_the_body_says() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let method = ("mcp-method", "tools/call");
        let name = ("mcp-name", "=?base64?w6Q=?=");
        let call = ToolCall { tool: "ä".to_owned(), arguments: Value::Null };
        assert_eq!(checked(&[version, method, name]), Ok(Some(call)));
        for headers in [
            &[version, method] as &[_],
            &[version, name],
            &[method, name],
            &[version, method, name, name],
            &[version, method, ("mcp-name", "=?base64?w6Q?=")],
            &[version, ("mcp-method", "tools/list"), name],
            &[("mcp-protocol-version", "2026-07-29"), method, name],
        ] {
            assert!(matches!(checked(headers), Err(Refusal::HeaderMismatch(_))), "{headers:?}");
        }
    }
}
