//! From what is written to what is meant: ranges, addresses, names. The only maker of a [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use undercurrent_dataflows::assess::{CALL_TERMS, LABEL_TERM, LeftOut, SESSION_TERMS};
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::Limits;
use undercurrent_dataflows::sessions::Rules;
use url::Url;

use super::error::{ConfigError, Place, Places, Problem};
use super::raw::{RawConfig, RawUpstream};
use super::upstream::{Environment, Upstream, UpstreamName};
use super::{
    AccessLog, AccessLogTarget, Capture, Config, Engine, Facts, Gateway, HostRules, Listen, Log, Payload, Reports,
    Retention, Terms, Tls, Tracing,
};
use super::{aggregate, auth, history, kafka, stdio, terms};

/// A whole number in its range: `number!(check, raw.section.key, range)`. The key's name is the field's.
macro_rules! number {
    ($check:expr, $raw:ident.$section:ident.$key:ident, $range:expr) => {
        $check.number(concat!(stringify!($section), ".", stringify!($key)), $raw.$section.$key, $range)?
    };
}

pub(super) use number;

pub(super) const GIB: u64 = 1 << 30;

/// What settings mean depends on where they were found.
pub(super) struct Surroundings<'a> {
    pub(super) places: &'a Places,
    /// The config file.
    pub(super) file: Option<&'a Path>,
    pub(super) data_flag: Option<PathBuf>,
    /// Where DATA is if nobody says.
    pub(super) data_default: Option<PathBuf>,
    /// Variables that values may name.
    pub(super) env: &'a BTreeMap<String, String>,
}

pub(super) fn resolve(raw: RawConfig, around: Surroundings<'_>) -> Result<Config, ConfigError> {
    let places = around.places;
    let check = Check { places };
    let hosts = check.hosts(&raw)?;
    let history = history::resolve(&check, &raw, &around)?;
    Ok(Config {
        listen: check.listen(&raw, &hosts, around.file)?,
        data_dir: check.data_dir(around.data_flag, &raw.data.dir, around.data_default)?,
        upstreams: check.upstreams(&raw)?,
        terms: check.terms(&raw, around.env)?,
        auth: auth::resolve(&check, &raw.auth)?,
        aggregate: aggregate::resolve(&check, &raw)?,
        rate: terms::rate(&check, &raw)?,
        gateway: check.gateway(&raw, hosts)?,
        stdio: stdio::resolve(&check, &raw)?,
        facts: check.facts(&raw)?,
        log: check.log(&raw, around.env)?,
        engine: check.engine(&raw)?,
        history,
        snapshot_interval: check.snapshot_interval(&raw)?,
        reports: Reports {
            body_bytes_max: number!(check, raw.reports.body_bytes_max, 1024..=GIB),
            points_max: number!(check, raw.reports.points_max, 1..=1_000_000),
        },
        capture: Capture { payload: check.payload(&raw.capture.payload)? },
        policy_file: beside(&raw.policy.file, &places.of("policy.file"), around.file),
        access_log: check.access_log(&raw, around.file)?,
        tracing: check.tracing(&raw)?,
    })
}

pub(super) struct Check<'a> {
    places: &'a Places,
}

