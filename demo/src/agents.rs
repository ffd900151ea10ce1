//! The population: runs a plan against an MCP endpoint, live, and writes down what each session really was.
//!
//! It is a client and nothing else: it never looks into the gateway.

pub mod address;
mod agent;
pub mod client;
mod habits;
pub mod plan;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::truth::SessionTruth;
use agent::Agent;
use client::{Client, Endpoint};
use plan::{SessionPlan, Settings};

const OPEN_SESSIONS_MAX: usize = 64;
const SESSION_TIMEOUT: Duration = Duration::from_secs(120);

/// What to drive, and how fast.
#[derive(Clone, Debug)]
pub struct Run {
    pub url: String,
    pub settings: Settings,
    /// Mean time between an answer and the next call.
    pub think: Duration,
}

/// Drives all sessions of the plan and returns what they were, in the plan's order.
pub async fn drive(run: &Run) -> anyhow::Result<Vec<SessionTruth>> {
    let own_addresses = address::own_addresses_work(host_of(&run.url).await?);
    let sessions = plan::plan(&run.settings);
    let progress = progress(sessions.len());
    let room = Arc::new(Semaphore::new(OPEN_SESSIONS_MAX));
    let began = Instant::now();
    let mut open = JoinSet::new();
    let mut truths = Vec::with_capacity(sessions.len());
    for session in sessions {
        tokio::time::sleep_until((began + session.start).into()).await;
        let permit = Arc::clone(&room).acquire_owned().await.context("the semaphore is never closed")?;
        let local = own_addresses.then(|| address::session_address(session.agent, session.number));
        let (url, think) = (run.url.clone(), run.think);
        open.spawn(async move {
            let truth = live(session, url, local, think).await;
            drop(permit);
            truth
        });
        while let Some(done) = open.try_join_next() {
            note(&progress, &mut truths, done?);
        }
    }
    while let Some(done) = open.join_next().await {
        note(&progress, &mut truths, done?);
    }
    progress.finish_and_clear();
    truths.sort_by_key(|truth: &SessionTruth| truth.number);
    Ok(truths)
}

fn note(progress: &ProgressBar, truths: &mut Vec<SessionTruth>, truth: SessionTruth) {
    progress.inc(1);
    truths.push(truth);
    let calls: usize = truths.iter().map(|truth| truth.calls).sum();
    let failed = truths.iter().filter(|truth| truth.failure.is_some()).count();
    progress.set_message(if failed == 0 {
        format!("{calls} calls")
    } else {
        format!("{calls} calls, {failed} failed")
    });
}

fn progress(sessions: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("  agents at work {bar:40.cyan/dim} {pos}/{len} sessions, {msg} {elapsed}")
            .expect("the template is fixed")
            .progress_chars("━━─");
    ProgressBar::new(sessions as u64).with_style(style)
}

async fn host_of(url: &str) -> anyhow::Result<IpAddr> {
    let parsed = reqwest::Url::parse(url).with_context(|| format!("parse --url {url}"))?;
    let host = parsed.host_str().context("--url names no host")?.to_owned();
    let port = parsed.port_or_known_default().unwrap_or(80);
    let mut found = tokio::net::lookup_host((host.as_str(), port)).await.with_context(|| format!("resolve {host}"))?;
    found.next().map(|address: SocketAddr| address.ip()).with_context(|| format!("resolve {host}"))
}

async fn live(plan: SessionPlan, url: String, local: Option<Ipv4Addr>, think: Duration) -> SessionTruth {
    let endpoint = Endpoint {
        url,
        local: local.map(IpAddr::V4),
        era: plan.era,
        name: format!("{}-{}", plan.habit.as_str(), plan.agent),
        trace: plan.seed,
    };
    let mut truth = SessionTruth {
        number: plan.number,
        agent: endpoint.name.clone(),
        habit: plan.habit.as_str().to_owned(),
        protocol_version: String::new(),
        truth: plan.intent,
        principal: local.map(|address| address.to_string()).unwrap_or_default(),
        started_at_us: now_us(),
        ended_at_us: 0,
        calls: 0,
        first_bad_call: None,
        failure: None,
    };
    if let Err(error) = walk(&plan, &endpoint, think, &mut truth).await {
        truth.failure = Some(format!("{error:#}"));
    }
    truth.ended_at_us = now_us();
    truth
}

async fn walk(
    plan: &SessionPlan,
    endpoint: &Endpoint,
    think: Duration,
    truth: &mut SessionTruth,
) -> anyhow::Result<()> {
    let client = Client::connect(endpoint).await?;
    truth.protocol_version = client.protocol_version();
    client.list_tools().await?;
    let mut agent = Agent::new(client, plan.seed, plan.intent, think);
    let walked = tokio::time::timeout(SESSION_TIMEOUT, habits::walk(plan.habit, &mut agent)).await;
    truth.calls = agent.calls;
    truth.first_bad_call = agent.first_bad_call;
    truth.truth = agent.truth();
    agent.close().await;
    walked.context("session took too long")?
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
