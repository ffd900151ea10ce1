//! One child for all clients of the era without sessions: ids and tokens are made unique on the way in, and put back
//! on the way out.
//!
//! Not here: HTTP. Invariant: a message goes to the request that it names (answer, progress token, subscription), or,
//! naming none, to the only open request; where several are open it goes nowhere, for clients must not read each
//! other's messages. A client that leaves has cancelled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::params::{Param, Tools};
use super::replies::{Accept, Answer, Expected, Limit, OnLeave, Replies, Reply};
use super::session::{SessionLimits, cancellation};
use crate::edge::splice;
use crate::edge::{EdgeSession, Permit};
use crate::gateway::deadline::Patience;
use crate::gateway::envelope::RequestIds;
use crate::gateway::rescue::Refusal;
use crate::gateway::ties::Ties;
use crate::upstream::link::{Line, LinkReceiver, LinkSender};

/// Messages on their way to one client; one that does not read them loses its stream, as others need the child.
const STREAM_QUEUE: usize = 256;

/// A child and its open requests.
#[derive(Debug)]
pub(super) struct SharedChild {
    sender: LinkSender,
    state: Mutex<State>,
    limits: SessionLimits,
    stop: CancellationToken,
    tools: Tools,
    /// Held while the child is asked for its tools: all who want to know wait for one answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// By the number that the child knows the request by.
    open: BTreeMap<u64, Open>,
    next: u64,
    used: Instant,
    ended: bool,
}

#[derive(Clone, Debug)]
struct Open {
    id: String,
    token: Option<String>,
    /// Messages besides the answer can be sent along.
    events: bool,
    lists_tools: bool,
    /// `None`: it is the gateway that asks.
    edge: Option<Arc<EdgeSession>>,
    replies: mpsc::Sender<Reply>,
}

/// One message of a client, and whose it is.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) text: &'a [u8],
    pub(super) ties: &'a Ties<'a>,
    pub(super) edge: Option<Arc<EdgeSession>>,
    pub(super) accept: Accept,
}

/// Pages of a list of tools that are read.
const PAGES_MAX: usize = 64;