impl Check<'_> {
    pub(super) fn wrong(
        &self,
        key: &str,
        value: impl Into<String>,
        problem: &str,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError::from(Problem::Value {
            place: self.places.of(key),
            key: key.to_owned(),
            value: value.into(),
            problem: problem.to_owned(),
            remedy: remedy.into(),
        })
    }

    pub(super) fn number(&self, key: &str, value: u64, range: RangeInclusive<u64>) -> Result<usize, ConfigError> {
        if !range.contains(&value) {
            let remedy = format!("give a number from {} to {}", range.start(), range.end());
            return Err(self.wrong(key, value.to_string(), "out of range", remedy));
        }
        usize::try_from(value).map_err(|_| self.wrong(key, value.to_string(), "too large for this machine", "lower it"))
    }

    fn probability(&self, key: &str, value: f64) -> Result<f64, ConfigError> {
        if value > 0.0 && value < 1.0 {
            return Ok(value);
        }
        Err(self.wrong(key, value.to_string(), "not a probability", "give a number between 0 and 1, both excluded"))
    }

    fn gateway(&self, raw: &RawConfig, hosts: HostRules) -> Result<Gateway, ConfigError> {
        let proxy = |text: &String| {
            let remedy = "give addresses or networks, such as \"10.0.0.0/8\"";
            text.parse().map_err(|_| self.wrong("gateway.trusted_proxies", quoted(text), "not a network", remedy))
        };
        Ok(Gateway {
            body_bytes_max: number!(self, raw.gateway.body_bytes_max, 1024..=GIB),
            response_capture_bytes_max: number!(self, raw.gateway.response_capture_bytes_max, 1024..=GIB),
            unread_bytes_max: number!(self, raw.gateway.unread_bytes_max, 0..=4 * GIB),
            connections_max: number!(self, raw.gateway.connections_max, 1..=1_000_000),
            sessions_max: number!(self, raw.gateway.sessions_max, 1..=10_000_000),
            hosts,
            trusted_proxies: raw.gateway.trusted_proxies.iter().map(proxy).collect::<Result<_, _>>()?,
            upstream_connect_timeout: millis(number!(self, raw.gateway.upstream_connect_timeout_ms, 1..=600_000)),
            upstream_idle_timeout: millis(number!(self, raw.gateway.upstream_idle_timeout_ms, 1..=86_400_000)),
            upstream_call_timeout: millis(number!(self, raw.gateway.upstream_call_timeout_ms, 1..=604_800_000)),
            shutdown_timeout: millis(number!(self, raw.gateway.shutdown_timeout_ms, 1..=3_600_000)),
        })
    }

    fn facts(&self, raw: &RawConfig) -> Result<Facts, ConfigError> {
        Ok(Facts {
            limits: Limits {
                depth_max: number!(self, raw.facts.depth_max, 1..=1000),
                leaves_max: number!(self, raw.facts.leaves_max, 1..=65_536),
                index_values_max: number!(self, raw.facts.index_values_max, 1..=10_000_000),
                index_bytes_max: number!(self, raw.facts.index_bytes_max, 1..=GIB),
                open_requests_max: number!(self, raw.facts.open_requests_max, 1..=1_000_000),
                looks_inside: true,
            },
            provenance_bytes_max: number!(self, raw.facts.provenance_bytes_max, 1..=1024 * GIB),
        })
    }

    fn log(&self, raw: &RawConfig, env: &BTreeMap<String, String>) -> Result<Log, ConfigError> {
        Ok(Log {
            kafka: kafka::resolve(self, raw, env)?,
            partitions: number!(self, raw.log.partitions, 1..=1024) as u32,
            tick: millis(number!(self, raw.log.tick_ms, 1..=10_000)),
            queue_events_max: number!(self, raw.log.queue_events_max, 1..=100_000_000),
            queue_bytes_max: number!(self, raw.log.queue_bytes_max, 65_536..=1024 * GIB),
            retention: Retention {
                age: Some(seconds(number!(self, raw.log.retention_s, 0..=315_360_000))).filter(|age| !age.is_zero()),
                bytes: Some(number!(self, raw.log.retention_bytes, 0..=1024 * 1024 * GIB) as u64)
                    .filter(|most| *most > 0),
            },
        })
    }

    fn engine(&self, raw: &RawConfig) -> Result<Engine, ConfigError> {
        let workers = number!(self, raw.engine.workers, 0..=256);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Engine {
            workers: if workers == 0 { (cores - 1).max(1) } else { workers },
            session_idle: seconds(number!(self, raw.engine.session_idle_s, 1..=86_400)),
            lateness: seconds(number!(self, raw.engine.lateness_s, 0..=86_400)),
            call_timeout: seconds(number!(self, raw.engine.call_timeout_s, 1..=86_400)),
            learning_gate_p: self.probability("engine.learning_gate_p", raw.engine.learning_gate_p)?,
            doubtful_eighths: number!(self, raw.engine.doubtful_eighths, 0..=8) as u32,
            unlearn_horizon: seconds(number!(self, raw.engine.unlearn_horizon_s, 0..=31_536_000)),
            unlearn_sessions_max: number!(self, raw.engine.unlearn_sessions_max, 0..=100_000_000),
            rules: Rules {
                loop_calls: number!(self, raw.engine.loop_calls, 2..=1_000_000) as u32,
                error_streak: number!(self, raw.engine.error_streak, 1..=1_000_000) as u32,
                probes: number!(self, raw.engine.probes, 2..=1_000) as u32,
            },
            clusters: ClusterSettings {
                dense_sessions: number!(self, raw.engine.cluster_sessions_min, 1..=1_000_000) as u32,
            },
            alert_budget: self.probability("engine.alert_budget", raw.engine.alert_budget)?,
            left_out: self.left_out(&raw.engine.leave_out_terms)?,
            checkpoint_interval: seconds(number!(self, raw.engine.checkpoint_interval_s, 1..=86_400)),
        })
    }

    fn access_log(&self, raw: &RawConfig, config_file: Option<&Path>) -> Result<Option<AccessLog>, ConfigError> {
        let queue_lines_max = number!(self, raw.access_log.queue_lines_max, 1..=10_000_000);
        let target = match raw.access_log.file.as_str() {
            "-" => Some(AccessLogTarget::StandardError),
            text => beside(text, &self.places.of("access_log.file"), config_file).map(AccessLogTarget::File),
        };
        Ok(target.map(|target| AccessLog { target, queue_lines_max }))
    }

    fn tracing(&self, raw: &RawConfig) -> Result<Option<Tracing>, ConfigError> {
        let tracing = &raw.tracing;
        if !(0.0..=1.0).contains(&tracing.sample_ratio) {
            let ratio = tracing.sample_ratio.to_string();
            return Err(self.wrong("tracing.sample_ratio", ratio, "out of range", "give a number from 0 to 1"));
        }
        if tracing.service_name.is_empty() {
            return Err(self.wrong("tracing.service_name", "\"\"", "empty", "give a name, such as \"undercurrent\""));
        }
        let mut found = Tracing {
            endpoint: Url::parse("http://127.0.0.1/").expect("a constant is a URL"),
            sample_ratio: tracing.sample_ratio,
            service_name: tracing.service_name.clone(),
            queue_spans_max: number!(self, raw.tracing.queue_spans_max, 1..=10_000_000),
            batch_spans_max: number!(self, raw.tracing.batch_spans_max, 1..=100_000),
            export_interval: millis(number!(self, raw.tracing.export_interval_ms, 1..=60_000)),
            timeout: millis(number!(self, raw.tracing.export_timeout_ms, 1..=600_000)),
        };
        if tracing.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        found.endpoint = self.otlp_endpoint(&tracing.otlp_endpoint)?;
        Ok(Some(found))
    }

    /// A collector's base URL stands for its path of traces, as in OpenTelemetry's own settings.
    fn otlp_endpoint(&self, text: &str) -> Result<Url, ConfigError> {
        let remedy = "give the collector's URL, such as \"http://127.0.0.1:4318\"";
        let wrong = |problem: &str| self.wrong("tracing.otlp_endpoint", "(not shown)", problem, remedy);
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let remedy = "put them into OTEL_EXPORTER_OTLP_HEADERS";
            return Err(self.wrong("tracing.otlp_endpoint", "(not shown)", "holds credentials", remedy));
        }
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        Ok(url)
    }

    fn left_out(&self, terms: &[String]) -> Result<LeftOut, ConfigError> {
        terms.iter().try_fold(LeftOut::default(), |left_out, term| {
            left_out.and(term).ok_or_else(|| {
                let known: BTreeSet<_> =
                    CALL_TERMS.iter().chain(&SESSION_TERMS).chain(&[LABEL_TERM]).map(|term| term.name()).collect();
                let remedy = format!("give some of {}", known.into_iter().collect::<Vec<_>>().join(", "));
                self.wrong("engine.leave_out_terms", quoted(term), "not a term of a score", remedy)
            })
        })
    }

    fn snapshot_interval(&self, raw: &RawConfig) -> Result<Option<Duration>, ConfigError> {
        let interval_ms = number!(self, raw.snapshot.interval_ms, 0..=86_400_000);
        Ok((interval_ms > 0).then(|| millis(interval_ms)))
    }

    fn payload(&self, text: &str) -> Result<Payload, ConfigError> {
        match text {
            "none" => Ok(Payload::None),
            "redacted" => Ok(Payload::Redacted),
            "full" => Ok(Payload::Full),
            _ => Err(self.wrong("capture.payload", quoted(text), "unknown", "give \"none\", \"redacted\" or \"full\"")),
        }
    }

    fn hosts(&self, raw: &RawConfig) -> Result<HostRules, ConfigError> {
        let mut rules = HostRules::default();
        for host in &raw.gateway.allowed_hosts {
            rules.add_host(host).ok_or_else(|| {
                let remedy = "give HOST or HOST:PORT, such as \"mcp.example.com\"";
                self.wrong("gateway.allowed_hosts", quoted(host), "not a host", remedy)
            })?;
        }
        for origin in &raw.gateway.allowed_origins {
            rules.add_origin(origin).ok_or_else(|| {
                let remedy = "give SCHEME://HOST[:PORT], such as \"https://console.example.com\"";
                self.wrong("gateway.allowed_origins", quoted(origin), "not an origin", remedy)
            })?;
        }
        Ok(rules)
    }

    fn listen(&self, raw: &RawConfig, hosts: &HostRules, file: Option<&Path>) -> Result<Listen, ConfigError> {
        let mcp = self.address("listen.mcp", &raw.listen.mcp, hosts)?;
        let admin = self.address("listen.admin", &raw.listen.admin, hosts)?;
        if mcp == admin && mcp.port() != 0 {
            // Blame the one that somebody wrote.
            let (key, text) = match self.places.of("listen.admin") {
                Place::Default => ("listen.mcp", &raw.listen.mcp),
                _ => ("listen.admin", &raw.listen.admin),
            };
            let problem = "listen.mcp and listen.admin are the same address";
            return Err(self.wrong(key, quoted(text), problem, "give it a port of its own"));
        }
        Ok(Listen { mcp, admin, tls: self.tls(raw, file)? })
    }

    fn tls(&self, raw: &RawConfig, file: Option<&Path>) -> Result<Option<Tls>, ConfigError> {
        let path = |key: &str, text: &str| beside(text, &self.places.of(key), file);
        let certificate = path("listen.tls_certificate", &raw.listen.tls_certificate);
        let key = path("listen.tls_key", &raw.listen.tls_key);
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Tls { certificate, key })),
            (Some(_), None) => {
                Err(self.wrong("listen.tls_key", "\"\"", "a certificate without its key", "name both files"))
            }
            (None, Some(_)) => {
                Err(self.wrong("listen.tls_certificate", "\"\"", "a key without its certificate", "name both files"))
            }
        }
    }

    fn address(&self, key: &str, text: &str, hosts: &HostRules) -> Result<SocketAddr, ConfigError> {
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let local = local.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let address: SocketAddr = local.or_else(|| text.parse().ok()).ok_or_else(|| {
            let remedy = "give ADDRESS:PORT, such as \"127.0.0.1:8808\", \"[::1]:8808\" or \"0.0.0.0:8808\"";
            self.wrong(key, quoted(text), "not an address to listen on", remedy)
        })?;
        if !address.ip().is_loopback() && hosts.is_loopback_only() {
            let problem = "other machines could connect, but no host name is allowed: the check of `Host` (against DNS \
                           rebinding) would refuse them all";
            let remedy = "list the names under which clients reach it in gateway.allowed_hosts, or listen on 127.0.0.1";
            return Err(self.wrong(key, quoted(text), problem, remedy));
        }
        Ok(address)
    }

    fn data_dir(&self, flag: Option<PathBuf>, text: &str, default: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        let configured = (!text.is_empty()).then(|| PathBuf::from(text));
        flag.or(configured).or(default).ok_or_else(|| {
            ConfigError::from(Problem::Missing {
                place: self.places.of("data.dir"),
                key: "data.dir".into(),
                problem: "this user has no home directory to keep data in".into(),
                remedy: "name a directory with --data DIR or UNDERCURRENT_DATA".into(),
            })
        })
    }

    fn upstreams(&self, raw: &RawConfig) -> Result<BTreeMap<UpstreamName, Upstream>, ConfigError> {
        let one = |(name, upstream): (&String, &RawUpstream)| {
            let key = format!("upstreams.{name}");
            let parsed = name
                .parse::<UpstreamName>()
                .map_err(|error| self.wrong(&key, quoted(name), &error.to_string(), "rename it"))?;
            Ok((parsed, self.upstream(&key, upstream)?))
        };
        raw.upstreams.iter().map(one).collect()
    }

    fn upstream(&self, key: &str, raw: &RawUpstream) -> Result<Upstream, ConfigError> {
        let unclear = |problem: &str| {
            ConfigError::from(Problem::Missing {
                place: self.places.of(key),
                key: key.to_owned(),
                problem: problem.to_owned(),
                remedy: "give either `url`, or `command` with `args` and `env`".into(),
            })
        };
        match (&raw.url, &raw.command) {
            (Some(_), Some(_)) => Err(unclear("both a URL and a command")),
            (None, None) => Err(unclear("neither a URL nor a command")),
            (Some(_), None) if !raw.args.is_empty() || !raw.env.is_empty() => {
                Err(unclear("a URL takes no `args` and no `env`"))
            }
            (Some(url), None) => {
                let url = self.endpoint(&format!("{key}.url"), url)?;
                let replica = |text: &String| self.replica(&format!("{key}.replicas"), text, &url);
                let replicas = raw.replicas.iter().map(replica).collect::<Result<_, _>>()?;
                Ok(Upstream::Http { url, replicas })
            }
            (None, Some(_)) if !raw.replicas.is_empty() => Err(unclear("a command takes no `replicas`")),
            (None, Some(program)) if program.trim().is_empty() => Err(unclear("the command is empty")),
            (None, Some(program)) => Ok(Upstream::Command {
                program: program.clone(),
                args: raw.args.clone(),
                env: Environment(raw.env.clone()),
            }),
        }
    }

    fn terms(
        &self,
        raw: &RawConfig,
        env: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<UpstreamName, Terms>, ConfigError> {
        let breaker = terms::breaker(self, raw)?;
        let one = |(name, upstream): (&String, &RawUpstream)| {
            let terms = terms::terms(self, name, upstream, breaker, env)?;
            Ok(name.parse::<UpstreamName>().ok().map(|name| (name, terms)))
        };
        raw.upstreams.iter().filter_map(|upstream| one(upstream).transpose()).collect()
    }

    fn endpoint(&self, key: &str, text: &str) -> Result<Url, ConfigError> {
        let url = self.url(key, text, "give the MCP endpoint, such as \"https://mcp.example.com/mcp\"")?;
        if url.fragment().is_some() {
            return Err(self.wrong(key, quoted(text), "a fragment is never sent to a server", "leave out `#…`"));
        }
        Ok(url)
    }

    /// Another place of the same server: what is known of the first holds for it too.
    fn replica(&self, key: &str, text: &str, first: &Url) -> Result<Url, ConfigError> {
        let url = self.endpoint(key, text)?;
        if url.scheme() != first.scheme() {
            return Err(self.wrong(
                key,
                quoted(text),
                "another scheme than `url`",
                "give all as https://, or all as http://",
            ));
        }
        Ok(url)
    }

    pub(super) fn url(&self, key: &str, text: &str, remedy: &str) -> Result<Url, ConfigError> {
        let url = Url::parse(text).map_err(|error| self.wrong(key, quoted(text), &error.to_string(), remedy))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(self.wrong(key, quoted(text), "neither http nor https", remedy));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let remedy = "set the upstream's `headers`, or let the client send its own: it is passed on as it is";
            return Err(self.wrong(key, "(not shown)", "holds credentials", remedy));
        }
        Ok(url)
    }
}

/// A file that is named; `None`: none is. A relative one is meant from where it is named: the config file's directory.
pub(super) fn beside(text: &str, place: &Place, file: Option<&Path>) -> Option<PathBuf> {
    let beside = match place {
        Place::File { .. } => file.and_then(Path::parent),
        _ => None,
    };
    match (text, beside) {
        ("", _) => None,
        (_, Some(beside)) => Some(beside.join(text)),
        (_, None) => Some(PathBuf::from(text)),
    }
}

pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

pub(super) fn millis(value: usize) -> Duration {
    Duration::from_millis(value as u64)
}

pub(super) fn seconds(value: usize) -> Duration {
    Duration::from_secs(value as u64)
}
