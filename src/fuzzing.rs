//! The targets of the fuzzer: for any bytes each of them ends, without a panic.
//!
//! `fuzz/` (cargo-fuzz, nightly) runs each for as long as one likes; `tests` runs the same over the kept corpus and over
//! inputs made of it, in every `cargo test`. Not in any build but those two. The questions that are the gateway's own
//! are in `gateway::fuzzing`.

#[cfg(test)]
mod tests;

use undercurrent_dataflows::facts::{DigestKey, Limits, SessionFacts};
use undercurrent_schemas::v1::Direction;

use crate::config::Config;
use crate::gateway::fuzzing;

pub type Target = fn(&[u8]);

/// By the names of their directories in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 7] = [
    ("config", config),
    ("envelope", fuzzing::envelope),
    ("facts", facts),
    ("headers", fuzzing::headers),
    ("sse", fuzzing::sse),
    ("strict_request", fuzzing::strict_request),
    ("strict_response", fuzzing::strict_response),
];

/// Runs one.
///
/// # Panics
/// When there is none of that name, and when it finds something.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of the table");
    run(bytes);
}

/// Settings are refused with a sentence, or they are settings.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A policy file is another file, of whatever name.
    if text.contains("file") {
        return;
    }
    if let Err(error) = Config::of_text(text) {
        assert!(!error.to_string().is_empty());
    }
}

/// A session of messages, one a line, from both sides in turn: facts depend on the messages alone, and what a session
/// holds has a bound.
fn facts(bytes: &[u8]) {
    const HELD_BYTES_MAX: usize = 64 << 10;
    let limits = Limits { index_values_max: 256, open_requests_max: 16, ..Limits::default() };
    let session = || {
        let mut session = SessionFacts::new(limits);
        let mut all = Vec::new();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let direction = if at % 2 == 0 { Direction::ClientToServer } else { Direction::ServerToClient };
            let messages = session.observe(direction, line, &DigestKey::REPLAY);
            assert!(!messages.is_empty() || line.trim_ascii_start().starts_with(b"["), "a message without facts");
            all.extend(messages);
        }
        (all, session.held_bytes())
    };
    let (once, held) = session();
    assert!(held <= HELD_BYTES_MAX, "{held} bytes are held");
    assert_eq!(once, session().0, "the same messages, other facts");
}