impl SharedChild {
    pub(super) fn start(
        (sender, receiver): (LinkSender, LinkReceiver),
        limits: SessionLimits,
        unread: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let state = State { open: BTreeMap::new(), next: 1, used: Instant::now(), ended: false };
        let stop = CancellationToken::new();
        let (tools, asking) = (Tools::default(), tokio::sync::Mutex::default());
        let child = Arc::new(Self { sender, state: Mutex::new(state), limits, stop, tools, asking });
        let pumped = Arc::clone(&child);
        tokio::spawn(async move {
            pumped.pump(receiver, &unread).await;
            pumped.end();
        });
        child
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// It takes no more requests.
    pub(super) fn has_ended(&self) -> bool {
        self.sender.is_closed() || self.state().ended
    }

    /// Passes a request on, and waits for what comes back.
    pub(super) async fn request(
        self: &Arc<Self>,
        permit: Permit,
        request: Incoming<'_>,
        patience: Duration,
    ) -> Result<Answer, Refusal> {
        drop(permit);
        self.exchange(request, patience).await
    }

    /// What callers of a tool repeat as headers, from the lists that have passed, else from the child itself.
    pub(super) async fn params(
        self: &Arc<Self>,
        tool: &str,
        version: &str,
        patience: Duration,
    ) -> Result<Arc<[Param]>, Refusal> {
        if let Some(params) = self.tools.params(tool) {
            return Ok(params);
        }
        let _asking = self.asking.lock().await;
        if self.tools.params(tool).is_none() {
            self.ask_for_tools(version, patience).await?;
            self.tools.asked();
        }
        Ok(self.tools.params(tool).unwrap_or_default())
    }

    /// No message of a client, so no decision is due: it changes nothing, and nobody but the gateway reads the answer.
    async fn ask_for_tools(self: &Arc<Self>, version: &str, patience: Duration) -> Result<(), Refusal> {
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut params = serde_json::json!({ "_meta": {
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientCapabilities": {},
            } });
            if let Some(cursor) = cursor {
                params["cursor"] = cursor.into();
            }
            let text = serde_json::json!({ "jsonrpc": "2.0", "id": 0, "method": "tools/list", "params": params });
            let text = text.to_string();
            let ties = Ties::read(text.as_bytes()).ok_or(Refusal::Parse)?;
            let accept = Accept { json: true, events: false };
            let request = Incoming { text: text.as_bytes(), ties: &ties, edge: None, accept };
            let Answer::Json(answer) = self.exchange(request, patience).await? else { return Ok(()) };
            cursor = self.tools.learn(&answer);
            if cursor.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn exchange(self: &Arc<Self>, request: Incoming<'_>, patience: Duration) -> Result<Answer, Refusal> {
        let accept = request.accept;
        let (number, replies) = self.register(&request)?;
        let number = number.to_string();
        let text = splice(request.text, &[(request.ties.id, &number), (request.ties.token, &number)]);
        self.sender.send(&text).await.map_err(|_| Refusal::UpstreamGone)?;
        replies.first(accept, patience).await
    }

    /// Passes a notification on.
    pub(super) async fn notify(&self, permit: Permit, text: &[u8]) -> Result<(), Refusal> {
        drop(permit);
        self.sender.send(text).await.map_err(|_| Refusal::UpstreamGone)
    }

    fn register(self: &Arc<Self>, request: &Incoming<'_>) -> Result<(u64, Replies), Refusal> {
        let mut state = self.state();
        if state.ended {
            return Err(Refusal::UpstreamGone);
        }
        if state.open.len() >= self.limits.open_requests_max {
            return Err(Refusal::TooManyRequests);
        }
        let number = state.next;
        state.next += 1;
        state.used = Instant::now();
        let (replies, receiver) = mpsc::channel(STREAM_QUEUE);
        let text = |value: Option<&RawValue>| value.map(|value| value.get().to_owned());
        let id = text(request.ties.id).unwrap_or_default();
        let (token, edge) = (text(request.ties.token), request.edge.clone());
        let lists_tools = request.ties.method.as_deref() == Some("tools/list");
        // What is listened to may be silent.
        let listens = request.ties.method.as_deref() == Some("subscriptions/listen");
        let patience = Patience::new(&self.limits.timeouts);
        let limit = (!listens).then(|| Limit { patience, id: id.clone() });
        state.open.insert(number, Open { id, token, events: request.accept.events, lists_tools, edge, replies });
        let child: Weak<Self> = Arc::downgrade(self);
        let on_leave = OnLeave::new(move || {
            if let Some(child) = child.upgrade() {
                child.cancel(number);
            }
        });
        Ok((number, Replies { on_leave, streams: true, limit, ..Replies::new(receiver, Expected::One) }))
    }

    /// Forgets a request, and tells the child if it has not answered yet.
    fn cancel(&self, number: u64) {
        let open = self.state().open.remove(&number);
        if open.is_some() {
            let cancelled = cancellation(&number.to_string(), "client left");
            if self.sender.try_send(cancelled.as_bytes()).is_err() {
                tracing::debug!("child does not read, so it is not told of a cancellation");
            }
        }
    }

    async fn pump(&self, mut receiver: LinkReceiver, unread: &(impl Fn(&'static str) + Sync)) {
        loop {
            let idle_at = self.state().used + self.limits.timeouts.session_idle;
            let line = tokio::select! {
                line = receiver.next() => line,
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(idle_at) => {
                    if self.end_if_idle() {
                        return;
                    }
                    continue;
                }
            };
            match line {
                Some(Line::Message(line)) => self.deliver(&line, unread),
                Some(Line::TooLong) => unread("too_large"),
                None => return,
            }
        }
    }

    fn deliver(&self, line: &[u8], unread: &impl Fn(&'static str)) {
        let Some(ties) = Ties::read(line) else { return unread("malformed") };
        let Some((number, open)) = self.addressee(&ties) else { return unread("unaddressed") };
        let known = number.to_string();
        let own = |value: Option<&'_ RawValue>| value.is_some_and(|value| value.get() == known);
        let answer = ties.method.is_none();
        let edits = [
            (ties.id.filter(|_| answer), &*open.id),
            (ties.token.filter(|_| own(ties.token)), open.token.as_deref().unwrap_or(&open.id)),
            (ties.subscription.filter(|_| own(ties.subscription)), &*open.id),
            (ties.request.filter(|_| own(ties.request)), &*open.id),
        ];
        let text = Bytes::from(splice(line, &edits));
        if answer && open.lists_tools {
            self.tools.learn(line);
        }
        let shown = open.edge.as_ref().and_then(|edge| edge.shown(&text)).map_or_else(|| text.clone(), Bytes::from);
        let reply = if answer { Reply::answer(shown) } else { Reply::message(shown) };
        if (answer || open.events) && open.replies.try_send(reply).is_err() {
            unread("slow_client");
            self.cancel(number);
        }
        if let Some(edge) = &open.edge {
            edge.server_message_later(text, drop);
        }
    }

    /// Whom a message is for. An answer takes its request with it.
    fn addressee(&self, ties: &Ties<'_>) -> Option<(u64, Open)> {
        let number = |value: Option<&RawValue>| value.and_then(|value| value.get().parse::<u64>().ok());
        let mut state = self.state();
        if ties.method.is_none() {
            state.used = Instant::now();
            let number = number(ties.id)?;
            return Some((number, state.open.remove(&number)?));
        }
        // Requests of the server are not part of this era.
        if ties.id.is_some() {
            return None;
        }
        let named = [ties.subscription, ties.token, ties.request].into_iter().flatten().next();
        let number = match named {
            Some(value) => number(Some(value))?,
            None if state.open.len() == 1 => *state.open.first_key_value()?.0,
            None => return None,
        };
        Some((number, state.open.get(&number)?.clone()))
    }

    fn end_if_idle(&self) -> bool {
        let mut state = self.state();
        if !state.open.is_empty() {
            state.used = Instant::now();
            return false;
        }
        // Under the same lock as `register`: no request can slip in between.
        state.ended = state.used.elapsed() >= self.limits.timeouts.session_idle;
        state.ended
    }

    /// Answers whoever still waits.
    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        for open in std::mem::take(&mut state.open).into_values() {
            let error = Refusal::UpstreamGone.message(&RequestIds::One(open.id));
            // A full queue has a reader that finds its end missing, which says the same.
            let _ = open.replies.try_send(Reply::answer(error.into()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
