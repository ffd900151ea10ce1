//! Points at which a test ends the process, to see what it leaves behind.
//!
//! They are in debug builds alone. `FAILPOINTS="checkpoint-renamed=return"` ends the process when it comes there, as a
//! kill would: nothing is cleaned up; `5*off->return` at the sixth time, `1%return` with so much luck. A `return` of
//! `error` makes the place fail instead, as a full disk would, where it can.

/// Every point there is, in words; the chaos test walks this list.
pub const POINTS: &[(&str, &str)] = &[
    ("log-committed", "after a tick is durable, before anyone knows"),
    ("checkpoint-begun", "before the first byte of a checkpoint"),
    ("checkpoint-half", "with a part of a checkpoint written"),
    ("checkpoint-renamed", "after a checkpoint has its name, before the manifest has it"),
    ("checkpoint-listed", "after the manifest has it, before older ones are removed"),
    ("history-begun", "before the first file of a roll"),
    ("history-half", "with some files of a roll written"),
    ("history-written", "after the files of a roll, before the manifest has it"),
    ("retention-begun", "before the log says where it begins now"),
    ("retention-half", "after it says so, before anything is removed"),
    ("retention-done", "after the log was cut"),
];

/// Arms what `FAILPOINTS` says; keep the result for as long as they are to hold.
#[cfg(debug_assertions)]
#[must_use]
pub fn armed() -> impl Drop {
    fail::FailScenario::setup()
}

/// Nothing to arm: the points are in debug builds alone.
#[cfg(not(debug_assertions))]
pub fn armed() {}

/// Comes by a point. `Err` where it is told to fail.
pub fn point(name: &'static str) -> std::io::Result<()> {
    #[cfg(debug_assertions)]
    {
        debug_assert!(POINTS.iter().any(|(known, _)| *known == name), "`{name}` is not in the list of points");
        fail::fail_point!(name, |told| match told.as_deref() {
            Some("error") => Err(std::io::ErrorKind::StorageFull.into()),
            _ => std::process::abort(),
        });
    }
    let _ = name;
    Ok(())
}
