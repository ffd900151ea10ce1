//! Where a start goes on: the newest checkpoint that is whole, else an older one, else the log from its beginning.
//!
//! A checkpoint is of use if the log still has its tick and history has all rows up to it: whatever comes later is
//! learned again from the log, and written again where it is missing.

use undercurrent_dataflows::graph::{GraphSettings, Start};
use undercurrent_schemas::ids::{Micros, Offset, Tick};

use crate::checkpoint::{CheckpointError, Checkpoints, Entry};
use crate::engine::{Resume, Workers};
use crate::log::{Continues, OwnerLog};

/// What a checkpoint brings back.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) tick: Tick,
    pub(super) watermark: Micros,
    /// Where each partition ended with it.
    pub(super) ends: Vec<Offset>,
    pub(super) from: Resume,
}

/// `None` = the whole log is to be read.
pub(super) fn resume(
    checkpoints: &mut Checkpoints,
    log: &dyn OwnerLog,
    covered: Option<Tick>,
    settings: &GraphSettings,
    workers: &Workers,
) -> anyhow::Result<Option<Resumed>> {
    let entries = checkpoints.entries().to_vec();
    let begins = entries.is_empty();
    let (usable, ahead): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| Some(entry.tick) <= covered);
    let mut damaged = Vec::new();
    for entry in usable.into_iter().rev() {
        match one(checkpoints, &entry, log, settings, workers) {
            Ok(resumed) => {
                // One that cannot be read is no reserve: the log must not be cut as if it were.
                checkpoints.set_aside(&damaged)?;
                return Ok(Some(resumed));
            }
            Err(error) => {
                tracing::warn!(tick = %entry.tick, error = %format!("{error:#}"), "a checkpoint is of no use; trying an older one");
                if error.downcast_ref::<CheckpointError>().is_some_and(CheckpointError::is_lasting) {
                    damaged.push(entry.tick);
                }
            }
        }
    }
    let Some(floor) = log.floor()? else {
        checkpoints.set_aside(&damaged)?;
        return Ok(None);
    };
    if begins && log.is_shared() {
        return Ok(None);
    }
    // The log alone does not do any more. History that was taken away cannot come back, but what was learned can.
    for entry in ahead {
        if let Ok(resumed) = one(checkpoints, &entry, log, settings, workers) {
            tracing::warn!(
                from = %floor, to = %resumed.tick,
                "the history does not reach the oldest checkpoint: rows of these ticks are missing in it for good"
            );
            return Ok(Some(resumed));
        }
    }
    anyhow::bail!(
        "the log begins at tick {floor}, and no checkpoint in state/checkpoints from there on can be read by this program: \
         start the version of undercurrent once more that wrote them, restore state/ from a backup, or move the data \
         directory away to start anew (what was learned is lost then)"
    )
}

fn one(
    checkpoints: &Checkpoints,
    entry: &Entry,
    log: &dyn OwnerLog,
    settings: &GraphSettings,
    workers: &Workers,
) -> anyhow::Result<Resumed> {
    let ends = match log.after(entry.tick)? {
        Continues::At(ends) => ends,
        Continues::No => anyhow::bail!("the log does not have its tick, or not all that came after it"),
        // Whoever reads the log once it answers finds out.
        Continues::Unknown => Vec::new(),
    };
    let image = checkpoints.read(entry)?;
    let starts = Start::deal(&image, settings, workers.count())?;
    let (tick, watermark) = (image.tick, image.watermark);
    let from = if workers.cluster.is_some() { Resume::Among(Box::new(image)) } else { Resume::Dealt(starts) };
    Ok(Resumed { tick, watermark, ends, from })
}
