//! `undercurrent model`: what was learned, carried between sites as sums.
//!
//! An import is one record in the log, so it is replayed like everything else; `forget --import` says the same sums once
//! more, withdrawn. They are kept below `state/imports` for that. Not here: what an import does to the model
//! (`dataflows::sessions`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use prost::Message as _;
use undercurrent_dataflows::sessions::import_id;
use undercurrent_schemas::v1;

use super::model_file::ModelFile;
use super::node::{Learning, Parts};
use super::{models, runtime, sayings};
use crate::admin::Labelled;
use crate::checkpoint::Checkpoints;
use crate::cli::{ModelArgs, ModelCommand};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::telemetry::Metrics;

/// An import travels whole between processes, and on Kafka.
const IMPORT_BYTES_MAX: usize = 48 << 20;
const KAFKA_BYTES_MAX: usize = 900_000;

pub(super) fn model(args: &ModelArgs) -> anyhow::Result<ExitCode> {
    let said = match &args.command {
        ModelCommand::Export { file } => export(&load(args)?, file)?,
        ModelCommand::Import { file } => import(&load(args)?, file)?,
        ModelCommand::Merge { first, second, output } => merge(first, second, output)?,
    };
    #[expect(clippy::print_stdout, reason = "the outcome is what the command is asked for")]
    {
        println!("{said}");
    }
    Ok(ExitCode::SUCCESS)
}

fn load(args: &ModelArgs) -> anyhow::Result<Parts> {
    let config = Arc::new(Config::load(args.sources())?);
    let data = Arc::new(DataDir::open(&config.data_dir)?);
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    Ok(Parts { data, config, metrics, learning: Learning::Here })
}

fn export(parts: &Parts, to: &Path) -> anyhow::Result<String> {
    let dir = parts.data.checkpoints_dir();
    let checkpoints = Checkpoints::look(&dir)?;
    let newest = checkpoints.entries().last();
    let newest =
        newest.with_context(|| format!("{} has no checkpoint yet: nothing was learned here", dir.display()))?;
    let model = checkpoints.read(newest)?.model()?;
    let file = ModelFile::of(parts.data.digest_key().id, models::to_wire(&model, true));
    file.write(to)?;
    Ok(format!("exported    {} sums and {} names as of tick {}", file.sums.len(), file.names.len(), newest.tick))
}

fn merge(first: &Path, second: &Path, to: &Path) -> anyhow::Result<String> {
    let (merged, left_out) = ModelFile::read(first)?.merged(ModelFile::read(second)?);
    merged.write(to)?;
    let mut said = format!("merged      {} sums and {} names", merged.sums.len(), merged.names.len());
    if left_out > 0 {
        write!(said, "\nleft out    {left_out} sums of values: the two sites do not share a digest key")?;
    }
    Ok(said)
}

fn import(parts: &Parts, from: &Path) -> anyhow::Result<String> {
    let mut file = ModelFile::read(from)?;
    let left_out = file.keep_digests_of(parts.data.digest_key().id);
    ensure!(!file.sums.is_empty(), "{} has nothing that this site can use", from.display());
    let id = import_id(&file.sums);
    let ModelFile { sums, names, .. } = &file;
    let import = v1::ModelImport { sums: sums.clone(), names: names.clone(), withdrawn: false };
    let bytes_max = if parts.config.log.kafka.is_some() { KAFKA_BYTES_MAX } else { IMPORT_BYTES_MAX };
    let bytes = import.encoded_len();
    ensure!(bytes <= bytes_max, "{} has {bytes} bytes, more than the {bytes_max} of one record", from.display());
    // Kept first: what counts can be taken back.
    let kept = kept(parts, &id)?;
    kept.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(|| format!("write {}", kept.display()))?;
    file.write(&kept)?;
    let mut said = match runtime()?.block_on(sayings::import(parts, &id, import))? {
        Labelled::Applied { .. } => format!("imported    {} sums and {} names as {id}", sums.len(), names.len()),
        Labelled::Accepted => format!("accepted    {} sums as {id} (learning has not come to them yet)", sums.len()),
        Labelled::TooOld => bail!("{} counts here already, as {id}", from.display()),
        Labelled::Full => bail!("the queue to the log is full; try again"),
    };
    if left_out > 0 {
        write!(said, "\nleft out    {left_out} sums of values: they are of another digest key")?;
    }
    Ok(said)
}

/// Takes an import back: as if it had never come.
pub(super) fn withdraw(parts: &Parts, id: &str) -> anyhow::Result<String> {
    let path = kept(parts, id)?;
    let file =
        ModelFile::read(&path).with_context(|| format!("put the file that was imported at {}", path.display()))?;
    ensure!(import_id(&file.sums) == id, "{} is another import", path.display());
    let sums = file.sums.len();
    let import = v1::ModelImport { sums: file.sums, names: Vec::new(), withdrawn: true };
    match runtime()?.block_on(sayings::import(parts, id, import))? {
        Labelled::Applied { .. } => Ok(format!("unlearned   {sums} sums of {id}")),
        Labelled::Accepted => Ok(format!("accepted    {id} will be unlearned; learning has not come to it yet")),
        Labelled::TooOld => bail!("{id} does not count here"),
        Labelled::Full => bail!("the queue to the log is full; try again"),
    }
}

/// Where an import is kept for as long as it can be taken back.
fn kept(parts: &Parts, id: &str) -> anyhow::Result<PathBuf> {
    let digits = id.strip_prefix("import:").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let digits = digits.with_context(|| format!("`{id}` is no import: `undercurrent model import` says its id"))?;
    Ok(parts.data.state_dir().join("imports").join(format!("{digits}.model")))
}
