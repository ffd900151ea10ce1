//! From the settings as people write them to what each part takes.

use std::sync::Arc;

use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::DigestKey;
use undercurrent_dataflows::graph::WindowSettings;
use undercurrent_dataflows::sessions::{Gate, Settings, Timing};

use crate::config::{Config, Upstream};
use crate::edge::EdgeSettings;
use crate::gateway::GatewayConfig;
use crate::history::HistoryOptions;
use crate::log::LogOptions;
use crate::policy::{Policy, PolicyError};
use crate::telemetry::Metrics;
use crate::upstream::{StdioCommand, Target, UpstreamConfig};

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn sessions(config: &Config) -> Settings {
    let engine = &config.engine;
    let defaults = Settings::default();
    Settings {
        timing: Timing {
            session_idle_us: micros(engine.session_idle),
            lateness_us: micros(engine.lateness),
            call_timeout_us: micros(engine.call_timeout),
            unlearn_us: micros(engine.unlearn_horizon),
            ..defaults.timing
        },
        gate: Gate {
            flag_p: engine.alert_budget,
            learn_p: engine.learning_gate_p,
            doubtful_weight: engine.doubtful_eighths,
        },
        rules: engine.rules,
        left_out: engine.left_out,
        unlearnable_max: engine.unlearn_sessions_max.div_ceil(config.log.partitions as usize),
        ..defaults
    }
}

pub(super) fn windows(config: &Config) -> WindowSettings {
    let lateness_us = micros(config.engine.call_timeout).saturating_add(micros(config.engine.lateness));
    WindowSettings { lateness_us, ..WindowSettings::default() }
}

pub(super) fn clusters(config: &Config) -> ClusterSettings {
    config.engine.clusters
}

pub(super) fn policy(config: &Config) -> Result<Policy, PolicyError> {
    config.policy_file.as_deref().map_or_else(|| Ok(Policy::default()), Policy::read)
}

pub(super) fn log(config: &Config, metrics: &Metrics) -> LogOptions {
    let log = &config.log;
    LogOptions {
        partitions: log.partitions,
        tick: log.tick,
        queue_events_max: log.queue_events_max,
        queue_bytes_max: log.queue_bytes_max,
        metrics: Some(Arc::clone(&metrics.log)),
        ..LogOptions::default()
    }
}

pub(super) fn history(config: &Config) -> HistoryOptions {
    let history = &config.history;
    HistoryOptions {
        roll_after: history.roll,
        roll_rows: history.roll_rows,
        zstd_level: history.zstd_level,
        ..HistoryOptions::default()
    }
}

pub(super) fn edge(config: &Config, key: DigestKey) -> EdgeSettings {
    EdgeSettings {
        tenant: "default".into(),
        key,
        limits: config.facts.limits,
        provenance_bytes_max: config.facts.provenance_bytes_max,
        sessions_max: config.gateway.sessions_max,
        session_idle: config.engine.session_idle,
        payload: config.capture.payload,
        left_out: config.engine.left_out,
    }
}

pub(super) fn gateway(config: &Config) -> anyhow::Result<GatewayConfig> {
    let mut to = GatewayConfig { hosts: config.gateway.hosts.clone(), ..GatewayConfig::default() };
    let from = &config.gateway;
    to.limits.connections_max = from.connections_max;
    to.limits.body_bytes_max = from.body_bytes_max;
    to.limits.capture_bytes_max = from.response_capture_bytes_max;
    to.timeouts.connect = from.upstream_connect_timeout;
    to.timeouts.response = from.upstream_idle_timeout;
    to.timeouts.call = from.upstream_call_timeout;
    to.timeouts.shutdown = from.shutdown_timeout;
    to.trusted_proxies.clone_from(&from.trusted_proxies);
    to.auth = config.auth.clone();
    to.rate = config.rate;
    to.aggregate.clone_from(&config.aggregate);
    to.tls.clone_from(&config.listen.tls);
    for (name, upstream) in &config.upstreams {
        let target = match upstream {
            Upstream::Http { url } => Target::Http(url.as_str().parse()?),
            Upstream::Command { program, args, env } => Target::Stdio(StdioCommand {
                program: program.clone(),
                args: args.clone(),
                env: env.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
                directory: None,
            }),
        };
        let terms = config.terms.get(name).cloned().unwrap_or_default();
        to.upstreams.push(UpstreamConfig { name: name.to_string(), target, terms });
    }
    Ok(to)
}
