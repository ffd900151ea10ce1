//! One MCP session as a client: connects in its era, calls tools, and says goodbye.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use rmcp::model::{CallToolRequestParams, ClientConfig, Implementation, ProtocolVersion, RequestMetaObject};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use serde_json::{Map, Value};

use super::plan::Era;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Where and how a session connects.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: String,
    /// The address to call from; `None` = any.
    pub local: Option<IpAddr>,
    pub era: Era,
    /// The client's name, as it introduces itself.
    pub name: String,
    /// Of the trace that a stateless session's requests share.
    pub trace: u64,
}

/// What a tool answered.
#[derive(Debug)]
pub enum Reply {
    Result(Value),
    /// The tool refused (`isError`).
    ToolError(String),
}

/// An open session.
#[derive(Debug)]
pub struct Client {
    service: RunningService<RoleClient, ClientConfig>,
    traceparent: Option<String>,
}

impl Client {
    pub async fn connect(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder().no_proxy().connect_timeout(REQUEST_TIMEOUT);
        if let Some(local) = endpoint.local {
            http = http.local_address(local);
        }
        let http = http.build().context("build the HTTP client")?;
        let config = StreamableHttpClientTransportConfig::with_uri(endpoint.url.clone());
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let mut client = ClientConfig::default();
        client.client_info = Implementation::new(endpoint.name.clone(), env!("CARGO_PKG_VERSION"));
        let lifecycle = match endpoint.era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Stateless => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        let opening = client.serve_with_lifecycle(transport, lifecycle);
        let service = tokio::time::timeout(REQUEST_TIMEOUT, opening).await.context("open a session: no answer")??;
        let traceparent = match endpoint.era {
            Era::Legacy => None,
            Era::Stateless => {
                Some(format!("00-{:032x}-{:016x}-01", u128::from(endpoint.trace) << 7 | 1, endpoint.trace | 1))
            }
        };
        Ok(Self { service, traceparent })
    }

    /// The protocol version that was agreed on.
    #[must_use]
    pub fn protocol_version(&self) -> String {
        self.service.peer_info().map(|peer| peer.protocol_version.to_string()).unwrap_or_default()
    }

    pub async fn list_tools(&self) -> anyhow::Result<Vec<String>> {
        let listing = self.service.list_tools(None);
        let listed = tokio::time::timeout(REQUEST_TIMEOUT, listing).await.context("list tools: no answer")??;
        Ok(listed.tools.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    pub async fn call(&self, tool: &'static str, arguments: Map<String, Value>) -> anyhow::Result<Reply> {
        let mut params = CallToolRequestParams::new(tool).with_arguments(arguments);
        if let Some(traceparent) = &self.traceparent {
            params.meta.get_or_insert_with(RequestMetaObject::new).set_traceparent(traceparent);
        }
        let calling = self.service.call_tool(params);
        let result = tokio::time::timeout(REQUEST_TIMEOUT, calling)
            .await
            .with_context(|| format!("call {tool}: no answer"))??;
        if result.is_error == Some(true) {
            let text = result.content.first().and_then(|content| content.as_text()).map(|text| text.text.clone());
            return Ok(Reply::ToolError(text.unwrap_or_default()));
        }
        Ok(Reply::Result(result.structured_content.unwrap_or(Value::Null)))
    }

    /// Ends the session: a DELETE in the legacy era, nothing in the stateless one.
    pub async fn close(self) {
        if let Err(error) = self.service.cancel().await {
            tracing::debug!(%error, "session task ended badly");
        }
    }
}
