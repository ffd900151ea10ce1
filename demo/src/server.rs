//! The office as an MCP server, over Streamable HTTP or stdio, for clients of both protocol eras.
//!
//! Up to 2025-11-25 a client initialises and gets a session; from 2026-07-28 on each request stands for itself. `rmcp`
//! tells them apart per request. The offices of both are the same: sessions share one world.

mod tools;

use std::sync::Arc;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use tools::OfficeServer;

/// Serves on a listener, at `/mcp`, until `stop` is cancelled. It answers to loopback names and to `names`.
pub async fn serve_http(
    listener: TcpListener,
    server: OfficeServer,
    names: Vec<String>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut config = StreamableHttpServerConfig::default().with_cancellation_token(stop.child_token());
    config.allowed_hosts.extend(names);
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    let router = axum::Router::new().nest_service("/mcp", service);
    // An answer is several small writes: the second would wait until the first is acknowledged, 40 ms.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY is not set");
        }
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled_owned().await })
        .await
        .context("serve MCP over HTTP")
}

/// Binds a listener to `HOST:PORT`.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

/// Serves the one client at the other end of stdin and stdout.
pub async fn serve_stdio(server: OfficeServer) -> anyhow::Result<()> {
    let running = server.serve(rmcp::transport::stdio()).await.context("start MCP over stdio")?;
    running.waiting().await.context("serve MCP over stdio")?;
    Ok(())
}
