//! `make demo`: the demo server, the gateway and the population together, and the report at the end.
//!
//! The gateway is the real binary, started as anyone would start it; it is stopped gently, so that all it learned is
//! in the history when the report is made.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::agents::plan::Settings;
use crate::agents::{self, Run};
use crate::server::{self, OfficeServer};
use crate::truth::SessionTruth;
use crate::{report, truth};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Stateless sessions have no last message: they end when they were silent for so long. The demo does not wait five
/// minutes for them, and closes history files soon so that they can be looked at while it runs.
const SESSION_IDLE: Duration = Duration::from_secs(5);
const LATENESS: Duration = Duration::from_secs(1);
const GATEWAY_SETTINGS: [(&str, &str); 3] = [
    ("UNDERCURRENT__ENGINE__SESSION_IDLE_S", "5"),
    ("UNDERCURRENT__ENGINE__LATENESS_S", "1"),
    ("UNDERCURRENT__HISTORY__ROLL_SECONDS", "2"),
];

/// What to run.
#[derive(Clone, Debug)]
pub struct Live {
    /// The `undercurrent` binary.
    pub gateway: PathBuf,
    /// Where the gateway keeps everything; `None` = a fresh directory that stays.
    pub data: Option<PathBuf>,
    pub record: Option<PathBuf>,
    pub settings: Settings,
    pub think: Duration,
    /// The picture; `None` = `report.svg` in the data directory.
    pub svg: Option<PathBuf>,
}

/// The gateway as a child, and where it listens.
struct Gateway {
    child: Child,
    mcp: SocketAddr,
    admin: SocketAddr,
}

/// Runs the demo to its end.
pub async fn live(live: &Live, out: &mut impl std::io::Write, colour: bool) -> anyhow::Result<()> {
    let data = match &live.data {
        Some(data) => data.clone(),
        None => {
            tempfile::Builder::new().prefix("undercurrent-demo-").tempdir().context("create a data directory")?.keep()
        }
    };
    let listener = server::bind("127.0.0.1:0").await?;
    let upstream = format!("demo=http://{}/mcp", listener.local_addr()?);
    let stop = CancellationToken::new();
    let office = tokio::task::JoinSet::from_iter([server::serve_http(
        listener,
        OfficeServer::new(live.settings.seed),
        Vec::new(),
        stop.clone(),
    )]);
    let mut gateway = Gateway::start(live, &data, &upstream).await?;
    let url = format!("http://{}/mcp/demo", gateway.mcp);
    writeln!(
        out,
        "\n  {} agents, {} sessions through {url}; status at http://{}/\n",
        live.settings.agents, live.settings.sessions, gateway.admin
    )?;

    let run = Run { url, settings: live.settings, think: live.think };
    let driven = tokio::select! {
        driven = agents::drive(&run) => driven,
        exited = gateway.child.wait() => Err(anyhow::anyhow!("the gateway ended early: {}", exited?)),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("wait for an interrupt").and(Err(anyhow::anyhow!("interrupted"))),
    };
    let history = data.join("history");
    if let Ok(truths) = &driven {
        settle(&history, truths, out).await?;
    }
    let stopped = gateway.stop().await;
    stop.cancel();
    office.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    stopped?;

    let truths = driven?;
    truth::write(&data.join("truth.jsonl"), &truths)?;
    let request = report::Request {
        history,
        patience: Duration::ZERO,
        svg: Some(live.svg.clone().unwrap_or_else(|| data.join("report.svg"))),
        labels: Some(data.join("labels.jsonl")),
    };
    report::report(&request, truths, out, colour).await
}

/// Waits until the last session has ended for the gateway too, and was scored.
async fn settle(history: &Path, truths: &[SessionTruth], out: &mut impl std::io::Write) -> anyhow::Result<()> {
    writeln!(out, "  all agents have left; waiting for the last sessions to be scored")?;
    let patience = SESSION_IDLE + LATENESS + Duration::from_secs(12);
    report::sessions_when_complete(history, truths, patience).await.map(drop)
}

impl Gateway {
    async fn start(live: &Live, data: &Path, upstream: &str) -> anyhow::Result<Self> {
        let (mcp, admin) = (free_address()?, free_address()?);
        let mut command = Command::new(&live.gateway);
        command
            .arg("serve")
            .args(["--upstream", upstream])
            .args(["--listen", &mcp.to_string()])
            .args(["--admin", &admin.to_string()])
            .arg("--data")
            .arg(data)
            .envs(GATEWAY_SETTINGS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if let Some(record) = &live.record {
            command.arg("--record").arg(record);
        }
        // What the gateway has to say goes beside its data; the terminal shows the agents.
        std::fs::create_dir_all(data).with_context(|| format!("create {}", data.display()))?;
        let log = data.with_extension("log");
        command.stderr(std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?);
        let child = command.spawn().with_context(|| format!("start {}", live.gateway.display()))?;
        let mut gateway = Self { child, mcp, admin };
        gateway.ready().await.with_context(|| format!("start the gateway (its log: {})", log.display()))?;
        Ok(gateway)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let url = format!("http://{}/readyz", self.admin);
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("it ended at once: {status}");
            }
            if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{url} was not ready within {START_TIMEOUT:?}")
    }

    /// Asks it to end, and waits until it has written what it holds.
    async fn stop(&mut self) -> anyhow::Result<()> {
        interrupt(&mut self.child)?;
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        let status = ended.with_context(|| format!("the gateway did not end within {STOP_TIMEOUT:?}"))??;
        anyhow::ensure!(status.success() || !cfg!(unix), "the gateway ended badly: {status}");
        Ok(())
    }
}

#[cfg(unix)]
fn interrupt(child: &mut Child) -> anyhow::Result<()> {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    match pid {
        Some(pid) => rustix::process::kill_process(pid, rustix::process::Signal::INT).context("interrupt the gateway"),
        None => Ok(()),
    }
}

/// There is no gentle signal for one child here; what was durable before the end is in the history.
#[cfg(not(unix))]
fn interrupt(child: &mut Child) -> anyhow::Result<()> {
    child.start_kill().context("stop the gateway")
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let probe = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(probe.local_addr()?)
}
