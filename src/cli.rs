//! The command line: what can be asked for. Not here: defaults and checks of settings, which are `config`'s.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use undercurrent_schemas::v1::label::Verdict;

use crate::config::{ConfigError, Override, Place, Sources, mcp_json, upstream_from_flag};
use crate::install::Client;
use crate::telemetry::LogFormat;

/// The learning gateway for MCP: relays every message untouched, learns what is normal, and says why something is not.
#[derive(Clone, Debug, Parser)]
#[command(name = "undercurrent", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Example:\n  undercurrent serve --upstream everything=\"npx -y @modelcontextprotocol/server-everything\"\n\nThen point an MCP client at http://127.0.0.1:8808/mcp/everything, and a browser at http://127.0.0.1:8809."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as `undercurrent::log=debug,info`.
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "FILTER",
        default_value = "info",
        env = "UNDERCURRENT_LOG"
    )]
    pub log_level: String,
    /// How it is written.
    #[arg(long, global = true, display_order = 101, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the gateway, with learning, history, metrics and the console, in one process.
    #[command(
        after_help = "Examples:\n  undercurrent serve --upstream github=https://api.githubcopilot.com/mcp/\n  undercurrent serve --upstream files=\"npx -y @modelcontextprotocol/server-filesystem /srv/files\"\n  undercurrent serve --mcp-json ~/.cursor/mcp.json --record traffic.jsonl.zst\n\nEvery key of the config file is also a variable: UNDERCURRENT__ENGINE__WORKERS=2.\nWhat is given later wins: file, environment, flags."
    )]
    Serve(ServeArgs),
    /// Run the gateway alone: an engine elsewhere learns from its events, and its models come over Kafka.
    #[command(
        after_help = "Example:\n  UNDERCURRENT__LOG__BACKEND=kafka undercurrent gateway --config undercurrent.toml\n\nAny number of gateways share the topics of one kafka.topic_prefix, and one digest.key: copy that\nof the first one's data directory. Each has a data directory of its own. The last model is kept\nthere, so that a gateway that starts without an engine scores all the same."
    )]
    Gateway(ServeArgs),
    /// Run the engine alone: learn from what gateways put on Kafka, write the history, publish models.
    #[command(
        after_help = "Example:\n  UNDERCURRENT__LOG__BACKEND=kafka undercurrent engine --data /var/lib/undercurrent-engine\n\nOf two engines on the same topics the one that started last learns; the other ends with exit code 3."
    )]
    Engine(EngineArgs),
    /// Run one stdio MCP server and stand between it and the client: same bytes, same exit code.
    #[command(
        after_help = "Example, in a client's configuration:\n  \"files\": { \"command\": \"undercurrent\",\n             \"args\": [\"wrap\", \"--name\", \"files\", \"--\", \"npx\", \"-y\", \"@modelcontextprotocol/server-filesystem\", \"/srv/files\"] }\n\nAny number of wraps and one serve share a data directory and what is learned in it."
    )]
    Wrap(WrapArgs),
    /// Say what `serve` would make of the same flags, and what is risky or useless in it; serves and changes nothing.
    #[command(
        after_help = "Examples:\n  undercurrent check --config undercurrent.toml\n  undercurrent check --mcp-json ~/.cursor/mcp.json --probe\n\nExit code: 0 = can be served; 1 = cannot, with the words that `serve` would say, or a probe failed."
    )]
    Check(CheckArgs),
    /// Make the MCP servers of Claude Desktop, Claude Code, Cursor and VS Code run through Undercurrent.
    #[command(
        after_help = "Examples:\n  undercurrent install --dry-run\n  undercurrent install --client cursor --name files\n  undercurrent install --gateway http://127.0.0.1:8808\n\nLooked at: the clients' files of this user, and those of the project in the current directory.\nA command becomes `undercurrent wrap --name NAME -- COMMAND`. Before its first change a file is\ncopied to FILE.before-undercurrent. Exit code: 1 if a file could not be read or written, or a NAME\nis nowhere."
    )]
    Install(InstallArgs),
    /// Take back what `install` did: each server runs by itself again, exactly as it was written.
    #[command(after_help = "Examples:\n  undercurrent uninstall --dry-run\n  undercurrent uninstall --client vscode")]
    Uninstall(UninstallArgs),
    /// Run recorded traffic through the same code as live traffic, as fast as it can.
    #[command(
        after_help = "Example:\n  undercurrent replay traffic.jsonl.zst --history ./replayed\n\nThen ask, for example with DuckDB:\n  SELECT session_id, score, reasons FROM './replayed/sessions/**/*.parquet' ORDER BY score DESC LIMIT 10"
    )]
    Replay(ReplayArgs),
    /// See the calls that wait for a person, and answer them.
    #[command(
        after_help = "Example:\n  undercurrent hold list\n  undercurrent hold approve 5d1c3f0a9b7e2468\n\nWhich calls wait is up to the policy: `hold_always` and `hold_below_p_value` in config/policy.toml."
    )]
    Hold(HoldArgs),
    /// Make a bearer key for somebody who may use the gateway, and the line of the config file that says so.
    #[command(
        after_help = "Example:\n  undercurrent key alice\n\nThe config file holds the key's hash only; a lost key cannot be found again, but replaced."
    )]
    Key(KeyArgs),
    /// Say what a session was: what it taught is corrected, exactly.
    #[command(
        after_help = "Example:\n  undercurrent label 5f0c9d… benign\n\nIt works while a gateway runs on the same data directory, and without one. The last label counts."
    )]
    Label(LabelArgs),
    /// Take a session out of everything that was learned, its scores too.
    Forget(ForgetArgs),
    /// Look at the state of learning that the next start goes on from.
    State(StateArgs),
    /// Carry what was learned from site to site.
    Model(ModelArgs),
}

