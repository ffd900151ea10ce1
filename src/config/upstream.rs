//! What stands behind an endpoint: a URL or a command, and its name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use toml::{Table, Value};
use url::Url;

use super::Override;
use super::error::{ConfigError, Place, Problem};

/// Name of an upstream: part of a URL's path, a label of metrics and a scope of models.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName(String);

/// Not 1 to 64 of `a-z 0-9 - _ .`, led by a letter or digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upstream's name has 1 to 64 of the characters a-z 0-9 - _ . and starts with a letter or digit")]
pub struct InvalidName;

impl UpstreamName {
    pub const BYTES_MAX: usize = 64;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UpstreamName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let led = text.bytes().next().is_some_and(plain);
        let legal = text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'));
        if led && legal && text.len() <= Self::BYTES_MAX { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Variables for a child process. Values are often secrets: `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A Streamable HTTP endpoint, and further places of the same server.
    Http { url: Url, replicas: Vec<Url> },
    /// A stdio server, started by us.
    Command {
        program: String,
        args: Vec<String>,
        /// Added to our own environment.
        env: Environment,
    },
}

impl Upstream {
    /// How it may be shown: no arguments, no query, no environment.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Http { url, replicas } => {
                let more = if replicas.is_empty() { String::new() } else { format!(" and {} more", replicas.len()) };
                format!("{}{}{more}", url.origin().ascii_serialization(), url.path())
            }
            Self::Command { program, .. } => program.clone(),
        }
    }
}

/// Reads `NAME=URL_OR_COMMAND`, as `--upstream` takes it; replaces whatever else is said of that upstream.
pub fn from_flag(text: &str) -> Result<Override, ConfigError> {
    let wrong = |problem: &str| {
        ConfigError::from(Problem::Value {
            place: Place::Flag("--upstream".into()),
            key: "upstreams".into(),
            // What follows the name may hold a secret.
            value: text.split_once('=').map_or_else(|| format!("{text:?}"), |(name, _)| format!("{name}=…")),
            problem: problem.into(),
            remedy: "write NAME=URL or NAME=\"COMMAND ARGS…\", such as files=\"npx -y server-filesystem /srv\"".into(),
        })
    };
    let (name, target) = text.split_once('=').ok_or_else(|| wrong("no `=`"))?;
    let mut table = Table::new();
    if target.starts_with("http://") || target.starts_with("https://") {
        table.insert("url".into(), target.into());
    } else {
        let mut words = words(target).ok_or_else(|| wrong("a quote is not closed"))?.into_iter();
        let program = words.next().ok_or_else(|| wrong("neither a URL nor a command"))?;
        table.insert("command".into(), program.into());
        table.insert("args".into(), words.map(Value::String).collect::<Vec<_>>().into());
    }
    Ok(Override::new(["upstreams", name], table, Place::Flag(format!("--upstream {name}"))))
}

/// Splits a command into words. Quotes group; there is no other shell syntax, and a backslash is a backslash
/// (Windows paths). `None`: a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_paths_labels_and_files() {
        for right in ["a", "github", "my-files_2.0", "0", &"x".repeat(64)] {
            assert_eq!(right.parse::<UpstreamName>().unwrap().as_str(), right);
        }
        for wrong in ["", ".", "..", "-a", "A", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(wrong.parse::<UpstreamName>(), Err(InvalidName), "{wrong:?}");
        }
    }

    #[test]
    fn quotes_group_words_and_backslashes_stay() {
        let check = |text: &str, expect: &[&str]| assert_eq!(words(text).unwrap(), expect, "{text}");
        check("npx -y  server", &["npx", "-y", "server"]);
        check(r#""C:\Program Files\node.exe" 'a b' c"#, &[r"C:\Program Files\node.exe", "a b", "c"]);
        check(r#"a "" b"#, &["a", "", "b"]);
        check(r#"--name="x y""#, &["--name=x y"]);
        check("  ", &[]);
        assert_eq!(words("a 'b"), None);
    }

    #[test]
    fn an_environment_shows_its_names_only() {
        let env = Environment(BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]));
        assert_eq!(format!("{env:?}"), r#"{"TOKEN"}"#);
    }
}
