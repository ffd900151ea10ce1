//! What a wrong setting looks like to the person who wrote it: where it stands, what is wrong, what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file; lines and columns count from 1.
    File { path: PathBuf, line: usize, column: usize },
    /// A file of which only the whole is known.
    WholeFile(PathBuf),
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::WholeFile(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConfigError(Box<Problem>);

impl ConfigError {
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("read `{}`: {source}; name a file that exists and can be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{place}: not valid {format}: {problem}")]
    Syntax { place: Place, format: &'static str, problem: String },
    #[error("{place}: unknown key `{key}` in {section}; {}keys: {}", did_you_mean(nearest), known.join(", "))]
    UnknownKey { place: Place, key: String, section: String, nearest: Option<String>, known: Vec<String> },
    #[error("{place}: `{key}` = {value}: {problem}; {remedy}")]
    Value { place: Place, key: String, value: String, problem: String, remedy: String },
    #[error("{place}: `{key}`: {problem}; {remedy}")]
    Missing { place: Place, key: String, problem: String, remedy: String },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("did you mean `{name}`? "))
}

/// Where each key that was given stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(BTreeMap<String, Place>);

impl Places {
    pub(super) fn insert(&mut self, key: String, place: Place) {
        self.0.insert(key, place);
    }

    /// Forgets `key` and all below it: something else is said there now.
    pub(super) fn replace(&mut self, key: &str, place: Place) {
        let below = format!("{key}.");
        self.0.retain(|known, _| known != key && !known.starts_with(&below));
        self.insert(key.to_owned(), place);
    }

    /// The place of a key; else of the first key below it, else of the nearest table around it.
    pub(super) fn of(&self, key: &str) -> Place {
        let below = format!("{key}.");
        let first_below = self.0.range(below.clone()..).next().filter(|(known, _)| known.starts_with(&below));
        if let (None, Some((_, place))) = (self.0.get(key), first_below) {
            return place.clone();
        }
        let mut key = key;
        loop {
            if let Some(place) = self.0.get(key) {
                return place.clone();
            }
            match key.rsplit_once('.') {
                Some((around, _)) => key = around,
                None => return Place::Default,
            }
        }
    }
}
