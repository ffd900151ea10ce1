//! `wrap`: stands between a client and one stdio server, one to one, and changes nothing.
//!
//! Every line passes byte for byte; standard error is the child's own; its exit code becomes ours; nothing else is ever
//! written to standard output, except the error that answers a message which the edge blocks. Not here: HTTP, several
//! clients. Neighbours: the edge, told of each line; `upstream::process`, which ends the child.

mod signals;
mod stdin;

use std::io;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;

use crate::edge::{BlockReason, Edge, EdgeSession, Outcome, SessionKey, SessionRef, Transport};
use crate::gateway::refusal_line;
use crate::upstream::StdioCommand;
use crate::upstream::lines::{LineReader, Piece, content};
use crate::upstream::process::{self, Standing};

/// Lines above this pass all the same, but are not read for facts.
const LINE_BYTES_MAX: usize = 32 << 20;
/// What the child gets to leave after its input has ended, and again after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is still read from a child that has exited: its children may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// As shells report a program that could not be started.
const NOT_STARTED: u8 = 127;

/// Runs the command until it exits or the client goes; the exit code is the command's.
pub async fn run(command: StdioCommand, edge: Edge, name: &str) -> ExitCode {
    let mut child = match process::start(&command, Standing::Foreground) {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(%error, program = command.program, "start the command");
            return ExitCode::from(NOT_STARTED);
        }
    };
    let session = match session(&edge, name) {
        Ok(session) => session,
        Err(error) => {
            tracing::error!(%error, "make a session id");
            return ExitCode::FAILURE;
        }
    };
    let status = relay(&mut child, stdin::stdin(), tokio::io::stdout(), &session).await;
    session.end();
    match status {
        Ok(status) => exit_code(status),
        Err(error) => {
            tracing::error!(%error, "wait for the command");
            ExitCode::FAILURE
        }
    }
}

fn session(edge: &Edge, name: &str) -> Result<Arc<EdgeSession>, getrandom::Error> {
    let id = u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?);
    Ok(edge.session(&SessionRef {
        server: name.into(),
        key: SessionKey::Id(format!("{id:032x}")),
        // Whoever starts us is the user whose process this is; there is no address to tell users apart by.
        principal: "local".into(),
        transport: Transport::Pipe,
    }))
}

async fn relay(
    child: &mut Child,
    client_in: impl AsyncRead + Unpin,
    client_out: impl AsyncWrite + Unpin,
    session: &EdgeSession,
) -> io::Result<ExitStatus> {
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        unreachable!("both were asked for as pipes")
    };
    let (refused, refusals) = mpsc::channel(16);
    let up = to_server(LineReader::new(client_in, LINE_BYTES_MAX), stdin, session, refused);
    let down = to_client(LineReader::new(stdout, LINE_BYTES_MAX), client_out, session, refusals);
    let exit = async {
        let mut signals = signals::Signals::new()?;
        let mut up = std::pin::pin!(up);
        loop {
            tokio::select! {
                status = child.wait() => return status,
                signal = signals.next() => signals.forward(child, signal),
                () = &mut up => break,
            }
        }
        // The client has gone, and the child's input is closed. Its last words are still relayed meanwhile.
        process::stop(child, Standing::Foreground, PATIENCE).await
    };
    let mut down = std::pin::pin!(down);
    let mut exit = std::pin::pin!(exit);
    let mut down_open = true;
    let status = loop {
        tokio::select! {
            status = &mut exit => break status?,
            () = &mut down, if down_open => down_open = false,
        }
    };
    if down_open {
        let _ = tokio::time::timeout(LAST_WORDS, down).await;
    }
    Ok(status)
}

/// Client to server, until either side ends; returning drops, and so closes, the child's input.
async fn to_server(
    mut lines: LineReader<impl AsyncRead + Unpin>,
    stdin: ChildStdin,
    session: &EdgeSession,
    refused: mpsc::Sender<Bytes>,
) {
    let mut stdin = Some(stdin);
    loop {
        let piece = match lines.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "read from the client");
                return;
            }
        };
        let (bytes, decided) = match piece {
            Piece::Part { .. } if session.is_judged() => {
                tracing::warn!("a part of a line is kept back: it is too long to be decided about");
                continue;
            }
            Piece::Part { bytes, .. } => (bytes, Ok(())),
            Piece::Line(line) if content(&line).is_empty() => (line, Ok(())),
            Piece::Line(line) => match session.client_message(content(&line)) {
                Outcome::Forward(permit) => {
                    drop(permit);
                    (line, Ok(()))
                }
                Outcome::Delay(pause, permit) => {
                    tokio::time::sleep(pause).await;
                    drop(permit);
                    (line, Ok(()))
                }
                Outcome::Hold(..) => (line, Err(nobody_to_ask())),
                Outcome::Block(reason) => (line, Err(reason)),
            },
        };
        if !carry_out(bytes, decided, &mut stdin, &refused).await {
            return;
        }
    }
}

/// People are asked on the admin listener, which a wrap does not have.
fn nobody_to_ask() -> BlockReason {
    let text = "this call has to be approved by a person, whom only `undercurrent serve` can ask".to_owned();
    BlockReason { code: "hold_unavailable", text }
}

/// Sends bytes on, or answers their message; `false` if the other direction has ended.
async fn carry_out(
    bytes: Bytes,
    decided: Result<(), BlockReason>,
    stdin: &mut Option<ChildStdin>,
    refused: &mpsc::Sender<Bytes>,
) -> bool {
    if let Err(reason) = decided {
        tracing::info!(reason = reason.code, "message blocked");
        return match refusal_line(reason, &bytes) {
            Some(answer) => refused.send(answer).await.is_ok(),
            None => true,
        };
    }
    if let Some(open) = stdin
        && let Err(error) = open.write_all(&bytes).await
    {
        // The child has closed its input. What it still says and its exit code are the answer; meanwhile the client is
        // read on, for its end is what makes the child leave.
        tracing::debug!(%error, "write to the command");
        *stdin = None;
    }
    true
}

/// Server to client, and our own refusals between its lines. The only writer of standard output.
async fn to_client(
    mut lines: LineReader<impl AsyncRead + Unpin>,
    mut out: impl AsyncWrite + Unpin,
    session: &EdgeSession,
    mut refusals: mpsc::Receiver<Bytes>,
) {
    let mut within_line = false;
    loop {
        let piece = tokio::select! {
            piece = lines.next() => piece,
            Some(refusal) = refusals.recv(), if !within_line => Ok(Some(Piece::Part { bytes: refusal, last: true })),
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "read from the command");
                return;
            }
        };
        let shown = match &piece {
            Piece::Line(line) => session.shown(content(line)).map(|shown| [&shown[..], b"\n"].concat()),
            // Too long to be looked at: where that has to be, it is not shown.
            Piece::Part { .. } if session.is_shown_less() => {
                tracing::warn!("a part of a line is kept back: it is too long to be looked at");
                Some(Vec::new())
            }
            Piece::Part { .. } => None,
        };
        let (Piece::Line(bytes) | Piece::Part { bytes, .. }) = &piece;
        let written = async {
            out.write_all(shown.as_deref().unwrap_or(bytes)).await?;
            out.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "write to the client");
            return;
        }
        match &piece {
            Piece::Line(line) if !content(line).is_empty() => drop(session.server_message(content(line))),
            Piece::Line(_) => {}
            Piece::Part { last, .. } => within_line = !last,
        }
    }
}

/// The command's own code; 128 + the signal that ended it, as shells report it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
        }
    }
    // Windows codes are 32 bits wide; what does not fit still must not look like success.
    status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
