//! `check`: what a configuration means, without serving it.
//!
//! Invariant: it reads settings as `serve` does, through the same functions, so it refuses what `serve` refuses, in the
//! same words; and it changes nothing. Not here: how it is shown (`report`).

pub(super) mod probe;
mod report;
mod warnings;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;

use self::probe::Found;
use super::{serve, settings};
use crate::cli::CheckArgs;
use crate::config::{Config, Given, Upstream};
use crate::data_dir;
use crate::hub;

/// Everything there is to say about a configuration that can be used.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    valid: bool,
    listeners: Vec<Listener>,
    data: Data,
    upstreams: Vec<UpstreamReport>,
    /// Who may call.
    access: Vec<String>,
    limits: BTreeMap<&'static str, String>,
    policy: Vec<String>,
    given: Vec<GivenReport>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Listener {
    role: &'static str,
    address: String,
    /// Other machines can connect.
    public: bool,
}

#[derive(Debug, Serialize)]
struct Data {
    directory: String,
    /// `null`: it is made at the first start.
    layout: Option<u32>,
    writable: bool,
    /// Another process has it now: this one would share it.
    in_use: bool,
    log_bytes: u64,
    history_bytes: u64,
}

#[derive(Debug, Serialize)]
struct UpstreamReport {
    name: String,
    endpoint: String,
    transport: &'static str,
    /// Without arguments, environment and query.
    target: String,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<Found>,
}

#[derive(Debug, Serialize)]
struct GivenReport {
    key: String,
    value: String,
    from: String,
    is_default: bool,
}

/// What `check --json` says of a configuration that cannot be used.
#[derive(Debug, Serialize)]
struct Refused {
    version: &'static str,
    valid: bool,
    error: String,
}

/// Runs the command.
pub(super) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = match look(args) {
        Ok(report) => report,
        Err(error) if args.json => {
            let error = format!("{error:#}");
            print(&serde_json::to_string_pretty(&Refused { version: VERSION, valid: false, error })?);
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error),
    };
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report::text(&report) };
    print(&text);
    let unreachable = |upstream: &UpstreamReport| matches!(&upstream.probe, Some(found) if !found.is_reachable());
    Ok(if report.upstreams.iter().any(unreachable) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[expect(clippy::print_stdout, reason = "the report is what the command is asked for")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}

fn look(args: &CheckArgs) -> anyhow::Result<Report> {
    let serve::Configuration { config, given, notes } = serve::configuration(&args.serve)?;
    let policy = settings::policy(&config)?;
    let gateway = settings::gateway(&config)?;
    // What `serve` would fail to load (a certificate, the system's roots) it fails to load here.
    let runtime = super::runtime()?;
    let _entered = runtime.enter();
    probe::gateway(&config, gateway.clone())?;
    let state = data_dir::look(&config.data_dir)?;
    let data = Data {
        directory: config.data_dir.display().to_string(),
        layout: state.layout,
        writable: state.writable,
        in_use: hub::is_owned(&config.data_dir),
        log_bytes: state.log_bytes,
        history_bytes: state.history_bytes,
    };
    let mut found =
        if args.probe { runtime.block_on(probe::all(&config, gateway, args.probe_limit()))? } else { BTreeMap::new() };
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    let upstreams = config.upstreams.iter().map(|(name, upstream)| UpstreamReport {
        name: name.to_string(),
        endpoint: format!("{scheme}://{}/mcp/{name}", config.listen.mcp),
        transport: match upstream {
            Upstream::Http { .. } => "http",
            Upstream::Command { .. } => "stdio",
        },
        target: upstream.summary(),
        from: place_of(&given, name.as_str()),
        probe: found.remove(name.as_str()),
    });
    Ok(Report {
        version: VERSION,
        valid: true,
        listeners: listeners(&config),
        upstreams: upstreams.collect(),
        access: access(&config),
        limits: limits(&config),
        policy: policy.in_words(),
        warnings: warnings::of(&config, args, &data),
        given: given.into_iter().filter(|setting| !setting.key.starts_with("upstreams.")).map(Into::into).collect(),
        data,
        notes,
    })
}

fn listeners(config: &Config) -> Vec<Listener> {
    let one = |role, address: std::net::SocketAddr| Listener {
        role,
        address: address.to_string(),
        public: !address.ip().is_loopback(),
    };
    vec![one("mcp", config.listen.mcp), one("admin", config.listen.admin)]
}

fn access(config: &Config) -> Vec<String> {
    let mut access = Vec::new();
    if !config.auth.keys.is_empty() {
        let subjects: Vec<&str> = config.auth.keys.keys().map(String::as_str).collect();
        access.push(format!("whoever has a key: {}", subjects.join(", ")));
    }
    if let Some(issuer) = &config.auth.issuer {
        access.push(format!("whoever has a token of {} for {}", issuer.url, issuer.audiences.join(" or ")));
    }
    let passed = config.terms.iter().filter(|(_, terms)| terms.pass_through).map(|(name, _)| name.as_str());
    let passed: Vec<&str> = passed.collect();
    if access.is_empty() {
        access.push("whoever reaches the listener: no caller is asked who it is".to_owned());
    } else if !passed.is_empty() {
        access.push(format!("left to the upstream: {}", passed.join(", ")));
    }
    access.push(match &config.listen.tls {
        Some(tls) => format!("over TLS, with the certificate {}", tls.certificate.display()),
        None => "over plain HTTP".to_owned(),
    });
    access
}

fn limits(config: &Config) -> BTreeMap<&'static str, String> {
    let gateway = &config.gateway;
    let rate = config
        .rate
        .map_or_else(|| "none".to_owned(), |rate| format!("{} a minute, {} at once", rate.per_minute, rate.burst));
    let open = config.terms.iter().filter_map(|(name, terms)| Some(format!("{name} {}", terms.requests_max?)));
    let open: Vec<String> = open.collect();
    [
        ("requests of a principal", rate),
        ("open requests of upstreams", if open.is_empty() { "none".to_owned() } else { open.join(", ") }),
        ("request body", report::bytes(gateway.body_bytes_max as u64)),
        ("connections", gateway.connections_max.to_string()),
        ("sessions remembered", gateway.sessions_max.to_string()),
        ("connecting to an upstream", format!("{:?}", gateway.upstream_connect_timeout)),
        ("silence of an upstream", format!("{:?}", gateway.upstream_idle_timeout)),
    ]
    .into()
}

/// Where an upstream was named: the place of the first of its keys.
fn place_of(given: &[Given], name: &str) -> String {
    let prefix = format!("upstreams.{name}.");
    let of_it = |setting: &&Given| setting.key.strip_prefix(&prefix).is_some_and(|key| !key.contains('.'));
    given.iter().find(of_it).map_or_else(|| "default".to_owned(), |setting| setting.place.to_string())
}

impl From<Given> for GivenReport {
    fn from(given: Given) -> Self {
        Self { key: given.key, value: given.value, from: given.place.to_string(), is_default: given.is_default }
    }
}
