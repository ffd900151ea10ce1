//! `Mcp-Param-*`: arguments that a tool's schema has its callers repeat as headers (`x-mcp-header`, SEP-2243).
//!
//! Whoever stands before us may have decided by such a header what the argument then does otherwise, so the two must
//! agree. For that the schemas must be known: answers to `tools/list` are read as they pass, and a tool that was never
//! listed has the child asked (`shared`). Not here: the headers that every request has (`headers`). Invariant: bounded
//! memory, and a child is not asked more often than once per [`PAUSE`] for the sake of names it does not know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::headers::{decoded, one};
use crate::gateway::envelope::object;
use crate::gateway::rescue::Refusal;

/// Tools of one child that are remembered.
const TOOLS_MAX: usize = 4096;
/// Between two questions for tools that are in no list.
const PAUSE: Duration = Duration::from_secs(1);

/// The tools of a child.
#[derive(Debug, Default)]
pub(super) struct Tools(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<String, Arc<[Param]>>,
    asked: Option<Instant>,
}

/// One argument that is repeated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Param {
    path: Vec<String>,
    header: HeaderName,
}

#[derive(Deserialize)]
struct Listed {
    tools: Vec<Listing>,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Listing {
    name: String,
    #[serde(default, rename = "inputSchema")]
    input_schema: Value,
}

#[derive(Deserialize)]
struct Answered {
    result: Listed,
}

impl Tools {
    /// What the tool's callers repeat; `None` if the child should be asked first.
    pub(super) fn params(&self, tool: &str) -> Option<Arc<[Param]>> {
        let known = self.known();
        let recently = known.asked.is_some_and(|asked| asked.elapsed() < PAUSE);
        // A name that is in no list is the child's to refuse.
        known.by_name.get(tool).cloned().or_else(|| recently.then(Arc::default))
    }

    /// The child has said all that it has to say.
    pub(super) fn asked(&self) {
        self.known().asked = Some(Instant::now());
    }

    /// Reads an answer to `tools/list`; gives the cursor of the next page.
    pub(super) fn learn(&self, answer: &[u8]) -> Option<String> {
        let Listed { tools, next_cursor } = object::<Answered>(answer)?.result;
        let mut known = self.known();
        for tool in tools {
            if known.by_name.len() < TOOLS_MAX || known.by_name.contains_key(&tool.name) {
                let mut params = Vec::new();
                collect(&tool.input_schema, &mut Vec::new(), &mut params);
                known.by_name.insert(tool.name, params.into());
            }
        }
        next_cursor
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The annotated properties of a schema; the parser bounds how deep they lie.
fn collect(schema: &Value, path: &mut Vec<String>, params: &mut Vec<Param>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        path.push(name.clone());
        let header = property.get("x-mcp-header").and_then(Value::as_str);
        if let Some(header) = header.and_then(|header| format!("mcp-param-{header}").parse().ok()) {
            params.push(Param { path: path.clone(), header });
        }
        collect(property, path, params);
        path.pop();
    }
}

/// Checks a call's headers against its arguments.
pub(super) fn check(params: &[Param], headers: &HeaderMap, arguments: &Value) -> Result<(), Refusal> {
    for Param { path, header } in params {
        let argument = path.iter().try_fold(arguments, |value, key| value.get(key));
        let header = one(headers, header.as_str())?;
        let agree = match (header, argument.filter(|argument| !argument.is_null())) {
            (None, None) => true,
            (Some(header), Some(argument)) => decoded(header).is_some_and(|header| says(&header, argument)),
            // Only what fits into a header is repeated.
            (None, Some(argument)) => argument.is_object() || argument.is_array(),
            (Some(_), None) => false,
        };
        if !agree {
            return Err(Refusal::HeaderMismatch("an Mcp-Param header is not the argument in the body"));
        }
    }
    Ok(())
}

/// Numbers are equal however they are written.
fn says(header: &str, argument: &Value) -> bool {
    match argument {
        Value::String(text) => header == text,
        Value::Bool(bool) => header == if *bool { "true" } else { "false" },
        Value::Number(number) => {
            let same = || header.parse::<f64>().ok().zip(number.as_f64()).is_some_and(|(a, b)| a == b);
            // Beyond 2^53 floats cannot tell neighbours apart.
            header == number.to_string() || number.as_f64().is_some_and(|value| value.abs() < 9e15) && same()
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIST: &str = r#"{"id":1,"result":{"nextCursor":"c","tools":[
        {"name":"a","inputSchema":{"properties":{
            "text":{"type":"string","x-mcp-header":"Text"},"deep":{"properties":{"n":{"x-mcp-header":"N"}}}}}},
        {"name":"b"}]}}"#;

    fn tools() -> Tools {
        let tools = Tools::default();
        assert_eq!(tools.learn(LIST.as_bytes()).as_deref(), Some("c"));
        tools
    }

    fn check(headers: &[(&'static str, &'static str)], arguments: &Value, expect: bool) {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let params = tools().params("a").unwrap();
        assert_eq!(super::check(&params, &headers, arguments).is_ok(), expect, "{headers:?} {arguments}");
    }

    #[test]
    fn a_header_says_what_the_argument_says() {
        check(&[], &json!({}), true);
        check(&[], &Value::Null, true);
        check(&[("mcp-param-text", "x")], &json!({ "text": "x" }), true);
        check(&[("mcp-param-text", "=?base64?w6Q=?=")], &json!({ "text": "ä" }), true);
        check(&[("mcp-param-n", "1.0")], &json!({ "deep": { "n": 1 } }), true);
        check(&[("mcp-param-n", "true")], &json!({ "deep": { "n": true } }), true);
        check(&[("mcp-param-other", "x")], &json!({}), true);
        check(&[], &json!({ "text": "x" }), false);
        check(&[("mcp-param-text", "x")], &json!({}), false);
        check(&[("mcp-param-text", "x")], &json!({ "text": null }), false);
        check(&[("mcp-param-text", "=?base64?w6Q?=")], &json!({ "text": "ä" }), false);
        check(&[("mcp-param-n", "9007199254740993")], &json!({ "deep": { "n": 9_007_199_254_740_992_u64 } }), false);
    }

    #[test]
    fn a_child_is_asked_once_for_what_it_does_not_list() {
        let tools = tools();
        assert!(tools.params("b").unwrap().is_empty());
        assert_eq!(tools.params("c"), None);
        tools.asked();
        assert!(tools.params("c").unwrap().is_empty());
    }
}
