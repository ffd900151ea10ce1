//! How the event streams of stdio upstreams can be taken up again, as it is set.

use std::time::Duration;

use super::error::ConfigError;
use super::raw::RawConfig;
use super::resolve::{Check, GIB, millis, number};

/// What a session behind a stdio upstream keeps of its streams, and for how long one stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stdio {
    /// A call's stream is closed after this long, for its client to come back; `None`: not before its answer.
    pub stream_max: Option<Duration>,
    /// When a client that lost its stream may come back.
    pub retry: Duration,
    /// Events of one session that can be had again.
    pub kept_events_max: usize,
    /// Bytes of those events.
    pub kept_bytes_max: usize,
}

impl Default for Stdio {
    fn default() -> Self {
        Self { stream_max: None, retry: Duration::from_secs(1), kept_events_max: 256, kept_bytes_max: 1 << 20 }
    }
}

pub(super) fn resolve(check: &Check<'_>, raw: &RawConfig) -> Result<Stdio, ConfigError> {
    let stream_max_ms = number!(check, raw.stdio.stream_max_ms, 0..=86_400_000);
    Ok(Stdio {
        stream_max: (stream_max_ms > 0).then(|| millis(stream_max_ms)),
        retry: millis(number!(check, raw.stdio.retry_ms, 1..=600_000)),
        kept_events_max: number!(check, raw.stdio.kept_events_max, 1..=1_000_000),
        kept_bytes_max: number!(check, raw.stdio.kept_bytes_max, 1024..=GIB),
    })
}
