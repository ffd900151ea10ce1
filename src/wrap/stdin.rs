//! Standard input as a stream whose pending read never holds up the end of the process.
//!
//! tokio's own stdin reads on a blocking thread that the runtime waits for at shutdown: after the child has exited, we
//! would stay until the client typed one more line. A plain thread just ends with the process.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// Chunks that wait to be taken; the thread waits when it is full.
const QUEUE: usize = 4;
const CHUNK_BYTES: usize = 64 << 10;

/// Standard input; use it once.
#[derive(Debug)]
pub(super) struct Stdin {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// Starts reading.
pub(super) fn stdin() -> Stdin {
    let (sender, chunks) = mpsc::channel(QUEUE);
    let read = move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut stdin = io::stdin().lock();
        loop {
            let chunk = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(Bytes::copy_from_slice(&buffer[..read])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("stdin".to_owned()).spawn(read) {
        // The sender is gone with the closure, so the stream is simply at its end.
        tracing::error!(%error, "start the thread that reads standard input");
    }
    Stdin { chunks, rest: Bytes::new() }
}

impl AsyncRead for Stdin {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.chunks.poll_recv(cx)) {
                Some(chunk) => self.rest = chunk?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..take]);
        self.rest.advance(take);
        Poll::Ready(Ok(()))
    }
}
