//! Sessions at the upstreams: opened together with the client's, or when an upstream is first needed again.
//!
//! Also what the virtual server says about itself, which is what they say together. Not here: what sessions are
//! (`sessions`). Invariant: an upstream that cannot open one is left out, with a line in the log and a count, and is tried
//! again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::ask::{Answer, Failure};
use super::lists::{Cache, Cached};
use super::member::{Caller, Headers, Member, Message};
use super::sessions::{Entry, Opened, Opening, Session, lock};
use super::{Aggregate, all_failed, result};
use crate::gateway::after_write::AfterWrite;
use crate::gateway::call::{Body, Call, SESSION_ID};
use crate::gateway::envelope;
use crate::gateway::rescue::Refusal;
use crate::gateway::stdio::LEGACY_VERSIONS;

/// It is kept for as long as the session is.
const INITIALIZE_BYTES_MAX: usize = 64 << 10;
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// What this endpoint can do for an upstream. Others (tasks, extensions) need the upstream's own endpoint.
const CAPABILITIES: [&str; 5] = ["tools", "prompts", "resources", "completions", "logging"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    #[serde(default)]
    capabilities: Value,
    #[serde(default)]
    instructions: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    #[serde(default)]
    capabilities: Value,
    #[serde(default)]
    instructions: Option<String>,
}

impl Aggregate {
    /// Opens a session at every upstream, and one here.
    pub(super) async fn initialize(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        #[derive(Default, Deserialize)]
        struct Asked {
            #[serde(default, rename = "protocolVersion")]
            version: String,
        }
        if call.body.len() > INITIALIZE_BYTES_MAX {
            return Err(Refusal::BodyTooLarge { bytes_max: INITIALIZE_BYTES_MAX });
        }
        let message = envelope::Message::read(&call.body).ok_or(Refusal::Parse)?;
        let id = message.id.ok_or(Refusal::Parse)?;
        let asked: Asked =
            message.params.and_then(|params| envelope::object(params.get().as_bytes())).unwrap_or_default();
        let session = Arc::new(Session::new(&call.client, call.body.clone()));
        let caller = Caller::new(call, Some(Arc::clone(&session)));
        // Whoever leaves before the end leaves no sessions behind.
        let unless_kept = session.ended.clone().drop_guard();
        let opened = join_all(self.members.iter().map(|member| self.opened(&caller, &session, member))).await;
        let mut failures = Vec::new();
        let mut said = Said::default();
        for (member, opened) in self.members.iter().zip(opened) {
            match opened {
                Ok(opened) => said.add(&member.name, &opened.capabilities, opened.instructions.as_deref()),
                Err(failure) => {
                    self.left_out(member, "initialize", &failure);
                    failures.push(failure);
                }
            }
        }
        if said.is_nothing() {
            return all_failed(failures);
        }
        let session_id = match self.sessions.insert(Arc::clone(&session), self.settings.sessions_max) {
            Ok(session_id) => session_id,
            Err(refusal) => {
                self.end(&caller, &session).await;
                return Err(refusal);
            }
        };
        unless_kept.disarm();
        let newest = LEGACY_VERSIONS[LEGACY_VERSIONS.len() - 1];
        let version = LEGACY_VERSIONS.iter().find(|version| **version == asked.version).copied().unwrap_or(newest);
        let mut own = json!({ "protocolVersion": version, "serverInfo": server_info() });
        said.into_fields(&mut own);
        let mut response = result(id, &own.to_string());
        if let Ok(session_id) = HeaderValue::from_str(&session_id) {
            response.headers_mut().insert(HeaderName::from_static(SESSION_ID), session_id);
        }
        Ok(response)
    }

