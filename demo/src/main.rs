//! The command line of the demo: arguments in, one call into the library, text out.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use undercurrent_demo::agents::plan::Settings;
use undercurrent_demo::agents::{self, Run};
use undercurrent_demo::live::{self, Live};
use undercurrent_demo::server::{self, OfficeServer};
use undercurrent_demo::{report, truth};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an invented office over MCP.
    Server(ServerArgs),
    /// Drive an MCP endpoint with a population of simulated agents.
    Agents(AgentsArgs),
    /// Put what the gateway flagged beside the truth of an earlier run.
    Report(ReportArgs),
    /// Run server, gateway and agents together, then report.
    Live(LiveArgs),
}

#[derive(Debug, Args)]
struct AgentsArgs {
    /// The MCP endpoint, for example http://127.0.0.1:8808/mcp/demo.
    #[arg(long)]
    url: String,
    /// From the first session's start to the last one's.
    #[arg(long, value_name = "SECONDS", default_value_t = 80)]
    duration: u64,
    #[command(flatten)]
    population: PopulationArgs,
    /// Where to write what each session was, one JSON line each.
    #[arg(long, value_name = "FILE", default_value = "truth.jsonl")]
    truth: PathBuf,
    /// Report from this history when all sessions have ended.
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    /// Where to write the picture; needs --history.
    #[arg(long, value_name = "FILE", requires = "history")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// The directory with the tables: DATA/history of a gateway, or the --history of a replay.
    #[arg(long, value_name = "DIR")]
    history: PathBuf,
    #[arg(long, value_name = "FILE", default_value = "truth.jsonl")]
    truth: PathBuf,
    /// Where to write the picture.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write labels under the history's session ids.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Longest wait for sessions that are not in the history yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
}

#[derive(Debug, Args)]
struct LiveArgs {
    /// The `undercurrent` binary.
    #[arg(long, value_name = "PATH")]
    undercurrent: PathBuf,
    /// Where the gateway keeps everything [default: a fresh temporary directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// From the first session's start to the last one's.
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    seconds: u64,
    /// Nobody is hijacked and nobody loops: what is flagged now is a false alarm.
    #[arg(long)]
    no_attacks: bool,
    /// Have the gateway record the traffic, for `undercurrent replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where to write the picture [default: report.svg in the data directory].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    population: PopulationArgs,
}

#[derive(Debug, Args)]
struct PopulationArgs {
    /// Fixes who calls when, as what, and what each session chooses.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    #[arg(long, default_value_t = 18)]
    agents: usize,
    #[arg(long, default_value_t = 400)]
    sessions: usize,
    /// Share of the sessions after the warm-up that are hijacked or loop.
    #[arg(long, value_name = "RATE", default_value_t = 0.04)]
    attacks: f64,
    /// Share of the run that stays without attacks.
    #[arg(long, value_name = "SHARE", default_value_t = 0.4)]
    warm_up: f64,
    /// Share of the sessions that speak the stateless protocol (2026-07-28).
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    stateless: f64,
    /// How many times faster than a thoughtful agent: shortens the run and the pauses alike.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    speed: f64,
}

impl PopulationArgs {
    fn speed(&self) -> f64 {
        if self.speed.is_finite() { self.speed.max(0.01) } else { 1.0 }
    }

    fn settings(&self, seconds: u64) -> Settings {
        Settings {
            seed: self.seed,
            agents: self.agents,
            sessions: self.sessions,
            duration: Duration::from_secs(seconds).div_f64(self.speed()),
            attack_rate: self.attacks,
            warm_up: self.warm_up,
            stateless: self.stateless,
        }
    }

    fn think(&self) -> Duration {
        Duration::from_millis(150).div_f64(self.speed())
    }
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// Serve the client on stdin and stdout.
    #[arg(long, conflicts_with = "listen")]
    stdio: bool,
    /// Serve Streamable HTTP at http://HOST:PORT/mcp.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8810")]
    listen: String,
    /// A further name under which it may be called, besides loopback: `demo`, `demo:8810`. Repeatable.
    #[arg(long = "allow-host", value_name = "NAME")]
    allow_hosts: Vec<String>,
    /// Fixes names, texts, sums and accounts.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Server(args) => serve(args).await,
        Command::Agents(args) => Box::pin(drive(args)).await,
        Command::Report(args) => {
            let truths = truth::read(&args.truth)?;
            let patience = Duration::from_secs(args.wait);
            let request = report::Request { history: args.history, patience, svg: args.out, labels: args.labels };
            report::report(&request, truths, &mut std::io::stdout(), colour()).await
        }
        Command::Live(args) => Box::pin(run_live(args)).await,
    }
}

async fn drive(args: AgentsArgs) -> anyhow::Result<()> {
    let settings = args.population.settings(args.duration);
    let truths = agents::drive(&Run { url: args.url, settings, think: args.population.think() }).await?;
    truth::write(&args.truth, &truths)?;
    let Some(history) = args.history else { return Ok(()) };
    let request = report::Request { history, patience: Duration::from_secs(30), svg: args.out, labels: None };
    report::report(&request, truths, &mut std::io::stdout(), colour()).await
}

async fn run_live(args: LiveArgs) -> anyhow::Result<()> {
    let mut settings = args.population.settings(args.seconds);
    if args.no_attacks {
        settings.attack_rate = 0.0;
    }
    let live = Live {
        gateway: args.undercurrent,
        data: args.data,
        record: args.record,
        settings,
        think: args.population.think(),
        svg: args.out,
    };
    live::live(&live, &mut std::io::stdout(), colour()).await
}

fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

async fn serve(args: ServerArgs) -> anyhow::Result<()> {
    let office = OfficeServer::new(args.seed);
    if args.stdio {
        return server::serve_stdio(office).await;
    }
    let listener = server::bind(&args.listen).await?;
    eprintln!("undercurrent-demo serves http://{}/mcp", listener.local_addr()?);
    let stop = CancellationToken::new();
    tokio::select! {
        served = server::serve_http(listener, office, args.allow_hosts, stop.clone()) => served,
        _ = tokio::signal::ctrl_c() => { stop.cancel(); Ok(()) }
    }
}
