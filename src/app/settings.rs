//! From the settings as people write them to what each part takes.

use std::sync::Arc;

use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::DigestKey;
use undercurrent_dataflows::graph::WindowSettings;
use undercurrent_dataflows::sessions::{Gate, Settings, Timing};

use crate::config::{Config, Kafka, Kept, Upstream};
use crate::data_dir;
use crate::edge::EdgeSettings;
use crate::gateway::GatewayConfig;
use crate::history::{Compaction, HistoryOptions, Limits, Retention, Store, StoreSettings};
use crate::log::{Brokers, KafkaOptions, LogOptions};
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

/// What is kept of the log beyond what is needed.
pub(super) fn retention(config: &Config) -> crate::config::Retention {
    match &config.log.kafka {
        Some(kafka) => crate::config::Retention { age: kafka.retention, bytes: None },
        None => config.log.retention,
    }
}

pub(super) fn kafka(config: &Config, kafka: &Kafka, metrics: &Metrics) -> KafkaOptions {
    KafkaOptions {
        brokers: Brokers {
            servers: kafka.servers.clone(),
            prefix: kafka.prefix.clone(),
            properties: kafka.properties.clone(),
        },
        replication: kafka.replication,
        spill_bytes_max: kafka.spill_bytes_max,
        spill_after: kafka.spill_after,
        derived_topics: kafka.derived_topics.clone(),
        heartbeats: true,
        log: log(config, metrics),
        metrics: Some(Arc::clone(&metrics.kafka)),
    }
}

pub(super) fn history(config: &Config) -> HistoryOptions {
    let history = &config.history;
    HistoryOptions {
        roll_after: history.roll,
        roll_rows: history.roll_rows,
        zstd_level: history.zstd_level,
        compaction: history.compact_after.map(|settle| Compaction { settle, file_bytes: history.compact_bytes }),
        retention: history
            .retention_of
            .iter()
            .fold(Retention::all(limits(history.retention)), |retention, (table, kept)| {
                retention.with(*table, limits(*kept))
            }),
        keep_replaced: history.keep_replaced,
        ..HistoryOptions::default()
    }
}

const fn limits(kept: Kept) -> Limits {
    Limits { age: kept.age, bytes: kept.bytes }
}

/// The other place of the history, if there is one.
pub(super) fn history_store(config: &Config) -> anyhow::Result<Option<Store>> {
    let Some(store) = &config.history.store else { return Ok(None) };
    let mut credentials = store.environment.0.clone();
    if let Some(file) = &store.credentials_file {
        credentials.extend(data_dir::read_private_lines(file)?);
    }
    let settings = StoreSettings {
        url: store.url.clone(),
        credentials,
        staging_bytes_max: store.staging_bytes_max,
        keep_local: store.keep_local,
    };
    Ok(Some(Store::open(&settings)?))
}

/// Whose everything is: there is one.
pub(super) const TENANT: &str = "default";

pub(super) fn edge(config: &Config, key: DigestKey) -> EdgeSettings {
    EdgeSettings {
        tenant: TENANT.into(),
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
    to.limits.homes_max = from.sessions_max;
    to.limits.capture_bytes_max = from.response_capture_bytes_max;
    to.timeouts.connect = from.upstream_connect_timeout;
    to.timeouts.response = from.upstream_idle_timeout;
    to.timeouts.call = from.upstream_call_timeout;
    to.timeouts.shutdown = from.shutdown_timeout;
    to.stdio = config.stdio;
    to.trusted_proxies.clone_from(&from.trusted_proxies);
    to.auth = config.auth.clone();
    to.rate = config.rate;
    to.aggregate.clone_from(&config.aggregate);
    to.tls.clone_from(&config.listen.tls);
    for (name, upstream) in &config.upstreams {
        let target = match upstream {
            Upstream::Http { url, replicas } => Target::Http(
                std::iter::once(url).chain(replicas).map(|url| url.as_str().parse()).collect::<Result<_, _>>()?,
            ),
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
