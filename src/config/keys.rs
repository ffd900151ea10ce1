//! Which keys there are: the defaults written out name every one, so this list cannot go stale.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::error::{ConfigError, Place, Problem};
use super::raw::RawConfig;

pub(super) const UPSTREAMS: &str = "upstreams";
pub(super) const UPSTREAM_KEYS: [&str; 8] =
    ["url", "replicas", "command", "args", "env", "auth", "headers", "requests_max"];
/// Those of them that hold texts under names; the texts are often secrets.
pub(super) const UPSTREAM_TABLES: [&str; 2] = ["env", "headers"];

/// Every key of every fixed section with its default.
pub(super) fn defaults() -> Table {
    Table::try_from(RawConfig::default()).expect("the defaults are plain TOML values")
}

/// Whether a value at this path is one setting, even if it is written as a table.
pub(super) fn is_leaf(path: &[String]) -> bool {
    let depth = match path {
        [section, _, key, ..] if section == UPSTREAMS && UPSTREAM_TABLES.contains(&key.as_str()) => 4,
        [section, ..] if section == UPSTREAMS => 3,
        _ => 2,
    };
    path.len() >= depth
}

/// Refuses a path that leads to no setting.
pub(super) fn check(path: &[String], place: &Place) -> Result<(), ConfigError> {
    let defaults = defaults();
    let unknown = |key: &str, section: String, known: Vec<String>| {
        Err(ConfigError::from(Problem::UnknownKey {
            place: place.clone(),
            key: key.to_owned(),
            section,
            nearest: nearest(key, &known),
            known,
        }))
    };
    let Some(section) = path.first() else { return Ok(()) };
    let Some(keys) = defaults.get(section).and_then(Value::as_table) else {
        return unknown(section, "the top level".into(), defaults.keys().cloned().collect());
    };
    match path {
        [_, name, key, ..] if section == UPSTREAMS => match UPSTREAM_KEYS.contains(&key.as_str()) {
            true => Ok(()),
            false => unknown(key, format!("[{UPSTREAMS}.{name}]"), UPSTREAM_KEYS.map(str::to_owned).to_vec()),
        },
        [_, key, ..] if section != UPSTREAMS && !keys.contains_key(key) => {
            unknown(key, format!("[{section}]"), keys.keys().cloned().collect())
        }
        _ => Ok(()),
    }
}

/// What a value at this path looks like, in words.
pub(super) fn remedy(path: &[String]) -> String {
    let default = path.iter().try_fold(Value::Table(defaults()), |value, key| value.get(key).cloned());
    match (default, path) {
        (Some(Value::Integer(n)), _) => format!("give a whole number, such as {n} (the default)"),
        (Some(Value::Float(x)), _) => format!("give a number, such as {x} (the default)"),
        (Some(Value::String(s)), _) if s.is_empty() => "give a text in quotes".into(),
        (Some(Value::String(s)), _) => format!("give a text in quotes, such as {s:?} (the default)"),
        (Some(Value::Boolean(_)), _) => "give true or false".into(),
        (Some(Value::Array(_)), _) => "give a list of texts, such as [\"one\", \"two\"]".into(),
        (_, [_, _, key, ..]) if key == "args" => "give a list of texts, such as [\"-y\", \"server-name\"]".into(),
        (_, [_, _, key]) if key == "replicas" => "give a list of URLs, such as [\"http://10.0.0.2:8000/mcp\"]".into(),
        (_, [_, _, key]) if key == "env" => "give a table of texts, such as { HOME = \"/srv\" }".into(),
        (_, [_, _, key]) if key == "headers" => "give a table of texts, such as { X-Api-Key = \"${KEY}\" }".into(),
        (_, [_, _, key]) if key == "requests_max" => "give a whole number, such as 100".into(),
        (_, [_, _, _, ..]) => "give a text in quotes".into(),
        (_, [section]) => format!("write [{section}] and the keys below it"),
        _ => "write it as in config/undercurrent.toml".into(),
    }
}

/// A setting of an environment variable: its path, and its text as a value of the type that belongs there.
pub(super) fn from_env(name: &str, text: &str, upstreams: &BTreeMap<String, String>) -> Option<(Vec<String>, Value)> {
    let parts: Vec<&str> = name.strip_prefix(super::ENV_PREFIX)?.split("__").collect();
    let mut path: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    if path[0] == UPSTREAMS && path.len() > 1 {
        // A shell variable cannot hold `-` or `.`: `MY_FILES` also means the upstream `my-files` of the file.
        if let Some(known) = upstreams.get(&path[1]) {
            path[1].clone_from(known);
        }
        if path.len() > 3 {
            path[3] = parts[3].to_owned();
        }
    }
    let default = path.iter().try_fold(Value::Table(defaults()), |value, key| value.get(key).cloned());
    let value = match (default, path.as_slice()) {
        (Some(Value::String(_)), _) => Value::String(text.to_owned()),
        (Some(Value::Array(_)), _) => list(text, |text| text.split(',').map(|s| s.trim().to_owned()).collect()),
        (Some(_), _) => text.trim().parse().unwrap_or_else(|_| Value::String(text.to_owned())),
        (None, [_, _, key]) if key == "requests_max" => {
            text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
        }
        (None, [_, _, key]) if key == "replicas" => {
            list(text, |text| text.split(',').map(|url| url.trim().to_owned()).collect())
        }
        (None, [_, _, key]) if key == "args" => list(text, |text| super::upstream::words(text).unwrap_or_default()),
        (None, _) => Value::String(text.to_owned()),
    };
    Some((path, value))
}

/// A list as TOML writes it, or split by `split`.
fn list(text: &str, split: impl Fn(&str) -> Vec<String>) -> Value {
    let parsed = text.trim().starts_with('[').then(|| text.trim().parse::<Value>());
    match parsed {
        Some(Ok(value)) => value,
        Some(Err(_)) => Value::String(text.to_owned()),
        None => Value::Array(split(text).into_iter().filter(|s| !s.is_empty()).map(Value::String).collect()),
    }
}

/// The known key that was probably meant.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let similarity = |name: &String| (strsim::jaro_winkler(key, name) * 1e6) as u64;
    known.iter().max_by_key(|name| similarity(name)).filter(|name| similarity(name) > 750_000).cloned()
}