    /// What the upstreams of the era without sessions say together. Where one of them only knows sessions, its own answer
    /// is the answer: a client that knows both eras then sees them all.
    pub(super) async fn discover(
        &self,
        caller: &Caller,
        id: &RawValue,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let message = Message::post(body.clone(), Headers::Kept);
        let answers = join_all(self.members.iter().map(|member| self.ask(caller, member, &message))).await;
        let mut failures = Vec::new();
        let mut said = Said::default();
        let mut versions: Option<Vec<String>> = None;
        let mut cache = Cached::default();
        for (member, answer) in self.members.iter().zip(answers) {
            let found = answer.and_then(|answer| {
                let result = answer.result()?.get();
                let found: Discovered = serde_json::from_str(result).map_err(|_| Failure::Unreadable)?;
                cache.take(&serde_json::from_str::<Cache<'_>>(result).map_err(|_| Failure::Unreadable)?);
                said.add(&member.name, &found.capabilities, found.instructions.as_deref());
                Ok(found.supported_versions)
            });
            match found {
                Ok(found) => match &mut versions {
                    Some(versions) => versions.retain(|version| found.contains(version)),
                    None => versions = Some(found),
                },
                Err(Failure::Refused(answer)) if knows_sessions_only(answer.status) => {
                    tracing::info!(upstream = %member.name, "this upstream needs sessions, and so does the endpoint");
                    return Ok(answer.respond());
                }
                Err(failure) => {
                    self.left_out(member, "server/discover", &failure);
                    cache.is_partial();
                    failures.push(failure);
                }
            }
        }
        let Some(versions) = versions else { return all_failed(failures) };
        let mut own = json!({
            "resultType": "complete",
            "supportedVersions": versions,
            "ttlMs": cache.ttl_ms(),
            "cacheScope": cache.scope(),
            "_meta": { "io.modelcontextprotocol/serverInfo": server_info() },
        });
        said.into_fields(&mut own);
        Ok(result(id, &own.to_string()))
    }

    /// The client is ready.
    pub(super) async fn initialized(&self, caller: &Caller) {
        let Some(session) = &caller.session else { return };
        session.is_initialized.store(true, Ordering::Release);
        let open = self.members.iter().filter_map(|member| Some((member, session.at(&member.name).now()?)));
        join_all(open.map(|(member, opened)| async move { self.tell(caller, session, member, &opened).await })).await;
    }

    /// The level of logs, for the upstreams that have them, and for those that come later.
    pub(super) async fn set_level(
        &self,
        caller: &Caller,
        id: &RawValue,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let Some(session) = &caller.session else { return Err(Refusal::NotOffered(caller.era)) };
        let message = Message::post(body.clone(), Headers::Kept);
        let logs = |member: &&Arc<Member>| session.at(&member.name).now().is_some_and(|opened| opened.has("logging"));
        let asked: Vec<_> = self.members.iter().filter(logs).collect();
        let answers = join_all(asked.iter().map(|member| self.ask(caller, member, &message))).await;
        let mut failures = Vec::new();
        let mut is_set = false;
        for (member, answer) in asked.iter().zip(answers) {
            match answer.and_then(|answer| answer.result().map(drop)) {
                Ok(()) => is_set = true,
                Err(failure) => {
                    self.left_out(member, "logging/setLevel", &failure);
                    failures.push(failure);
                }
            }
        }
        match (is_set, asked.is_empty()) {
            (true, _) => {
                *lock(&session.level) = Some(body.clone());
                Ok(result(id, "{}"))
            }
            (false, true) => Err(Refusal::NotOffered(caller.era)),
            (false, false) => all_failed(failures),
        }
    }

    /// Ends the session at every upstream.
    pub(super) async fn end(&self, caller: &Caller, session: &Session) {
        let message = Message::empty(Method::DELETE);
        let open = self.members.iter().filter_map(|member| Some((member, session.at(&member.name).now()?)));
        let open = open.filter(|(_, opened)| opened.id.is_some());
        join_all(open.map(|(member, opened)| self.say(caller, member, opened, &message))).await;
    }

    /// Asks an upstream, in the caller's session there.
    pub(super) async fn ask(
        &self,
        caller: &Caller,
        member: &Arc<Member>,
        message: &Message<'_>,
    ) -> Result<Answer, Failure> {
        let after_write = AfterWrite::default();
        let answer = async {
            let response = self.send(caller, member, &message.for_us(), &after_write).await?;
            Answer::collect(response, self.bytes_max()).await
        };
        let answer = tokio::time::timeout(self.settings.patience, answer).await;
        after_write.run();
        answer.unwrap_or(Err(Failure::TimedOut))
    }

    /// Sends a message in the caller's session at an upstream, which is opened if need be.
    pub(super) async fn send(
        &self,
        caller: &Caller,
        member: &Arc<Member>,
        message: &Message<'_>,
        after_write: &AfterWrite,
    ) -> Result<Response<Body>, Failure> {
        let answer = |opened: Option<&Opened>| member.answer(caller.call(member, opened, message, after_write.clone()));
        let Some(session) = &caller.session else { return Ok(answer(None).await) };
        let opened = self.opened(caller, session, member).await?;
        let response = answer(Some(&opened)).await;
        if response.status() != StatusCode::NOT_FOUND || opened.id.is_none() {
            return Ok(response);
        }
        // The upstream has forgotten the session, so it did nothing either.
        session.at(&member.name).lose(&opened);
        let opened = self.opened(caller, session, member).await?;
        Ok(answer(Some(&opened)).await)
    }

    /// The caller's session at an upstream.
    async fn opened(
        &self,
        caller: &Caller,
        session: &Arc<Session>,
        member: &Arc<Member>,
    ) -> Result<Arc<Opened>, Failure> {
        let at = session.at(&member.name);
        let patience = self.settings.patience;
        let opened = match at.entry(patience).await {
            Entry::Open(opened) => opened,
            Entry::Failed => return Err(Failure::Pausing),
            Entry::Slow => return Err(Failure::TimedOut),
            Entry::Vacant(opening) => {
                let (answer, opened) = oneshot::channel();
                let this = self.this.upgrade().ok_or(Failure::Gone)?;
                let (caller, session, member) = (caller.clone(), Arc::clone(session), Arc::clone(member));
                // Who takes longer than the client waits is there for the next request.
                tokio::spawn(async move {
                    let opened = this.open_or_fail(&caller, &session, &member, opening).await;
                    drop(answer.send(opened));
                });
                let opened = tokio::time::timeout(patience, opened).await;
                opened.map_err(|_| Failure::TimedOut)?.unwrap_or(Err(Failure::Gone))?
            }
        };
        Box::pin(self.tell(caller, session, member, &opened)).await;
        Ok(opened)
    }

    async fn open_or_fail(
        &self,
        caller: &Caller,
        session: &Session,
        member: &Member,
        opening: Opening,
    ) -> Result<Arc<Opened>, Failure> {
        match self.open(caller, session, member).await {
            Ok(opened) => {
                let opened = opening.open(opened);
                if session.ended.is_cancelled() {
                    // Nobody is left to use it.
                    self.say(caller, member, Arc::clone(&opened), &Message::empty(Method::DELETE)).await;
                }
                Ok(opened)
            }
            Err(failure) => {
                opening.fail();
                Err(failure)
            }
        }
    }

    async fn open(&self, caller: &Caller, session: &Session, member: &Member) -> Result<Opened, Failure> {
        let message = Message::post(session.initialize.clone(), Headers::Own("initialize"));
        let after_write = AfterWrite::default();
        let response = member.answer(caller.call(member, None, &message.for_us(), after_write.clone())).await;
        let answer = Answer::collect(response, self.bytes_max()).await;
        after_write.run();
        let answer = answer?;
        let said: Initialized = serde_json::from_str(answer.result()?.get()).map_err(|_| Failure::Unreadable)?;
        Ok(Opened {
            id: answer.session_id,
            version: said.protocol_version,
            capabilities: said.capabilities,
            instructions: said.instructions,
            is_told: AtomicBool::new(false),
        })
    }

    /// Tells an upstream what the client has said to all before.
    async fn tell(&self, caller: &Caller, session: &Session, member: &Member, opened: &Arc<Opened>) {
        if !session.is_initialized.load(Ordering::Acquire) || !opened.takes_telling() {
            return;
        }
        let message = Message::post(Bytes::from_static(INITIALIZED), Headers::Own("notifications/initialized"));
        self.say(caller, member, Arc::clone(opened), &message).await;
        let level = lock(&session.level).clone().filter(|_| opened.has("logging"));
        if let Some(level) = level {
            let message = Message::post(level, Headers::Own("logging/setLevel"));
            self.say(caller, member, Arc::clone(opened), &message).await;
        }
    }

    /// Sends what needs no answer.
    async fn say(&self, caller: &Caller, member: &Member, opened: Arc<Opened>, message: &Message<'_>) {
        let after_write = AfterWrite::default();
        let said = async {
            let response =
                member.answer(caller.call(member, Some(&opened), &message.for_us(), after_write.clone())).await;
            Answer::collect(response, self.bytes_max()).await
        };
        match tokio::time::timeout(self.settings.patience, said).await.unwrap_or(Err(Failure::TimedOut)) {
            Ok(_) => {}
            Err(failure) => tracing::debug!(upstream = %member.name, %failure, "a notification may not have arrived"),
        }
        after_write.run();
    }
}

/// What upstreams say about themselves, together.
#[derive(Debug, Default)]
struct Said {
    capabilities: Option<Map<String, Value>>,
    instructions: Vec<String>,
}

impl Said {
    fn add(&mut self, upstream: &str, capabilities: &Value, instructions: Option<&str>) {
        let all = self.capabilities.get_or_insert_default();
        for (name, value) in capabilities.as_object().into_iter().flatten() {
            if CAPABILITIES.contains(&name.as_str()) {
                join(all.entry(name).or_insert(Value::Null), value);
            }
        }
        if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
            self.instructions.push(format!("{upstream}: {instructions}"));
        }
    }

