//! The owner's side: takes the members' events into the log, tells them what is durable, and sends them the model.
//!
//! Not here: who the owner is (`lock`), how models are made ([`ModelFeed`]).
//! A full log stops the reading, so the member's socket fills and the member keeps its events.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::tokio::{Listener, Stream};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::timeout;
use undercurrent_schemas::v1::{self, from_owner, to_owner};

use super::address::Address;
use super::frames::{Reader, Writer};
use super::{HubError, OwnerLock, PROTOCOL};
use crate::log::{GatewayLife, OwnerLog, forward_when_room};

/// A member has this long to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A member that takes nothing for this long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Members at a time; one more is not accepted until one leaves.
const MEMBERS_MAX: usize = 1_024;
/// Between attempts to accept, where the operating system refuses.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The live model, as members get it: whole, then what changes.
pub trait ModelFeed: Send + Sync + Debug {
    /// The whole model as it is now.
    fn base(&self) -> v1::ModelUpdate;

    /// What changes from now on, in order of versions.
    fn subscribe(&self) -> broadcast::Receiver<Arc<v1::ModelUpdate>>;
}

/// Serves the members of one DATA.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    log: Arc<dyn OwnerLog>,
    models: Arc<dyn ModelFeed>,
}

impl Server {
    /// Listens where the members look for the owner. Needs a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn bind(lock: &OwnerLock, log: Arc<dyn OwnerLog>, models: Arc<dyn ModelFeed>) -> Result<Self, HubError> {
        let listener = Address::of(lock.data_dir()).listen(lock)?;
        Ok(Self { listener, log, models })
    }

    /// Serves until it is dropped, and all connections with it.
    pub async fn run(self) {
        let mut members = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = members.join_next(), if !members.is_empty() => {}
                accepted = self.listener.accept(), if members.len() < MEMBERS_MAX => match accepted {
                    Ok(stream) => {
                        members.spawn(connection(stream, Arc::clone(&self.log), Arc::clone(&self.models)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "member not accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    }
}

async fn connection(stream: Stream, log: Arc<dyn OwnerLog>, models: Arc<dyn ModelFeed>) {
    let (receiver, sender) = tokio::io::split(stream);
    let mut member = Member { receiver: Reader::new(receiver), sender: Writer::new(sender), log, models };
    match member.serve().await {
        Ok(()) => tracing::debug!("member left"),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "member disconnected"),
    }
}

/// One connection.
struct Member {
    receiver: Reader<ReadHalf<Stream>, v1::ToOwner>,
    sender: Writer<WriteHalf<Stream>, v1::FromOwner>,
    log: Arc<dyn OwnerLog>,
    models: Arc<dyn ModelFeed>,
}

impl Member {
    async fn serve(&mut self) -> Result<(), HubError> {
        let hello = timeout(HELLO_TIMEOUT, self.receiver.next()).await.map_err(|_| HubError::Timeout)??;
        let Some(v1::ToOwner { body: Some(to_owner::Body::Hello(hello)) }) = hello else {
            return Err(HubError::Unexpected { expected: "hello" });
        };
        if hello.protocol != PROTOCOL {
            let reason = format!(
                "it speaks protocol {}, the owner {PROTOCOL}: run the same version of undercurrent everywhere",
                hello.protocol
            );
            send(&mut self.sender, from_owner::Body::Refused(v1::Refused { reason: reason.clone() })).await?;
            return Err(HubError::Refused { reason });
        }
        send(&mut self.sender, from_owner::Body::Welcome(v1::Welcome { protocol: PROTOCOL })).await?;
        let life = GatewayLife { gateway: hello.gateway, epoch: hello.epoch };
        tokio::select! {
            ended = receive(&mut self.receiver, &*self.log, life) => ended,
            ended = report(&mut self.sender, &*self.log, &*self.models, life) => ended,
        }
    }
}

/// Takes events into the log until the member closes.
async fn receive(
    receiver: &mut Reader<ReadHalf<Stream>, v1::ToOwner>,
    log: &dyn OwnerLog,
    life: GatewayLife,
) -> Result<(), HubError> {
    while let Some(message) = receiver.next().await? {
        let Some(to_owner::Body::Events(v1::Events { events })) = message.body else {
            return Err(HubError::Unexpected { expected: "events" });
        };
        for event in events {
            if event.id.as_ref().map(GatewayLife::of) != Some(life) {
                return Err(HubError::Unexpected { expected: "events with the member's own id" });
            }
            forward_when_room(log, &event).await;
        }
    }
    Ok(())
}

/// Tells the member what is durable and what changed in the model.
async fn report(
    sender: &mut Writer<WriteHalf<Stream>, v1::FromOwner>,
    log: &dyn OwnerLog,
    models: &dyn ModelFeed,
    life: GatewayLife,
) -> Result<(), HubError> {
    let mut durable = log.durable_of(life);
    // Also what was durable before: a member that comes back need not send that again.
    durable.mark_changed();
    let mut updates = Some(models.subscribe());
    let base = models.base();
    let mut version = base.version;
    send(sender, from_owner::Body::Model(base)).await?;
    loop {
        tokio::select! {
            Ok(()) = durable.changed() => {
                let sequence = durable.borrow_and_update().0;
                send(sender, from_owner::Body::Durable(v1::Durable { sequence })).await?;
            }
            update = next_update(&mut updates) => match update {
                Ok(update) if update.version > version => {
                    version = update.version;
                    send(sender, from_owner::Body::Model(v1::ModelUpdate::clone(&update))).await?;
                }
                // The base had it already.
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    updates = Some(models.subscribe());
                    let base = models.base();
                    version = base.version;
                    send(sender, from_owner::Body::Model(base)).await?;
                }
                Err(broadcast::error::RecvError::Closed) => updates = None,
            },
        }
    }
}

/// The next change of the model; never, where there will be none.
async fn next_update(
    updates: &mut Option<broadcast::Receiver<Arc<v1::ModelUpdate>>>,
) -> Result<Arc<v1::ModelUpdate>, broadcast::error::RecvError> {
    match updates {
        Some(updates) => updates.recv().await,
        None => std::future::pending().await,
    }
}

async fn send(sender: &mut Writer<WriteHalf<Stream>, v1::FromOwner>, body: from_owner::Body) -> Result<(), HubError> {
    let message = v1::FromOwner { body: Some(body) };
    timeout(SEND_TIMEOUT, sender.send(&message)).await.map_err(|_| HubError::Timeout)?.map_err(HubError::from)
}
