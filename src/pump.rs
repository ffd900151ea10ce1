//! From the engine to the history: a tick's records and what they gave, as the rows to write.

use undercurrent_dataflows::graph::TickOutput;
use undercurrent_schemas::log::CommittedTick;

use crate::history::{TickRows, messages_of};

/// The rows of one tick. Records that are no events are left out here; the engine has counted them.
#[must_use]
pub fn rows_of(tick: &CommittedTick, output: TickOutput) -> TickRows {
    let (messages, _corrupt) = messages_of(tick);
    let TickOutput { tick, watermark, calls, sessions, features, models, .. } = output;
    TickRows { tick, watermark, messages, calls, sessions, features, models }
}
