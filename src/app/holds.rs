//! `undercurrent hold`: what waits for a person, and the answers, through the admin listener of whoever serves.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::admin::{Answered, HeldTicket, HoldAnswer, Tickets};
use crate::cli::{HoldArgs, HoldCommand};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::edge::{Answer, Holds};

const PATIENCE: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 64 << 20;

/// The edge's tickets as the admin listener shows them.
#[derive(Debug)]
pub(super) struct EdgeTickets(pub(super) Holds);

impl Tickets for EdgeTickets {
    fn open(&self) -> Vec<HeldTicket> {
        let shown = |open: crate::edge::OpenTicket| HeldTicket {
            ticket: open.ticket,
            principal: open.call.principal,
            server: open.call.server,
            tool: open.call.tool,
            p_value: open.call.p_value,
            reasons: open.call.reasons,
            message: open.call.message,
            waited_s: open.waited.as_secs_f64(),
            is_waited_for: open.is_waited_for,
        };
        self.0.open().into_iter().map(shown).collect()
    }

    fn answer(&self, ticket: &str, answer: HoldAnswer) -> bool {
        let answer = match answer {
            HoldAnswer::Approve => Answer::Approve,
            HoldAnswer::Deny => Answer::Deny,
        };
        self.0.answer(ticket, answer).is_ok()
    }
}

/// `undercurrent hold`.
pub fn hold(args: &HoldArgs) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(run(args))
}

async fn run(args: &HoldArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.sources())?;
    let token = DataDir::open(&config.data_dir)?.admin_token().reveal().to_owned();
    let listener = Listener { at: config.listen.admin, token };
    match &args.command {
        HoldCommand::List => {
            let (status, body) = listener.ask(Method::GET, "/api/v1/holds", Bytes::new()).await?;
            anyhow::ensure!(status == StatusCode::OK, "{}", refused(status, &body));
            let tickets: Vec<HeldTicket> = serde_json::from_slice(&body).context("read the answer")?;
            show(&tickets).context("write to standard output")?;
        }
        HoldCommand::Approve { ticket } => listener.answer(ticket, HoldAnswer::Approve).await?,
        HoldCommand::Deny { ticket } => listener.answer(ticket, HoldAnswer::Deny).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(tickets: &[HeldTicket]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if tickets.is_empty() {
        return writeln!(out, "nothing waits for a person");
    }
    for held in tickets {
        let HeldTicket { ticket, principal, server, tool, waited_s, .. } = held;
        let client = if held.is_waited_for { "the client waits" } else { "the client has left; good for its next try" };
        writeln!(out, "{ticket}  {principal} calls `{tool}` of {server}, {waited_s:.0} s ago ({client})")?;
        if let Some(p) = held.p_value {
            writeln!(out, "  {:.3} % of earlier calls were as unusual", p * 100.0)?;
        }
        for reason in &held.reasons {
            writeln!(out, "  {}", printable(reason))?;
        }
        writeln!(out, "  {}", printable(&held.message))?;
    }
    Ok(())
}

/// What others wrote must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn refused(status: StatusCode, body: &[u8]) -> String {
    format!("the admin listener answered {status}: {}", String::from_utf8_lossy(body).trim())
}

/// The admin listener of a process that serves this data directory.
struct Listener {
    at: SocketAddr,
    token: String,
}

impl Listener {
    async fn answer(&self, ticket: &str, answer: HoldAnswer) -> anyhow::Result<()> {
        anyhow::ensure!(ticket.bytes().all(|byte| byte.is_ascii_alphanumeric()), "`{ticket}` is not a ticket");
        let body = serde_json::to_vec(&Answered { answer })?.into();
        let (status, body) = self.ask(Method::POST, &format!("/api/v1/holds/{ticket}"), body).await?;
        anyhow::ensure!(status.is_success(), "{}", refused(status, &body));
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.at))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let exchange = async {
            let response = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
            Ok((head.status, body.to_bytes()))
        };
        let answered: anyhow::Result<_> =
            tokio::time::timeout(PATIENCE, exchange).await.context("wait for the admin listener")?;
        answered.with_context(|| format!("ask the admin listener at {}; is `undercurrent serve` running?", self.at))
    }
}
