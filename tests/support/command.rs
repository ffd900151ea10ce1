//! A command line as a value: built once, run directly, behind a tee, or written into an option.

use std::ffi::{OsStr, OsString};
use std::process::Command;

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Words(Vec<OsString>);

impl Words {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self(vec![program.as_ref().to_owned()])
    }

    pub(crate) fn and(mut self, word: impl AsRef<OsStr>) -> Self {
        self.0.push(word.as_ref().to_owned());
        self
    }

    pub(crate) fn and_all(mut self, words: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        self.0.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// This command line followed by another: `self` runs `other`.
    pub(crate) fn running(self, other: &Self) -> Self {
        let words = other.0.clone();
        self.and_all(words)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]);
        command
    }

    /// As one line, for an option that takes a command. Paths of this repository's build need no quotes.
    pub(crate) fn line(&self) -> String {
        let words: Vec<&str> = self.0.iter().map(|word| word.to_str().expect("paths are UTF-8")).collect();
        assert!(words.iter().all(|word| !word.contains(char::is_whitespace)), "a word with a space: {words:?}");
        words.join(" ")
    }
}
