//! Results that are the same for everyone: content of tools, prompts and resources, as the suite spells it.

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, CompleteResult, GetPromptResult, ReadResourceResult};
use serde_json::{Value, json};

use crate::values::result;

/// A PNG of one red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A WAV without a sample.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

/// A tool's text result.
pub(crate) fn text(text: impl Into<String>) -> CallToolResult {
    let text: String = text.into();
    result(json!({ "content": [{ "type": "text", "text": text }] }))
}

/// A tool's failure, told as a result.
pub(crate) fn failed(message: impl Into<String>) -> CallToolResult {
    let text: String = message.into();
    result(json!({ "content": [{ "type": "text", "text": text }], "isError": true }))
}

/// The result of a tool that always answers the same.
pub(crate) fn constant(tool: &str) -> Option<CallToolResult> {
    let embedded = |uri: &str, mime: &str, text: &str| json!({ "type": "resource", "resource": { "uri": uri, "mimeType": mime, "text": text } });
    let image = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
    let content = match tool {
        "test_simple_text" => return Some(text("This is a simple text response for testing.")),
        "test_error_handling" => return Some(failed("This tool intentionally returns an error for testing")),
        "test_image_content" => json!([image]),
        "test_audio_content" => json!([{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }]),
        "test_embedded_resource" => {
            json!([embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")])
        }
        "test_multiple_content_types" => json!([
            { "type": "text", "text": "Multiple content types test:" },
            image,
            embedded("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]),
        _ => return None,
    };
    Some(result(json!({ "content": content })))
}

/// A prompt, filled in.
pub(crate) fn prompt(name: &str, arguments: &Value) -> Result<GetPromptResult, ErrorData> {
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    let said = |text: &str| json!({ "role": "user", "content": { "type": "text", "text": text } });
    let messages = match name {
        "test_simple_prompt" => json!([said("This is a simple prompt for testing.")]),
        "test_prompt_with_arguments" => {
            let text = format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
            json!([said(&text)])
        }
        "test_prompt_with_embedded_resource" => {
            let uri = argument("resourceUri");
            let text = "Embedded resource content for testing.";
            let resource = json!({ "uri": uri, "mimeType": "text/plain", "text": text });
            json!([
                { "role": "user", "content": { "type": "resource", "resource": resource } },
                said("Please process the embedded resource above."),
            ])
        }
        "test_prompt_with_image" => json!([
            { "role": "user", "content": { "type": "image", "data": PNG, "mimeType": "image/png" } },
            said("Please analyze the image above."),
        ]),
        _ => return Err(ErrorData::invalid_params(format!("unknown prompt: {name}"), None)),
    };
    Ok(result(json!({ "messages": messages })))
}

/// A resource's content.
pub(crate) fn resource(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    let content = match (uri, id) {
        ("test://static-text", _) => {
            json!({ "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource." })
        }
        ("test://static-binary", _) => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
        ("test://watched-resource", _) => json!({ "uri": uri, "mimeType": "text/plain", "text": "Watched." }),
        (_, Some(id)) => {
            let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") }).to_string();
            json!({ "uri": uri, "mimeType": "application/json", "text": text })
        }
        _ => {
            let data = json!({ "uri": uri });
            return Err(ErrorData::resource_not_found(format!("no such resource: {uri}"), Some(data)));
        }
    };
    Ok(result(json!({ "contents": [content] })))
}

/// Nothing is ever suggested; the suite asks for the shape alone.
pub(crate) fn completion() -> CompleteResult {
    result(json!({ "completion": { "values": [], "total": 0, "hasMore": false } }))
}
