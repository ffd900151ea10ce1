//! OAuth through the gateway: an upstream's protected-resource metadata (RFC 9728) under the gateway's own URL.
//!
//! Clients sign in for the URL that they use, and refuse metadata that names another. So the two places in which an
//! upstream names its URL name the gateway's instead: `resource_metadata` of a challenge, and `resource` of the metadata.
//! The client then asks the upstream's own authorization server for a token for the gateway's URL.
//!
//! Not here: tokens (they pass as they come), and gateways that are resource servers themselves. Invariant: only what an
//! upstream says about itself is changed; metadata that names another resource, or lies at another origin, stays as it is.

mod challenge;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::challenge::readdressed;
use super::envelope;
use super::forward::host_of;
use super::hop::{Hop, HopError, Right};
use super::rescue::Refusal;
use crate::edge::splice;

/// Where the metadata of a resource at `/PATH` is: below this, at `/PATH`.
pub(super) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Metadata is a few hundred bytes.
const BYTES_MAX: usize = 64 << 10;
/// What an upstream gets to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// An HTTP upstream as a protected resource.
#[derive(Debug)]
pub(super) struct Resource {
    name: Arc<str>,
    uri: Uri,
    host: HeaderValue,
    hop: Hop,
    challenged: Mutex<Challenged>,
}

/// What the upstream's challenges have said so far.
#[derive(Clone, Debug, Default)]
struct Challenged {
    /// It asks for tokens.
    ever: bool,
    /// Where it says that its metadata is.
    metadata: Option<PathAndQuery>,
}

/// The gateway's origin, as a client sees it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    host: HeaderValue,
    https: bool,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    resource: &'a RawValue,
}

/// The endpoint that a path asks the metadata of.
pub(super) fn asked_for(path: &str) -> Option<&str> {
    let path = path.strip_prefix(WELL_KNOWN)?;
    let is_endpoint =
        |path: &&str| *path == "/mcp" || path.strip_prefix("/mcp/").is_some_and(|name| !name.contains('/'));
    Some(path).filter(is_endpoint)
}

impl Origin {
    /// `Host` was checked before. The scheme is what a trusted proxy in front says, else that of our own listener.
    pub(super) fn of(headers: &HeaderMap, tls: bool, behind_trusted_proxy: impl FnOnce() -> bool) -> Option<Self> {
        let host = headers.get(header::HOST)?.clone();
        let forwarded = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
        Some(Self { host, https: tls || (forwarded && behind_trusted_proxy()) })
    }

    pub(super) fn url(&self, path: &str) -> Option<String> {
        let scheme = if self.https { "https" } else { "http" };
        Some(format!("{scheme}://{}{path}", self.host.to_str().ok()?))
    }
}

impl Resource {
    pub(super) const fn new(name: Arc<str>, uri: Uri, host: HeaderValue, hop: Hop) -> Self {
        let challenged = Mutex::new(Challenged { ever: false, metadata: None });
        Self { name, uri, host, hop, challenged }
    }

    /// Has the challenges of a response name the gateway's metadata, and remembers which the upstream named.
    pub(super) fn readdress(&self, status: StatusCode, headers: &mut HeaderMap, origin: Option<&Origin>) {
        if !challenges(status) {
            return;
        }
        let own = origin.and_then(|origin| origin.url(&format!("{WELL_KNOWN}/mcp/{}", self.name)));
        let mut metadata = None;
        if let (Some(own), header::Entry::Occupied(mut challenges)) = (own, headers.entry(header::WWW_AUTHENTICATE)) {
            for challenge in challenges.iter_mut() {
                if let Some((path, changed)) = self.readdressed(challenge, &own) {
                    *challenge = changed;
                    metadata = Some(path);
                }
            }
        }
        let mut challenged = self.challenged();
        challenged.ever |= status == StatusCode::UNAUTHORIZED;
        if metadata.is_some() {
            challenged.metadata = metadata;
        }
    }

