//! Signals that ask us to go are the child's to answer: they are passed on, and we leave when it does.

use std::io;

use tokio::process::Child;

#[cfg(unix)]
mod platform {
    use super::{Child, io};
    use crate::upstream::process::{self, Signal, Standing};
    use tokio::signal::unix::{self, SignalKind};

    /// SIGTERM, SIGHUP and SIGINT.
    #[derive(Debug)]
    pub(crate) struct Signals {
        terminate: unix::Signal,
        hangup: unix::Signal,
        interrupt: unix::Signal,
    }

    impl Signals {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                terminate: unix::signal(SignalKind::terminate())?,
                hangup: unix::signal(SignalKind::hangup())?,
                interrupt: unix::signal(SignalKind::interrupt())?,
            })
        }

        pub(crate) async fn next(&mut self) -> Signal {
            tokio::select! {
                _ = self.terminate.recv() => Signal::Terminate,
                _ = self.hangup.recv() => Signal::Terminate,
                _ = self.interrupt.recv() => Signal::Interrupt,
            }
        }

        pub(crate) fn forward(&self, child: &Child, signal: Signal) {
            process::signal(child, Standing::Foreground, signal);
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use super::{Child, io};

    /// Ctrl-C, which the console gives to the child as well: we only must not die of it first.
    #[derive(Debug)]
    pub(crate) struct Signals(());

    impl Signals {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(()))
        }

        pub(crate) async fn next(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }

        pub(crate) fn forward(&self, _child: &Child, (): ()) {}
    }
}

pub(super) use platform::Signals;
