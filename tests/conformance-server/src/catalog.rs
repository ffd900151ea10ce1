//! What the server lists: tools with their schemas, prompts, resources and templates.

use rmcp::model::{ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, Tool};
use serde_json::{Value, json};

use crate::values::{parsed, result};

/// How long a list may be kept; the suite asks that it is said.
const TTL_MS: u64 = 60_000;

/// Tools that take no arguments.
const PLAIN: [&str; 28] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_error_handling",
    "test_tool_with_progress",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_reconnection",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_logging_tool",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
    "failing_job",
    "protocol_error_job",
    "multi_input",
    "test_tool_with_task",
];

fn tool(name: &str, input_schema: &Value) -> Value {
    json!({ "name": name, "description": format!("Conformance fixture {name}"), "inputSchema": input_schema })
}

fn with_arguments() -> Vec<Value> {
    let strings = |names: &[&str], required: bool| {
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
        let required: &[&str] = if required { names } else { &[] };
        json!({ "type": "object", "properties": properties, "required": required })
    };
    vec![
        tool("test_sampling", &strings(&["prompt"], true)),
        tool("test_elicitation", &strings(&["message"], true)),
        tool("greet", &strings(&["name"], true)),
        tool("confirm_delete", &strings(&["filename"], false)),
        tool(
            "slow_compute",
            &json!({ "type": "object", "properties": { "seconds": { "type": "number" }, "label": { "type": "string" } } }),
        ),
        tool("json_schema_2020_12_tool", &schema_2020_12()),
        custom_header(),
    ]
}

/// A tool one of whose arguments a client has to repeat as a header.
fn custom_header() -> Value {
    let value = json!({ "type": "string", "x-mcp-header": "Value" });
    tool("test_custom_header", &json!({ "type": "object", "properties": { "value": value }, "required": ["value"] }))
}

/// Every keyword of JSON Schema 2020-12 that the suite looks for.
fn schema_2020_12() -> Value {
    let string = json!({ "type": "string" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": { "$anchor": "addressDef", "type": "object", "properties": { "street": string, "city": string } }
        },
        "properties": {
            "name": string,
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": string,
            "email": string
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false
    })
}

/// The one tool that the transport has to know to check its headers.
pub(crate) fn tool_with_header(name: &str) -> Option<Tool> {
    (name == "test_custom_header").then(|| parsed(custom_header()))
}

pub(crate) fn tools() -> ListToolsResult {
    let plain = PLAIN.iter().map(|name| tool(name, &json!({ "type": "object", "properties": {} })));
    let tools: Vec<Value> = plain.chain(with_arguments()).collect();
    result(kept(json!({ "tools": tools })))
}

pub(crate) fn prompts() -> ListPromptsResult {
    let argument = |name: &str| json!({ "name": name, "description": "A test argument", "required": true });
    let prompt = |name: &str, arguments: &[Value]| json!({ "name": name, "description": format!("Conformance fixture {name}"), "arguments": arguments });
    result(kept(json!({ "prompts": [
        prompt("test_simple_prompt", &[]),
        prompt("test_prompt_with_arguments", &[argument("arg1"), argument("arg2")]),
        prompt("test_prompt_with_embedded_resource", &[argument("resourceUri")]),
        prompt("test_prompt_with_image", &[]),
        prompt("test_input_required_result_prompt", &[]),
    ] })))
}

pub(crate) fn resources() -> ListResourcesResult {
    let resource = |uri: &str, mime: &str| json!({ "uri": uri, "name": uri, "description": "A resource for testing", "mimeType": mime });
    result(kept(json!({ "resources": [
        resource("test://static-text", "text/plain"),
        resource("test://static-binary", "image/png"),
        resource("test://watched-resource", "text/plain"),
    ] })))
}

pub(crate) fn templates() -> ListResourceTemplatesResult {
    let template = json!({
        "uriTemplate": "test://template/{id}/data",
        "name": "Template",
        "description": "A resource with a parameter",
        "mimeType": "application/json"
    });
    result(kept(json!({ "resourceTemplates": [template] })))
}

/// A list that says how long it holds, and for whom.
fn kept(mut list: Value) -> Value {
    list["ttlMs"] = json!(TTL_MS);
    list["cacheScope"] = json!("public");
    list
}
