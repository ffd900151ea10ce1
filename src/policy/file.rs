//! `policy.toml`: parsed at the edge, once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wildmatch::WildMatch;

use super::{Access, AccessRule, Mode, Policy, Thresholds};

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("read policy file `{}`: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("policy file `{}`: {problem}", path.display())]
    Parse { path: PathBuf, problem: String },
    #[error("policy file `{}`: `{key}` = {value}: {problem}", path.display())]
    Value { path: PathBuf, key: &'static str, value: String, problem: &'static str },
}

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPolicy {
    mode: Mode,
    flag_below_p_value: f64,
    delay_below_p_value: f64,
    hold_below_p_value: f64,
    block_below_p_value: f64,
    delay_ms: u64,
    hold_s: u64,
    /// 0: any size.
    result_bytes_max: usize,
    rules: RawRules,
    access: Vec<RawAccess>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRules {
    flag_always: BTreeSet<String>,
    flag_never: BTreeSet<String>,
    hold_always: BTreeSet<String>,
    block_always: BTreeSet<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccess {
    #[serde(default = "all")]
    principals: Vec<String>,
    #[serde(default = "all")]
    upstreams: Vec<String>,
    #[serde(default = "all")]
    tools: Vec<String>,
    allow: bool,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Default for RawPolicy {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            mode: policy.mode,
            flag_below_p_value: policy.below.flag,
            delay_below_p_value: policy.below.delay,
            hold_below_p_value: policy.below.hold,
            block_below_p_value: policy.below.block,
            delay_ms: policy.delay.as_millis() as u64,
            hold_s: policy.hold.as_secs(),
            result_bytes_max: policy.result_bytes_max.unwrap_or_default(),
            rules: RawRules::default(),
            access: Vec::new(),
        }
    }
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// `path` is for messages only.
    fn parse(path: &Path, text: &str) -> Result<Self, PolicyError> {
        // The error of `toml` shows the line, what was expected and which keys there are.
        let raw: RawPolicy = toml::from_str(text)
            .map_err(|error| PolicyError::Parse { path: path.to_owned(), problem: error.to_string() })?;
        let wrong = |key, value: &dyn ToString, problem| {
            let (path, value) = (path.to_owned(), value.to_string());
            PolicyError::Value { path, key, value, problem }
        };
        let thresholds = [
            ("flag_below_p_value", raw.flag_below_p_value),
            ("delay_below_p_value", raw.delay_below_p_value),
            ("hold_below_p_value", raw.hold_below_p_value),
            ("block_below_p_value", raw.block_below_p_value),
        ];
        if let Some((key, value)) = thresholds.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(wrong(key, value, "not a probability; give a number from 0 (never) to 1"));
        }
        if !(1..=600_000).contains(&raw.delay_ms) {
            return Err(wrong("delay_ms", &raw.delay_ms, "out of range; give a number from 1 to 600000"));
        }
        if !(1..=86_400).contains(&raw.hold_s) {
            return Err(wrong("hold_s", &raw.hold_s, "out of range; give a number from 1 to 86400"));
        }
        let RawRules { flag_always, flag_never, hold_always, block_always } = raw.rules;
        let lists = [
            ("rules.flag_always", &flag_always),
            ("rules.hold_always", &hold_always),
            ("rules.block_always", &block_always),
        ];
        for (key, list) in lists {
            if let Some(tool) = list.intersection(&flag_never).next() {
                let problem = "also in rules.flag_never; leave it in one of them";
                return Err(wrong(key, &format!("{tool:?}"), problem));
            }
        }
        let rule = |raw: RawAccess| {
            let patterns = |texts: Vec<String>| texts.iter().map(|text| WildMatch::new(text)).collect();
            let empty = [&raw.principals, &raw.upstreams, &raw.tools].iter().any(|list| list.is_empty());
            if empty {
                let problem = "an empty list matches nobody and nothing; leave it out to mean all";
                return Err(wrong("access", &"[]", problem));
            }
            Ok(AccessRule {
                principals: patterns(raw.principals),
                upstreams: patterns(raw.upstreams),
                tools: patterns(raw.tools),
                allow: raw.allow,
            })
        };
        let access = raw.access.into_iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Self {
            mode: raw.mode,
            below: Thresholds {
                flag: raw.flag_below_p_value,
                delay: raw.delay_below_p_value,
                hold: raw.hold_below_p_value,
                block: raw.block_below_p_value,
            },
            delay: Duration::from_millis(raw.delay_ms),
            hold: Duration::from_secs(raw.hold_s),
            flag_always,
            flag_never,
            hold_always,
            block_always,
            access: Access::new(access),
            result_bytes_max: (raw.result_bytes_max > 0).then_some(raw.result_bytes_max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_the_built_in_policy() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policy.toml");
        assert_eq!(Policy::read(Path::new(path)).unwrap(), Policy::default());
        assert_eq!(Policy::parse(Path::new("p"), "").unwrap(), Policy::default());
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expect: &[&str]| {
            let message = Policy::parse(Path::new("policy.toml"), text).unwrap_err().to_string();
            assert!(message.starts_with("policy file `policy.toml`"), "{message}");
            for part in expect {
                assert!(message.contains(part), "{message}");
            }
        };
        check("mode = \"block\"", &["line 1", "unknown variant `block`", "`observe`", "`enforce`"]);
        check("[[access]]\ntools = [\"a\"]", &["missing field `allow`"]);
        check("[[access]]\ntools = []\nallow = false", &["access` = []", "leave it out to mean all"]);
        check("hold_s = 0", &["hold_s` = 0", "from 1 to 86400"]);
        check("block_below_p_value = -1", &["block_below_p_value` = -1", "not a probability"]);
        check("\nflag_below = 1", &["line 2", "unknown field `flag_below`", "flag_below_p_value"]);
        check("flag_below_p_value = 1.5", &["flag_below_p_value` = 1.5", "not a probability"]);
        check("[rules]\nflag_always = [\"a\"]\nflag_never = [\"a\"]", &["\"a\"", "leave it in one of them"]);
    }
}
