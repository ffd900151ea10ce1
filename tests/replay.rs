//! `replay` of a recording of the demo's population: the result depends on the file alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/demo.frames.jsonl.zst");

fn replay(recording: &Path, history: &Path, workers: u32) -> Output {
    Command::new(env!("CARGO_BIN_EXE_undercurrent"))
        .args(["--log-level", "warn", "replay"])
        .arg(recording)
        .arg("--history")
        .arg(history)
        .args(["--workers", &workers.to_string()])
        .output()
        .expect("start the binary")
}

fn replayed(history: &Path, workers: u32) -> String {
    let output = replay(Path::new(RECORDING), history, workers);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// All Parquet files below a directory, by their paths in it.
fn tables(history: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![history.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let below = path.strip_prefix(history).expect("it is below").to_owned();
                files.insert(below, std::fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

#[test]
fn one_worker_and_two_write_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let said = replayed(&one, 1);
    assert!(said.contains("calls      1104 (0 unanswered)"), "{said}");
    assert!(said.contains("119 scored"), "{said}");
    replayed(&two, 2);
    let (one, two) = (tables(&one), tables(&two));
    let names: Vec<_> = one.keys().filter_map(|path| path.iter().next()).collect();
    for table in ["messages", "calls", "sessions", "features", "models"] {
        assert!(names.iter().any(|name| *name == table), "{table} has files");
    }
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(two[path] == *bytes, "{} differs", path.display());
    }
}

#[test]
fn again_is_a_no_op_and_what_is_foreign_is_refused() {
    let dir = TempDir::new().unwrap();
    let history = dir.path().join("history");
    replayed(&history, 1);
    let before = tables(&history);
    replayed(&history, 1);
    assert!(tables(&history) == before, "nothing was written again");

    let other = dir.path().join("other.jsonl");
    std::fs::write(&other, r#"{"ts_us":1,"session":"s","client":"c","server":"v","end":true}"#).unwrap();
    let refused = replay(&other, &history, 1);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("new directory"), "it names the remedy");

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
    assert!(!replay(Path::new(RECORDING), &foreign, 1).status.success());
    assert!(foreign.join("thesis.txt").is_file());
}

#[test]
fn a_replay_that_was_killed_goes_on_to_the_same_result() {
    let dir = TempDir::new().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    replayed(&whole, 1);
    let mut child = Command::new(env!("CARGO_BIN_EXE_undercurrent"))
        .args(["--log-level", "warn", "replay", RECORDING, "--history"])
        .arg(&broken)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("start the binary");
    // Wherever this hits: before the log, in the middle, or after the end.
    while !broken.join("log").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    replayed(&broken, 2);
    assert!(tables(&whole) == tables(&broken), "the same files with the same bytes");
}

#[test]
fn a_broken_line_is_named() {
    let dir = TempDir::new().unwrap();
    let broken = dir.path().join("broken.jsonl");
    std::fs::write(
        &broken,
        "{\"ts_us\":1,\"session\":\"s\",\"client\":\"c\",\"server\":\"v\",\"end\":true}\nnonsense\n",
    )
    .unwrap();
    let output = replay(&broken, &dir.path().join("history"), 1);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("line 2") && said.contains("broken.jsonl"), "{said}");
}

/// Three sessions that end, and what somebody says about two of them afterwards.
fn labelled(dir: &Path, labels: &str) -> (PathBuf, PathBuf) {
    let (recording, said) = (dir.join("labelled.jsonl"), dir.join("labels.jsonl"));
    let mut lines = String::new();
    for session in 1..=3_i64 {
        for (n, frame) in [
            (0, r#""dir":"c2s","frame":{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}"#),
            (1, r#""dir":"s2c","frame":{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#),
            (2, r#""end":true"#),
        ] {
            let ts_us = session * 10_000_000 + n * 100_000;
            lines += &format!(
                "{{\"ts_us\":{ts_us},\"session\":\"s-{session}\",\"client\":\"c\",\"server\":\"v\",{frame}}}\n"
            );
        }
    }
    std::fs::write(&recording, lines).expect("write the recording");
    std::fs::write(&said, labels).expect("write the labels");
    (recording, said)
}

fn replay_with_labels(recording: &Path, labels: &Path, history: &Path, workers: u32) -> Output {
    Command::new(env!("CARGO_BIN_EXE_undercurrent"))
        .args(["--log-level", "warn", "replay"])
        .arg(recording)
        .arg("--labels")
        .arg(labels)
        .arg("--history")
        .arg(history)
        .args(["--workers", &workers.to_string()])
        .output()
        .expect("start the binary")
}

#[test]
fn labels_are_replayed_at_their_time() {
    const LABELS: &str = "{\"session_id\":\"s-2\",\"label\":\"malicious\",\"at_us\":25000000}\n\n\
                          {\"session_id\":\"s-1\",\"label\":\"benign\",\"at_us\":99000000}\n";
    let dir = TempDir::new().unwrap();
    let (recording, labels) = labelled(dir.path(), LABELS);
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for (history, workers) in [(&one, 1), (&two, 2), (&two, 1)] {
        let output = replay_with_labels(&recording, &labels, history, workers);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let tables_one = tables(&one);
    assert!(tables_one.keys().any(|path| path.starts_with("labels")), "there is a table of labels");
    assert!(tables_one == tables(&two), "the same files with the same bytes");

    let (_, other) = labelled(dir.path(), "");
    let refused = replay_with_labels(&recording, &other, &one, 1);
    assert!(!refused.status.success(), "other labels give another result");
    let (_, wrong) = labelled(dir.path(), "{\"session_id\":\"s-2\",\"label\":\"odd\",\"at_us\":1}\n");
    let refused = replay_with_labels(&recording, &wrong, &dir.path().join("three"), 1);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("line 1") && said.contains("odd"), "{said}");
}
