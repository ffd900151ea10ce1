//! Every target over its kept corpus, and over inputs made of it: what the fuzzer does, in short and with any toolchain.
//!
//! The same inputs each time; `UNDERCURRENT_FUZZ_CASES` makes more of them (`make fuzz-stable`).

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{TARGETS, Target};

/// Made inputs of each target, unless somebody asks for more.
const CASES: u32 = 400;

fn cases() -> u32 {
    let asked = std::env::var("UNDERCURRENT_FUZZ_CASES");
    asked.map_or(CASES, |cases| cases.parse().expect("UNDERCURRENT_FUZZ_CASES is a number"))
}

/// What stands in a target's directory.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Bytes of no kind, and kept inputs with a piece changed, cut out, or put in from another of them.
fn made(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let kept = prop::sample::select(corpus);
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        (kept.clone(), any::<prop::sample::Index>(), 0..32_usize).prop_map(|(other, at, bytes)| {
            let at = at.index(other.len() + 1);
            other[at..(at + bytes).min(other.len())].to_vec()
        }),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..8_usize, piece), 1..4);
    let edited = (kept, edits).prop_map(|(mut input, edits)| {
        for (at, cut, piece) in edits {
            let at = at.index(input.len() + 1);
            let end = (at + cut).min(input.len());
            input.splice(at..end, piece);
        }
        input
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..256), 9 => edited]
}

fn check(name: &str, target: Target) {
    let corpus = corpus(name);
    corpus.iter().for_each(|input| target(input));
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&made(corpus), |input| {
        target(&input);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{name}: {error}");
    }
}

/// Which directories there are, there are targets for, and the other way round.
#[test]
fn each_target_has_a_corpus_and_a_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |directory: &str| {
        let entries = fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}

#[test]
fn kept_and_made_inputs_pass_every_target() {
    for (name, target) in TARGETS {
        check(name, target);
    }
}
