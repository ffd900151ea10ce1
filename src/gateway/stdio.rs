//! A stdio upstream behind HTTP: the server side of Streamable HTTP in front of child processes.
//!
//! Legacy clients get a child each, from `initialize` to DELETE (`session`); clients of the era without sessions share
//! one, with ids remapped (`shared`). Not here: processes (`upstream::link`), how answers become responses
//! (`replies`). Invariant: no message reaches a client that it was not meant for; where that cannot be told, it is
//! dropped and counted.

mod events;
pub(super) mod headers;
mod journal;
mod messages;
mod params;
mod polling;
mod replies;
mod session;
mod shared;

#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;

use self::journal::EventId;
use self::messages::Messages;
use self::polling::Polling;
use self::replies::{Accept, Answer};
pub(super) use self::session::cancellation;
use self::session::{Opened, Session, SessionLimits};
use self::shared::{Incoming, SharedChild};
use super::admission::{Admission, Slots};
use super::call::{Body, Call, Era, protocol_version};
use super::envelope::object;
use super::first_sse;
use super::metrics::Counted;
use super::rescue::Refusal;
use super::shared::{Account, Shared};
use crate::edge::{EdgeSession, Permit};
use crate::upstream::link::{Launcher, LinkReceiver, LinkSender};
use crate::upstream::{StdioCommand, UpstreamConfig};

