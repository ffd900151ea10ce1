//! Requests for one upstream: which one, and what it gets.
//!
//! A name says whose it is; a URI belongs to who lists it, else to the template that says most of it, else the upstreams are
//! asked once. Not here: lists. Invariant: the body changes in the name alone, and the response streams through as it comes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::addresses;
use super::events::{Events, Stream};
use super::lists::Kind;
use super::member::{self, Caller, Headers, Member, Message};
use super::sessions::Session;
use super::{Aggregate, Params, names, status, text};
use crate::edge::splice;
use crate::gateway::call::{Body, Era, SESSION_ID};
use crate::gateway::rescue::Refusal;
use crate::gateway::stdio::headers;
use crate::gateway::tap::Content;

/// What a completion is for.
#[derive(Debug, Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
}

const NO_NAME: Refusal = Refusal::InvalidMessage("params have no name");
const NO_URI: Refusal = Refusal::InvalidMessage("params have no uri");

impl Aggregate {
    /// `tools/call`, `prompts/get`.
    pub(super) async fn call_named(
        &self,
        caller: &Caller,
        kind: Kind,
        params: &Params<'_>,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let raw = params.name.ok_or(NO_NAME)?;
        let shown = text(raw)?;
        let header = headers::one(&caller.headers, member::NAME)?;
        if header.is_some_and(|header| headers::decoded(header).as_deref() != Some(&*shown)) {
            return Err(Refusal::HeaderMismatch("Mcp-Name is not the name in the body"));
        }
        let (member, name) = self.named(caller, kind, &shown, params.meta).await?;
        let body = with_name(body, raw, &name);
        self.relay(caller, member, &Message::post(body, Headers::Named(&name))).await
    }

    /// `resources/read` and subscriptions to resources.
    pub(super) async fn call_uri(
        &self,
        caller: &Caller,
        params: &Params<'_>,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let uri = text(params.uri.ok_or(NO_URI)?)?;
        let member = self.owner(caller, &uri, params.meta).await?;
        self.relay(caller, member, &Message::post(body.clone(), Headers::Kept)).await
    }

    /// `completion/complete`.
    pub(super) async fn complete(
        &self,
        caller: &Caller,
        params: &Params<'_>,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let reference = params.reference.and_then(|reference| serde_json::from_str(reference.get()).ok());
        match reference {
            Some(Reference { name: Some(raw), .. }) => {
                let (member, name) = self.named(caller, Kind::Prompts, &text(raw)?, params.meta).await?;
                let body = with_name(body, raw, &name);
                self.relay(caller, member, &Message::post(body, Headers::Kept)).await
            }
            Some(Reference { uri: Some(uri), .. }) => {
                let member = self.owner(caller, &text(uri)?, params.meta).await?;
                self.relay(caller, member, &Message::post(body.clone(), Headers::Kept)).await
            }
            Some(Reference { name: None, uri: None }) | None => {
                Err(Refusal::InvalidMessage("params have no ref to a prompt or resource"))
            }
        }
    }

