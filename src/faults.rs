//! Points at which a test ends the process, to see what it leaves behind, or makes a write fail.
//!
//! They are in debug builds alone. `FAILPOINTS="checkpoint-renamed=return"` ends the process when it comes there, as a
//! kill would: nothing is cleaned up; `5*off->return` at the sixth time, `1%return` with so much luck. A `return(error)`
//! makes the place fail instead, as a full disk would, where it can. `clock=return(-3600)` shifts the wall clock by so
//! many seconds.

/// A place, and the kind of life that comes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub name: &'static str,
    /// When that is, in words.
    pub when: &'static str,
    pub life: Life,
}

/// Who comes by a point. The chaos test leads each of these lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// `serve` with its own log.
    Serve,
    /// `serve` with its log on Kafka.
    Kafka,
    /// `forget --erase`.
    Erase,
}

/// Every point there is; the chaos test walks this list.
pub const POINTS: &[Point] = &[
    serve("log-begun", "a tick is made, none of it written"),
    serve("log-committed", "a tick is bound and durable, before anyone knows"),
    serve("checkpoint-begun", "before the first byte of a checkpoint"),
    serve("checkpoint-half", "with a part of a checkpoint written"),
    serve("checkpoint-renamed", "a checkpoint has its name, the manifest does not have it"),
    serve("checkpoint-listed", "the manifest has it, older ones are still there"),
    serve("history-begun", "before the first file of a roll"),
    serve("history-half", "with some files of a roll written"),
    serve("history-written", "the files of a roll are written, the manifest does not have them"),
    serve("history-listed", "the manifest has them, nobody knows"),
    serve("snapshot-half", "a new snapshot is written, the old one is in its place"),
    serve("compaction-begun", "files are to be merged, none is read"),
    serve("compaction-written", "the merged file is in place, the manifest has the small ones"),
    serve("compaction-listed", "the manifest has the merged file, the small ones are still there"),
    serve("retention-begun", "before the log says where it begins now"),
    serve("retention-half", "it says so, nothing is removed"),
    serve("retention-done", "after the log was cut"),
    kafka("produce-half", "with some of the queued events handed to the producer"),
    kafka("spill-pushed", "events are in the spill, nobody knows"),
    kafka("bind-begun", "a tick is made, its binding not written"),
    kafka("bind-half", "a binding is sent, its transaction open"),
    kafka("bind-done", "a binding is committed, its tick not handed out"),
    kafka("publish-half", "with a part of a whole model sent to the gateways"),
    kafka("publish-change", "before a change of the model is sent to the gateways"),
    erase("erase-begun", "a session is unlearned, nothing removed"),
    erase("erase-written", "a file without its rows is in place, the manifest has the old one"),
    erase("erase-listed", "the manifest has the new file, the old one is still there"),
    erase("erase-history", "history is rewritten, older checkpoints and the log are still there"),
    erase("erase-checkpoints", "older checkpoints are gone, the log is still there"),
    erase("erase-log", "the log is cut"),
];

const fn serve(name: &'static str, when: &'static str) -> Point {
    Point { name, when, life: Life::Serve }
}

const fn kafka(name: &'static str, when: &'static str) -> Point {
    Point { name, when, life: Life::Kafka }
}

const fn erase(name: &'static str, when: &'static str) -> Point {
    Point { name, when, life: Life::Erase }
}

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
        debug_assert!(POINTS.iter().any(|known| known.name == name), "`{name}` is not in the list of points");
        fail::fail_point!(name, |told| match told.as_deref() {
            Some("error") => Err(std::io::ErrorKind::StorageFull.into()),
            _ => std::process::abort(),
        });
    }
    let _ = name;
    Ok(())
}

/// Comes by a point at which nothing can fail any more.
pub fn passed(name: &'static str) {
    let told = point(name);
    debug_assert!(told.is_ok(), "nothing can fail at `{name}`");
}

/// Seconds by which the wall clock is wrong.
#[must_use]
pub fn clock_shift_s() -> i64 {
    #[cfg(debug_assertions)]
    {
        fail::fail_point!("clock", |told| told.and_then(|seconds| seconds.parse().ok()).unwrap_or(0));
    }
    0
}
