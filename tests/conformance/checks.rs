//! The results of one run of the suite, and what of them is worse than in another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Behind a scenario's name in the name of its directory: `-2026-01-02T03-04-05-678Z`.
const STAMP: usize = 25;
/// What is shown of what the suite says about a failure.
const MESSAGE_MAX: usize = 400;

/// A check, as the suite names it. One scenario may report it several times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Check {
    pub(crate) scenario: String,
    pub(crate) id: String,
    name: String,
}

/// How often a check passed and failed in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    /// A warning says that something that should be there is not: it counts.
    failed: usize,
    message: String,
}

/// One run.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    counts: BTreeMap<Check, Count>,
    scenarios: BTreeSet<String>,
}

/// A check that fared worse than in the direct run.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) check: Check,
    pub(crate) kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It failed more often.
    Failed,
    /// It passed less often, without failing: the scenario did not get there, or took another way.
    Unreached,
}

impl Checks {
    /// Everything below a results directory.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut checks = Self::default();
        checks.read_below(directory, directory);
        checks
    }

    fn read_below(&mut self, root: &Path, directory: &Path) {
        for entry in fs::read_dir(directory).expect("the suite wrote results") {
            let path = entry.expect("a directory can be read").path();
            if path.is_dir() {
                self.read_below(root, &path);
            } else if path.ends_with("checks.json") {
                let scenario = directory.strip_prefix(root).expect("it is below").to_str().expect("names are UTF-8");
                let scenario = &scenario[..scenario.len() - STAMP];
                self.scenarios.insert(scenario.to_owned());
                let text = fs::read(&path).expect("results can be read");
                self.add(scenario, &serde_json::from_slice(&text).expect("results are JSON"));
            }
        }
    }

    fn add(&mut self, scenario: &str, checks: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for check in checks.as_array().expect("results are a list") {
            let key = Check { scenario: scenario.to_owned(), id: text(&check["id"]), name: text(&check["name"]) };
            let count = self.counts.entry(key).or_default();
            match check["status"].as_str() {
                Some("SUCCESS") => count.passed += 1,
                Some("FAILURE" | "WARNING") => {
                    count.failed += 1;
                    count.message = text(&check["errorMessage"]).chars().take(MESSAGE_MAX).collect();
                }
                // Notes on what happened, and checks that do not apply.
                _ => {}
            }
        }
    }

    /// Leaves out a check that this run cannot judge.
    pub(crate) fn forget(&mut self, id: &str) {
        self.counts.retain(|check, _| check.id != id);
    }

    pub(crate) fn scenarios(&self) -> usize {
        self.scenarios.len()
    }

    pub(crate) fn passed(&self) -> usize {
        self.counts.values().map(|count| count.passed).sum()
    }

    pub(crate) fn failed(&self) -> usize {
        self.counts.values().map(|count| count.failed).sum()
    }

    /// Checks that failed here and not there, or passed there and are missing here.
    pub(crate) fn worse_than(&self, direct: &Self) -> Vec<Difference> {
        let none = Count::default();
        let all: BTreeSet<&Check> = self.counts.keys().chain(direct.counts.keys()).collect();
        let mut worse = Vec::new();
        for check in all {
            let here = self.counts.get(check).unwrap_or(&none);
            let there = direct.counts.get(check).unwrap_or(&none);
            let kind = match (here.failed > there.failed, here.passed < there.passed) {
                (true, _) => Kind::Failed,
                (false, true) => Kind::Unreached,
                (false, false) => continue,
            };
            worse.push(Difference { check: check.clone(), kind, message: here.message.clone() });
        }
        worse
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check: Check { scenario, id, name }, kind, message } = self;
        write!(f, "{scenario}: {id} ({name}): {kind:?} {message}")
    }
}

#[test]
fn worse_is_a_new_failure_or_a_lost_pass() {
    let checks = |statuses: &[(&str, &str)]| {
        let list: Vec<Value> =
            statuses.iter().map(|(id, status)| serde_json::json!({ "id": id, "status": status })).collect();
        let mut checks = Checks::default();
        checks.add("s", &Value::Array(list));
        checks
    };
    let direct = checks(&[("a", "SUCCESS"), ("a", "SUCCESS"), ("b", "FAILURE"), ("c", "SUCCESS"), ("d", "INFO")]);
    assert!(direct.worse_than(&direct).is_empty());
    let through = checks(&[("a", "SUCCESS"), ("a", "WARNING"), ("b", "FAILURE"), ("e", "FAILURE")]);
    let worse: Vec<_> = through.worse_than(&direct).into_iter().map(|worse| (worse.check.id, worse.kind)).collect();
    let expect = [("a", Kind::Failed), ("c", Kind::Unreached), ("e", Kind::Failed)];
    assert_eq!(worse, expect.map(|(id, kind)| (id.to_owned(), kind)));
}
