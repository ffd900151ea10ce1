//! The repository's rules that no compiler checks: size of files, leftovers, and traces of the machine that wrote them.

mod sources;

use sources::{Source, files_below, rust_below};

/// Files longer than this hold more than one idea.
const LINES_MAX: usize = 600;

/// Extensions of what people wrote, as opposed to recordings, lock files and pictures.
const WRITTEN: [&str; 7] = [".rs", ".py", ".mjs", ".sh", ".proto", ".toml", ".md"];

/// Every complaint, or nothing.
fn check(rule: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{rule}:\n{}", complaints.join("\n"));
}

fn written() -> Vec<Source> {
    files_below(".").into_iter().filter(|file| WRITTEN.iter().any(|extension| file.path.ends_with(extension))).collect()
}

/// Lines of any of the files that hold one of the words; this file has to spell them in two halves.
fn lines_with(files: &[Source], words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (line, text) in file.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| text.contains(word.as_str())) {
                found.push(format!("{}:{}: {word}", file.path, line + 1));
            }
        }
    }
    found
}

fn halves(words: &[(&str, &str)]) -> Vec<String> {
    words.iter().map(|(first, second)| format!("{first}{second}")).collect()
}

#[test]
fn files_are_short() {
    let long = written().into_iter().filter(|file| !file.path.ends_with(".md"));
    let long = long.map(|file| (file.text.lines().count(), file.path)).filter(|(lines, _)| *lines > LINES_MAX);
    check("over 600 lines", long.map(|(lines, path)| format!("{path}: {lines}")).collect());
}

#[test]
fn nothing_is_left_over() {
    let words = halves(&[("todo", "!("), ("dbg", "!("), ("FIX", "ME"), ("unimple", "mented!("), ("<<<", "<<<< ")]);
    check("left over", lines_with(&written(), &words));
}

#[test]
fn no_machine_shows() {
    let words =
        halves(&[("/work", "/wt"), ("/work", "/main"), ("/work", "/shared"), ("/ro", "ot/"), ("/home", "/runner")]);
    check("a path of one machine", lines_with(&files_below("."), &words));
}

/// A lock file with a host in it ties everyone to the registry of whoever made it. Cargo's names its index, and only
/// that one; npm's names none.
#[test]
fn lock_files_name_no_host() {
    let locks: Vec<Source> = files_below(".").into_iter().filter(|file| is_lock(&file.path)).collect();
    assert!(locks.iter().any(|lock| lock.path == "Cargo.lock"), "the walk finds lock files");
    let index = format!("registry+https://github.com/{}", "rust-lang/crates.io-index");
    let mut complaints = lines_with(&locks, &halves(&[("\"resol", "ved\""), ("registry.", "npm")]));
    for lock in locks.iter().filter(|lock| lock.path.ends_with("Cargo.lock")) {
        let sources = lock.text.lines().filter(|line| line.starts_with("source = "));
        complaints.extend(sources.filter(|line| !line.contains(&index)).map(|line| format!("{}: {line}", lock.path)));
    }
    check("a registry's host", complaints);
}

fn is_lock(path: &str) -> bool {
    path.ends_with(".lock") || path.ends_with("package-lock.json") || path.ends_with("requirements.txt")
}

#[test]
fn every_source_says_what_it_is() {
    let sources = ["src", "schemas/src", "dataflows/src", "demo/src", "tests"].into_iter().flat_map(rust_below);
    // Unit tests are about the file that they stand beside.
    let sources = sources.filter(|source| !source.path.ends_with("/tests.rs"));
    let silent = sources.filter(|source| !source.text.starts_with("//!"));
    check("no module doc on the first line", silent.map(|source| source.path).collect());
}

#[test]
fn scripts_fail_loudly() {
    let scripts = files_below(".").into_iter().filter(|file| file.text.starts_with("#!/usr/bin/env bash"));
    let lax = scripts.filter(|file| !file.text.contains("set -euo pipefail"));
    check("a script without `set -euo pipefail`", lax.map(|file| file.path).collect());
}
