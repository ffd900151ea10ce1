//! `wrap`: one stdio server, learning included.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;

use super::node::{Learning, Node, Parts};
use crate::cli::WrapArgs;
use crate::config::{Config, UpstreamName};
use crate::data_dir::DataDir;
use crate::telemetry::Metrics;
use crate::upstream::StdioCommand;
use crate::wrap;

/// Runs until the command or the client ends; the exit code is the command's.
pub(super) async fn run(args: &WrapArgs) -> anyhow::Result<ExitCode> {
    let config = Arc::new(Config::load(args.sources())?);
    let name: UpstreamName = args.name.parse().with_context(|| format!("use --name `{}`", args.name))?;
    let words: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (program, rest) = words.split_first().context("name the server's command after `--`")?;
    let command = StdioCommand { program: program.clone(), args: rest.to_vec(), ..StdioCommand::default() };
    let parts = Parts {
        data: Arc::new(DataDir::open(&config.data_dir)?),
        config,
        metrics: Metrics::register(&Registry::new())?,
        learning: Learning::Here,
    };
    let node = Node::join(&parts, None)?;
    let code = wrap::run(command, node.edge.clone(), name.as_str()).await;
    if let Err(error) = node.leave().await {
        // The client gets its server's exit code whatever became of what was learned.
        tracing::error!(error = %format!("{error:#}"), "leave the data directory");
    }
    Ok(code)
}