#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A server behind the gateway: a Streamable HTTP URL, or a command (quotes group words). Repeatable.
    #[arg(long, value_name = "NAME=URL_OR_COMMAND")]
    pub upstream: Vec<String>,
    /// Take the servers of an MCP client's configuration (`mcpServers`, or `servers` of VS Code) as upstreams.
    #[arg(long, value_name = "FILE")]
    pub mcp_json: Option<PathBuf>,
    /// Where MCP clients connect [default: 127.0.0.1:8808].
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where metrics, status and the console are [default: 127.0.0.1:8809].
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write all traffic, payloads included, as frames that `replay` reads.
    #[arg(long, value_name = "FILE.jsonl.zst")]
    pub record: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where metrics, status and the console are [default: 127.0.0.1:8809].
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The processes that are one engine: HOST:PORT of each, one a line, the same file for all. What they say to each other
    /// is neither encrypted nor authenticated: a private network only.
    #[arg(long, value_name = "FILE", requires = "process")]
    pub hosts: Option<PathBuf>,
    /// Which of them this is, from 0. The first one binds, writes the history and has the admin listener.
    #[arg(long, value_name = "I", requires = "hosts")]
    pub process: Option<usize>,
}

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Try each upstream: shake hands, count its tools.
    #[arg(long)]
    pub probe: bool,
    /// How long a probe may take; a server that `npx` fetches first takes its time.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub probe_seconds: u64,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// Only this client; repeatable [default: all].
    #[arg(long, value_enum, value_name = "CLIENT")]
    pub client: Vec<Client>,
    /// Only the server that clients know by this name; repeatable [default: all].
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Change nothing; show what would be changed.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Clone, Debug)]
pub struct InstallArgs {
    #[command(flatten)]
    pub clients: ClientArgs,
    /// Where a gateway is running: servers that clients reach by URL go through it if it serves them by that name.
    #[arg(long, value_name = "URL")]
    pub gateway: Option<url::Url>,
    /// The data directory of the wraps [default: what `wrap` uses by itself].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    #[command(flatten)]
    pub clients: ClientArgs,
}

#[derive(Args, Clone, Debug)]
pub struct WrapArgs {
    /// Name of the server: what is learned is learned under it.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The server's command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// What can be said of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LabelArg {
    /// It teaches in full, whatever the learning gate thought.
    Benign,
    /// It teaches nothing.
    Malicious,
    /// As if nothing had been said.
    Clear,
}

