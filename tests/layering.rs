//! The layering as a test: `schemas ← dataflows ← src`, and inside `src` no edge but those in the table below.
//!
//! It reads the sources; comments and strings do not count. Dataflows are pure: no clock, no I/O, no randomness, and no
//! iteration in an order that differs between runs.

mod sources;

use std::collections::BTreeSet;

use sources::{Source, rust_below};

/// Modules that everyone may use, and why.
const OPEN: [(&str, &str); 4] = [
    ("clock", "event time has one source"),
    ("config", "settings are values, resolved once"),
    ("faults", "points at which tests end the process; it calls nobody"),
    ("telemetry", "names and counters; it calls nobody"),
];

/// Modules that may use everyone: they put the parts together.
const KNOW_ALL: [&str; 6] = ["app", "cli", "fuzzing", "lib", "main", "replay"];

/// From, to, and why the edge is there. An edge that is not here is a design decision: write down its reason.
const EDGES: &[(&str, &str, &str)] = &[
    ("admin", "cache", "shows the live model"),
    ("admin", "data_dir", "checks the admin token"),
    ("admin", "engine", "shows how far it is; asks for nothing else"),
    ("admin", "history", "shows how far it is written"),
    ("admin", "log", "shows how far it is; takes labels to it"),
    ("config", "data_dir", "resolves where DATA is"),
    ("config", "policy", "resolves rules into values"),
    ("edge", "cache", "reads the live model, without waiting"),
    ("edge", "log", "appends what it saw, without waiting"),
    ("edge", "policy", "decides"),
    ("engine", "cache", "publishes: the one writer"),
    ("engine", "log", "tails it"),
    ("gateway", "edge", "shows it each message, and does what it decides"),
    ("gateway", "observe", "tells operators of each exchange, without waiting"),
    ("gateway", "upstream", "forwards"),
    ("history", "log", "tails it"),
    ("hub", "cache", "passes models on to other processes"),
    ("hub", "data_dir", "finds the socket and the lock"),
    ("hub", "log", "takes events of other processes to it"),
    ("pump", "history", "turns a tick's results into its rows"),
    ("record", "edge", "writes the frames that it saw"),
    ("snapshot", "cache", "writes what is live to files"),
    ("wrap", "edge", "shows it each line, and does what it decides"),
    ("wrap", "gateway", "answers a blocked message: `gateway::rescue` is the one table of refusals"),
    ("wrap", "upstream", "starts and ends the process that it wraps"),
];

/// What must not occur in the sources of dataflows, and why.
const IMPURE: [(&str, &str); 11] = [
    ("std::fs", "a program without I/O"),
    ("std::net", "a program without I/O"),
    ("std::env", "settings come as values"),
    ("std::process", "a program without I/O"),
    ("Instant", "event time is data"),
    ("SystemTime", "event time is data"),
    ("tokio", "a program without I/O"),
    ("rand", "the same log gives the same model"),
    ("getrandom", "the same log gives the same model"),
    ("undercurrent", "dataflows know nothing of src"),
    ("f32", "scores are f64, sums are integers"),
];

/// What has an order that differs between runs: a comment on the same or the line before must say why that reaches no
/// result. An import alone orders nothing.
const UNORDERED: [&str; 5] = ["HashMap", "HashSet", "DashMap", "DashSet", "RandomState"];

#[test]
fn src_has_only_the_edges_of_the_table() {
    let sources = rust_below("src");
    let modules: BTreeSet<String> = sources.iter().map(Source::top_module).collect();
    let mut wrong = Vec::new();
    for source in &sources {
        let from = source.top_module();
        if KNOW_ALL.contains(&from.as_str()) {
            continue;
        }
        for (line, to) in source.crate_paths(&modules) {
            let open = OPEN.iter().any(|(name, _)| *name == to);
            let allowed = EDGES.iter().any(|(a, b, _)| (*a, *b) == (from.as_str(), to.as_str()));
            if to != from && !open && !allowed {
                wrong.push(format!("{}:{line}: `{from}` uses `{to}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "edges outside the layering:\n{}", wrong.join("\n"));
}

/// The table speaks of modules by name: a circle among them would be a layering in name alone.
#[test]
fn the_table_has_no_circles() {
    for (from, _, _) in EDGES {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut next = vec![*from];
        while let Some(module) = next.pop() {
            let targets = EDGES.iter().filter(|(name, _, _)| *name == module).map(|(_, target, _)| *target);
            next.extend(targets.filter(|target| reached.insert(target)));
        }
        assert!(!reached.contains(from), "`{from}` reaches itself");
    }
}

#[test]
fn crates_point_downwards() {
    let below = [("schemas", &["undercurrent_dataflows", "undercurrent"][..]), ("dataflows", &["undercurrent"][..])];
    let mut wrong = Vec::new();
    for (directory, banned) in below {
        for source in rust_below(directory) {
            for (line, word) in source.words() {
                if banned.contains(&word.as_str()) {
                    wrong.push(format!("{}:{line}: `{directory}` uses `{word}`", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dataflows_are_pure() {
    let mut wrong = Vec::new();
    for source in rust_below("dataflows/src") {
        let code = source.code();
        for (line, text) in code.lines().enumerate() {
            for (banned, reason) in IMPURE.iter().filter(|(banned, _)| has_word(text, banned)) {
                wrong.push(format!("{}:{}: `{banned}`: {reason}", source.path, line + 1));
            }
            let import = text.trim_start().starts_with("use ");
            let unordered = UNORDERED.iter().find(|name| !import && has_word(text, name));
            if let Some(name) = unordered.filter(|_| !source.argues_order(line)) {
                wrong.push(format!("{}:{}: `{name}` without a comment on its order", source.path, line + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "dataflows must be pure:\n{}", wrong.join("\n"));
}

/// Whether `word` (a path or a name) stands in `text` on its own.
fn has_word(text: &str, word: &str) -> bool {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_name)
            && !text[at + word.len()..].chars().next().is_some_and(is_name)
    })
}

/// The walk itself, on sources whose edges are known.
#[test]
fn edges_are_found_in_every_form() {
    let modules = ["gateway", "log", "engine", "cache"].map(String::from).into();
    let check = |path: &str, text: &str, expect: &[(usize, &str)]| {
        let found = Source::new(path, text).crate_paths(&modules);
        let expect: Vec<(usize, String)> = expect.iter().map(|(line, name)| (*line, (*name).to_owned())).collect();
        assert_eq!(found, expect, "{path}: {text}");
    };
    check("src/gateway.rs", "use crate::log::EventLog;", &[(1, "log")]);
    check("src/gateway.rs", "\nuse crate::{engine, log::{Tail, LogFull}};", &[(2, "engine"), (2, "log")]);
    check("src/gateway.rs", "use crate::{\n  engine as e,\n  cache::Cache,\n};", &[(1, "cache"), (1, "engine")]);
    check("src/gateway/relay.rs", "fn f() { crate::cache::get() }", &[(1, "cache")]);
    check("src/gateway/relay.rs", "use super::super::engine;", &[(1, "engine")]);
    check("src/gateway/relay.rs", "use super::log;", &[]);
    check("src/gateway.rs", "// crate::log\n/* crate::engine */ let s = \"crate::cache\";", &[]);
    check("src/gateway.rs", "pub(in crate::gateway) fn f() {}", &[(1, "gateway")]);
}
