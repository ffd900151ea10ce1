//! Threads that run when the relay leaves them time: learning may be seconds behind, a relayed message may not.

/// Starts something whose threads give way to all others: threads inherit it from the one that starts them.
pub(super) fn started<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            yield_to_the_relay();
            start()
        });
        starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn yield_to_the_relay() {
    // Elsewhere a priority belongs to the process, not to the thread.
    #[cfg(target_os = "linux")]
    if let Err(error) = idle() {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

/// `SCHED_IDLE` and not a niceness: a processor that runs such a thread counts as idle when another one wakes up, so
/// that the relay and its peers are not crowded together on the processors that are left.
#[cfg(target_os = "linux")]
fn idle() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

    #[test]
    fn threads_inherit_the_idle_class() {
        let policy = super::started(|| std::thread::spawn(thread_schedule_policy)).join().expect("no panic");
        assert_eq!(policy.ok(), Some(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle)));
    }
}