impl From<LabelArg> for Verdict {
    fn from(label: LabelArg) -> Self {
        match label {
            LabelArg::Benign => Self::Benign,
            LabelArg::Malicious => Self::Malicious,
            LabelArg::Clear => Self::Clear,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct LabelArgs {
    /// The session, as `session_id` in the tables has it.
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// What it was.
    #[arg(value_enum, value_name = "LABEL")]
    pub label: LabelArg,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct ForgetArgs {
    /// The session, as `session_id` in the tables has it.
    #[arg(long, value_name = "SESSION", required_unless_present_any = ["principal", "import"])]
    pub session: Option<String>,
    /// An import, by the id that `model import` said: as if it had never come.
    #[arg(long, value_name = "ID", conflicts_with_all = ["session", "principal", "erase"])]
    pub import: Option<String>,
    /// All sessions of a principal, as the tables have it; no other process may use the data directory.
    #[arg(long, value_name = "PRINCIPAL")]
    pub principal: Option<String>,
    /// Take it out of the log and of the history's files too; no other process may use the data directory.
    #[arg(long)]
    pub erase: bool,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct StateArgs {
    #[command(subcommand)]
    pub command: StateCommand,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum StateCommand {
    /// What checkpoints there are, and what is in them.
    Show,
    /// Compute the newest checkpoint again from the oldest one and the log, and compare; check the history's files.
    ///
    /// No other process may use the data directory. Exit code: 1 if something is not as it should be.
    Verify,
    /// Set damaged files of the history aside, and write them again where the log still has their ticks.
    ///
    /// No other process may use the data directory. Exit code: 1 if rows are gone for good.
    Repair,
    /// Make a new key of digests, for when the old one may have been seen.
    ///
    /// Values that were usual are new again until they have been seen again, and sessions that go on get new ids. The old
    /// key stays in `digest.key`. No other process may use the data directory; with several gateways, copy the file to all.
    RotateKey,
}

#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    #[command(subcommand)]
    pub command: ModelCommand,
    /// Where everything is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ModelCommand {
    /// Write the sums of the newest checkpoint to a file.
    Export {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Add another site's sums to what is learned here; `forget --import` takes them back.
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Add the sums of two files: what one site would have learned that saw what both saw.
    Merge {
        #[arg(value_name = "A")]
        first: PathBuf,
        #[arg(value_name = "B")]
        second: PathBuf,
        #[arg(short, long, value_name = "C")]
        output: PathBuf,
    },
}

#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    #[command(subcommand)]
    pub command: HoldCommand,
    /// Where metrics, status and the console are [default: 127.0.0.1:8809].
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Where the admin token is kept [default: $UNDERCURRENT_DATA, else the platform's data directory].
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Settings; config/undercurrent.toml lists all of them.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum HoldCommand {
    /// What waits, oldest first, with what is asked and why it waits.
    List,
    /// Send the call on; if its client has left, let its next try pass.
    Approve { ticket: String },
    /// Refuse the call.
    Deny { ticket: String },
}

#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// Whose key it is: the principal under which its calls are known, limited and learned.
    #[arg(value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: String,
}

#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// Recordings, merged by their times.
    #[arg(required = true, value_name = "FRAMES.jsonl[.zst]")]
    pub frames: Vec<PathBuf>,
    /// Where the tables go: a new or empty directory, or one that the same recordings filled.
    #[arg(long, value_name = "DIR")]
    pub history: PathBuf,
    /// What is said about sessions and when: lines {"session_id", "label": "benign"|"malicious"|"clear", "at_us"}.
    #[arg(long, value_name = "FILE.jsonl")]
    pub labels: Option<PathBuf>,
    /// Timely workers; the result does not depend on it [default: one less than there are cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Fill this table alone, and do nothing that only others need. `features`: calls are paired and counted by windows;
    /// nothing is scored or learned, and no argument is read, so what is told of arguments stays 0.
    #[arg(long, value_enum, value_name = "TABLE", conflicts_with = "labels")]
    pub only: Option<Only>,
}

/// A table that can be filled alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    Features,
}

impl ServeArgs {
    /// Where this command's settings come from, and what to tell the user about the client's file.
    pub fn sources(&self) -> Result<(Sources, Vec<String>), ConfigError> {
        let mut sources = Sources::of_process(self.config.clone(), self.data.clone());
        let client = match &self.mcp_json {
            Some(file) => mcp_json::read(file, &sources.env)?,
            None => mcp_json::McpJson::default(),
        };
        sources.overrides.extend(client.upstreams);
        for upstream in &self.upstream {
            sources.overrides.push(upstream_from_flag(upstream)?);
        }
        for (key, flag, address) in [("mcp", "--listen", &self.listen), ("admin", "--admin", &self.admin)] {
            let given = |text: &String| Override::new(["listen", key], text.as_str(), Place::Flag(flag.into()));
            sources.overrides.extend(address.as_ref().map(given));
        }
        Ok((sources, client.notes))
    }
}

impl EngineArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let admin = self.admin.as_ref();
        let admin = admin.map(|at| Override::new(["listen", "admin"], at.as_str(), Place::Flag("--admin".into())));
        Sources {
            overrides: admin.into_iter().collect(),
            ..Sources::of_process(self.config.clone(), self.data.clone())
        }
    }
}

impl HoldArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let admin = self.admin.as_ref();
        let admin = admin.map(|at| Override::new(["listen", "admin"], at.as_str(), Place::Flag("--admin".into())));
        Sources {
            overrides: admin.into_iter().collect(),
            ..Sources::of_process(self.config.clone(), self.data.clone())
        }
    }
}

impl CheckArgs {
    #[must_use]
    pub fn probe_limit(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.probe_seconds)
    }
}

impl WrapArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.data.clone())
    }
}

impl LabelArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.data.clone())
    }
}

impl ForgetArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.data.clone())
    }
}

impl ModelArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.data.clone())
    }
}

impl StateArgs {
    /// Where this command's settings come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.data.clone())
    }
}

impl ReplayArgs {
    /// Where this command's settings come from: the defaults and the environment.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let workers = self.workers.map(i64::from);
        let workers = workers.map(|n| Override::new(["engine", "workers"], n, Place::Flag("--workers".into())));
        Sources { overrides: workers.into_iter().collect(), ..Sources::of_process(None, None) }
    }
}

#[cfg(test)]
mod tests;
