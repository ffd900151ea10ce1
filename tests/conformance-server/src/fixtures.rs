//! The handler: each request of the protocol to the fixture that answers it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, CompleteRequestParams,
    CompleteResult, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::task_manager::TaskManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::rounds::{Brought, Round, Rounds};
use crate::streams::Streams;
use crate::{answers, catalog, dialogue, jobs};

/// What a call that was cut off waits before it answers: long enough for a gateway to make a stream of it.
const AFTER_CUT: Duration = Duration::from_millis(1200);

type Ctx = RequestContext<RoleServer>;

/// The server; clones share what it remembers.
#[derive(Clone, Default)]
pub(crate) struct Fixtures {
    streams: Streams,
    rounds: Rounds,
    tasks: TaskManager,
    listeners: Arc<Mutex<Listeners>>,
}

/// Open subscriptions, by number.
#[derive(Default)]
struct Listeners {
    open: BTreeMap<u64, SubscriptionSink>,
    next: u64,
}

impl Fixtures {
    /// For a server over HTTP, which can close the streams of its calls.
    pub(crate) fn with_streams(sessions: Arc<LocalSessionManager>) -> Self {
        Self { streams: Streams::of(sessions), ..Self::default() }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all subscriptions that a list has changed. One whose client has left is on its way out.
    async fn announce(&self, tool: &str) -> &'static str {
        let sinks: Vec<SubscriptionSink> = self.listeners().open.values().cloned().collect();
        for sink in sinks {
            let _ = match tool {
                "test_trigger_tool_change" => sink.notify_tool_list_changed().await,
                _ => sink.notify_prompt_list_changed().await,
            };
        }
        "The change was announced"
    }

    async fn call(&self, request: CallToolRequestParams, ctx: &Ctx) -> Result<CallToolResponse, ErrorData> {
        let tool = &*request.name;
        let capabilities = ctx.meta.client_capabilities().unwrap_or_default();
        let brought = Brought { responses: request.input_responses.as_ref(), state: request.request_state.as_deref() };
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        if let Some(constant) = answers::constant(tool) {
            return Ok(constant.into());
        }
        if tool.starts_with("test_input_required_result_") || tool == "test_streaming_elicitation" {
            return Ok(match self.rounds.step(tool, brought, &capabilities)? {
                Round::Done(text) => answers::text(text).into(),
                Round::More(required) => required.into(),
            });
        }
        if tool == "test_tool_with_task" && capabilities.supports_tasks() {
            return self.two_rounds_then_task(brought, &capabilities).await;
        }
        if jobs::support(tool).is_some() {
            return jobs::run(&self.tasks, tool, arguments, &capabilities).await;
        }
        let result = match tool {
            "test_tool_with_logging" => dialogue::with_logging(ctx).await?,
            "test_tool_with_progress" => dialogue::with_progress(ctx).await?,
            "test_logging_tool" => dialogue::logs_if_asked(ctx).await?,
            "test_sampling" => dialogue::sampling(ctx, &arguments).await,
            "test_elicitation" | "test_elicitation_sep1034_defaults" | "test_elicitation_sep1330_enums" => {
                dialogue::elicitation(ctx, tool, &arguments).await
            }
            "test_reconnection" => {
                self.streams.close(ctx).await;
                tokio::time::sleep(AFTER_CUT).await;
                answers::text("Reconnection test completed")
            }
            "test_trigger_tool_change" | "test_trigger_prompt_change" => answers::text(self.announce(tool).await),
            "test_missing_capability" if capabilities.sampling.is_none() => {
                let sampling = ClientCapabilities::builder().enable_sampling().build();
                return Err(ErrorData::missing_required_client_capability(sampling));
            }
            "test_missing_capability" => answers::text("The capability was declared"),
            "test_custom_header" | "greet" | "json_schema_2020_12_tool" => {
                let said = arguments["value"].as_str().or_else(|| arguments["name"].as_str());
                answers::text(format!("Hello, {}!", said.unwrap_or("world")))
            }
            _ => return Err(ErrorData::invalid_params(format!("unknown tool: {tool}"), None)),
        };
        Ok(result.into())
    }

    /// A round of input, then a task.
    async fn two_rounds_then_task(
        &self,
        brought: Brought<'_>,
        capabilities: &ClientCapabilities,
    ) -> Result<CallToolResponse, ErrorData> {
        let asked = self.rounds.step("test_input_required_result_elicitation", brought, capabilities)?;
        match asked {
            Round::More(required) => Ok(required.into()),
            Round::Done(greeting) => {
                let arguments = json!({ "user_name": greeting });
                jobs::run(&self.tasks, "test_tool_with_task", arguments, capabilities).await
            }
        }
    }
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("undercurrent-conformance-server", env!("CARGO_PKG_VERSION")))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        catalog::tool_with_header(name)
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: Ctx) -> Result<ListToolsResult, ErrorData> {
        Ok(catalog::tools())
    }

    async fn call_tool(&self, request: CallToolRequestParams, ctx: Ctx) -> Result<CallToolResponse, ErrorData> {
        self.call(request, &ctx).await
    }

    async fn list_prompts(&self, _: Option<PaginatedRequestParams>, _: Ctx) -> Result<ListPromptsResult, ErrorData> {
        Ok(catalog::prompts())
    }

    async fn get_prompt(&self, request: GetPromptRequestParams, ctx: Ctx) -> Result<GetPromptResponse, ErrorData> {
        let arguments = serde_json::to_value(&request.arguments).unwrap_or_default();
        if request.name != "test_input_required_result_prompt" {
            return answers::prompt(&request.name, &arguments).map(Into::into);
        }
        let brought = Brought { responses: request.input_responses.as_ref(), state: request.request_state.as_deref() };
        let capabilities = ctx.meta.client_capabilities().unwrap_or_default();
        match self.rounds.step(&request.name, brought, &capabilities)? {
            Round::More(required) => Ok(required.into()),
            Round::Done(_) => answers::prompt("test_simple_prompt", &arguments).map(Into::into),
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Ctx,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(catalog::resources())
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Ctx,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(catalog::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Ctx,
    ) -> Result<ReadResourceResponse, ErrorData> {
        answers::resource(&request.uri).map(Into::into)
    }

    async fn complete(&self, _: CompleteRequestParams, _: Ctx) -> Result<CompleteResult, ErrorData> {
        Ok(answers::completion())
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Ctx) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Ctx) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Ctx) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let number = {
            let mut listeners = self.listeners();
            listeners.next += 1;
            let number = listeners.next;
            listeners.open.insert(number, subscription.sink().clone());
            number
        };
        subscription.cancelled().await;
        self.listeners().open.remove(&number);
        Ok(())
    }

    async fn get_task(&self, request: GetTaskParams, _: Ctx) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.tasks.get_task(&request.task_id)?))
    }

    async fn update_task(&self, request: UpdateTaskParams, _: Ctx) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: Ctx) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
