//! A child process that speaks MCP: how it is started, told to leave, and made to.
//!
//! Invariant: a child never outlives its owner; the orderly end is end of input, a pause, SIGTERM, a pause, SIGKILL.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::StdioCommand;

/// Whose signals a child gets, and who sees its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It takes the place of this process: same terminal signals, same standard error.
    Foreground,
    /// It serves in the background: a process group of its own, its standard error is read.
    Background,
}

/// Starts the program with its input and output piped.
pub(crate) fn start(command: &StdioCommand, standing: Standing) -> io::Result<Child> {
    let mut process = Command::new(&command.program);
    process
        .args(&command.args)
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if let Some(directory) = &command.directory {
        process.current_dir(directory);
    }
    match standing {
        Standing::Foreground => process.stderr(Stdio::inherit()),
        Standing::Background => process.stderr(Stdio::piped()),
    };
    #[cfg(unix)]
    if standing == Standing::Background {
        process.process_group(0);
    }
    process.spawn()
}

/// Waits for a child whose input was closed; makes it leave if it does not do so in time.
pub(crate) async fn stop(child: &mut Child, standing: Standing, patience: Duration) -> io::Result<ExitStatus> {
    if let Ok(status) = tokio::time::timeout(patience, child.wait()).await {
        return status;
    }
    terminate(child, standing);
    #[cfg(unix)]
    if let Ok(status) = tokio::time::timeout(patience, child.wait()).await {
        return status;
    }
    kill(child, standing);
    child.wait().await
}

/// What `stop` and forwarded signals send.
#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Kill,
}

#[cfg(unix)]
pub(crate) fn signal(child: &Child, standing: Standing, signal: Signal) {
    use rustix::process::{Pid, Signal as Unix, kill_process, kill_process_group};

    let signal = match signal {
        Signal::Interrupt => Unix::INT,
        Signal::Terminate => Unix::TERM,
        Signal::Kill => Unix::KILL,
    };
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // A child that was waited for has no id, and its number may be another's by now.
    let Some(pid) = pid else { return };
    let sent = match standing {
        Standing::Foreground => kill_process(pid, signal),
        Standing::Background => kill_process_group(pid, signal),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, ?signal, "signal a child");
    }
}

#[cfg(unix)]
fn terminate(child: &Child, standing: Standing) {
    signal(child, standing, Signal::Terminate);
}

#[cfg(unix)]
fn kill(child: &mut Child, standing: Standing) {
    signal(child, standing, Signal::Kill);
}

/// Elsewhere there is nothing between asking by end of input and ending it.
#[cfg(not(unix))]
fn terminate(_child: &Child, _standing: Standing) {}

#[cfg(not(unix))]
fn kill(child: &mut Child, _standing: Standing) {
    if let Err(error) = child.start_kill() {
        tracing::debug!(%error, "end a child");
    }
}
