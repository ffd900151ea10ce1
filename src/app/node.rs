//! One process among those that share a DATA: its edge, and whoever writes the log for it.
//!
//! The process that finds DATA free owns it. Any other one is a member: it sends its events to the owner, and takes
//! over when the owner goes; its edge notices neither.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use undercurrent_dataflows::model::{ModelSlot, Publisher};
use undercurrent_schemas::v1;

use super::models;
use super::owner::Owner;
use super::settings;
use crate::clock::EventClock;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::edge::{Edge, Recorder};
use crate::engine::Cluster;
use crate::hub::{Claim, HubError, MemberLimits, MemberLog, ModelFeed as _, OwnerLock, claim};
use crate::log::EventLog;
use crate::telemetry::Metrics;

/// How often the edge forgets idle sessions.
const SWEEP: Duration = Duration::from_secs(10);

/// How long a member that leaves waits for its events to be durable.
const LEAVE: Duration = Duration::from_secs(10);

/// What this process is to DATA at present.
#[derive(Debug, Default)]
pub(super) enum Role {
    #[default]
    Member,
    Owner(Box<Owner>),
    /// It could not become the owner.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) edge: Edge,
    pub(super) role: Arc<Mutex<Role>>,
    member: Option<(Arc<MemberLog>, JoinHandle<()>)>,
    sweeper: JoinHandle<()>,
    recorder: Option<Recorder>,
}

/// What a node is made of; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) data: Arc<DataDir>,
    pub(super) config: Arc<Config>,
    pub(super) metrics: Metrics,
    pub(super) learning: Learning,
}

/// Where the traffic of this process is learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learning {
    /// In this process, which also relays.
    Here,
    /// In an engine process: this one relays, and takes the models that it publishes.
    Elsewhere,
    /// In this process, which relays nothing, and those that are one engine with it.
    Alone(Option<Cluster>),
}

impl Learning {
    /// Gateways and engines meet on topics alone.
    pub(super) fn needs_kafka(&self, config: &Config) -> anyhow::Result<()> {
        anyhow::ensure!(
            config.log.kafka.is_some(),
            "a gateway and an engine of their own meet on Kafka: set log.backend = \"kafka\" and kafka.bootstrap_servers, or \
             run both in one process with `undercurrent serve`"
        );
        Ok(())
    }
}

impl Node {
    /// Joins DATA. Needs a tokio runtime.
    pub(super) fn join(parts: &Parts, recorder: Option<Recorder>) -> anyhow::Result<Self> {
        let (log, models, clock, role, member): (Arc<dyn EventLog>, _, _, _, _) = match claim(parts.data.root())? {
            Claim::Owner(lock) => {
                let owner = own(lock, parts)?;
                let (log, models, clock) =
                    (Arc::clone(&owner.log), owner.models().clone(), Arc::clone(owner.log.clock()));
                (log as Arc<dyn EventLog>, models, clock, Role::Owner(Box::new(owner)), None)
            }
            Claim::Member => {
                let clock = Arc::new(EventClock::default());
                let member = Arc::new(MemberLog::new(limits(&parts.config), Arc::clone(&clock))?);
                let (publisher, models) = Publisher::new();
                (Arc::clone(&member) as Arc<dyn EventLog>, models, clock, Role::Member, Some((member, publisher)))
            }
        };
        let role = Arc::new(Mutex::new(role));
        let member = member.map(|(member, publisher)| {
            let task = tokio::spawn(be_member(Arc::clone(&member), publisher, parts.clone(), Arc::clone(&role)));
            (member, task)
        });
        let edge = edge(parts, log, models, clock, recorder.clone())?;
        let sweeper = tokio::spawn(sweep(edge.clone()));
        Ok(Self { edge, role, member, sweeper, recorder })
    }

