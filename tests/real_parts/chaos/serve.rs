//! `serve` with its own log, under load.
//!
//! After a spell the data directory is copied twice. One copy goes on from what is there; of the other everything that
//! is derived is taken away first, or its newest checkpoint is damaged where the log alone does not reach back. Each life
//! begins an hour and more after the one before, by its clock, so that hours close and are merged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

use tempfile::TempDir;
use undercurrent::faults::Life;

use super::System;
use super::compare::{SETTINGS, digests, first_of_last_life, verify};
use super::fault::{Ended, Fault, Plan, ended};
use super::pressure::{Durable, Pressure};
use crate::support::files::copy;
use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::parts::HttpServer;
use crate::support::wait::wait_until;

/// From one life to the next.
const STEP_S: u64 = 4_500;
/// Moments of signals: answers, all sessions together.
const ANSWERS: u64 = 400;
/// Where a full disk shows.
const WRITES: [&str; 6] =
    ["log-begun", "checkpoint-half", "history-half", "history-written", "compaction-written", "snapshot-half"];

pub(super) struct Served {
    directory: TempDir,
    server: HttpServer,
    plan: Plan,
    /// Lives of this spell, in both directories.
    lives: u64,
    /// What was durable last, by the directory's name.
    durable: BTreeMap<&'static str, Vec<(u64, u64)>>,
}

impl Served {
    pub(super) fn new(seed: u64) -> Self {
        let plan = Plan::of(Life::Serve, seed, ANSWERS).often(&["log-begun", "log-committed"], 60);
        let full = |moment: u64| Fault::Full(WRITES[(moment % WRITES.len() as u64) as usize], moment);
        let plan = plan.and(full).and(Fault::ClockBack);
        let directory = TempDir::new().expect("a temporary directory");
        Self { directory, server: HttpServer::demo(), plan, lives: 0, durable: BTreeMap::new() }
    }

    fn serve(&self, data: &Path, cuts: bool) -> Serve {
        let serve = Serve::new(data).upstream("demo", &self.server.url());
        let serve = serve.setting("LOG__RETENTION_S", if cuts { "1" } else { "0" });
        SETTINGS.iter().fold(serve, |serve, (key, value)| serve.setting(key, value))
    }

    /// What the life's clock says, and what ends it.
    fn armed(&self, fault: Option<Fault>) -> String {
        let ahead = self.lives * STEP_S;
        let clock = match fault {
            Some(Fault::ClockBack(_)) => format!("clock=200*return({ahead})->return({})", ahead as i64 - 1_800),
            _ => format!("clock=return({ahead})"),
        };
        fault.and_then(Fault::armed).map_or(clock.clone(), |armed| format!("{clock};{armed}"))
    }

    /// Lets two copies go on, and holds them against each other.
    fn compare(&self, name: &str, durable: &[(u64, u64)]) {
        let data = self.directory.path().join(name);
        let (left, right) = (self.directory.path().join("left"), self.directory.path().join("right"));
        copy(&data, &left);
        fs::rename(&data, &right).expect("move what is left");
        if name == "cut" {
            damage_second_checkpoint(&right);
        } else {
            for derived in ["history", "state"] {
                fs::remove_dir_all(right.join(derived)).expect("remove what is derived");
            }
        }
        let (left_rows, right_rows) = thread::scope(|scope| {
            let other = scope.spawn(|| self.life(&right, durable));
            let left = self.life(&left, durable);
            (left, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let bound = [&left_rows, &right_rows].into_iter().map(first_of_last_life).min().expect("two");
        let (left_rows, right_rows) = (digests(&left_rows, bound), digests(&right_rows, bound));
        assert!(
            left_rows == right_rows,
            "what went on differs from what was derived anew: {left_rows:?} {right_rows:?}"
        );
        for data in [&left, &right] {
            fs::remove_dir_all(data).expect("remove a copy");
        }
    }

    /// Starts on what is there, takes it to its end and stops.
    fn life(&self, data: &Path, durable: &[(u64, u64)]) -> History {
        let gateway = self.serve(data, false).variable("FAILPOINTS", &self.armed(None)).start();
        gateway.settle();
        let ends: BTreeMap<_, _> = gateway.status().partitions.iter().map(|at| (at.partition, at.durable)).collect();
        for (partition, offset) in durable {
            assert!(ends[partition] >= *offset, "partition {partition}: {offset} was durable, {} is", ends[partition]);
        }
        let history = gateway.stop();
        verify(data);
        history
    }
}

impl System for Served {
    fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    fn kill(&mut self, fault: Fault) -> Ended {
        // The log of those that cut it is another one: the others compare with the whole of theirs.
        let cuts = matches!(fault, Fault::Point(name, _) if name.starts_with("retention"));
        let name = if cuts { "cut" } else { "whole" };
        let data = self.directory.path().join(name);
        self.lives += 1;
        let mut gateway = self.serve(&data, cuts).variable("FAILPOINTS", &self.armed(Some(fault))).spawn();
        wait_until("it is ready, or gone already", || !gateway.process.is_running() || gateway.answers());
        let durable = Durable::watch(gateway.admin);
        let load = Pressure::start(gateway.listen);
        let ended = match fault {
            Fault::Point(..) => ended(&mut gateway.process),
            Fault::Full(_, answers) | Fault::ClockBack(answers) | Fault::Random(answers) => {
                load.advance(answers);
                gateway.process.kill();
                Ended::AsTold
            }
        };
        load.stop();
        let said = durable.stop();
        if !said.is_empty() {
            self.durable.insert(name, said);
        }
        ended
    }

    fn compare(&mut self) {
        self.lives += 1;
        for name in ["whole", "cut"] {
            if self.directory.path().join(name).exists() {
                Self::compare(self, name, &self.durable.get(name).cloned().unwrap_or_default());
            }
        }
        self.durable.clear();
        self.lives = 0;
    }
}

/// Makes the second of the checkpoints unreadable, as a failing disk would.
fn damage_second_checkpoint(data: &Path) {
    let dir = data.join("state/checkpoints");
    let manifest = fs::read(dir.join("MANIFEST.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    if let Some(file) = manifest["checkpoints"][1]["file"].as_str() {
        let mut bytes = fs::read(dir.join(file)).expect("a checkpoint");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(dir.join(file), bytes).expect("damaged");
    }
}
