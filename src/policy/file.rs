//! `policy.toml`: parsed at the edge, once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Mode, Policy};

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
    rules: RawRules,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRules {
    flag_always: BTreeSet<String>,
    flag_never: BTreeSet<String>,
}

impl Default for RawPolicy {
    fn default() -> Self {
        let Policy { mode, flag_below_p_value, flag_always, flag_never } = Policy::default();
        Self { mode, flag_below_p_value, rules: RawRules { flag_always, flag_never } }
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
        let wrong = |key, value, problem| PolicyError::Value { path: path.to_owned(), key, value, problem };
        if !(0.0..=1.0).contains(&raw.flag_below_p_value) {
            let problem = "not a probability; give a number from 0 (flag nothing) to 1";
            return Err(wrong("flag_below_p_value", raw.flag_below_p_value.to_string(), problem));
        }
        if let Some(tool) = raw.rules.flag_always.intersection(&raw.rules.flag_never).next() {
            let problem = "also in rules.flag_never; leave it in one of them";
            return Err(wrong("rules.flag_always", format!("{tool:?}"), problem));
        }
        Ok(Self {
            mode: raw.mode,
            flag_below_p_value: raw.flag_below_p_value,
            flag_always: raw.rules.flag_always,
            flag_never: raw.rules.flag_never,
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
        check("mode = \"enforce\"", &["line 1", "unknown variant `enforce`", "`observe`"]);
        check("\nflag_below = 1", &["line 2", "unknown field `flag_below`", "flag_below_p_value"]);
        check("flag_below_p_value = 1.5", &["flag_below_p_value` = 1.5", "not a probability"]);
        check("[rules]\nflag_always = [\"a\"]\nflag_never = [\"a\"]", &["\"a\"", "leave it in one of them"]);
    }
}