    /// The same for header lines, each with its end: those after `start` in `out`.
    pub(super) fn readdress_lines(&self, status: StatusCode, out: &mut Vec<u8>, start: usize, host: &[u8]) {
        if !challenges(status) {
            return;
        }
        let mut found = HeaderMap::new();
        for line in out.split_off(start).split_inclusive(|byte| *byte == b'\n') {
            match challenge_in(line) {
                Some(challenge) => drop(found.append(header::WWW_AUTHENTICATE, challenge)),
                None => out.extend_from_slice(line),
            }
        }
        let origin = HeaderValue::from_bytes(host).ok().map(|host| Origin { host, https: false });
        self.readdress(status, &mut found, origin.as_ref());
        for challenge in found.values() {
            out.extend_from_slice(b"www-authenticate: ");
            out.extend_from_slice(challenge.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    fn readdressed(&self, challenge: &HeaderValue, own: &str) -> Option<(PathAndQuery, HeaderValue)> {
        let (named, changed) = readdressed(challenge.to_str().ok()?, own)?;
        Some((self.at_home(&named)?, HeaderValue::from_str(&changed).ok()?))
    }

    /// The upstream's metadata, with the gateway's URL as the resource.
    pub(super) async fn metadata(&self, origin: &Origin) -> Result<Response<Bytes>, Refusal> {
        let challenged = self.challenged().clone();
        let own = origin.url(&format!("/mcp/{}", self.name)).ok_or(Refusal::UnknownPath)?;
        for path in self.places(challenged.metadata) {
            let (status, body) = self.fetch(path).await?;
            if status == StatusCode::OK {
                return Ok(document(self.for_resource(&body, &own).unwrap_or(body)));
            }
        }
        if challenged.ever {
            // It asks for tokens and does not say of whom: up to 2025-03-26 that means of its own origin.
            let authority = self.uri.authority().map_or("", |authority| authority.as_str());
            let server = format!("{}://{authority}", self.uri.scheme_str().unwrap_or("http"));
            let metadata = serde_json::json!({ "resource": own, "authorization_servers": [server] });
            return Ok(document(Bytes::from(metadata.to_string())));
        }
        Err(Refusal::UnknownPath)
    }

    fn challenged(&self) -> MutexGuard<'_, Challenged> {
        self.challenged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where metadata may be, in the order of the specification.
    fn places(&self, said: Option<PathAndQuery>) -> Vec<PathAndQuery> {
        let path = self.uri.path().trim_end_matches('/');
        if let Some(said) = said {
            return vec![said];
        }
        let known = [format!("{WELL_KNOWN}{path}"), WELL_KNOWN.to_owned()];
        let mut places: Vec<PathAndQuery> = known.iter().filter_map(|path| path.parse().ok()).collect();
        places.dedup();
        places
    }

    async fn fetch(&self, path: PathAndQuery) -> Result<(StatusCode, Bytes), Refusal> {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|_| Refusal::UpstreamUnreachable)?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        request.headers_mut().insert(header::HOST, self.host.clone());
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.hop.exchange(Right::NoMessage, request, Some(PATIENCE)).await;
        let (head, body) = response.map_err(|error| self.failed(&error))?.into_parts();
        let body = tokio::time::timeout(PATIENCE, Limited::new(body, BYTES_MAX).collect()).await;
        let body = body.map_err(|_| Refusal::UpstreamTimeout)?.map_err(|_| Refusal::UpstreamGone)?;
        Ok((head.status, body.to_bytes()))
    }

    fn failed(&self, error: &HopError) -> Refusal {
        tracing::warn!(upstream = %self.name, %error, cause = %error.cause(), "fetch resource metadata");
        match error {
            HopError::Connect(_) => Refusal::UpstreamUnreachable,
            HopError::Exchange(_) => Refusal::UpstreamGone,
            HopError::Timeout => Refusal::UpstreamTimeout,
        }
    }

    /// The document with `own` for its resource, if that is this upstream: the client has to see any other, and refuse.
    fn for_resource(&self, body: &[u8], own: &str) -> Option<Bytes> {
        let metadata: Metadata<'_> = envelope::object(body)?;
        let resource: String = serde_json::from_str(metadata.resource.get()).ok()?;
        let path = self.at_home(&resource)?;
        let covered = format!("{}/", self.uri.path().trim_end_matches('/'));
        if !covered.starts_with(&format!("{}/", path.path().trim_end_matches('/'))) {
            return None;
        }
        let own = serde_json::Value::from(own).to_string();
        Some(splice(body, &[(Some(metadata.resource), &own)]).into())
    }

    /// The path of a URL at the upstream's origin. No other is fetched: the upstream would choose whom the gateway asks.
    fn at_home(&self, url: &str) -> Option<PathAndQuery> {
        let uri: Uri = url.parse().ok()?;
        let same_host = host_of(&uri).as_bytes().eq_ignore_ascii_case(self.host.as_bytes());
        let same = uri.scheme() == self.uri.scheme() && same_host;
        same.then(|| uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")))
    }
}

/// Whether a response of this status may say how to sign in.
const fn challenges(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The challenge in a header line.
fn challenge_in(line: &[u8]) -> Option<HeaderValue> {
    let colon = memchr::memchr(b':', line)?;
    let name = &line[..colon];
    let value = line[colon + 1..].trim_ascii();
    name.eq_ignore_ascii_case(b"www-authenticate").then(|| HeaderValue::from_bytes(value).ok()).flatten()
}

fn document(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
