//! Threads that run when the relay leaves them time: learning may be seconds behind, a relayed message may not.

/// Gives way to every thread that does not.
pub(crate) fn yield_to_the_relay() {
    // Elsewhere a priority belongs to the process, not to the thread.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

/// The largest on Linux: a sixty-eighth of a thread of the usual priority, and all that nobody else wants.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;
