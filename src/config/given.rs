//! Which settings somebody gave, and where: for people who ask what their configuration means.
//!
//! Invariant: a value that may be a secret is never shown: environments of upstreams, arguments, queries of URLs, and
//! whatever is named like a secret.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{Place, Places};
use super::keys;

/// What stands in place of a value that may be a secret.
const HIDDEN: &str = "(not shown)";

/// Parts of names of settings whose values are nobody's business.
const SECRET: [&str; 4] = ["secret", "token", "password", "key"];

/// One setting that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// `section.key`, or `upstreams.NAME.key`.
    pub key: String,
    /// As it may be shown.
    pub value: String,
    pub place: Place,
    /// It would be the same if nobody had given it.
    pub is_default: bool,
}

/// Every setting of `table`, which holds only what was given.
pub(super) fn settings(table: &Table, places: &Places) -> Vec<Given> {
    let defaults = keys::defaults();
    let mut given = Vec::new();
    for (section, inner) in table.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        for (key, value) in inner {
            let path = format!("{section}.{key}");
            let Some(upstream) = value.as_table().filter(|_| section == keys::UPSTREAMS) else {
                let is_default = defaults.get(section).and_then(|section| section.get(key)) == Some(value);
                given.push(Given { value: shown(key, value), place: places.of(&path), key: path, is_default });
                continue;
            };
            for (key, value) in upstream {
                let key_path = format!("{path}.{key}");
                let place = places.of(&key_path);
                given.push(Given { key: key_path, value: of_upstream(key, value), place, is_default: false });
            }
        }
    }
    given
}

/// Where DATA was named, if not in a file or under its own key.
pub(super) fn data_dir(given: &mut Vec<Given>, flag: Option<&Path>, variable: Option<&PathBuf>) {
    const KEY: &str = "data.dir";
    let named =
        |path: &Path, place| Given { key: KEY.into(), value: path.display().to_string(), place, is_default: false };
    let elsewhere = given.iter().any(|setting| setting.key == KEY && !setting.is_default);
    match (flag, variable) {
        (Some(path), _) => {
            given.retain(|setting| setting.key != KEY);
            given.push(named(path, Place::Flag("--data".into())));
        }
        (None, Some(path)) if !elsewhere => given.push(named(path, Place::Env(super::data_default::VARIABLE.into()))),
        (None, _) => {}
    }
}

fn shown(key: &str, value: &Value) -> String {
    // A file that holds one may be named.
    let named = key.ends_with("file") || key.starts_with("tls_");
    let secret = !named && SECRET.iter().any(|part| key.contains(part));
    match value {
        _ if secret => HIDDEN.into(),
        Value::Table(texts) if key == "properties" => names_of(texts),
        Value::String(text) if text.contains("://") => Value::String(without_query(text)).to_string(),
        value => value.to_string(),
    }
}

fn names_of(texts: &Table) -> String {
    format!("{} (values not shown)", texts.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// What follows a `?` is often a key.
fn without_query(url: &str) -> String {
    url.split_once('?').map_or_else(|| url.to_owned(), |(before, _)| format!("{before}?… (query not shown)"))
}

fn of_upstream(key: &str, value: &Value) -> String {
    match (key, value) {
        ("command", value) => value.to_string(),
        ("args", Value::Array(args)) => format!("{} (not shown)", args.len()),
        ("env" | "headers", Value::Table(texts)) => names_of(texts),
        ("auth" | "requests_max", value) => value.to_string(),
        ("url", Value::String(url)) => without_query(url),
        _ => HIDDEN.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let secret = || Value::String("s3cret".into());
        let check = |shown: String, expect: &str| assert_eq!(shown, expect);
        check(shown("signing_key", &secret()), HIDDEN);
        check(shown("api_token", &secret()), HIDDEN);
        check(shown("key_file", &Value::String("k".into())), "\"k\"");
        check(shown("otlp_endpoint", &Value::String("http://x/?k=s3cret".into())), "\"http://x/?… (query not shown)\"");
        let table = Table::from_iter([("sasl.password".to_owned(), secret())]);
        check(shown("properties", &table.into()), "sasl.password (values not shown)");
        check(of_upstream("later", &secret()), HIDDEN);
        check(shown("tls_key", &Value::String("k.pem".into())), "\"k.pem\"");
        check(of_upstream("args", &Value::Array(vec![secret()])), "1 (not shown)");
        check(of_upstream("env", &Table::from_iter([("A".to_owned(), secret())]).into()), "A (values not shown)");
        check(of_upstream("url", &Value::String("http://x/?k=s3cret".into())), "http://x/?… (query not shown)");
    }
}
