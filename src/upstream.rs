//! Upstreams: the MCP servers behind the gateway, and how each is reached.
//!
//! Not here: who may call them (gateway), what their messages mean (edge). Invariant: a target that was parsed can be
//! tried; nothing about it is checked again on the request path.

pub(crate) mod lines;
pub(crate) mod link;
pub(crate) mod process;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;

use crate::config::Terms;

/// One MCP server and the name it is served under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// The `NAME` of `/mcp/NAME`.
    pub name: String,
    pub target: Target,
    pub terms: Terms,
}

/// How an upstream is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Streamable HTTP endpoint, or several that are alike; never none.
    Http(Vec<Endpoint>),
    /// A program that speaks MCP on its standard input and output.
    Stdio(StdioCommand),
}

/// An absolute `http` or `https` URL without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// What to start for a stdio upstream.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StdioCommand {
    pub program: String,
    pub args: Vec<String>,
    /// Added to the gateway's own environment.
    pub env: Vec<(String, String)>,
    pub directory: Option<PathBuf>,
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("read upstream url")]
    Url(#[from] http::uri::InvalidUri),
    #[error("upstream url needs a scheme of http or https and a host")]
    NotAbsolute,
    #[error("upstream url must not hold credentials; they would be sent in every request line")]
    Credentials,
    #[error("upstream command is empty")]
    NoCommand,
    #[error("upstream command has an unclosed quote")]
    UnclosedQuote,
    #[error("upstream names are 1 to 64 letters, digits, `-`, `_` and `.`")]
    Name,
    #[error("upstream must be NAME=URL or NAME=COMMAND")]
    NoName,
}

impl Endpoint {
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse()?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err(TargetError::Credentials)
            }
            (Some("http" | "https"), Some(_)) => Ok(Self(uri)),
            _ => Err(TargetError::NotAbsolute),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// A URL, else a command line: words apart by spaces, `'…'` and `"…"` around words that hold spaces. No shell
    /// looks at it, and backslashes mean themselves (they are ordinary in Windows paths).
    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Http(vec![text.parse()?]));
        }
        let mut words = words(text)?.into_iter();
        let program = words.next().ok_or(TargetError::NoCommand)?;
        Ok(Self::Stdio(StdioCommand { program, args: words.collect(), ..StdioCommand::default() }))
    }
}

impl FromStr for UpstreamConfig {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (name, target) = text.split_once('=').ok_or(TargetError::NoName)?;
        check_name(name)?;
        Ok(Self { name: name.to_owned(), target: target.parse()?, terms: Terms::default() })
    }
}

/// Names stand in paths, labels and file names: nothing in them needs escaping.
pub fn check_name(name: &str) -> Result<(), TargetError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) { Ok(()) } else { Err(TargetError::Name) }
}

impl fmt::Debug for Endpoint {
    /// Without the query: it may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
    }
}

impl fmt::Debug for StdioCommand {
    /// Without arguments and values of the environment: they may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioCommand")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn words(text: &str) -> Result<Vec<String>, TargetError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(TargetError::UnclosedQuote) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_command(text: &str, expect: &[&str]) {
        let Ok(Target::Stdio(command)) = text.parse() else { panic!("not a command: {text}") };
        let mut words = vec![command.program];
        words.extend(command.args);
        assert_eq!(words, expect);
    }

    #[test]
    fn commands_are_split_without_a_shell() {
        check_command("npx -y  server", &["npx", "-y", "server"]);
        check_command(r#"'C:\Program Files\x.exe' "" a"b c"d"#, &[r"C:\Program Files\x.exe", "", "ab cd"]);
        assert!(matches!("a 'b".parse::<Target>(), Err(TargetError::UnclosedQuote)));
        assert!(matches!("  ".parse::<Target>(), Err(TargetError::NoCommand)));
    }

    #[test]
    fn urls_are_absolute_and_without_credentials() {
        assert!(matches!("http://h:1/mcp?k=v".parse::<Target>(), Ok(Target::Http(_))));
        assert!(matches!("http://u:p@h/".parse::<Target>(), Err(TargetError::Credentials)));
        assert!("http:///x".parse::<Target>().is_err());
    }

    #[test]
    fn names_need_no_escaping() {
        assert!("a.b-c_1=http://h/".parse::<UpstreamConfig>().is_ok());
        assert!(matches!("a/b=http://h/".parse::<UpstreamConfig>(), Err(TargetError::Name)));
        assert!(matches!("http://h/".parse::<UpstreamConfig>(), Err(TargetError::NoName)));
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let url: Target = "https://h/mcp?key=secret".parse().unwrap();
        let command: Target = "x --token=secret".parse().unwrap();
        assert!(!format!("{url:?} {command:?}").contains("secret"));
    }
}
