//! Settings that are valid, and still probably not what somebody wanted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::Data;
use crate::cli::CheckArgs;
use crate::config::{AccessLog, AccessLogTarget, Config, HostRules, Payload, Upstream};

/// Variables of ours that are no settings.
const KNOWN_VARIABLES: [&str; 2] = ["UNDERCURRENT_DATA", "UNDERCURRENT_LOG"];

/// One sentence each; what is worst comes first.
pub(super) fn of(config: &Config, args: &CheckArgs, data: &Data) -> Vec<String> {
    let mut warnings = Vec::new();
    reach(config, &mut warnings);
    directory(data, &mut warnings);
    listeners(config, data, &mut warnings);
    upstreams(config, &mut warnings);
    payloads(config, args, &mut warnings);
    access_log(config, &mut warnings);
    learning(config, &mut warnings);
    variables(std::env::vars_os().map(|(name, _)| name), &mut warnings);
    warnings
}

fn reach(config: &Config, warnings: &mut Vec<String>) {
    let public = |address: SocketAddr| !address.ip().is_loopback();
    if public(config.listen.mcp) {
        let known = !config.auth.keys.is_empty() || config.auth.issuer.is_some();
        let address = config.listen.mcp;
        if !known {
            warnings.push(format!("other machines can reach {address}, and no caller is asked who it is: see [auth]"));
        }
        if config.listen.tls.is_none() {
            warnings.push(format!(
                "other machines reach {address} over plain HTTP: set listen.tls_certificate, or put TLS in front of it"
            ));
        }
    }
    if public(config.listen.admin) {
        warnings.push(format!(
            "other machines can reach {}: metrics, status and the console show names of tools and clients to whoever asks",
            config.listen.admin
        ));
    }
    // Two addresses that have nothing in common but being on the internet.
    let anywhere = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 1)].map(IpAddr::V4);
    if config.gateway.trusted_proxies.iter().any(|network| anywhere.iter().all(|ip| network.contains(*ip))) {
        warnings.push("gateway.trusted_proxies trusts everyone: any client can say who it is".into());
    }
}

fn directory(data: &Data, warnings: &mut Vec<String>) {
    if !data.writable {
        let directory = &data.directory;
        warnings.push(format!("`{directory}` cannot be written: nothing could be kept or learned there"));
    }
}

fn listeners(config: &Config, data: &Data, warnings: &mut Vec<String>) {
    for address in [config.listen.mcp, config.listen.admin] {
        let Err(error) = TcpListener::bind(address) else { continue };
        warnings.push(match error.kind() {
            ErrorKind::AddrInUse if data.in_use => {
                format!("{address} is in use, perhaps by the undercurrent that has the data directory now")
            }
            ErrorKind::AddrInUse => format!("{address} is in use by another program"),
            ErrorKind::PermissionDenied => format!("this user may not listen on {address}"),
            _ => format!("{address} cannot be listened on: {error}"),
        });
    }
}

fn upstreams(config: &Config, warnings: &mut Vec<String>) {
    // Without further rules: loopback alone.
    let loopback = HostRules::default();
    let own = |host: &str| loopback.allows_host(host);
    let mut targets: BTreeMap<String, &str> = BTreeMap::new();
    for (name, upstream) in &config.upstreams {
        match upstream {
            Upstream::Http { url, replicas } => {
                for url in std::iter::once(url).chain(replicas) {
                    let host = url.host_str().unwrap_or_default();
                    if url.scheme() == "http" && !own(host) {
                        warnings.push(format!(
                            "upstream `{name}`: http:// to {host} sends credentials and results in the clear"
                        ));
                    }
                    if own(host) && url.port_or_known_default() == Some(config.listen.mcp.port()) {
                        warnings.push(format!("upstream `{name}` is this gateway itself"));
                    }
                    if let Some(other) = targets.insert(url.to_string(), name.as_str()) {
                        warnings.push(format!("upstreams `{other}` and `{name}` are the same URL, and learn apart"));
                    }
                }
            }
            Upstream::Command { program, env, .. } => {
                let paths = env.0.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
                let here = std::env::current_dir().unwrap_or_default();
                if which::which_in(program, paths, here).is_err() {
                    warnings.push(format!("upstream `{name}`: there is no program `{program}`"));
                }
            }
        }
    }
}

fn payloads(config: &Config, args: &CheckArgs, warnings: &mut Vec<String>) {
    if config.capture.payload == Payload::Full {
        warnings.push("capture.payload = \"full\" keeps arguments and results in the log and the history".into());
    }
    if let Some(file) = &args.serve.record {
        warnings.push(format!("--record keeps arguments and results in `{}`", file.display()));
    }
}

/// What `serve` would fail to open, unless somebody mends it before.
fn access_log(config: &Config, warnings: &mut Vec<String>) {
    let Some(AccessLog { target: AccessLogTarget::File(path), .. }) = &config.access_log else { return };
    let writable = match path.try_exists() {
        Ok(true) => OpenOptions::new().append(true).open(path).is_ok(),
        // It is made at the first start.
        Ok(false) => path.parent().is_some_and(|around| {
            let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
            tempfile::tempfile_in(around).is_ok()
        }),
        Err(_) => false,
    };
    if !writable {
        warnings.push(format!("access_log.file: `{}` cannot be written, and `serve` would not start", path.display()));
    }
}

fn learning(config: &Config, warnings: &mut Vec<String>) {
    let engine = &config.engine;
    if engine.learning_gate_p >= 0.5 {
        let p = engine.learning_gate_p;
        warnings.push(format!("engine.learning_gate_p = {p}: most sessions would not teach"));
    }
    if engine.alert_budget >= 0.2 {
        let budget = engine.alert_budget * 100.0;
        warnings.push(format!("engine.alert_budget: {budget:.0} of a hundred sessions would be flagged"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if engine.workers > cores {
        warnings.push(format!("engine.workers = {}: this machine has {cores} cores", engine.workers));
    }
}

/// A setting is `UNDERCURRENT__SECTION__KEY`; one underscore too few, and nobody would ever read it.
fn variables(names: impl Iterator<Item = OsString>, warnings: &mut Vec<String>) {
    for name in names.filter_map(|name| name.into_string().ok()) {
        let ours = name.starts_with("UNDERCURRENT") && !name.starts_with("UNDERCURRENT__");
        if ours && !KNOWN_VARIABLES.contains(&name.as_str()) {
            warnings.push(format!(
                "environment variable {name} means nothing here: settings are UNDERCURRENT__SECTION__KEY, with two underscores"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_nobody_reads_are_named() {
        let mut warnings = Vec::new();
        let names = ["UNDERCURRENT_ENGINE_WORKERS", "UNDERCURRENT__ENGINE__WORKERS", "UNDERCURRENT_DATA", "PATH"];
        variables(names.map(OsString::from).into_iter(), &mut warnings);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("UNDERCURRENT_ENGINE_WORKERS "), "{warnings:?}");
    }
}
