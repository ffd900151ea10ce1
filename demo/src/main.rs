//! `undercurrent-demo`: an MCP server to put behind the gateway, and a population of agents that drives it.
//!
//! It knows the gateway only from outside: its MCP endpoint, its command line and its history.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use undercurrent_demo::agents::plan::Settings;
use undercurrent_demo::agents::{self, Run};
use undercurrent_demo::server::{self, OfficeServer};
use undercurrent_demo::truth;

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
}

#[derive(Debug, Args)]
struct AgentsArgs {
    /// The MCP endpoint, for example http://127.0.0.1:8808/mcp/demo.
    #[arg(long)]
    url: String,
    #[command(flatten)]
    population: PopulationArgs,
    /// Where to write what each session was, one JSON line each.
    #[arg(long, value_name = "FILE", default_value = "truth.jsonl")]
    truth: PathBuf,
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
    /// From the first session's start to the last one's.
    #[arg(long, value_name = "SECONDS", default_value_t = 80)]
    duration: u64,
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
    fn run(&self, url: String) -> Run {
        let speed = if self.speed.is_finite() { self.speed.max(0.01) } else { 1.0 };
        let settings = Settings {
            seed: self.seed,
            agents: self.agents,
            sessions: self.sessions,
            duration: Duration::from_secs(self.duration).div_f64(speed),
            attack_rate: self.attacks,
            warm_up: self.warm_up,
            stateless: self.stateless,
        };
        Run { url, settings, think: Duration::from_millis(150).div_f64(speed) }
    }
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// Serve the client on stdin and stdout.
    #[arg(long, conflicts_with = "listen")]
    stdio: bool,
    /// Serve Streamable HTTP at http://HOST:PORT/mcp.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8810")]
    listen: SocketAddr,
    /// Fixes names, texts, sums and accounts.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Server(args) => serve(args).await,
        Command::Agents(args) => {
            let truths = agents::drive(&args.population.run(args.url)).await?;
            truth::write(&args.truth, &truths)
        }
    }
}

async fn serve(args: ServerArgs) -> anyhow::Result<()> {
    let office = OfficeServer::new(args.seed);
    if args.stdio {
        return server::serve_stdio(office).await;
    }
    let listener = server::bind(args.listen).await?;
    eprintln!("undercurrent-demo serves http://{}/mcp", listener.local_addr()?);
    let stop = CancellationToken::new();
    tokio::select! {
        served = server::serve_http(listener, office, stop.clone()) => served,
        _ = tokio::signal::ctrl_c() => { stop.cancel(); Ok(()) }
    }
}