/// Revisions that have sessions.
pub(super) const LEGACY_VERSIONS: [&str; 5] = ["2024-10-07", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The first revision in which a stream may open with an event without data.
const FIRST_WITH_OPENINGS: &str = "2025-11-25";

/// One stdio upstream.
#[derive(Debug)]
pub(crate) struct StdioUpstream {
    name: Arc<str>,
    shared: Arc<Shared>,
    admission: Admission,
    polling: Arc<Polling>,
    /// Gone once the gateway closes: nothing starts any more.
    launcher: Mutex<Option<Launcher>>,
    sessions: Arc<Mutex<HashMap<String, Arc<Session>>>>,
    child: Mutex<Option<Arc<SharedChild>>>,
    /// Ends when the launcher and all children are gone.
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

impl StdioUpstream {
    pub(crate) fn new(config: &UpstreamConfig, command: StdioCommand, shared: Arc<Shared>) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let open = shared.metrics.breaker_open.with_label_values(&[&*name]);
        let admission = Admission::new(&config.terms, Slots::new(&config.terms), open);
        let polling = Arc::new(Polling::new(shared.config.stdio, &name, &shared.metrics));
        let (alive, ended) = mpsc::channel(1);
        let launcher = Launcher {
            name: Arc::clone(&name),
            command,
            line_bytes_max: shared.config.limits.line_bytes_max,
            patience: shared.config.timeouts.child_exit,
            alive,
        };
        let (launcher, ended) = (Mutex::new(Some(launcher)), Mutex::new(Some(ended)));
        Self { name, shared, admission, polling, launcher, sessions: Arc::default(), child: Mutex::default(), ended }
    }

    pub(crate) async fn answer(&self, call: Call) -> Response<Body> {
        let mut account = Account::open(&self.shared, &self.name, &call);
        if let Err(refusal) = account.admit(&self.admission, &call) {
            return account.refuse(&refusal, &call);
        }
        let era = era(&call);
        let answered = match era {
            Era::Legacy => self.legacy(&call, &account).await,
            Era::Modern => self.modern(&call, &account).await.map(|answer| (answer, None)),
        };
        match answered {
            Ok((answer, session_id)) => {
                answer.respond(account, session_id.as_deref(), |error_type| status(era, &call.body, error_type))
            }
            Err(refusal) => account.refuse(&refusal, &call),
        }
    }

    /// Ends all children, and returns when they have ended.
    pub(crate) async fn close(&self) {
        drop(lock(&self.launcher).take());
        self.sessions().values().for_each(|session| session.stop());
        if let Some(child) = self.child().take() {
            child.stop();
        }
        let ended = lock(&self.ended).take();
        if let Some(mut ended) = ended {
            // Nothing is ever sent: this waits for the last child to let go of its end.
            ended.recv().await;
        }
    }

    async fn legacy(&self, call: &Call, account: &Account) -> Result<(Answer, Option<String>), Refusal> {
        if protocol_version(&call.head.headers).is_some_and(|version| !LEGACY_VERSIONS.contains(&version)) {
            return Err(Refusal::InvalidMessage("this MCP-Protocol-Version is not supported"));
        }
        if call.opens {
            return self.open(call, account).await;
        }
        if call.head.method == Method::GET && call.session_id().is_none() && Accept::of(&call.head.headers).events {
            return Ok((self.open_stream(call)?, None));
        }
        let id = call.session_id().ok_or(Refusal::MissingSession)?;
        let session = self.sessions().get(id).map(Arc::clone);
        let usable =
            |session: &Arc<Session>| call.may_use(&session.edge) && session.is_one_stream() == call.by_first_sse;
        let session = session.filter(usable).ok_or(Refusal::UnknownSession)?;
        account.of_session(&session.edge);
        let answer = match call.head.method {
            Method::POST => self.post(&session, call, account).await?,
            Method::GET => session.listen(last_event(call))?,
            Method::DELETE => {
                self.sessions().remove(id);
                session.stop();
                Answer::Status(StatusCode::OK)
            }
            _ => return Err(Refusal::MethodNotAllowed { allow: "GET, POST, DELETE" }),
        };
        Ok((answer, None))
    }

    /// A new session, for an `initialize` request.
    async fn open(&self, call: &Call, account: &Account) -> Result<(Answer, Option<String>), Refusal> {
        let id = new_id()?;
        let edge = self.shared.edge.session(&call.session_named(&self.name, Some(&id)));
        let messages = Messages::read(&call.body)?;
        let permit = decide(account, &edge, call).await?;
        let opened = Opened { edge, knows_openings: knows_openings(&call.body), one_stream: false };
        let session = self.start(&id, opened)?;
        let patience = self.shared.config.timeouts.response;
        let answer = session.post(permit, &messages, Accept::of(&call.head.headers), patience).await;
        let refused = match &answer {
            Ok(Answer::Json(body)) => super::envelope::error_type(body).is_some(),
            Ok(Answer::Events(..) | Answer::Status(_)) => false,
            Err(_) => true,
        };
        if refused {
            self.sessions().remove(&id);
            session.stop();
            return answer.map(|answer| (answer, None));
        }
        answer.map(|answer| (answer, Some(id)))
    }

    /// A session of 2024-11-05: it begins with its stream.
    fn open_stream(&self, call: &Call) -> Result<Answer, Refusal> {
        let id = new_id()?;
        let edge = self.shared.edge.session(&call.session_named(&self.name, Some(&id)));
        let session = self.start(&id, Opened { edge, knows_openings: false, one_stream: true })?;
        Ok(session.stream(first_sse::path(&self.name, &id)))
    }

    fn start(&self, id: &str, opened: Opened) -> Result<Arc<Session>, Refusal> {
        // Held until the session is in the map, so that two cannot take the last place.
        let mut sessions = self.sessions();
        if sessions.len() >= self.shared.config.limits.sessions_max {
            return Err(Refusal::TooManySessions);
        }
        let link = self.launch()?;
        let (all, own_id) = (Arc::clone(&self.sessions), id.to_owned());
        let ended = move || drop(lock(&all).remove(&own_id));
        let counted = Counted::new(&self.shared.metrics.sessions);
        let polling = Arc::clone(&self.polling);
        let session = Session::start(link, opened, self.session_limits(), polling, counted, self.unread(), ended);
        sessions.insert(id.to_owned(), Arc::clone(&session));
        Ok(session)
    }

    async fn post(&self, session: &Session, call: &Call, account: &Account) -> Result<Answer, Refusal> {
        let messages = Messages::read(&call.body)?;
        let permit = decide(account, &session.edge, call).await?;
        if session.is_one_stream() {
            return session.pass(permit, &messages).await;
        }
        session.post(permit, &messages, Accept::of(&call.head.headers), self.shared.config.timeouts.response).await
    }

    async fn modern(&self, call: &Call, account: &Account) -> Result<Answer, Refusal> {
        if call.head.method != Method::POST {
            return Err(Refusal::MethodNotAllowed { allow: "POST" });
        }
        let messages = Messages::read(&call.body)?;
        let Some((text, ties)) = messages.one() else {
            return Err(Refusal::InvalidMessage("batches are not part of this revision"));
        };
        if ties.method.is_some() && ties.id.is_some() {
            self.check(call).await?;
        }
        let edge = self.shared.edge.session(&call.session(&self.name));
        let permit = decide(account, &edge, call).await?;
        match (&ties.method, ties.id) {
            (Some(_), Some(_)) => {
                let request = Incoming { text, ties, edge: Some(edge), accept: Accept::of(&call.head.headers) };
                self.shared_child()?.request(permit, request, self.shared.config.timeouts.response).await
            }
            // Whoever wants to cancel closes the stream; a request id alone does not say whose request it is.
            (Some(method), None) if method == "notifications/cancelled" => Ok(Answer::Status(StatusCode::ACCEPTED)),
            (Some(_), None) => {
                self.shared_child()?.notify(permit, text).await?;
                Ok(Answer::Status(StatusCode::ACCEPTED))
            }
            (None, _) => Err(Refusal::InvalidMessage("responses of clients are not part of this revision")),
        }
    }

    /// Whether the headers of a request say what its body says.
    async fn check(&self, call: &Call) -> Result<(), Refusal> {
        let Some(tool_call) = headers::check(call)? else { return Ok(()) };
        // A request that does not say its revision is not answered anyway.
        let Some(version) = call.meta_version() else { return Ok(()) };
        let patience = self.shared.config.timeouts.response;
        let params = self.shared_child()?.params(&tool_call.tool, version, patience).await?;
        params::check(&params, &call.head.headers, &tool_call.arguments)
    }

    /// The child that is running, else a new one.
    fn shared_child(&self) -> Result<Arc<SharedChild>, Refusal> {
        let mut child = self.child();
        if let Some(running) = child.as_ref().filter(|child| !child.has_ended()) {
            return Ok(Arc::clone(running));
        }
        let started = SharedChild::start(self.launch()?, self.session_limits(), self.unread());
        *child = Some(Arc::clone(&started));
        Ok(started)
    }

    fn launch(&self) -> Result<(LinkSender, LinkReceiver), Refusal> {
        let launcher = lock(&self.launcher);
        launcher.as_ref().ok_or(Refusal::UpstreamGone)?.start().map_err(|error| {
            tracing::warn!(upstream = %self.name, %error, "start the upstream's command");
            Refusal::UpstreamUnreachable
        })
    }

    fn session_limits(&self) -> SessionLimits {
        let open_requests_max = self.shared.config.limits.open_requests_max;
        SessionLimits { open_requests_max, timeouts: self.shared.config.timeouts.clone() }
    }

    fn unread(&self) -> impl Fn(&'static str) + Send + Sync + 'static {
        let (shared, name) = (Arc::clone(&self.shared), Arc::clone(&self.name));
        move |cause| shared.unread(&name, cause)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        lock(&self.sessions)
    }

    fn child(&self) -> MutexGuard<'_, Option<Arc<SharedChild>>> {
        lock(&self.child)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The decision, once everything that it has to wait for is over.
async fn decide(account: &Account, edge: &Arc<EdgeSession>, call: &Call) -> Result<Permit, Refusal> {
    let (permit, pause) = account.decide(edge, call).await?;
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    Ok(permit)
}

fn new_id() -> Result<String, Refusal> {
    first_sse::new_token().map_err(|error| {
        tracing::error!(%error, "make a session id");
        Refusal::UpstreamUnreachable
    })
}

/// Whether the client that sent this `initialize` knows streams that open with an event without data.
fn knows_openings(initialize: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Initialize<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "protocolVersion")]
        version: Cow<'a, str>,
    }
    object::<Initialize<'_>>(initialize).is_some_and(|initialize| *initialize.params.version >= *FIRST_WITH_OPENINGS)
}

