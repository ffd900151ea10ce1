//! Deadlines that are moved with every exchange, or every sign of life, and hardly ever come: moving one touches no timer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::config::Timeouts;

#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    /// Wakes at `at` or before; then it is set anew.
    timer: Pin<Box<Sleep>>,
}

/// How long a call may go on: a silence at a time, which every sign of life ends, and in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) silence: Duration,
    end: Instant,
}

impl Patience {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        Self { silence: timeouts.response, end: Instant::now() + timeouts.call }
    }

    /// How long the next silence may be.
    pub(crate) fn next(&self) -> Duration {
        self.silence.min(self.end.saturating_duration_since(Instant::now()))
    }
}

impl Deadline {
    pub(crate) fn new(after: Duration) -> Self {
        let at = Instant::now() + after;
        Self { at, timer: Box::pin(sleep_until(at)) }
    }

    pub(crate) fn set(&mut self, after: Duration) {
        self.at = Instant::now() + after;
        if self.at < self.timer.deadline() {
            self.timer.as_mut().reset(self.at);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.at <= Instant::now()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.is_over() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn it_comes_when_it_was_set_last() {
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(600));
        let started = Instant::now();
        let mut deadline = Deadline::new(Duration::ZERO);
        deadline.set(short);
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(started.elapsed() >= short, "later than it was");
        deadline.set(long);
        deadline.set(short);
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(started.elapsed() < long, "earlier than it was");
    }
}
