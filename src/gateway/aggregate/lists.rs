//! Lists of several upstreams as one: everything at once, under names that say whose it is.
//!
//! Not here: what names become (`names`). Invariant: of an item only its name changes. Bounded in pages and bytes. What an
//! upstream that fails would have added is missing, which is logged and counted.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::Failure;
use super::member::{Caller, Headers, Member, Message};
use super::{Aggregate, Params, all_failed, names, result};
use crate::edge::splice;
use crate::gateway::call::{Body, Era};
use crate::gateway::rescue::Refusal;

/// Pages of one upstream's list.
const PAGES_MAX: usize = 64;

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

/// How long, and by whom, a result may be kept (2026-07-28).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Cache<'a> {
    #[serde(borrow, default, rename = "ttlMs")]
    ttl: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "cacheScope")]
    scope: Option<&'a RawValue>,
}

/// The same of several together: the shortest, and only for the caller if one says so.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cached {
    ttl_ms: Option<u64>,
    is_private: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    prompts: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    resources: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, rename = "resourceTemplates")]
    templates: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, rename = "nextCursor")]
    next: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(default)]
    uri: Option<String>,
    #[serde(default, rename = "uriTemplate")]
    template: Option<String>,
}

/// All that one upstream lists.
#[derive(Debug, Default)]
struct Listed {
    /// As JSON text, with the URI or template that it is known by, if it is.
    items: Vec<(String, Option<String>)>,
    cached: Cached,
}

impl Kind {
    pub(super) fn of(method: &str) -> Option<Self> {
        [Self::Tools, Self::Prompts, Self::Resources, Self::Templates].into_iter().find(|kind| kind.method() == method)
    }

    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }
}

impl Cached {
    pub(super) fn take(&mut self, cache: &Cache<'_>) {
        let ttl_ms = cache.ttl.and_then(|ttl| ttl.get().parse().ok()).unwrap_or_default();
        self.add(&Self { ttl_ms: Some(ttl_ms), is_private: cache.scope.map(RawValue::get) != Some("\"public\"") });
    }

    fn add(&mut self, other: &Self) {
        self.ttl_ms = [self.ttl_ms, other.ttl_ms].into_iter().flatten().min();
        self.is_private |= other.is_private;
    }

    /// Something is missing that may be there the next time.
    pub(super) const fn is_partial(&mut self) {
        self.ttl_ms = Some(0);
    }

    pub(super) fn ttl_ms(&self) -> u64 {
        self.ttl_ms.unwrap_or_default()
    }

    pub(super) const fn scope(&self) -> &'static str {
        if self.is_private || self.ttl_ms.is_none() { "private" } else { "public" }
    }
}

