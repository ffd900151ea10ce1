//! On what terms an upstream is used: its credential, its limits.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::error::ConfigError;
use super::mcp_json::expand;
use super::raw::{RawConfig, RawUpstream};
use super::resolve::{Check, millis, quoted};

/// On what terms an upstream is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The upstream knows its callers itself: their credentials pass as they come, and the gateway verifies none.
    pub pass_through: bool,
    /// Sent with each request, in place of what the client sent under these names. Marked as sensitive.
    pub headers: HeaderMap,
    /// Requests that may be open at once.
    pub requests_max: Option<NonZeroUsize>,
    /// When it counts as down.
    pub breaker: Option<BreakerSettings>,
}

/// When an upstream counts as down, and for how long it is then left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row: no connection, no answer, or none in time.
    pub failures: NonZeroU32,
    /// The first pause; each failed probe doubles it.
    pub pause: Duration,
    pub pause_max: Duration,
}

/// How much each principal may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_minute: NonZeroU32,
    /// How many at once, after a silence.
    pub burst: NonZeroU32,
}

/// Headers that the gateway sets itself, or that speak of one connection.
const RESERVED: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "accept-encoding", "mcp-session-id"];

pub(super) fn rate(check: &Check<'_>, raw: &RawConfig) -> Result<Option<Rate>, ConfigError> {
    let per_minute = check.number("limits.requests_per_minute", raw.limits.requests_per_minute, 0..=100_000_000)?;
    let burst = check.number("limits.requests_burst", raw.limits.requests_burst, 1..=100_000_000)?;
    let count = |number: usize| u32::try_from(number).ok().and_then(NonZeroU32::new);
    Ok(count(per_minute).zip(count(burst)).map(|(per_minute, burst)| Rate { per_minute, burst }))
}

pub(super) fn terms(
    check: &Check<'_>,
    name: &str,
    raw: &RawUpstream,
    breaker: Option<BreakerSettings>,
    env: &BTreeMap<String, String>,
) -> Result<Terms, ConfigError> {
    let key = |key: &str| format!("upstreams.{name}.{key}");
    let pass_through = match raw.auth.as_deref() {
        None | Some("gateway") => false,
        Some("pass_through") if raw.command.is_some() => {
            let problem = "a command has no way to know callers by itself";
            return Err(check.wrong(&key("auth"), quoted("pass_through"), problem, "leave it out"));
        }
        Some("pass_through") => true,
        Some(other) => {
            let remedy = "give \"gateway\" (it knows the caller) or \"pass_through\" (the upstream does)";
            return Err(check.wrong(&key("auth"), quoted(other), "unknown", remedy));
        }
    };
    let requests_max = check.number(&key("requests_max"), raw.requests_max.unwrap_or_default(), 0..=1_000_000)?;
    let mut headers = HeaderMap::new();
    for (header, value) in &raw.headers {
        let wrong = |problem: &str, remedy: &str| check.wrong(&key("headers"), quoted(header), problem, remedy);
        if raw.command.is_some() {
            return Err(wrong("a command takes no headers", "hand it secrets in `env`"));
        }
        let parsed: HeaderName =
            header.parse().map_err(|_| wrong("not the name of a header", "give one such as Authorization"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(wrong("the gateway sets or relays this header itself", "leave it out"));
        }
        let value = expand(value, env).map_err(|variable| {
            wrong(&format!("`{variable}` in its value is not known here"), "set that environment variable")
        })?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| wrong("its value is no header value", "give visible ASCII on one line"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(Terms { pass_through, headers, requests_max: NonZeroUsize::new(requests_max), breaker })
}

pub(super) fn breaker(check: &Check<'_>, raw: &RawConfig) -> Result<Option<BreakerSettings>, ConfigError> {
    let limits = &raw.limits;
    let failures = check.number("limits.breaker_failures", limits.breaker_failures, 0..=1_000_000)?;
    let pause = millis(check.number("limits.breaker_pause_ms", limits.breaker_pause_ms, 1..=3_600_000)?);
    let pause_max = millis(check.number("limits.breaker_pause_max_ms", limits.breaker_pause_max_ms, 1..=86_400_000)?);
    if pause_max < pause {
        let (value, remedy) = (limits.breaker_pause_max_ms.to_string(), "raise it, or lower limits.breaker_pause_ms");
        return Err(check.wrong("limits.breaker_pause_max_ms", value, "below limits.breaker_pause_ms", remedy));
    }
    let failures = u32::try_from(failures).ok().and_then(NonZeroU32::new);
    Ok(failures.map(|failures| BreakerSettings { failures, pause, pause_max }))
}