    /// A client's answer to an upstream's request, or its progress.
    pub(super) async fn returned(&self, caller: &Caller, body: &Bytes) -> Result<Response<Body>, Refusal> {
        const NOBODY: Refusal = Refusal::InvalidMessage("this answers no request of an upstream");
        let (name, message) = addresses::returned(body).ok_or(NOBODY)?;
        let session = caller.session.as_ref().ok_or(NOBODY)?;
        let member = self.members.iter().find(|member| *member.name == *name).ok_or(NOBODY)?;
        // Only the session that asked can be answered.
        session.at(&member.name).now().ok_or(NOBODY)?;
        let answer = self.ask(caller, member, &Message::post(message.into(), Headers::Kept)).await;
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(status(StatusCode::ACCEPTED)),
            Ok(answer) => Ok(answer.respond()),
            Err(failure) => {
                self.left_out(member, "response", &failure);
                Err(Refusal::LeftOut { upstream: name })
            }
        }
    }

    /// Whose a name is, and what it is there.
    async fn named(
        &self,
        caller: &Caller,
        kind: Kind,
        shown: &str,
        meta: Option<&RawValue>,
    ) -> Result<(&Arc<Member>, String), Refusal> {
        let unknown = || Refusal::NotRouted { what: format!("`{shown}`"), known: self.known() };
        let (prefix, rest) = shown.split_once(&*self.settings.separator).ok_or_else(unknown)?;
        let member = self.members.iter().find(|member| member.prefix == prefix).ok_or_else(unknown)?;
        if !names::is_shortened(rest) {
            return Ok((member, rest.to_owned()));
        }
        let known = || member.offers().name(rest).map(str::to_owned);
        if let Some(name) = known() {
            return Ok((member, name));
        }
        // The client has it from a list that another process answered.
        self.learn(caller, kind, meta).await;
        known().map(|name| (member, name)).ok_or_else(unknown)
    }

    /// Whose a URI is.
    async fn owner(&self, caller: &Caller, uri: &str, meta: Option<&RawValue>) -> Result<&Arc<Member>, Refusal> {
        if let Some(member) = self.listing(uri) {
            return Ok(member);
        }
        if let Some(member) = self.fitting(uri) {
            return Ok(member);
        }
        tokio::join!(self.learn(caller, Kind::Resources, meta), self.learn(caller, Kind::Templates, meta));
        let unknown = || Refusal::NotRouted { what: format!("the resource `{uri}`"), known: self.known() };
        self.listing(uri).or_else(|| self.fitting(uri)).ok_or_else(unknown)
    }

    fn listing(&self, uri: &str) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.offers().has_uri(uri))
    }

    fn fitting(&self, uri: &str) -> Option<&Arc<Member>> {
        let fit = |member: &Member| member.offers().template_fit(uri);
        // Of equals the last is the maximum, and the first is meant.
        self.members.iter().rev().filter(|member| fit(member).is_some()).max_by_key(|member| fit(member))
    }

    /// The rest of an answer that was lost, from behind the upstream's event `id` on.
    pub(super) async fn resume(
        &self,
        caller: &Caller,
        session: &Session,
        name: &str,
        id: HeaderValue,
    ) -> Result<Response<Body>, Refusal> {
        let member = self.members.iter().find(|member| *member.name == *name).ok_or(Refusal::EventForgotten)?;
        let opened = session.at(&member.name).now().ok_or(Refusal::EventForgotten)?;
        let after_write = caller.client.after_write.clone();
        let mut call = caller.call(member, Some(&opened), &Message::empty(Method::GET), after_write);
        call.head.headers.insert(HeaderName::from_static(member::LAST_EVENT_ID), id);
        let response = member.answer(call).await;
        if response.status() == StatusCode::NOT_FOUND {
            // The upstream's session is gone; the client's is not.
            return Err(Refusal::EventForgotten);
        }
        self.of_one(caller, member, response)
    }

    async fn relay(
        &self,
        caller: &Caller,
        member: &Arc<Member>,
        message: &Message<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let response = self.send(caller, member, message, &caller.client.after_write).await.map_err(|failure| {
            self.left_out(member, "initialize", &failure);
            Refusal::LeftOut { upstream: member.name.to_string() }
        })?;
        self.of_one(caller, member, response)
    }

    /// An upstream's response as the client gets it.
    fn of_one(&self, caller: &Caller, member: &Member, response: Response<Body>) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            return Err(Refusal::NotSignedIn { upstream: member.name.to_string() });
        }
        head.headers.remove(SESSION_ID);
        let asks_back = caller.era == Era::Legacy && matches!(Content::of_headers(&head.headers), Content::Events);
        if !asks_back {
            return Ok(Response::from_parts(head, body));
        }
        head.headers.remove(header::CONTENT_LENGTH);
        let events = Events::new(body, member.name.clone(), self.bytes_max(), Stream::OfOne);
        Ok(Response::from_parts(head, events.into_body()))
    }
}

pub(super) fn with_name(body: &Bytes, raw: &RawValue, name: &str) -> Bytes {
    splice(body, &[(Some(raw), &serde_json::Value::from(name).to_string())]).into()
}