impl Aggregate {
    /// Answers a client's request for a list.
    pub(super) async fn list(
        &self,
        caller: &Caller,
        kind: Kind,
        id: &RawValue,
        params: &Params<'_>,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        if params.cursor.is_some_and(|cursor| cursor.get() != "null") {
            return Err(Refusal::NotRouted { what: "this cursor: lists come whole here".into(), known: self.known() });
        }
        let first = Message::post(body.clone(), Headers::Kept);
        let listed = self.listed_by_all(caller, kind, &first, params.meta).await;
        let mut failures = Vec::new();
        let (mut items, mut cached, mut any) = (Vec::new(), Cached::default(), false);
        let mut seen = HashSet::new();
        for listed in listed {
            match listed {
                Ok(listed) => {
                    any = true;
                    cached.add(&listed.cached);
                    // A URI belongs to the first that offers it.
                    let own =
                        listed.items.into_iter().filter(|(_, key)| key.clone().is_none_or(|key| seen.insert(key)));
                    items.extend(own.map(|(item, _)| item));
                }
                Err(failure) => {
                    cached.is_partial();
                    failures.push(failure);
                }
            }
        }
        if !any {
            return all_failed(failures);
        }
        let kept = match caller.era {
            Era::Legacy => String::new(),
            Era::Modern => {
                let (ttl_ms, scope) = (cached.ttl_ms(), cached.scope());
                format!(r#","resultType":"complete","ttlMs":{ttl_ms},"cacheScope":"{scope}""#)
            }
        };
        Ok(result(id, &format!(r#"{{"{}":[{}]{kept}}}"#, kind.field(), items.join(","))))
    }

    /// Lists only to learn who has what.
    pub(super) async fn learn(&self, caller: &Caller, kind: Kind, meta: Option<&RawValue>) {
        let body = page(&self.own_id(), kind, meta, None);
        self.listed_by_all(caller, kind, &Message::post(body, Headers::Own(kind.method())), meta).await;
    }

    async fn listed_by_all(
        &self,
        caller: &Caller,
        kind: Kind,
        first: &Message<'_>,
        meta: Option<&RawValue>,
    ) -> Vec<Result<Listed, Failure>> {
        let listed = join_all(self.members.iter().map(|member| self.listed(caller, member, kind, first, meta))).await;
        for (member, listed) in self.members.iter().zip(&listed) {
            match listed {
                // It has none of these, and says so in its way.
                Err(Failure::Refused(answer)) if answer.is_unknown_method() => {}
                Err(failure) => self.left_out(member, kind.method(), failure),
                Ok(_) => {}
            }
        }
        listed
    }

    /// What one upstream lists, page by page.
    async fn listed(
        &self,
        caller: &Caller,
        member: &Arc<Member>,
        kind: Kind,
        first: &Message<'_>,
        meta: Option<&RawValue>,
    ) -> Result<Listed, Failure> {
        if let Some(session) = &caller.session
            && let Some(opened) = session.at(&member.name).now()
            && !opened.has(kind.capability())
        {
            return Ok(Listed::default());
        }
        let mut listed = Listed::default();
        let mut bytes = 0;
        let mut message = first.clone();
        for number in 0..PAGES_MAX {
            let answer = self.ask(caller, member, &message).await;
            let answer = answer.and_then(|answer| answer.result().map(drop).map(|()| answer));
            let answer = answer.map_err(|failure| match failure {
                // It answers a request that the client does not know of.
                Failure::Refused(_) if number > 0 => Failure::Unreadable,
                failure => failure,
            })?;
            bytes += answer.message.len();
            if bytes > self.bytes_max() {
                return Err(Failure::TooLarge(self.bytes_max()));
            }
            let next = listed.add(kind, answer.result()?, member, &self.settings.separator)?;
            let Some(next) = next else {
                listed.teach(kind, member);
                return Ok(listed);
            };
            message = Message::post(page(&self.own_id(), kind, meta, Some(&next)), Headers::Own(kind.method()));
        }
        Err(Failure::TooManyPages(PAGES_MAX))
    }
}

impl Listed {
    /// Takes a page, and gives the cursor of the next.
    fn add(
        &mut self,
        kind: Kind,
        page: &RawValue,
        member: &Member,
        separator: &str,
    ) -> Result<Option<Box<RawValue>>, Failure> {
        let text = page.get();
        let found: Page<'_> = serde_json::from_str(text).map_err(|_| Failure::Unreadable)?;
        self.cached.take(&serde_json::from_str(text).map_err(|_| Failure::Unreadable)?);
        let items = match kind {
            Kind::Tools => found.tools,
            Kind::Prompts => found.prompts,
            Kind::Resources => found.resources,
            Kind::Templates => found.templates,
        };
        for item in items.ok_or(Failure::Unreadable)? {
            let Ok(read) = serde_json::from_str::<Item<'_>>(item.get()) else { continue };
            let item = match kind {
                Kind::Tools | Kind::Prompts => renamed(item, read.name, member, separator).map(|item| (item, None)),
                Kind::Resources => Some((item.get().to_owned(), read.uri)),
                Kind::Templates => Some((item.get().to_owned(), read.template)),
            };
            self.items.extend(item);
        }
        Ok(found.next.filter(|next| next.get() != "null").map(ToOwned::to_owned))
    }

    /// Remembers whose the URIs are.
    fn teach(&self, kind: Kind, member: &Member) {
        let keys = self.items.iter().filter_map(|(_, key)| key.clone());
        match kind {
            Kind::Tools | Kind::Prompts => {}
            Kind::Resources => member.offers().learn_uris(keys),
            Kind::Templates => member.offers().learn_templates(keys),
        }
    }
}

/// The item under the name that clients see. What has no name, or one that stands for another already, cannot be asked
/// for, and is not shown.
fn renamed(item: &RawValue, name: Option<&RawValue>, member: &Member, separator: &str) -> Option<String> {
    let raw = name?;
    let name: String = serde_json::from_str(raw.get()).ok()?;
    let (shown, is_shortened) = names::shown(&name, &member.prefix, separator);
    if is_shortened && !member.offers().learn_name(&shown, &name) {
        tracing::warn!(upstream = %member.name, shown, "two names have the same hash: one is left out");
        return None;
    }
    let shown = format!("\"{}{separator}{shown}\"", member.prefix);
    String::from_utf8(splice(item.get().as_bytes(), &[(Some(raw), &shown)])).ok()
}

/// The gateway's own request for a page.
fn page(id: &str, kind: Kind, meta: Option<&RawValue>, cursor: Option<&RawValue>) -> Bytes {
    let fields = [("_meta", meta), ("cursor", cursor)];
    let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?.get())));
    let params = fields.collect::<Vec<_>>().join(",");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{}","params":{{{params}}}}}"#, kind.method()).into()
}
