//! `replay`, killed and called again until it comes to its end: every file is byte for byte that of an unbroken run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::System;
use super::fault::{Ended, Fault, Plan, ended};
use crate::support::command::Words;
use crate::support::parts::{root, undercurrent};
use crate::support::process::Process;

/// Frames of the recording that are replayed.
const FRAMES: usize = 500;
/// What a replay comes by.
const POINTS: [&str; 6] =
    ["log-begun", "log-committed", "history-begun", "history-half", "history-written", "history-listed"];
/// Ticks of these frames, about.
const TICKS: u64 = 40;

pub(super) struct Replayed {
    directory: TempDir,
    plan: Plan,
    /// What an unbroken run writes.
    whole: BTreeMap<PathBuf, Vec<u8>>,
}

impl Replayed {
    pub(super) fn new(seed: u64) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let recording = fs::File::open(root().join("tests/recordings/demo.frames.jsonl.zst")).expect("a recording");
        let lines = BufReader::new(zstd::Decoder::new(recording).expect("a zstd stream")).lines();
        let lines: Vec<_> = lines.take(FRAMES).map(|line| line.expect("a line")).collect();
        fs::write(directory.path().join("frames.jsonl"), lines.join("\n")).expect("write the recording");
        let plan = Plan::at(POINTS.to_vec(), seed, 400).often(&["log-begun", "log-committed"], TICKS);
        let mut replayed = Self { directory, plan, whole: BTreeMap::new() };
        replayed.whole = replayed.to_the_end("whole", 1);
        assert!(!replayed.whole.is_empty(), "a replay writes files");
        replayed
    }

    fn command(&self, into: &str, workers: u64) -> Command {
        Words::new(undercurrent())
            .and_all(["--log-level", "warn", "replay"])
            .and(self.directory.path().join("frames.jsonl"))
            .and("--history")
            .and(self.directory.path().join(into))
            .and_all(["--workers", &workers.to_string()])
            .command()
    }

    fn spawn(mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Process::start("undercurrent replay", command)
    }

    fn to_the_end(&self, into: &str, workers: u64) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut process = Self::spawn(self.command(into, workers));
        assert!(process.wait().success(), "{}", process.stderr());
        let dir = self.directory.path().join(into);
        let files = tables(&dir);
        fs::remove_dir_all(dir).expect("remove the replay");
        files
    }
}

impl System for Replayed {
    fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    fn kill(&mut self, fault: Fault) -> Ended {
        let workers = 1 + self.plan.seed.below(2);
        let mut command = self.command("broken", workers);
        command.envs(fault.armed().map(|armed| ("FAILPOINTS", armed)));
        let mut process = Self::spawn(command);
        match fault {
            // One that had come to its end before has nothing more to do.
            Fault::Point(..) | Fault::Full(..) => ended(&mut process),
            Fault::Random(moment) | Fault::ClockBack(moment) => {
                thread::sleep(Duration::from_millis(moment));
                process.kill();
                Ended::AsTold
            }
        }
    }

    fn compare(&mut self) {
        let workers = 1 + self.plan.seed.below(2);
        let broken = self.to_the_end("broken", workers);
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&broken), names(&self.whole));
        for (path, bytes) in &self.whole {
            assert!(broken[path] == *bytes, "{} differs", path.display());
        }
    }
}

/// All Parquet files below a directory, by their paths in it.
fn tables(history: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![history.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let below = path.strip_prefix(history).expect("it is below").to_owned();
                files.insert(below, fs::read(&path).expect("a file"));
            }
        }
    }
    files
}
