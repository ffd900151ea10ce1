//! A running background child: lines in, lines out, its standard error in the log.
//!
//! Not here: what the lines mean. Invariant: writing never waits for reading (each has its own task or caller), so a
//! child that talks while it is talked to cannot block itself; when both halves are dropped, the child is stopped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use super::StdioCommand;
use super::lines::{LineReader, Piece, content};
use super::process::{self, Standing};

/// Messages that wait for the child to read them; senders wait when it is full.
const QUEUE: usize = 64;
/// What is logged of one line of standard error.
const STDERR_BYTES_MAX: usize = 4 << 10;

/// The way to the child; the child's input is closed once the last clone is gone.
#[derive(Clone, Debug)]
pub(crate) struct LinkSender(mpsc::Sender<Bytes>);

/// The way back; dropping it lets the child be stopped.
#[derive(Debug)]
pub(crate) struct LinkReceiver {
    lines: LineReader<ChildStdout>,
    /// Closed when this is dropped: nobody listens any more.
    _listening: mpsc::Sender<()>,
}

/// One line of the child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its line end.
    Message(Bytes),
    /// It was above the bound and is lost.
    TooLong,
}

/// The child takes no more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write to the child")]
pub(crate) struct LinkClosed;

/// Starts the children of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    pub(crate) name: Arc<str>,
    pub(crate) command: StdioCommand,
    pub(crate) line_bytes_max: usize,
    /// What a child gets to leave by itself, and again after SIGTERM.
    pub(crate) patience: Duration,
    /// Held by every child until it has ended: whoever has the other end can wait for all of them.
    #[expect(dead_code, reason = "held, not used")]
    pub(crate) alive: mpsc::Sender<()>,
}

impl Launcher {
    pub(crate) fn start(&self) -> io::Result<(LinkSender, LinkReceiver)> {
        let mut child = process::start(&self.command, Standing::Background)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            unreachable!("all three were asked for as pipes")
        };
        tracing::info!(upstream = %self.name, pid = child.id(), "child started");
        let (messages, queue) = mpsc::channel(QUEUE);
        let (listening, unheard) = mpsc::channel(1);
        tokio::spawn(run(self.clone(), child, stdin, queue, unheard));
        tokio::spawn(log(Arc::clone(&self.name), stderr));
        let lines = LineReader::new(stdout, self.line_bytes_max);
        Ok((LinkSender(messages), LinkReceiver { lines, _listening: listening }))
    }
}

impl LinkSender {
    /// Queues one message. Line breaks in JSON text stand only between tokens, so they may become spaces.
    pub(crate) async fn send(&self, message: &[u8]) -> Result<(), LinkClosed> {
        self.0.send(framed(message)).await.map_err(|_| LinkClosed)
    }

    /// The same for those who cannot wait; a full queue counts as closed.
    pub(crate) fn try_send(&self, message: &[u8]) -> Result<(), LinkClosed> {
        self.0.try_send(framed(message)).map_err(|_| LinkClosed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl LinkReceiver {
    /// The next line that is not blank; `None` once the child has closed its output. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        loop {
            match self.lines.next().await {
                Ok(Some(Piece::Line(line))) if content(&line).is_empty() => {}
                Ok(Some(Piece::Line(line))) => return Some(Line::Message(line.slice_ref(content(&line)))),
                Ok(Some(Piece::Part { last: true, .. })) => return Some(Line::TooLong),
                Ok(Some(Piece::Part { last: false, .. })) => {}
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(%error, "read from a child");
                    return None;
                }
            }
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(message.len() + 1);
    line.extend(content(message).iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    line.push(b'\n');
    line.into()
}

/// Writes until all senders or the listener are gone or the child is; then ends the child.
async fn run(
    launcher: Launcher,
    mut child: Child,
    mut stdin: ChildStdin,
    mut queue: mpsc::Receiver<Bytes>,
    mut unheard: mpsc::Receiver<()>,
) {
    let name = &*launcher.name;
    let write = async {
        while let Some(line) = queue.recv().await {
            if let Err(error) = stdin.write_all(&line).await {
                tracing::debug!(%error, "write to a child");
                return;
            }
        }
    };
    tokio::select! {
        () = write => {}
        _ = unheard.recv() => {}
        _ = child.wait() => {}
    }
    drop((stdin, queue));
    match process::stop(&mut child, Standing::Background, launcher.patience).await {
        Ok(status) => tracing::info!(upstream = name, %status, "child ended"),
        Err(error) => tracing::warn!(upstream = name, %error, "wait for a child"),
    }
}

async fn log(name: Arc<str>, stderr: impl AsyncRead + Unpin) {
    let mut lines = LineReader::new(stderr, STDERR_BYTES_MAX);
    let mut within_long = false;
    while let Ok(Some(piece)) = lines.next().await {
        let (bytes, first) = match piece {
            Piece::Line(bytes) => (bytes, true),
            Piece::Part { bytes, last } => (bytes, !std::mem::replace(&mut within_long, !last)),
        };
        // Of a long line the rest is read, so that the child is not blocked, but not kept.
        if first {
            tracing::debug!(upstream = %name, stderr = %String::from_utf8_lossy(content(&bytes)));
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (LinkSender, LinkReceiver) {
        let command =
            StdioCommand { program: "sh".into(), args: vec!["-c".into(), script.into()], ..StdioCommand::default() };
        let (alive, _) = mpsc::channel(1);
        let patience = Duration::from_millis(50);
        Launcher { name: "test".into(), command, line_bytes_max: 64, patience, alive }.start().unwrap()
    }

    fn message(text: &'static str) -> Option<Line> {
        Some(Line::Message(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn one_message_is_one_line() {
        let (sender, mut receiver) = shell("cat");
        sender.send(b"{\"a\":\r\n 1}\n").await.unwrap();
        assert_eq!(receiver.next().await, message("{\"a\":   1}"));
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn a_long_line_is_lost_and_the_next_is_not() {
        let (_sender, mut receiver) = shell("printf '%0100d\\n\\n2\\n' 1");
        assert_eq!(receiver.next().await, Some(Line::TooLong));
        assert_eq!(receiver.next().await, message("2"));
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn a_child_that_ignores_everything_is_killed() {
        let (sender, mut receiver) = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
        assert_eq!(receiver.next().await, message("ready"));
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn a_dead_child_takes_no_input() {
        let (sender, mut receiver) = shell("exit 3");
        assert_eq!(receiver.next().await, None);
        while sender.send(b"{}").await.is_ok() {}
        assert!(sender.is_closed());
    }
}
