//! `/mcp`: one virtual server that stands for all upstreams, where the settings ask for it.
//!
//! The life of a request: `Gateway::answer` (caller, rate, body) → here (era, session, method) → `routes` (one upstream) or
//! `lists`, `opening`, `streams` (all of them) → `member` (an ordinary call of each upstream). The strict relay asks for a
//! `shortcut` first, by which most tool calls go as fast as on an upstream's own endpoint. Not here: decisions, taps,
//! breakers, limits; each upstream's own way has them. Invariant: an upstream's own endpoint is untouched by all this; of what
//! an upstream says, names, return addresses and the frame around lists change, and no other byte.

mod addresses;
mod ask;
mod events;
mod lists;
mod member;
mod names;
mod offers;
mod opening;
mod routes;
mod sessions;
mod shortcut;
mod streams;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::ask::Failure;
pub(in crate::gateway) use self::events::Addresser;
use self::lists::Kind;
use self::member::{Caller, Headers, Member, Message};
use self::sessions::Sessions;
pub(in crate::gateway) use self::shortcut::Shortcut;
use super::Upstream;
use super::call::{Body, Call, Era, protocol_version, whole};
use super::envelope::{self, Envelope, Shape};
use super::rescue::Refusal;
use super::shared::Shared;
use super::stdio::LEGACY_VERSIONS;
use crate::config;

/// Where it is.
pub(super) const PATH: &str = "/mcp";
/// What metrics call it.
pub(super) const NAME: &str = "aggregate";

/// All upstreams as one.
#[derive(Debug)]
pub(super) struct Aggregate {
    settings: config::Aggregate,
    /// In the order of their names.
    members: Vec<Arc<Member>>,
    sessions: Arc<Sessions>,
    shared: Arc<Shared>,
    /// For what goes on without the request that began it.
    this: Weak<Self>,
    /// Numbers the gateway's own requests.
    asked: AtomicU64,
}

