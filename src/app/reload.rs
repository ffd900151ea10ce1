//! Settings that change while we serve: on SIGHUP, and when one of the files changes.
//!
//! Invariant: the new settings are valid as a whole and taken as a whole, or refused with the reason, and the old ones
//! stay. Settings that shape memory and files are fixed at the start: a change of them is a refusal too.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use super::serve::upstream_statuses;
use super::settings;
use super::signals;
use super::status::AppStatus;
use crate::cli::ServeArgs;
use crate::config::Config;
use crate::edge::Edge;
use crate::gateway::Gateway;
use crate::telemetry::ReloadMetrics;

/// How often the files are looked at. Looking is what works with links that are swapped and with network mounts.
const LOOK: Duration = Duration::from_secs(2);

/// What a reload needs, and changes.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) args: ServeArgs,
    pub(super) running: Arc<Config>,
    pub(super) gateway: Gateway,
    pub(super) edge: Edge,
    pub(super) status: Arc<AppStatus>,
    pub(super) metrics: ReloadMetrics,
}

/// What tells that a file is another one.
type Seen = Vec<Option<(SystemTime, u64)>>;

impl Reloader {
    /// Reloads whenever there is a reason to, for ever.
    pub(super) async fn run(mut self) {
        let mut hangups = signals::hangups();
        let mut looks = tokio::time::interval(LOOK);
        let mut seen = self.seen();
        loop {
            let asked = tokio::select! {
                () = hangups.next() => true,
                _ = looks.tick() => false,
            };
            let now = self.seen();
            if !asked && now == seen {
                continue;
            }
            match self.reload() {
                Ok(()) => {
                    self.metrics.taken();
                    tracing::info!(upstreams = self.running.upstreams.len(), "settings reloaded");
                }
                Err(error) => {
                    self.metrics.refused();
                    tracing::error!("settings not reloaded, the old ones stay: {error:#}");
                }
            }
            // The files that count may be others now.
            seen = if self.files().len() == now.len() { now } else { self.seen() };
        }
    }

    fn reload(&mut self) -> anyhow::Result<()> {
        let (sources, notes) = self.args.sources()?;
        let config = Config::load(sources)?;
        let fixed = fixed(&self.running, &config);
        anyhow::ensure!(fixed.is_empty(), "these settings need a restart: {}", fixed.join(", "));
        let policy = settings::policy(&config)?;
        self.gateway.reload(settings::gateway(&config)?).context("take the new settings")?;
        self.edge.set_policy(policy);
        self.status.set_upstreams(upstream_statuses(&config, &self.status));
        for note in notes {
            tracing::warn!("{note}");
        }
        self.running = Arc::new(config);
        Ok(())
    }

    /// All that a reload reads.
    fn files(&self) -> Vec<PathBuf> {
        let tls = self.running.listen.tls.as_ref();
        let tls = tls.into_iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]);
        let named = [&self.args.config, &self.args.mcp_json, &self.running.policy_file];
        named.into_iter().flatten().cloned().chain(tls).collect()
    }

    fn seen(&self) -> Seen {
        let look = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.files().iter().map(look).collect()
    }
}

/// The sections that differ and cannot change while we serve.
fn fixed(before: &Config, after: &Config) -> Vec<&'static str> {
    let fixed_of = |config: &Config| {
        let mut gateway = config.gateway.clone();
        gateway.hosts = before.gateway.hosts.clone();
        gateway.trusted_proxies.clone_from(&before.gateway.trusted_proxies);
        [
            ("listen.mcp", shown(&config.listen.mcp)),
            ("listen.admin", shown(&config.listen.admin)),
            ("listen.tls_certificate (whether there is one)", shown(&config.listen.tls.is_some())),
            ("data", shown(&config.data_dir)),
            ("gateway", shown(&gateway)),
            ("stdio", shown(&config.stdio)),
            ("facts", shown(&config.facts)),
            ("log", shown(&config.log)),
            ("engine", shown(&config.engine)),
            ("history", shown(&config.history)),
            ("snapshot", shown(&config.snapshot_interval)),
            ("reports", shown(&config.reports)),
            ("capture", shown(&config.capture)),
            ("access_log", shown(&config.access_log)),
            ("tracing", shown(&config.tracing)),
        ]
    };
    let pairs = fixed_of(before).into_iter().zip(fixed_of(after));
    pairs.filter(|(before, after)| before != after).map(|((name, _), _)| name).collect()
}

fn shown(value: &dyn Debug) -> String {
    format!("{value:?}")
}
