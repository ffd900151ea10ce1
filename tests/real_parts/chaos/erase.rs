//! `forget --erase`, killed and called again until it is done: nobody finds the session, all others are as they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use undercurrent::faults::Life;

use super::System;
use super::compare::verify;
use super::fault::{Ended, Fault, Plan, ended};
use crate::support::command::Words;
use crate::support::files::copy;
use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, undercurrent};
use crate::support::process::Process;

pub(super) struct Erased {
    directory: TempDir,
    plan: Plan,
    /// The session that is erased, and what the tables say of the others.
    gone: String,
    others: String,
}

impl Erased {
    pub(super) fn new(seed: u64) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let data = directory.path().join("data");
        let server = HttpServer::demo();
        let serve = Serve::new(&data).upstream("demo", &server.url());
        let gateway = serve.setting("HISTORY__ROLL_SECONDS", "1").start();
        Load::bounded(gateway.listen, "/mcp/demo", 3, 12).join();
        gateway.settle();
        let history = gateway.stop();
        let sessions = history.rows("SELECT DISTINCT session_id FROM calls ORDER BY 1");
        let gone = sessions[0]["session_id"].as_str().expect("a session").to_owned();
        let others = others(&history, &gone);
        Self {
            directory,
            plan: Plan::of(Life::Erase, seed, 600).often(&["erase-written", "erase-listed"], 3),
            gone,
            others,
        }
    }

    /// The copy that is worked on.
    fn data(&self) -> PathBuf {
        let data = self.directory.path().join("work");
        if !data.exists() {
            copy(&self.directory.path().join("data"), &data);
        }
        data
    }

    fn command(&self, data: &Path) -> Command {
        let words = Words::new(undercurrent()).and_all(["forget", "--session", &self.gone, "--erase", "--data"]);
        let mut command = words.and(data).command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// Rows of the sessions that stay.
fn others(history: &History, gone: &str) -> String {
    let of = |table: &str| {
        format!(
            "SELECT '{table}' AS name, count(*) AS rows, sum(hash(row)::HUGEINT)::VARCHAR AS hash FROM {table} row \
             WHERE session_id <> '{gone}' AND session_id IN (SELECT session_id FROM calls)"
        )
    };
    let sql = ["messages", "calls", "sessions"].map(of).join(" UNION ALL ");
    history.rows(&format!("{sql} ORDER BY 1")).iter().map(ToString::to_string).collect()
}

impl System for Erased {
    fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    fn kill(&mut self, fault: Fault) -> Ended {
        let mut command = self.command(&self.data());
        command.envs(fault.armed().map(|armed| ("FAILPOINTS", armed)));
        let mut process = Process::start("undercurrent forget", command);
        if let Fault::Random(moment) = fault {
            std::thread::sleep(std::time::Duration::from_millis(moment));
            process.kill();
            return Ended::AsTold;
        }
        ended(&mut process)
    }

    fn compare(&mut self) {
        let data = self.data();
        let mut process = Process::start("undercurrent forget", self.command(&data));
        assert!(process.wait().success(), "{}", process.stderr());
        let history = History::of_data(&data);
        assert_eq!(others(&history, &self.gone), self.others, "the others are where they were");
        for dir in ["log", "history"] {
            assert!(!holds(&data.join(dir), &self.gone), "{dir} has not a byte of it");
        }
        for table in ["messages", "calls", "sessions"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE session_id = '{}'", self.gone);
            assert_eq!(history.number(&sql), 0, "{table}");
        }
        verify(&data);
        fs::remove_dir_all(data).expect("remove the copy");
    }
}

/// Whether some file has the text.
fn holds(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).expect("listed").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        memchr::memmem::find(&fs::read(&path).expect("read"), text.as_bytes()).is_some()
    })
}
