//! The layering as a test: `schemas ← dataflows ← src`, and inside `src` no edge but those in the table below.
//!
//! It reads the sources; comments and strings do not count. Dataflows are pure: no clock, no I/O, no randomness, and no
//! iteration in an order that differs between runs.

mod sources;

use std::collections::BTreeSet;

use sources::{Source, rust_below};

/// Modules that everyone may use, and why.
const OPEN: [(&str, &str); 3] = [
    ("clock", "event time has one source"),
    ("config", "settings are values, resolved once"),
    ("telemetry", "names and counters; it calls nobody"),
];

/// Modules that may use everyone: they put the parts together.
const KNOW_ALL: [&str; 5] = ["app", "cli", "lib", "main", "replay"];

/// From, to, and why the edge is there. An edge that is not here is a design decision: write down its reason.
const EDGES: &[(&str, &[&str], &str)] = &[
    (
        "admin",
        &["cache", "data_dir", "engine", "history", "log"],
        "shows how things stand, and takes labels to the log",
    ),
    ("cache", &[], "holds the model; knows neither who publishes nor who reads"),
    ("clock", &[], "stamps"),
    ("config", &["data_dir", "policy"], "resolves paths and policies into values"),
    ("data_dir", &[], "paths, locks and secrets below DATA"),
    ("edge", &["cache", "log", "policy"], "facts, assessment and decision; then the event goes to the log"),
    ("engine", &["cache", "log"], "tails the log, publishes to the cache"),
    ("gateway", &["edge", "upstream"], "relays, and shows the edge what it relays"),
    ("history", &["log"], "tails the log, writes files"),
    ("hub", &["cache", "data_dir", "log"], "takes events of other processes to the log, and models back to them"),
    ("log", &["data_dir"], "the ground state: nothing is below it"),
    ("policy", &[], "decides from values"),
    ("record", &["edge"], "writes the frames that the edge saw"),
    ("telemetry", &[], "counts"),
    ("upstream", &[], "reaches servers"),
    ("wrap", &["edge", "hub", "upstream"], "relays one process, and shows the edge what it relays"),
];

/// What must not occur in the sources of dataflows, and why.
const IMPURE: [(&str, &str); 12] = [
    ("std::fs", "a program without I/O"),
    ("std::net", "a program without I/O"),
    ("std::env", "settings come as values"),
    ("std::process", "a program without I/O"),
    ("Instant", "event time is data"),
    ("SystemTime", "event time is data"),
    ("tokio", "a program without I/O"),
    ("rand", "the same log gives the same model"),
    ("getrandom", "the same log gives the same model"),
    ("RandomState", "the same log gives the same model"),
    ("undercurrent", "dataflows know nothing of src"),
    ("f32", "scores are f64, sums are integers"),
];

/// Maps whose order differs between runs: a comment on the same or the line before must say why that reaches no result.
const UNORDERED: [&str; 4] = ["HashMap", "HashSet", "DashMap", "DashSet"];

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
        let Some((_, allowed, _)) = EDGES.iter().find(|(name, _, _)| *name == from) else {
            wrong.push(format!("{}: module `{from}` is not in the table of tests/layering.rs", source.path));
            continue;
        };
        for (line, to) in source.crate_paths(&modules) {
            let open = OPEN.iter().any(|(name, _)| *name == to);
            if to != from && !open && !allowed.contains(&to.as_str()) {
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
            let targets = EDGES.iter().find(|(name, _, _)| *name == module).map_or(&[][..], |(_, targets, _)| *targets);
            next.extend(targets.iter().filter(|target| reached.insert(**target)));
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
            let unordered = UNORDERED.iter().find(|name| has_word(text, name));
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
