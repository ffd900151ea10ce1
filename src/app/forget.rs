//! `undercurrent forget`: somebody leaves what was learned, and, with `--erase`, what is kept too.
//!
//! Erasing needs the data directory for itself. First a life as its owner unlearns and ends with a checkpoint; then every
//! byte of the log up to there goes (on Kafka: every record), older checkpoints go, and files of the history are written anew without those rows.
//! Each step can be repeated: an interrupted erasure is completed by the same command.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::node::{Learning, Parts};
use super::{runtime, sayings, settings};
use crate::admin::Labelled;
use crate::checkpoint::Checkpoints;
use crate::cli::ForgetArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::edge::Saying;
use crate::faults;
use crate::history::{Erased, History};
use crate::hub::{Claim, claim};
use crate::telemetry::Metrics;

/// Forgets sessions that a process which may be running knows of, or all of a principal.
pub(super) fn forget(args: &ForgetArgs) -> anyhow::Result<ExitCode> {
    let config = Arc::new(Config::load(args.sources())?);
    let data = Arc::new(DataDir::open(&config.data_dir)?);
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    let parts = Parts { data, config, metrics, learning: Learning::Here };
    if let Some(import) = &args.import {
        return said(&super::model::withdraw(&parts, import)?);
    }
    ensure_alone(&parts)?;
    let mut names: BTreeSet<String> = args.session.iter().cloned().collect();
    if let Some(principal) = &args.principal {
        // Rows that an interrupted life did not come to are written first.
        runtime()?.block_on(sayings::commands(&parts, &BTreeSet::new(), Saying::Forget))?;
        names.extend(history(&parts)?.sessions_of(principal)?);
        anyhow::ensure!(!names.is_empty(), "no message of principal `{principal}` is in the history");
    }
    let outcomes = runtime()?.block_on(sayings::commands(&parts, &names, Saying::Forget))?;
    let unlearned = outcomes.iter().filter(|outcome| matches!(outcome, Labelled::Applied { .. })).count();
    let mut said = format!("unlearned   {unlearned} of {} sessions", names.len());
    if unlearned < names.len() {
        let horizon = parts.config.engine.unlearn_horizon.as_secs();
        write!(
            said,
            "; the others are unknown, or ended longer ago than engine.unlearn_horizon_s ({horizon} s): what they"
        )?;
        write!(said, " taught stays in sums, which name nobody")?;
    }
    if args.erase {
        names.extend(args.principal.clone());
        let Erased { files, rows } = erase(&parts, &names)?;
        write!(said, "\nhistory     {rows} rows taken out of {files} files")?;
        if parts.config.log.kafka.is_some() {
            write!(
                said,
                "\nlog         every record up to the checkpoint removed from the topics, and older checkpoints; brokers"
            )?;
            write!(
                said,
                "\n            free the bytes when they next clean up files that are full, or a day old (segment.ms)"
            )?;
            write!(
                said,
                "\nnot here    DATA of gateways while brokers are away, records that are no events (dead_letters, a week),"
            )?;
            write!(said, "\n            access logs, recordings (--record), copies in other stores, backups")?;
        } else {
            write!(said, "\nlog         every byte up to the checkpoint removed, and older checkpoints")?;
            write!(said, "\nnot here    access logs, recordings (--record), copies in other stores, backups")?;
        }
    }
    self::said(&said)
}

fn said(said: &str) -> anyhow::Result<ExitCode> {
    #[expect(clippy::print_stdout, reason = "the outcome is what the command is asked for")]
    {
        println!("{said}");
    }
    Ok(ExitCode::SUCCESS)
}

fn ensure_alone(parts: &Parts) -> anyhow::Result<()> {
    match claim(parts.data.root())? {
        Claim::Owner(_) => Ok(()),
        Claim::Member => anyhow::bail!(
            "another process has {}: stop it first; `forget --session` without --erase works beside it",
            parts.data.root().display()
        ),
    }
}

fn history(parts: &Parts) -> anyhow::Result<History> {
    Ok(History::open(&parts.data.history_dir(), settings::history(&parts.config))?)
}

fn erase(parts: &Parts, names: &BTreeSet<String>) -> anyhow::Result<Erased> {
    let Claim::Owner(_lock) = claim(parts.data.root())? else {
        anyhow::bail!("another process has taken {} meanwhile; stop it and try again", parts.data.root().display());
    };
    let mut checkpoints = Checkpoints::open(&parts.data.checkpoints_dir())?;
    let newest = checkpoints.entries().last().cloned().context("there is no checkpoint to go on from; try again")?;
    checkpoints.read(&newest)?;
    let log = super::state::quiet_log(&parts.data, &parts.config)?;
    let mut history = history(parts)?;
    anyhow::ensure!(
        log.last()? == Some(newest.tick) && history.covered() >= Some(newest.tick),
        "the newest checkpoint, of tick {}, is not where log and history end; nothing was erased, try again",
        newest.tick
    );
    faults::passed("erase-begun");
    let erased = history.erase(names)?;
    faults::passed("erase-history");
    checkpoints.remove_before(newest.tick)?;
    faults::passed("erase-checkpoints");
    log.remove_through(newest.tick)?;
    faults::passed("erase-log");
    let snapshot = parts.data.state_dir().join("snapshot");
    if snapshot.is_dir() {
        // The next start publishes it anew.
        std::fs::remove_dir_all(&snapshot).with_context(|| format!("remove {}", snapshot.display()))?;
    }
    Ok(erased)
}
