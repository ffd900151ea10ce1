//! Processes that are one engine end together: timely cannot go on without one of them, and says so by a panic on a thread
//! of its own that nobody waits for.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::learn::STOPPED;

/// Ends this process with the first thread that panics, with success where it was `stopping` anyway. What it had not
/// written is written by the next start: everything is derived from the topics.
pub(super) fn end_together(stopping: &Arc<AtomicBool>) {
    let stopping = Arc::clone(stopping);
    std::panic::set_hook(Box::new(move |panic| {
        if stopping.load(Ordering::Acquire) {
            exit(0);
        }
        tracing::error!(%panic, "another process of this engine has gone, or a worker has died: this one ends too");
        exit(i32::from(STOPPED));
    }));
}
