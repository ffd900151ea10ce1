//! What operators say about sessions, on its way to the log, and what became of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::broadcast;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::rows::{LabelOutcome, LabelRow};
use undercurrent_schemas::v1;
use undercurrent_schemas::v1::label::Verdict;

use super::node::{Node, Parts, Role, lock};
use crate::admin::{Labelled, Labeller};
use crate::edge::{Edge, Saying};
use crate::log::LogFull;

/// How long an answer to a request waits for learning; far longer than a tick.
const REQUEST_WAIT: Duration = Duration::from_secs(5);

/// How long a command waits: it may have to rebuild what was learned first.
const COMMAND_WAIT: Duration = Duration::from_secs(600);

/// Says things for this process.
#[derive(Debug)]
pub(super) struct Sayings {
    pub(super) edge: Edge,
    pub(super) role: Arc<Mutex<Role>>,
}

impl Sayings {
    async fn say(&self, session_id: &str, saying: Saying, wait: Duration) -> Labelled {
        let said = |edge: &Edge| edge.say(session_id, saying);
        self.append(session_id, saying.as_str(), wait, said).await
    }

    /// Waits for what becomes of an event about `session_id`, which table `labels` calls `label`.
    async fn append(
        &self,
        session_id: &str,
        label: &str,
        wait: Duration,
        append: impl FnOnce(&Edge) -> Result<Sequence, LogFull>,
    ) -> Labelled {
        // Before it is said: the answer may be quick.
        let outcomes = match &*lock(&self.role) {
            Role::Owner(owner) if owner.learns() => Some(owner.progress.labelled()),
            Role::Owner(_) | Role::Member | Role::Failed(_) => None,
        };
        let Ok(sequence) = append(&self.edge) else { return Labelled::Full };
        let Some(outcomes) = outcomes else { return Labelled::Accepted };
        let is_ours =
            |row: &LabelRow| row.event.sequence == sequence.0 && row.session_id == session_id && row.label == label;
        match tokio::time::timeout(wait, outcome(outcomes, is_ours)).await {
            Ok(Some(row)) if row.outcome == LabelOutcome::Applied => Labelled::Applied { parts: row.parts },
            Ok(Some(_)) => Labelled::TooOld,
            Ok(None) | Err(_) => Labelled::Accepted,
        }
    }
}

impl Labeller for Sayings {
    fn label(&self, session_id: &str, verdict: Verdict) -> Pin<Box<dyn Future<Output = Labelled> + Send + '_>> {
        let session_id = session_id.to_owned();
        Box::pin(async move { self.say(&session_id, Saying::Label(verdict), REQUEST_WAIT).await })
    }
}

/// The first outcome that is meant; `None` = the engine has stopped.
async fn outcome(
    mut outcomes: broadcast::Receiver<LabelRow>,
    is_meant: impl Fn(&LabelRow) -> bool,
) -> Option<LabelRow> {
    loop {
        match outcomes.recv().await {
            Ok(row) if is_meant(&row) => return Some(row),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

/// Says the same of many sessions, as the owner of DATA; says nothing at all where there are none, but brings everything
/// that is derived from the log up to date.
pub(super) async fn commands(
    parts: &Parts,
    sessions: &std::collections::BTreeSet<String>,
    saying: Saying,
) -> anyhow::Result<Vec<Labelled>> {
    let node = Node::join(parts, None)?;
    let sayings = Sayings { edge: node.edge.clone(), role: Arc::clone(&node.role) };
    let mut outcomes = Vec::with_capacity(sessions.len());
    for session in sessions {
        outcomes.push(sayings.say(session, saying, COMMAND_WAIT).await);
    }
    node.leave().await.context("take it to the log")?;
    Ok(outcomes)
}

/// Says what another site learned, or takes it back, as a command: through the owner of DATA, or as its owner.
pub(super) async fn import(parts: &Parts, id: &str, import: v1::ModelImport) -> anyhow::Result<Labelled> {
    let node = Node::join(parts, None)?;
    let sayings = Sayings { edge: node.edge.clone(), role: Arc::clone(&node.role) };
    let label = if import.withdrawn { "forget" } else { "import" };
    let outcome = sayings.append(id, label, COMMAND_WAIT, |edge| edge.import(id, import)).await;
    node.leave().await.context("take it to the log")?;
    Ok(outcome)
}

/// Says one thing as a command: through the owner of DATA, or as its owner.
pub(super) async fn command(parts: &Parts, session_id: &str, saying: Saying) -> anyhow::Result<Labelled> {
    let node = Node::join(parts, None)?;
    let sayings = Sayings { edge: node.edge.clone(), role: Arc::clone(&node.role) };
    let labelled = sayings.say(session_id, saying, COMMAND_WAIT).await;
    node.leave().await.context("take it to the log")?;
    Ok(labelled)
}