impl Aggregate {
    /// `knows_callers`: the gateway verifies who calls. Sessions of `before` go on.
    pub(super) fn new<'a>(
        settings: config::Aggregate,
        upstreams: impl Iterator<Item = (&'a str, &'a Upstream)>,
        knows_callers: bool,
        before: Option<&Self>,
        shared: &Arc<Shared>,
    ) -> Arc<Self> {
        let idle = shared.config.timeouts.session_idle;
        let sessions = before.map_or_else(|| Arc::new(Sessions::new(idle)), |before| Arc::clone(&before.sessions));
        let is_named = |name: &str| settings.upstreams.contains(name);
        let members = upstreams.filter(|(name, _)| settings.upstreams.is_empty() || is_named(name));
        let member = |(name, upstream): (&str, &Upstream)| {
            let is_passed_through = match upstream {
                Upstream::Http(upstream) => upstream.first().is_passed_through(),
                Upstream::Stdio(_) => false,
            };
            // A credential of the gateway's leaves it only for an upstream that somebody named.
            let takes_credential = is_passed_through && (!knows_callers || is_named(name));
            Arc::new(Member::new(name, &settings.separator, upstream.clone(), takes_credential))
        };
        let members = members.map(member).collect();
        let (shared, asked) = (Arc::clone(shared), AtomicU64::new(0));
        Arc::new_cyclic(|this| Self { members, settings, sessions, shared, this: this.clone(), asked })
    }

    /// Answers a request whose caller is known and may ask.
    pub(super) async fn answer(self: Arc<Self>, call: Call) -> Response<Body> {
        let answered = match call.era {
            Era::Legacy => Box::pin(self.legacy(&call)).await,
            Era::Modern => Box::pin(self.modern(&call)).await,
        };
        let (response, outcome) = match answered {
            Ok(response) => (response, "relayed"),
            Err(refusal) => {
                tracing::debug!(server = NAME, reason = refusal.reason(), "request refused");
                (whole(refusal.response(&call.ids())), refusal.reason())
            }
        };
        self.shared.metrics.requests.with_label_values(&[NAME, outcome]).inc();
        response
    }

    async fn legacy(self: &Arc<Self>, call: &Call) -> Result<Response<Body>, Refusal> {
        if protocol_version(&call.head.headers).is_some_and(|version| !LEGACY_VERSIONS.contains(&version)) {
            return Err(Refusal::InvalidMessage("this MCP-Protocol-Version is not supported"));
        }
        if call.opens {
            return self.initialize(call).await;
        }
        let id = call.session_id().ok_or(Refusal::MissingSession)?;
        let session = self.sessions.get(id, &call.client)?;
        let caller = Caller::new(call, Some(Arc::clone(&session)));
        match call.head.method {
            Method::POST => self.post(&caller, &call.body).await,
            Method::GET => {
                let last = call.head.headers.get(member::LAST_EVENT_ID).and_then(|id| id.to_str().ok());
                let last = last.and_then(events::of_event);
                match last.and_then(|(name, id)| Some((name, http::HeaderValue::from_str(id).ok()?))) {
                    Some((name, id)) => self.resume(&caller, &session, name, id).await,
                    None => self.listen(caller, session),
                }
            }
            Method::DELETE => {
                self.sessions.remove(id);
                self.end(&caller, &session).await;
                Ok(status(StatusCode::OK))
            }
            _ => Err(Refusal::MethodNotAllowed { allow: "GET, POST, DELETE" }),
        }
    }

    async fn modern(self: &Arc<Self>, call: &Call) -> Result<Response<Body>, Refusal> {
        if call.head.method != Method::POST {
            return Err(Refusal::MethodNotAllowed { allow: "POST" });
        }
        self.post(&Caller::new(call, None), &call.body).await
    }

    async fn post(self: &Arc<Self>, caller: &Caller, body: &Bytes) -> Result<Response<Body>, Refusal> {
        let message = match Envelope::read(body) {
            Envelope::One(message) => message,
            Envelope::Batch(_) => return Err(Refusal::InvalidMessage("batches are taken at /mcp/NAME alone")),
            Envelope::Unreadable => return Err(Refusal::Parse),
        };
        match (message.shape(), message.id) {
            (Shape::Request, Some(id)) => self.request(caller, &message, id, body).await,
            (Shape::Request | Shape::Notification, _) => {
                self.notification(caller, message.method.as_deref().unwrap_or_default(), body).await;
                Ok(status(StatusCode::ACCEPTED))
            }
            (Shape::Response, _) => self.returned(caller, body).await,
        }
    }

    async fn request(
        self: &Arc<Self>,
        caller: &Caller,
        message: &envelope::Message<'_>,
        id: &RawValue,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let method = message.method.as_deref().unwrap_or_default();
        let params = Params::read(message.params)?;
        if let Some(kind) = Kind::of(method) {
            return self.list(caller, kind, id, &params, body).await;
        }
        match (method, caller.era) {
            ("tools/call", _) => self.call_named(caller, Kind::Tools, &params, body).await,
            ("prompts/get", _) => self.call_named(caller, Kind::Prompts, &params, body).await,
            ("resources/read", _) | ("resources/subscribe" | "resources/unsubscribe", Era::Legacy) => {
                self.call_uri(caller, &params, body).await
            }
            ("completion/complete", _) => self.complete(caller, &params, body).await,
            ("server/discover", Era::Modern) => self.discover(caller, id, body).await,
            ("subscriptions/listen", Era::Modern) => self.subscribe(caller, body).await,
            ("ping", Era::Legacy) => Ok(result(id, "{}")),
            ("logging/setLevel", Era::Legacy) => self.set_level(caller, id, body).await,
            (_, era) => Err(Refusal::NotOffered(era)),
        }
    }

    /// Tells every upstream what the client says to nobody in particular.
    async fn notification(&self, caller: &Caller, method: &str, body: &Bytes) {
        match method {
            "notifications/initialized" if caller.era == Era::Legacy => self.initialized(caller).await,
            "notifications/progress" => drop(self.returned(caller, body).await),
            _ => {
                let open = self.members.iter().filter(|member| {
                    caller.session.as_ref().is_none_or(|session| session.at(&member.name).now().is_some())
                });
                let message = Message::post(body.clone(), Headers::Kept);
                join_all(open.map(|member| self.ask(caller, member, &message))).await;
            }
        }
    }

    /// Says so wherever an answer or a list has to do without an upstream.
    fn left_out(&self, member: &Member, method: &str, failure: &Failure) {
        tracing::warn!(upstream = %member.name, method, %failure, "upstream left out");
        self.shared.metrics.left_out.with_label_values(&[&*member.name]).inc();
    }

    fn known(&self) -> String {
        self.members.iter().map(|member| &*member.name).collect::<Vec<_>>().join(", ")
    }

    /// An id for a request of the gateway's own, as JSON text.
    fn own_id(&self) -> String {
        format!("\"undercurrent-{}\"", self.asked.fetch_add(1, Ordering::Relaxed))
    }

    fn bytes_max(&self) -> usize {
        self.shared.config.limits.capture_bytes_max
    }
}

/// The params that say where a request goes.
#[derive(Debug, Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

impl<'a> Params<'a> {
    fn read(params: Option<&'a RawValue>) -> Result<Self, Refusal> {
        let Some(params) = params else { return Ok(Self::default()) };
        envelope::object(params.get().as_bytes()).ok_or(Refusal::InvalidMessage("params are not an object"))
    }
}

fn text(value: &RawValue) -> Result<Cow<'_, str>, Refusal> {
    serde_json::from_str::<String>(value.get())
        .map(Cow::Owned)
        .map_err(|_| Refusal::InvalidMessage("a name or URI is not a text"))
}

/// The gateway's own result for a request.
fn result(id: &RawValue, result: &str) -> Response<Body> {
    let mut response =
        Response::new(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get())));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    whole(response)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    whole(response)
}

/// Of several that failed, what a client is told.
fn all_failed(failures: Vec<Failure>) -> Result<Response<Body>, Refusal> {
    let refused = failures.into_iter().find_map(|failure| match failure {
        Failure::Refused(answer) => Some(answer),
        _ => None,
    });
    refused.map(ask::Answer::respond).ok_or(Refusal::NoneAnswered)
}
