//! What the population knows and the gateway does not: what each session was, one JSON line per session.
//!
//! Judging happens afterwards, from the history: `principal` is the loopback address that this one session called from.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What a session really was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// Did its own work and met nothing.
    Benign,
    /// Read an injected order and went on with its own work.
    Refused,
    /// Read an injected order and carried it out.
    Hijacked,
    /// Made the same calls over and over.
    Loop,
}

impl Truth {
    pub const ALL: [Self; 4] = [Self::Benign, Self::Refused, Self::Hijacked, Self::Loop];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Benign => "benign",
            Self::Refused => "refused",
            Self::Hijacked => "hijacked",
            Self::Loop => "loop",
        }
    }

    /// Whether a flag on it is a hit.
    #[must_use]
    pub const fn is_attack(self) -> bool {
        match self {
            Self::Benign | Self::Refused => false,
            Self::Hijacked | Self::Loop => true,
        }
    }
}

/// One session that was driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTruth {
    /// Its place in the plan.
    pub number: usize,
    pub agent: String,
    pub habit: String,
    /// The protocol version that was spoken.
    pub protocol_version: String,
    pub truth: Truth,
    /// The client's address, where sessions have their own; empty = every session came from the same one.
    pub principal: String,
    pub started_at_us: i64,
    pub ended_at_us: i64,
    pub calls: usize,
    /// Index among its calls of the first one that an attacker or a loop caused.
    pub first_bad_call: Option<usize>,
    /// Why it broke off, if it did.
    pub failure: Option<String>,
}

pub fn write(path: &Path, rows: &[SessionTruth]) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for row in rows {
        serde_json::to_writer(&mut out, row)?;
        out.write_all(b"\n")?;
    }
    out.flush().with_context(|| format!("write {}", path.display()))
}

pub fn read(path: &Path) -> anyhow::Result<Vec<SessionTruth>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let rows = BufReader::new(file).lines().enumerate().map(|(line, text)| {
        serde_json::from_str(&text?).with_context(|| format!("parse line {} of {}", line + 1, path.display()))
    });
    rows.collect()
}
