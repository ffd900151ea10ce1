//! Puts the parts together: the only place that knows all of them.

mod background;
mod models;
mod node;
mod owner;
mod progress;
mod screen;
mod serve;
mod settings;
mod signals;
mod status;
mod wrap;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{ReplayArgs, ServeArgs, WrapArgs};
use crate::config::Config;
use crate::replay::{ReplayOptions, replay as run_replay};

/// `undercurrent serve`.
pub fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    relay_runtime()?.block_on(serve::serve(args))
}

/// `undercurrent wrap`.
pub fn wrap(args: &WrapArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let code = runtime.block_on(wrap::run(args));
    // A read of standard input that waits for a client which is gone must not keep the process.
    runtime.shutdown_background();
    code
}

/// The runtime of the request path. On two cores one thread relays and the other learns: handing a connection from
/// thread to thread would cost more than a second relaying thread brings (see benches/http.rs).
fn relay_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) > 2 {
        return runtime();
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}

/// `undercurrent replay`.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.sources())?;
    let options = ReplayOptions {
        inputs: args.frames.clone(),
        labels: args.labels.clone(),
        history: args.history.clone(),
        workers: config.engine.workers,
        partitions: config.log.partitions,
        sessions: settings::sessions(&config),
        windows: settings::windows(&config),
        limits: config.facts.limits,
        provenance_bytes_max: config.facts.provenance_bytes_max,
        policy: settings::policy(&config)?,
    };
    let started = std::time::Instant::now();
    let summary = run_replay(&options, std::io::stderr().is_terminal())?;
    let seconds = started.elapsed().as_secs_f64();
    let rate = summary.counters.messages as f64 / seconds;
    #[expect(clippy::print_stdout, reason = "the summary is what the command is asked for")]
    {
        print!("{summary}");
        println!("took       {seconds:.2} s, {rate:.0} messages/s");
        println!("history    {}", args.history.display());
    }
    Ok(ExitCode::SUCCESS)
}