    /// Takes what was accepted to where it is safe, and leaves DATA.
    pub(super) async fn leave(self) -> anyhow::Result<()> {
        self.sweeper.abort();
        if let Some((member, task)) = self.member {
            let safe = async {
                while member.unacked_events() > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if tokio::time::timeout(LEAVE, safe).await.is_err() {
                tracing::error!(events = member.unacked_events(), "leaving with events that nobody took");
            }
            task.abort();
            // Its hold on the owner's parts must be gone before they are stopped.
            let _ = task.await;
        }
        let role = std::mem::take(&mut *lock(&self.role));
        let stopped = match role {
            Role::Owner(owner) => tokio::task::spawn_blocking(move || owner.stop()).await?,
            Role::Member => Ok(()),
            Role::Failed(reason) => Err(anyhow::anyhow!(reason)),
        };
        if let Some(recorder) = self.recorder {
            tokio::task::spawn_blocking(move || recorder.finish()).await??;
        }
        stopped
    }
}

pub(super) fn lock(role: &Mutex<Role>) -> std::sync::MutexGuard<'_, Role> {
    role.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own(lock: OwnerLock, parts: &Parts) -> anyhow::Result<Owner> {
    let Parts { data, config, metrics, learning } = parts;
    match learning {
        Learning::Here | Learning::Alone(_) => Owner::start(lock, data, config, metrics, learning),
        Learning::Elsewhere => Owner::follow(lock, data, config, metrics),
    }
}

fn limits(config: &Config) -> MemberLimits {
    MemberLimits { events_max: config.log.queue_events_max, bytes_max: config.log.queue_bytes_max }
}

fn edge(
    parts: &Parts,
    log: Arc<dyn EventLog>,
    models: ModelSlot,
    clock: Arc<EventClock>,
    recorder: Option<Recorder>,
) -> anyhow::Result<Edge> {
    let settings = settings::edge(&parts.config, parts.data.digest_key().clone());
    let policy = settings::policy(&parts.config)?;
    Ok(Edge::new(settings, policy, log, models, clock, Arc::clone(&parts.metrics.edge), recorder))
}

async fn sweep(edge: Edge) {
    let mut interval = tokio::time::interval(SWEEP);
    loop {
        interval.tick().await;
        edge.sweep();
    }
}

/// Serves the owner, then takes its place.
async fn be_member(member: Arc<MemberLog>, mut publisher: Publisher, parts: Parts, role: Arc<Mutex<Role>>) {
    let owned = member.run_until_owner(parts.data.root(), |update| models::take(&mut publisher, update)).await;
    let owner = match owned {
        Ok(owner_lock) => {
            let parts = parts.clone();
            tokio::task::spawn_blocking(move || own(owner_lock, &parts)).await
        }
        Err(error) => Ok(Err(failed(error))),
    };
    match owner {
        Ok(Ok(owner)) => {
            tracing::info!("this process now owns the data directory");
            let (log, feed) = (Arc::clone(&owner.log), Arc::clone(&owner.feed));
            *lock(&role) = Role::Owner(Box::new(owner));
            tokio::join!(member.run_into(&*log), follow(&feed, &mut publisher));
        }
        Ok(Err(error)) => {
            tracing::error!(error = %format!("{error:#}"), "take over the data directory");
            *lock(&role) = Role::Failed(format!("{error:#}"));
        }
        Err(panic) => *lock(&role) = Role::Failed(panic.to_string()),
    }
}

fn failed(error: HubError) -> anyhow::Error {
    anyhow::Error::from(error).context("join the data directory")
}

/// Makes the owner's models live in the edge that was a member's.
async fn follow(feed: &models::Feed, publisher: &mut Publisher) {
    use tokio::sync::broadcast::error::RecvError;
    let mut updates = feed.subscribe();
    models::take(publisher, feed.base());
    loop {
        match updates.recv().await {
            Ok(update) => models::take(publisher, v1::ModelUpdate::clone(&update)),
            Err(RecvError::Lagged(_)) => models::take(publisher, feed.base()),
            Err(RecvError::Closed) => return,
        }
    }
}
