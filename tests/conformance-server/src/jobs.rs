//! Tools that become tasks where the client knows tasks (SEP-2663), and run to their end where it does not.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, CallToolResult, ClientCapabilities, CreateTaskResult, InputRequest};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};

use crate::answers::{failed, text};
use crate::rounds::form;
use crate::values::parsed;

/// How long a job that does nothing takes.
const WORK: Duration = Duration::from_millis(500);

/// Whether `tool` can be a task, and whether it can only be one.
pub(crate) fn support(tool: &str) -> Option<Required> {
    match tool {
        "slow_compute" | "protocol_error_job" => Some(Required::No),
        "failing_job" | "test_tool_with_task" | "confirm_delete" | "multi_input" => Some(Required::Yes),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Required {
    Yes,
    No,
}

/// Runs a job: as a task where the client knows tasks.
pub(crate) async fn run(
    tasks: &TaskManager,
    tool: &str,
    arguments: Value,
    capabilities: &ClientCapabilities,
) -> Result<CallToolResponse, ErrorData> {
    let knows = capabilities.supports_tasks();
    if support(tool) == Some(Required::Yes) && !knows {
        let tasks = ClientCapabilities::builder().enable_tasks().build();
        return Err(ErrorData::missing_required_client_capability(tasks));
    }
    if !knows {
        return work(tool, &arguments).await.map(Into::into);
    }
    let tool = tool.to_owned();
    let task = tasks.spawn(TaskOptions::default(), move |ctx| {
        Box::pin(async move {
            match &*tool {
                "confirm_delete" => {
                    let answer = asked(&ctx, "confirm", "Delete it?", "confirm", "boolean").await?;
                    Ok(text(format!("Deletion confirmed: {answer}")))
                }
                "multi_input" => {
                    let first = asked(&ctx, "first", "The first value?", "value", "string");
                    let second = asked(&ctx, "second", "The second value?", "value", "string");
                    let (first, second) = tokio::join!(first, second);
                    Ok(text(format!("Values: {}, {}", first?, second?)))
                }
                _ => tokio::select! {
                    () = ctx.cancelled() => Err(TaskExit::Cancelled),
                    done = work(&tool, &arguments) => done.map_err(TaskExit::Error),
                },
            }
        })
    });
    Ok(CreateTaskResult::new(task).into())
}

/// Asks the client for one field from within a task.
async fn asked(ctx: &TaskContext, key: &str, message: &str, field: &str, kind: &str) -> Result<Value, TaskExit> {
    let request: InputRequest = parsed(form(message, field, kind));
    Ok(ctx.request_input(key, request).await?["content"][field].clone())
}

async fn work(tool: &str, arguments: &Value) -> Result<CallToolResult, ErrorData> {
    match tool {
        "slow_compute" => {
            let seconds = arguments["seconds"].as_f64().unwrap_or(1.0).clamp(0.0, 60.0);
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok(text(format!("Computed for {seconds} s")))
        }
        "failing_job" => {
            tokio::time::sleep(WORK).await;
            Ok(failed("This job fails on purpose"))
        }
        "protocol_error_job" => {
            tokio::time::sleep(WORK).await;
            Err(ErrorData::internal_error("this job breaks the protocol on purpose", None))
        }
        _ => {
            tokio::time::sleep(WORK).await;
            Ok(text(format!("Done for {}", json!(arguments["user_name"].as_str().unwrap_or("somebody")))))
        }
    }
}