    const fn is_nothing(&self) -> bool {
        self.capabilities.is_none()
    }

    fn into_fields(self, fields: &mut Value) {
        fields["capabilities"] = self.capabilities.unwrap_or_default().into();
        if !self.instructions.is_empty() {
            fields["instructions"] = self.instructions.join("\n\n").into();
        }
    }
}

/// What either has, both have.
fn join(all: &mut Value, one: &Value) {
    match (&mut *all, one) {
        (Value::Object(all), Value::Object(one)) => {
            for (name, value) in one {
                join(all.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (Value::Null | Value::Bool(false), one) => *all = one.clone(),
        _ => {}
    }
}

fn server_info() -> Value {
    json!({ "name": "undercurrent", "version": env!("CARGO_PKG_VERSION") })
}

/// A refusal by a server that expects `initialize`, and not one that has other reasons.
fn knows_sessions_only(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_what_any_upstream_has() {
        let mut said = Said::default();
        assert!(said.is_nothing());
        said.add("a", &json!({"tools": {}, "resources": {"subscribe": false}, "tasks": {}}), Some("first"));
        said.add("b", &json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}}), None);
        said.add("c", &Value::Null, Some("third"));
        let mut fields = json!({});
        said.into_fields(&mut fields);
        let expect = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
        assert_eq!(fields, json!({"capabilities": expect, "instructions": "a: first\n\nc: third"}));
    }
}
