//! Puts the parts together: the only place that knows all of them.

mod background;
mod check;
mod forget;
mod holds;
mod install;
mod intake;
mod keeper;
mod key;
mod learn;
mod model;
mod model_file;
mod model_topics;
mod models;
mod node;
mod owner;
mod peers;
mod progress;
mod recovery;
mod reload;
mod repair;
mod reports_topic;
mod results;
mod sayings;
mod screen;
mod serve;
mod settings;
mod share;
mod signals;
mod state;
mod status;
mod wrap;

pub use self::holds::hold;
pub use self::key::key;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use self::node::Learning;
use crate::admin::Labelled;
use crate::cli::{
    CheckArgs, EngineArgs, ForgetArgs, InstallArgs, LabelArgs, ModelArgs, Only, ReplayArgs, ServeArgs, StateArgs,
    UninstallArgs, WrapArgs,
};
use crate::config::{Config, Sources};
use crate::data_dir::DataDir;
use crate::edge::Saying;
use crate::replay::{ReplayOptions, Tables, replay as run_replay};
use crate::telemetry::Metrics;

/// `undercurrent serve`.
pub fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    relay_runtime()?.block_on(serve::serve(args, Learning::Here))
}

/// `undercurrent gateway`.
pub fn gateway(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    relay_runtime()?.block_on(serve::serve(args, Learning::Elsewhere))
}

/// `undercurrent engine`.
pub fn engine(args: &EngineArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(learn::run(args))
}

/// `undercurrent check`.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    check::check(args)
}

/// `undercurrent install`.
pub fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    install::install(args)
}

/// `undercurrent uninstall`.
pub fn uninstall(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    install::uninstall(args)
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

/// `undercurrent label`.
pub fn label(args: &LabelArgs) -> anyhow::Result<ExitCode> {
    say(args.sources(), &args.session, Saying::Label(args.label.into()))
}

/// `undercurrent forget`.
pub fn forget(args: &ForgetArgs) -> anyhow::Result<ExitCode> {
    match (&args.session, args.erase) {
        // One session can be unlearned while a gateway runs.
        (Some(session), false) if args.principal.is_none() => say(args.sources(), session, Saying::Forget),
        _ => forget::forget(args),
    }
}

fn say(sources: Sources, session: &str, saying: Saying) -> anyhow::Result<ExitCode> {
    let config = Arc::new(Config::load(sources)?);
    let data = Arc::new(DataDir::open(&config.data_dir)?);
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    let parts = node::Parts { data, config, metrics, learning: Learning::Here };
    let said = match runtime()?.block_on(sayings::command(&parts, session, saying))? {
        Labelled::Applied { parts } => format!("{}: applied to {parts} ended parts of {session}", saying.as_str()),
        Labelled::Accepted => format!(
            "{}: accepted; the process that owns the data directory applies it, and table `labels` says what became of it",
            saying.as_str()
        ),
        Labelled::TooOld => anyhow::bail!(
            "{}: there is no session {session}, or it ended longer ago than engine.unlearn_horizon_s ({} s)",
            saying.as_str(),
            parts.config.engine.unlearn_horizon.as_secs()
        ),
        Labelled::Full => anyhow::bail!("{}: the queue to the log is full; try again", saying.as_str()),
    };
    #[expect(clippy::print_stdout, reason = "the outcome is what the command is asked for")]
    {
        println!("{said}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `undercurrent model`.
pub fn model(args: &ModelArgs) -> anyhow::Result<ExitCode> {
    model::model(args)
}

/// `undercurrent state`.
pub fn state(args: &StateArgs) -> anyhow::Result<ExitCode> {
    state::state(args)
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
        clusters: settings::clusters(&config),
        limits: config.facts.limits,
        provenance_bytes_max: config.facts.provenance_bytes_max,
        policy: settings::policy(&config)?,
        tables: match args.only {
            None => Tables::All,
            Some(Only::Features) => Tables::Features,
        },
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