/// The event after which a client that lost its stream wants it again.
fn last_event(call: &Call) -> Option<EventId> {
    call.head.headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// The check of headers against a body alone: the tool that is called, and how `Mcp-Name` reads.
#[cfg(any(fuzzing, test))]
pub(super) fn check_headers(call: &Call) -> Result<Option<(String, Option<String>)>, Refusal> {
    let name = headers::one(&call.head.headers, "mcp-name")?.and_then(headers::decoded).map(Cow::into_owned);
    Ok(headers::check(call)?.map(|found| (found.tool, name)))
}

/// A revision that nobody here knows, in the form of the era without sessions, is the child's to refuse: it knows which
/// ones it supports.
fn era(call: &Call) -> Era {
    let known = |version| LEGACY_VERSIONS.contains(&version);
    let unknown = protocol_version(&call.head.headers).is_some_and(|version| !known(version));
    if unknown && call.session_id().is_none() && call.meta_version().is_some() { Era::Modern } else { call.era }
}

/// The era without sessions ties some JSON-RPC errors to statuses.
fn status(era: Era, request: &[u8], error_type: &str) -> StatusCode {
    match (era, error_type) {
        (Era::Modern, "-32601") => StatusCode::NOT_FOUND,
        (Era::Modern, "-32020" | "-32021" | "-32022") => StatusCode::BAD_REQUEST,
        // Other params may be as invalid as they like; a `_meta` that lacks what it must have is a bad request.
        (Era::Modern, "-32602") if !headers::meta_is_complete(request) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}
