//! From the engine to the history: a tick's records and what they gave, as the rows to write.
//!
//! Invariant: an event has one row in `messages`, however often its record is in the log.

use std::collections::BTreeSet;

use undercurrent_dataflows::graph::TickOutput;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::MessageRow;

use crate::history::{TickRows, messages_of};

/// The rows of one tick. Records that are no events are left out; the engine has counted them. What it has read is not
/// read once more.
#[must_use]
pub fn rows_of(committed: &CommittedTick, output: TickOutput) -> TickRows {
    let TickOutput {
        tick,
        watermark,
        messages,
        repeats,
        calls,
        sessions,
        features,
        models,
        labels,
        tools,
        alerts,
        clusters,
        forecasts,
        telemetry,
        dead_letters,
        ..
    } = output;
    let messages = messages.unwrap_or_else(|| once(committed, &repeats));
    // The end of a replay is the end of all time, which has no date: it is filed by its tick, which recorded time gave.
    let watermark = if watermark == Micros(i64::MAX) { replayed_time(tick) } else { watermark };
    TickRows {
        tick,
        watermark,
        messages,
        calls,
        sessions,
        features,
        models,
        labels,
        tools,
        alerts,
        clusters,
        forecasts,
        telemetry,
        dead_letters,
    }
}

/// The events of a tick without its repeats.
fn once(committed: &CommittedTick, repeats: &[(Partition, Offset)]) -> Vec<MessageRow> {
    let (mut messages, _corrupt) = messages_of(committed);
    if !repeats.is_empty() {
        let repeats: BTreeSet<_> = repeats.iter().copied().collect();
        messages.retain(|row| !repeats.contains(&(row.partition, row.offset)));
    }
    messages
}

/// Length of a tick of recorded time.
pub const REPLAY_TICK_US: i64 = 50_000;

/// When a tick of a replay began, in recorded time.
fn replayed_time(tick: Tick) -> Micros {
    Micros(i64::try_from(tick.0).unwrap_or(i64::MAX).saturating_mul(REPLAY_TICK_US))
}
