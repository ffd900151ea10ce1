//! The server behind the conformance gate: the fixtures of the official suite, for clients of both protocol eras.
//!
//! The suite asks a server for tools, prompts and resources of fixed names and behaviour; they are here, on `rmcp`,
//! and nothing else. Invariant: HTTP and stdio serve the same handler, so that a difference between two runs of the
//! suite is the gateway's.

#![expect(deprecated, reason = "the legacy era is under test, and rmcp marks its parts so")]

mod answers;
mod catalog;
mod dialogue;
mod fixtures;
mod jobs;
mod rounds;
mod streams;
mod values;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;

use crate::fixtures::Fixtures;

/// Serve the fixtures of the MCP conformance suite.
#[derive(Debug, Parser)]
struct Cli {
    /// Serve over Streamable HTTP at /mcp; without it, over stdin and stdout.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().listen {
        Some(address) => serve_http(address).await,
        None => serve_stdio().await,
    }
}

async fn serve_http(address: SocketAddr) -> anyhow::Result<()> {
    let sessions = Arc::new(LocalSessionManager::default());
    let fixtures = Fixtures::with_streams(Arc::clone(&sessions));
    let service =
        StreamableHttpService::new(move || Ok(fixtures.clone()), sessions, StreamableHttpServerConfig::default());
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let router = axum::Router::new().nest_service("/mcp", service);
    axum::serve(listener, router).await.context("serve MCP over HTTP")
}

async fn serve_stdio() -> anyhow::Result<()> {
    let running = Fixtures::default().serve(rmcp::transport::stdio()).await.context("start MCP over stdio")?;
    running.waiting().await.context("serve MCP over stdio")?;
    Ok(())
}
