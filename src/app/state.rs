//! `undercurrent state`: what the checkpoints are, and whether they are what the log says.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context as _;
use undercurrent_dataflows::graph::{GraphSettings, Start};
use undercurrent_dataflows::image::{Image, Kind};
use undercurrent_dataflows::model::Publisher;
use undercurrent_schemas::log::CommittedTick;

use super::owner::graph;
use super::settings;
use crate::checkpoint::{Checkpoints, Entry};
use crate::cli::{StateArgs, StateCommand};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::engine::Engine;
use crate::history::History;
use crate::hub::{Claim, claim};
use crate::log::{LogReader, QuietLog, TopicReader};
use crate::telemetry::Metrics;

/// How long the next tick of a log on other machines may take.
const WAIT: Duration = Duration::from_secs(20);

pub(super) fn state(args: &StateArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.sources())?;
    let data = DataDir::open(&config.data_dir)?;
    let (said, holds) = match args.command {
        StateCommand::Show => (show(&data)?, true),
        StateCommand::Verify => verify(&data, &config)?,
        StateCommand::Repair => super::repair::repair(&data, &config)?,
        StateCommand::RotateKey => (rotate_key(data)?, true),
    };
    #[expect(clippy::print_stdout, reason = "the outcome is what the command is asked for")]
    {
        print!("{said}");
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(data: &DataDir) -> anyhow::Result<String> {
    let checkpoints = Checkpoints::look(&data.checkpoints_dir())?;
    let mut said = String::new();
    for entry in checkpoints.entries() {
        write!(said, "tick {}: {} bytes, ", entry.tick, entry.bytes)?;
        match checkpoints.header(entry) {
            Ok(header) => {
                let of = |kind: Kind| header.sections.iter().filter(move |section| section.kind == kind as u8);
                let bytes = |kind| of(kind).map(|section| section.bytes).sum::<u64>();
                writeln!(
                    said,
                    "form {}, by undercurrent {}, {} partitions; unpacked: sessions {}, panes {}, published {}, model {}",
                    header.format,
                    header.program,
                    of(Kind::Partition).count(),
                    bytes(Kind::Partition),
                    bytes(Kind::Panes),
                    bytes(Kind::Published),
                    bytes(Kind::Model),
                )?;
            }
            Err(error) => writeln!(said, "{error}")?,
        }
    }
    if checkpoints.entries().is_empty() {
        writeln!(said, "no checkpoint: the next start reads the whole log")?;
    }
    Ok(said)
}

fn rotate_key(data: DataDir) -> anyhow::Result<String> {
    let Claim::Owner(_lock) = claim(data.root())? else {
        anyhow::bail!("another process has {}: stop it, since it would go on with the old key", data.root().display());
    };
    let old = data.digest_key().id;
    let data = data.rotate_digest_key()?;
    let path = data.root().join("digest.key");
    Ok(format!("new digests are of key {}; key {old} stays in {}\n", data.digest_key().id, path.display()))
}

/// What there is to say, and whether all is as it should be.
fn verify(data: &DataDir, config: &Config) -> anyhow::Result<(String, bool)> {
    let Claim::Owner(_lock) = claim(data.root())? else {
        anyhow::bail!("another process has {}: stop it, or verify a copy", data.root().display());
    };
    let checkpoints = Checkpoints::look(&data.checkpoints_dir())?;
    let log = quiet_log(data, config)?;
    let settings = graph(config);
    let mut said = String::new();
    let damaged = History::damaged(&data.history_dir())?;
    for path in &damaged {
        writeln!(said, "history: {path} is missing, or is not what was written")?;
    }
    let Some(newest) = checkpoints.entries().last() else {
        writeln!(said, "state: no checkpoint")?;
        return Ok((said, damaged.is_empty()));
    };
    let expected = checkpoints.read(newest)?;
    let oldest = checkpoints.entries().first().filter(|oldest| oldest.tick < newest.tick);
    // Of one checkpoint alone, only the whole log can tell.
    let from = match oldest {
        Some(oldest) => Some(checkpoints.read(oldest)?),
        None if log.floor()?.is_some() => {
            writeln!(said, "state: one checkpoint, and the log does not reach back: nothing to compare it with")?;
            return Ok((said, damaged.is_empty()));
        }
        None => None,
    };
    let began = from.as_ref().map_or_else(|| "the log's beginning".to_owned(), |image| format!("tick {}", image.tick));
    let computed = recompute(&*log, from.as_ref(), newest, &settings, config.engine.workers)?;
    let differing = differences(expected.canonical()?, computed.canonical()?);
    if differing.is_empty() {
        writeln!(said, "state: tick {} is what the log gives from {began}", newest.tick)?;
    } else {
        writeln!(
            said,
            "state: tick {} differs from what the log gives from {began}: {}",
            newest.tick,
            differing.join(", ")
        )?;
        writeln!(
            said,
            "settings that changed between the two are one reason; else remove state/checkpoints, if the log is whole"
        )?;
    }
    Ok((said, damaged.is_empty() && differing.is_empty()))
}

/// The log, wherever it is, which nobody learns from meanwhile.
pub(super) fn quiet_log(data: &DataDir, config: &Config) -> anyhow::Result<Box<dyn QuietLog>> {
    let Some(kafka) = &config.log.kafka else { return Ok(Box::new(LogReader::open(&data.log_dir())?)) };
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    Ok(Box::new(TopicReader::new(settings::kafka(config, kafka, &metrics))))
}

fn recompute(
    log: &dyn QuietLog,
    from: Option<&Image>,
    to: &Entry,
    settings: &GraphSettings,
    workers: usize,
) -> anyhow::Result<Image> {
    let starts = from.map_or_else(|| Ok(Vec::new()), |image| Start::deal(image, settings, workers))?;
    let (publisher, slot) = Publisher::new();
    let engine = Engine::start(workers, settings.clone(), slot, publisher, starts, |_, _, _| {})?;
    let mut ticks = log.ticks(from.map(|image| image.tick));
    let mut last: Option<Arc<CommittedTick>> = None;
    while last.as_ref().is_none_or(|last| last.tick < to.tick) {
        let tick = ticks.next(WAIT)?;
        let tick = tick.with_context(|| format!("the log ends before tick {}", to.tick))?;
        engine.feed(&tick)?;
        last = Some(tick);
    }
    let last = last.filter(|last| last.tick == to.tick);
    let last = last.with_context(|| format!("the log has no tick {}", to.tick))?;
    let (images, made) = channel();
    engine.image(&last, move |drawn, _| drop(images.send(drawn)))?;
    let image = made.recv().context("the engine has died")?.image();
    engine.stop()?;
    Ok(image)
}

/// Names of the sections that differ.
fn differences(left: Image, right: Image) -> Vec<String> {
    let name = |kind: Kind, number: u32| format!("{} {number}", kind.as_str());
    let mut differing = Vec::new();
    for section in &left.sections {
        let same = right.sections.iter().any(|other| other == section);
        if !same {
            differing.push(name(section.kind, section.number));
        }
    }
    if left.sections.len() != right.sections.len() {
        differing.push("the number of sections".to_owned());
    }
    differing
}
