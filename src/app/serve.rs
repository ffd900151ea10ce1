//! `serve`: gateway, learning, history, metrics and console in one process; `gateway`: the same without learning.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::background;
use super::holds::EdgeTickets;
use super::intake::Reports;
use super::node::{Learning, Node, Parts};
use super::reload::Reloader;
use super::sayings::Sayings;
use super::settings;
use super::status::AppStatus;
use super::{screen, signals};
use crate::admin::{self, AdminState, UpstreamStatus};
use crate::cli::ServeArgs;
use crate::config::{Config, Given, Upstream, UpstreamName};
use crate::data_dir::DataDir;
use crate::edge::Recorder;
use crate::gateway::{self, Gateway, GatewayConfig, GatewayMetrics};
use crate::observe::Observers;
use crate::telemetry::{Metrics, ReloadMetrics};

/// What is to be served.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) config: Config,
    pub(super) given: Vec<Given>,
    /// What a client's file said that could not be taken over.
    pub(super) notes: Vec<String>,
}

/// Reads what is to be served, or says why it cannot be.
pub(super) fn configuration(args: &ServeArgs) -> anyhow::Result<Configuration> {
    let (sources, notes) = args.sources()?;
    let (config, given) = Config::load_given(sources)?;
    anyhow::ensure!(
        !config.upstreams.is_empty(),
        "there is nothing to serve: name an MCP server, as in --upstream everything=\"npx -y \
         @modelcontextprotocol/server-everything\", or in [upstreams] of a --config file"
    );
    Ok(Configuration { config, given, notes })
}

/// Runs until it is told to stop.
pub(super) async fn serve(args: &ServeArgs, learning: Learning) -> anyhow::Result<ExitCode> {
    let Configuration { config, given: _, notes } = configuration(args)?;
    if learning != Learning::Here {
        learning.needs_kafka(&config)?;
    }
    for note in notes {
        tracing::warn!("{note}");
    }
    let config = Arc::new(config);
    let listen = &config.listen;
    let mcp =
        TcpListener::bind(listen.mcp).await.with_context(|| format!("listen for MCP clients on {}", listen.mcp))?;
    let admin =
        TcpListener::bind(listen.admin).await.with_context(|| format!("listen for operators on {}", listen.admin))?;
    let (mcp_at, admin_at) = (mcp.local_addr()?, admin.local_addr()?);

    let registry = Registry::new();
    let parts = Parts {
        data: Arc::new(DataDir::open(&config.data_dir)?),
        config: Arc::clone(&config),
        metrics: Metrics::register(&registry)?,
        learning,
    };
    let recorder = args.record.as_deref().map(Recorder::create).transpose()?;
    let node = Node::join(&parts, recorder)?;
    let reader = match config.gateway.unread_bytes_max {
        0 => None,
        bytes => Some(background::started(|| node.edge.read_later(bytes)).context("start the edge's reader")?),
    };
    let (access_log, tracing) = (config.access_log.as_ref(), config.tracing.as_ref());
    let observers = Observers::start(access_log, tracing, mcp_at, &parts.metrics.observers)?;
    let gateway_config = GatewayConfig { observers: observers.clone(), ..settings::gateway(&config)? };
    let gateway = Gateway::new(gateway_config, node.edge.clone(), GatewayMetrics::register(&registry)?)?;

    let status = Arc::new(AppStatus {
        started: Instant::now(),
        data: Arc::clone(&parts.data),
        upstreams: ArcSwap::default(),
        mcp_at,
        role: Arc::clone(&node.role),
        metrics: parts.metrics.clone(),
        edge: node.edge.clone(),
    });
    status.set_upstreams(upstream_statuses(&config, &status));
    let one = config.aggregate.as_ref().map(|_| endpoint(&config, mcp_at, ""));
    screen::welcome(&status.upstreams.load(), one, admin_at, &parts.data, settings::policy(&config)?.mode());
    let sampler = tokio::spawn(Arc::clone(&status).sample());
    let reloader = Reloader {
        args: args.clone(),
        running: Arc::clone(&config),
        gateway: gateway.clone(),
        edge: node.edge.clone(),
        status: Arc::clone(&status),
        metrics: ReloadMetrics::register(&registry)?,
    };
    let reloader = tokio::spawn(reloader.run());
    let tickets = Arc::new(EdgeTickets(node.edge.holds().clone()));
    let labeller = Arc::new(Sayings { edge: node.edge.clone(), role: Arc::clone(&node.role) });
    let intake = Arc::new(Reports { edge: node.edge.clone(), points_max: config.reports.points_max });
    let state = AdminState {
        intake,
        report_bytes_max: config.reports.body_bytes_max,
        source: status,
        registry,
        hosts: Arc::new(config.gateway.hosts.clone()),
        tickets,
        labeller,
        token: parts.data.admin_token().clone(),
    };

    let (stop, stopping) = watch::channel(());
    let until = |mut stopping: watch::Receiver<()>| async move {
        // A sender that is gone has also stopped.
        let _ = stopping.changed().await;
    };
    let operators = tokio::spawn(admin::serve(admin, state, until(stopping.clone())));
    let clients = tokio::spawn(gateway::serve(mcp, gateway, until(stopping)));
    let rotations = tokio::spawn(follow_rotations(observers.clone()));
    signals::asked_to_stop().await?;
    tracing::info!("stopping: open exchanges may finish, then everything is written");
    // The admin listener answers until the clients are gone.
    stop.send_replace(());
    clients.await?;
    reloader.abort();
    sampler.abort();
    rotations.abort();
    tokio::task::spawn_blocking(move || observers.finish()).await?;
    // What the clients said last is read before the log is closed.
    tokio::task::spawn_blocking(move || drop(reader)).await?;
    node.leave().await?;
    operators.await?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the access log anew at every SIGHUP.
async fn follow_rotations(observers: Observers) {
    let mut hangups = signals::hangups();
    loop {
        hangups.next().await;
        let observers = observers.clone();
        // It may wait for a thread that writes to a disk.
        if tokio::task::spawn_blocking(move || observers.reopen()).await.is_err() {
            tracing::error!("the access log could not be opened anew");
        }
    }
}

/// What operators are told of the upstreams.
pub(super) fn upstream_statuses(config: &Config, status: &AppStatus) -> Vec<UpstreamStatus> {
    let of = |(name, upstream): (&UpstreamName, &Upstream)| UpstreamStatus {
        name: name.to_string(),
        endpoint: endpoint(config, status.mcp_at, &format!("/{name}")),
        target: upstream.summary(),
    };
    config.upstreams.iter().map(of).collect()
}

/// A URL that clients connect to.
fn endpoint(config: &Config, at: SocketAddr, path: &str) -> String {
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{at}/mcp{path}")
}
