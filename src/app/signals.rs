//! When a process is asked to stop.

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
