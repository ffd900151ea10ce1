//! Tools that talk while they run: log messages, progress, and the questions that a legacy server may ask its client.

use std::time::Duration;

use rmcp::model::{
    CallToolResult, ClientResult, CreateMessageRequest, ElicitRequest, LoggingMessageNotification, Notification,
    ProgressNotificationParam, ServerNotification, ServerRequest,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::answers::{failed, text};
use crate::values::parsed;

/// Between two messages of a tool.
const PAUSE: Duration = Duration::from_millis(50);

type Ctx = RequestContext<RoleServer>;

fn unsent(error: &impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(format!("send to the client: {error}"), None)
}

async fn log(ctx: &Ctx, level: &str, data: &str) -> Result<(), ErrorData> {
    let params = parsed(json!({ "level": level, "logger": "conformance-server", "data": data }));
    let message: LoggingMessageNotification = Notification::new(params);
    let message = ServerNotification::LoggingMessageNotification(message);
    ctx.peer.send_notification(message).await.map_err(|error| unsent(&error))
}

/// Three log messages, then the answer.
pub(crate) async fn with_logging(ctx: &Ctx) -> Result<CallToolResult, ErrorData> {
    for message in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        log(ctx, "info", message).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(text("Logging test completed"))
}

/// Logs only for a request that asks for it, as the era without sessions wants.
pub(crate) async fn logs_if_asked(ctx: &Ctx) -> Result<CallToolResult, ErrorData> {
    if let Some(level) = ctx.meta.log_level() {
        let level = serde_json::to_value(level).ok();
        log(ctx, level.as_ref().and_then(Value::as_str).unwrap_or("info"), "asked for").await?;
    }
    Ok(text("Logging tool completed"))
}

/// Progress at 0, 50 and 100 of 100.
pub(crate) async fn with_progress(ctx: &Ctx) -> Result<CallToolResult, ErrorData> {
    let Some(token) = ctx.meta.get_progress_token() else { return Ok(text("No progress was asked for")) };
    for progress in [0.0, 50.0, 100.0] {
        let param = ProgressNotificationParam::new(token.clone(), progress).with_total(100.0);
        ctx.peer.notify_progress(param).await.map_err(|error| unsent(&error))?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(text("Progress test completed"))
}

async fn ask(ctx: &Ctx, request: ServerRequest) -> Result<Value, String> {
    match ctx.peer.send_request(request).await {
        Ok(ClientResult::EmptyResult(_)) => Err("the client's answer is empty".to_owned()),
        Ok(result) => serde_json::to_value(result).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Has the client's model say something.
pub(crate) async fn sampling(ctx: &Ctx, arguments: &Value) -> CallToolResult {
    let prompt = arguments["prompt"].as_str().unwrap_or_default();
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    let params = parsed(json!({ "messages": [message], "maxTokens": 100 }));
    match ask(ctx, ServerRequest::CreateMessageRequest(CreateMessageRequest::new(params))).await {
        Ok(answer) => {
            let said = answer["content"]["text"].as_str().or_else(|| answer["content"][0]["text"].as_str());
            text(format!("LLM response: {}", said.unwrap_or("none")))
        }
        Err(error) => failed(format!("Sampling failed: {error}")),
    }
}

/// Has the client's user fill in a form.
pub(crate) async fn elicitation(ctx: &Ctx, tool: &str, arguments: &Value) -> CallToolResult {
    let (message, properties, required) = form(tool, arguments);
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    let params = parsed(json!({ "mode": "form", "message": message, "requestedSchema": schema }));
    match ask(ctx, ServerRequest::ElicitRequest(ElicitRequest::new(params))).await {
        Ok(answer) => {
            let action = answer["action"].as_str().unwrap_or("none");
            text(format!("User response: action={action}, content={}", answer["content"]))
        }
        Err(error) => failed(format!("Elicitation failed: {error}")),
    }
}

fn form(tool: &str, arguments: &Value) -> (String, Value, &'static [&'static str]) {
    match tool {
        "test_elicitation_sep1034_defaults" => {
            let properties = json!({
                "name": { "type": "string", "default": "John Doe" },
                "age": { "type": "integer", "default": 30 },
                "score": { "type": "number", "default": 95.5 },
                "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
                "verified": { "type": "boolean", "default": true }
            });
            ("Please review the defaults".to_owned(), properties, &[])
        }
        "test_elicitation_sep1330_enums" => ("Please choose".to_owned(), enums(), &[]),
        _ => {
            let message = arguments["message"].as_str().unwrap_or("Please answer").to_owned();
            let string = |description: &str| json!({ "type": "string", "description": description });
            let properties = json!({ "username": string("A name"), "email": string("An address") });
            (message, properties, &["username", "email"])
        }
    }
}

/// The five ways to write a choice.
fn enums() -> Value {
    let titled = |names: [&str; 3]| {
        let option = |name: &str| json!({ "const": name, "title": format!("Title of {name}") });
        json!(names.map(option))
    };
    let plain = json!(["option1", "option2", "option3"]);
    let (one, two) = (titled(["value1", "value2", "value3"]), titled(["value1", "value2", "value3"]));
    json!({
        "untitledSingle": { "type": "string", "enum": plain },
        "titledSingle": { "type": "string", "oneOf": one },
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
        "titledMulti": { "type": "array", "items": { "anyOf": two } }
    })
}
