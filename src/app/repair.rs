//! `undercurrent state repair`: damaged files of the history are set aside and written again from the log.
//!
//! The rows of a file are what the engine gives for its ticks, from the newest checkpoint before them, or from the log's
//! beginning. Where neither reaches back, the rows are gone: that is said, and the file leaves the manifest, so that
//! readers of the others are not in its way.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use undercurrent_dataflows::graph::{GraphSettings, Start};
use undercurrent_dataflows::model::Publisher;
use undercurrent_schemas::ids::Tick;

use super::owner::graph;
use super::settings;
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::engine::Engine;
use crate::history::{DAMAGED, Damage, History, Rebuilding};
use crate::hub::{Claim, claim};
use crate::log::{LogReader, QuietLog as _};
use crate::pump::rows_of;

/// What there is to say, and whether nothing is lost.
pub(super) fn repair(data: &DataDir, config: &Config) -> anyhow::Result<(String, bool)> {
    anyhow::ensure!(
        config.log.kafka.is_none(),
        "the log is on Kafka: move {} away, and the next start writes the history again from the topics",
        data.history_dir().display()
    );
    let Claim::Owner(_lock) = claim(data.root())? else {
        anyhow::bail!("another process has {}: stop it first", data.root().display());
    };
    let mut history = History::open(&data.history_dir(), settings::history(config))?;
    let damaged = history.damage()?;
    if damaged.is_empty() {
        return Ok(("history: every file is what was written\n".to_owned(), true));
    }
    let log = LogReader::open(&data.log_dir())?;
    let checkpoints = Checkpoints::look(&data.checkpoints_dir())?;
    let settings = graph(config);
    let (mut said, mut whole) = (String::new(), true);
    for damage in &damaged {
        let rows = rows_again(damage, &checkpoints, &log, &settings, config.engine.workers)?;
        let rebuilt = rows.map_or(Ok(false), |rows| history.replace_damaged(damage, rows))?;
        if rebuilt {
            writeln!(said, "history: {} is written again, {} rows", damage.path(), damage.rows())?;
            continue;
        }
        history.drop_damaged(damage)?;
        whole = false;
        let (first, last) = damage.ticks;
        writeln!(said, "history: {} is lost, {} rows of ticks {first} to {last}", damage.path(), damage.rows())?;
    }
    writeln!(said, "what was there of them is in {}", data.history_dir().join(DAMAGED).display())?;
    if !whole {
        writeln!(
            said,
            "the log, or a checkpoint before them, does not reach back to what is lost: restore it from a backup"
        )?;
    }
    Ok((said, whole))
}

/// The rows of a file's ticks; `None` = the log does not have them, or nothing to begin with.
fn rows_again(
    damage: &Damage,
    checkpoints: &Checkpoints,
    log: &LogReader,
    settings: &GraphSettings,
    workers: usize,
) -> anyhow::Result<Option<Rebuilding>> {
    let (first, last) = damage.ticks;
    let before = checkpoints.entries().iter().rev().filter(|entry| entry.tick < first);
    let has = |tick: Tick| log.ends_at(tick).is_ok_and(|ends| ends.is_some());
    let image = before.filter(|entry| has(entry.tick)).find_map(|entry| checkpoints.read(entry).ok());
    if image.is_none() && log.floor()?.is_some() {
        return Ok(None);
    }
    let starts = image.as_ref().map_or_else(|| Ok(Vec::new()), |image| Start::deal(image, settings, workers))?;
    let rows = Arc::new(Mutex::new(Rebuilding::of(damage)));
    let (publisher, slot) = Publisher::new();
    let taking = Arc::clone(&rows);
    let engine = Engine::start(workers, settings.clone(), slot, publisher, starts, move |tick, output, _| {
        if (first..=last).contains(&output.tick) {
            taking.lock().unwrap_or_else(PoisonError::into_inner).add(rows_of(&tick, output));
        }
    })?;
    let mut tail = log.tail(image.map(|image| image.tick));
    while let Some(tick) = tail.next(Duration::ZERO)?.filter(|tick| tick.tick <= last) {
        engine.feed(&tick)?;
    }
    engine.stop()?;
    let rows = Arc::into_inner(rows).context("the engine holds on to rows")?;
    Ok(Some(rows.into_inner().unwrap_or_else(PoisonError::into_inner)))
}
