//! A child process that ends with its owner, and what it said on standard error.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::wait::wait_for;

/// A running command. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a command; its standard error is kept. Standard input and output are as the command says.
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({command:?}): {error}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let reader = child.stderr.take().map(|pipe| {
            let kept = Arc::clone(&stderr);
            thread::spawn(move || keep_lines(pipe, &kept))
        });
        Self { name: name.to_owned(), child, stderr, reader }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is piped and taken once")
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("standard output is piped and taken once")
    }

    /// What it has said on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("no reader panics").clone()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Kills it as a power cut would: no handler runs.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, as a service manager does, and waits until it has.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "send SIG{name} to {}", self.name);
    }

    /// Waits until it ends; all of its standard error is then kept.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let (child, name) = (&mut self.child, &self.name);
        let status = wait_for(&format!("{name} ends"), || child.try_wait().expect("a child can be asked"));
        if let Some(reader) = self.reader.take() {
            // A grandchild may hold the pipe open; what was said is kept either way.
            wait_for(&format!("{name} closes its standard error"), || reader.is_finished().then_some(()));
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let stderr = self.stderr.lock().map(|said| said.clone()).unwrap_or_default();
            let tail: Vec<&str> = stderr.lines().rev().take(40).collect();
            let said: Vec<&str> = tail.into_iter().rev().collect();
            // Captured by the test harness, and shown only with the failure that it explains.
            eprintln!("--- standard error of {}:\n{}", self.name, said.join("\n"));
        }
    }
}

fn keep_lines(pipe: impl Read, kept: &Mutex<String>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if let Ok(mut kept) = kept.lock() {
            kept.push_str(&String::from_utf8_lossy(&line));
        }
        line.clear();
    }
}
