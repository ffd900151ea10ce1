//! `engine`: learning without a gateway, from what gateways put on Kafka.
//!
//! It ends when it cannot learn any more: a supervisor starts it again, and it goes on where the bindings end.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::holds::EdgeTickets;
use super::intake::Reports;
use super::node::{Learning, Node, Parts, Role, lock};
use super::sayings::Sayings;
use super::status::AppStatus;
use super::{peers, share, signals};
use crate::admin::{self, AdminState};
use crate::cli::EngineArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::engine::Cluster;
use crate::telemetry::Metrics;

/// Learning has ended by itself.
pub(super) const STOPPED: u8 = 3;

/// How often it is looked whether learning goes on.
const LOOK: Duration = Duration::from_millis(200);

/// Runs until it is told to stop, or cannot learn.
pub(super) async fn run(args: &EngineArgs) -> anyhow::Result<ExitCode> {
    let config = Arc::new(Config::load(args.sources())?);
    let cluster = cluster(args)?;
    Learning::Alone(None).needs_kafka(&config)?;
    let stopping = Arc::new(AtomicBool::new(false));
    if cluster.is_some() {
        peers::end_together(&stopping);
    }
    if let Some(cluster) = cluster.clone().filter(|cluster| cluster.process > 0) {
        return share::run(&config, cluster, &stopping).await;
    }
    let at = config.listen.admin;
    let listener = TcpListener::bind(at).await.with_context(|| format!("listen for operators on {at}"))?;
    let registry = Registry::new();
    let parts = Parts {
        data: Arc::new(DataDir::open(&config.data_dir)?),
        config: Arc::clone(&config),
        metrics: Metrics::register(&registry)?,
        learning: Learning::Alone(cluster),
    };
    let node = Node::join(&parts, None)?;
    anyhow::ensure!(
        matches!(&*lock(&node.role), Role::Owner(_)),
        "data directory {} belongs to another process: give the engine one of its own with --data",
        config.data_dir.display()
    );
    let status = Arc::new(AppStatus {
        started: Instant::now(),
        data: Arc::clone(&parts.data),
        upstreams: ArcSwap::default(),
        mcp_at: config.listen.mcp,
        role: Arc::clone(&node.role),
        edge: node.edge.clone(),
        metrics: parts.metrics.clone(),
    });
    let sampler = tokio::spawn(Arc::clone(&status).sample());
    let intake = Arc::new(Reports { edge: node.edge.clone(), points_max: config.reports.points_max });
    let state = AdminState {
        intake,
        report_bytes_max: config.reports.body_bytes_max,
        source: status,
        registry,
        hosts: Arc::new(config.gateway.hosts.clone()),
        tickets: Arc::new(EdgeTickets(node.edge.holds().clone())),
        labeller: Arc::new(Sayings { edge: node.edge.clone(), role: Arc::clone(&node.role) }),
        token: parts.data.admin_token().clone(),
    };
    let (stop, mut stopped) = watch::channel(());
    let operators = tokio::spawn(admin::serve(listener, state, async move {
        // A sender that is gone has also stopped.
        let _ = stopped.changed().await;
    }));
    tracing::info!(data = %config.data_dir.display(), admin = %at, "learning");
    let failure = tokio::select! {
        asked = signals::asked_to_stop() => asked.map(|()| None)?,
        failure = failed(&node) => Some(failure),
    };
    stopping.store(true, Ordering::Release);
    stop.send_replace(());
    sampler.abort();
    let left = node.leave().await;
    operators.await?;
    match failure {
        Some(reason) => {
            tracing::error!(reason, "the engine ends; a supervisor may start it again");
            Ok(ExitCode::from(STOPPED))
        }
        None => left.map(|()| ExitCode::SUCCESS),
    }
}

/// The processes that are one engine with this one.
fn cluster(args: &EngineArgs) -> anyhow::Result<Option<Cluster>> {
    let Some((file, process)) = args.hosts.as_ref().zip(args.process) else { return Ok(None) };
    let text = std::fs::read_to_string(file).with_context(|| format!("read --hosts {}", file.display()))?;
    let hosts: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    anyhow::ensure!(
        process < hosts.len(),
        "--process {process}: {} names {} processes, counted from 0",
        file.display(),
        hosts.len()
    );
    Ok((hosts.len() > 1).then_some(Cluster { hosts, process }))
}

/// Why learning has stopped, once it has.
async fn failed(node: &Node) -> String {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Role::Owner(owner) = &*lock(&node.role)
            && let Some(reason) = owner.failure()
        {
            return reason;
        }
    }
}
