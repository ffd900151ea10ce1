//! The repository's own sources as text, for the tests that read them (`layering`, `tidy`).
//!
//! Not a parser: comments and strings are blanked out, and paths are found by their words.

#![allow(dead_code, reason = "each of the two tests uses its own part")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no sources of ours.
const NOT_OURS: [&str; 6] = [".git", "target", "data", "node_modules", "__pycache__", "corpus"];

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Below the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All Rust sources below a directory of the repository.
pub(crate) fn rust_below(directory: &str) -> Vec<Source> {
    let sources: Vec<Source> = files_below(directory).into_iter().filter(|file| file.path.ends_with(".rs")).collect();
    assert!(!sources.is_empty(), "no Rust sources below {directory}");
    sources
}

/// All text files below a directory of the repository, in order of their names.
pub(crate) fn files_below(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(directory), &mut paths);
    paths.sort();
    let named = |path: &Path| {
        let below = path.strip_prefix(root).expect("the walk stays below the root");
        below.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    };
    // What is not UTF-8 is a recording or a picture.
    paths.iter().filter_map(|path| Some(Source { path: named(path), text: fs::read_to_string(path).ok()? })).collect()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("list {}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("an entry of a directory");
        let path = entry.path();
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_file() {
            found.push(path);
        } else if kind.is_dir() && !NOT_OURS.contains(&entry.file_name().to_string_lossy().as_ref()) {
            walk(&path, found);
        }
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// `src/gateway/relay.rs` and `src/gateway.rs` are of `gateway`.
    pub(crate) fn top_module(&self) -> String {
        self.modules().into_iter().next().unwrap_or_default()
    }

    /// The module path, from the crate's root on.
    fn modules(&self) -> Vec<String> {
        let inner = self.path.split_once("src/").map_or(self.path.as_str(), |(_, inner)| inner);
        let mut modules: Vec<String> = inner.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
        if modules.len() > 1 && modules.last().is_some_and(|last| last == "mod") {
            modules.pop();
        }
        modules
    }

    /// The text with comments and the insides of strings blanked out; lines stay where they are.
    pub(crate) fn code(&self) -> String {
        Blanking::default().run(&self.text)
    }

    /// Every identifier with its line.
    pub(crate) fn words(&self) -> Vec<(usize, String)> {
        let code = self.code();
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let of_line = |(line, text): (usize, &str)| -> Vec<(usize, String)> {
            text.split(|letter| !is_name(letter)).map(|word| (line + 1, word.to_owned())).collect()
        };
        code.lines().enumerate().flat_map(of_line).filter(|(_, word)| !word.is_empty()).collect()
    }

    /// The top modules that paths of this file lead to, each with the line where its path begins.
    pub(crate) fn crate_paths(&self, modules: &BTreeSet<String>) -> Vec<(usize, String)> {
        let code = self.code();
        let mut found = Vec::new();
        let up = "super::".repeat(self.modules().len());
        for root in ["crate::", up.as_str()] {
            for (at, _) in code.match_indices(root) {
                let line = code[..at].matches('\n').count() + 1;
                let named = heads(&code[at + root.len()..]);
                found.extend(named.into_iter().filter(|name| modules.contains(name)).map(|name| (line, name)));
            }
        }
        // `pub(in crate::x)` needs no `::` behind it, and a name may be met twice on a line: both are one edge.
        found.sort();
        found.dedup();
        found
    }

    /// A comment on this line (from 0) or the one before says why the order of a map reaches no result.
    pub(crate) fn argues_order(&self, line: usize) -> bool {
        let lines: Vec<&str> = self.text.lines().collect();
        let argues =
            |text: &&str| text.split_once("//").is_some_and(|(_, comment)| comment.to_lowercase().contains("order"));
        lines[line.saturating_sub(1)..=line].iter().any(argues)
    }
}

/// The first name of a path, or of each path in a group.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut heads = Vec::new();
    let mut depth = 1;
    let mut start = 0;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && letter == ',') {
            heads.push(name(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Blanks out comments and strings, character by character.
#[derive(Debug, Default)]
struct Blanking {
    code: String,
    comment_depth: usize,
}

impl Blanking {
    fn run(mut self, text: &str) -> String {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let taken = if self.comment_depth > 0 || rest.starts_with("/*") {
                self.block_comment(rest)
            } else if rest.starts_with("//") {
                self.blank(rest, rest.find('\n').unwrap_or(rest.len()))
            } else if letter == '"' {
                self.blank(rest, string_end(rest))
            } else if let Some(length) = raw_string(rest).filter(|_| !self.ends_in_name()) {
                self.blank(rest, length)
            } else {
                self.code.push(letter);
                letter.len_utf8()
            };
            rest = &rest[taken..];
        }
        self.code
    }

    fn block_comment(&mut self, rest: &str) -> usize {
        let (change, taken) = if rest.starts_with("/*") {
            (1, 2)
        } else if rest.starts_with("*/") {
            (-1, 2)
        } else {
            (0, rest.chars().next().map_or(1, char::len_utf8))
        };
        self.comment_depth = self.comment_depth.saturating_add_signed(change);
        self.blank(rest, taken)
    }

    /// Leaves the line breaks of the first `length` bytes.
    fn blank(&mut self, rest: &str, length: usize) -> usize {
        self.code.extend(rest[..length].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        length
    }

    fn ends_in_name(&self) -> bool {
        self.code.chars().next_back().is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    }
}

/// The length of the string literal at the start. A lone quote (`'"'`) would end at the next one: see the caller.
fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the raw string or the character literal at the start, if there is one.
fn raw_string(rest: &str) -> Option<usize> {
    for literal in ["'\"'", "'\\\"'"] {
        if rest.starts_with(literal) {
            return Some(literal.len());
        }
    }
    let inner = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let body = inner[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(rest.len() - body.len() + end)
}
