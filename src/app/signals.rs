//! When a process is asked to stop, or to read its settings again.

use std::io;

/// Waits for Ctrl-C or, on Unix, SIGTERM.
#[cfg(unix)]
pub(super) async fn asked_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(super) async fn asked_to_stop() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Each SIGHUP, as far as there are any.
pub(super) struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

/// Without such a signal, here or on this system, nobody ever asks.
pub(super) fn hangups() -> Hangups {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "listen for SIGHUP"));
        Hangups { signals: signals.ok() }
    }
    #[cfg(not(unix))]
    Hangups {}
}

impl Hangups {
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
