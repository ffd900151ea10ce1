//! Work that waits until the bytes before it are on their way to the client.
//!
//! Reading a response for facts costs microseconds that the client need not wait for. hyper writes what a body gave it
//! when it flushes, so the connection's I/O is wrapped: once a flush has gone through, the work queued so far is done,
//! in order, on the connection's own task. Not here: what the work is. Invariant: everything queued is done exactly
//! once, at the latest when the connection ends; the queue is bounded by hyper's write buffer, which forces a flush.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

type Work = Box<dyn FnOnce() + Send>;

/// One connection's queue.
#[derive(Clone, Default)]
pub(crate) struct AfterWrite(Arc<Mutex<VecDeque<Work>>>);

impl AfterWrite {
    pub(crate) fn push(&self, work: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::new(work));
    }

    /// Does what is queued. The lock is not held meanwhile.
    pub(crate) fn run(&self) {
        loop {
            let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match work {
                Some(work) => work(),
                None => return,
            }
        }
    }
}

impl fmt::Debug for AfterWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterWrite")
    }
}

/// A connection's I/O that does the queued work after each flush.
#[derive(Debug)]
pub(crate) struct FlushedIo<I> {
    io: I,
    after_write: AfterWrite,
}

impl<I> FlushedIo<I> {
    pub(crate) const fn new(io: I, after_write: AfterWrite) -> Self {
        Self { io, after_write }
    }
}

impl<I> Drop for FlushedIo<I> {
    fn drop(&mut self) {
        self.after_write.run();
    }
}

impl<I: Read + Unpin> Read for FlushedIo<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for FlushedIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.after_write.run();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn work_waits_for_the_flush_and_is_never_lost() {
        let queue = AfterWrite::default();
        let mut io = FlushedIo::new(TokioIo::new(tokio::io::sink()), queue.clone());
        let done = Arc::new(AtomicUsize::new(0));
        let work = |by| {
            let done = Arc::clone(&done);
            move || assert_eq!(done.fetch_add(1, Ordering::SeqCst), by)
        };
        queue.push(work(0));
        queue.push(work(1));
        poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"x")).await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 0);
        poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 2);
        queue.push(work(2));
        drop(io);
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }
}
