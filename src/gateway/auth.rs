//! Who is calling: from the `Authorization` header to a subject, or to a challenge.
//!
//! Bearer keys of the configuration (`keys`) and JWTs of one issuer (`jwt`). A gateway that knows callers is an OAuth
//! resource server: its metadata names the issuer, its audience is its own. Not here: what a subject may do (policy), and
//! upstreams that sign their callers in themselves (`oauth`). Invariant: a credential is compared by its hash, is never
//! logged, and is not sent on.

mod jwt;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use self::jwt::Issuer;
use self::keys::Keys;
use super::config::Timeouts;
use super::oauth::{Origin, WELL_KNOWN};
use crate::config;

/// How callers are known.
#[derive(Debug)]
pub(super) struct Auth {
    settings: config::Auth,
    keys: Keys,
    issuer: Option<Issuer>,
}

/// A caller that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The subject, and behind `/` the agent that acts for it, where the token names one.
    pub(crate) subject: Arc<str>,
    /// Seconds since 1970 from which the credential is no longer valid.
    pub(crate) expires: Option<u64>,
}

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Missing,
    Invalid,
    /// The token is good, but not for this.
    Scope,
    /// The issuer's keys cannot be had right now.
    Unavailable,
}

/// The answer to a caller that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) status: StatusCode,
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
    pub(crate) text: &'static str,
    /// `WWW-Authenticate`.
    pub(crate) header: Option<HeaderValue>,
}

impl Auth {
    /// `None` where nobody needs to be known.
    pub(super) fn new(settings: &config::Auth, timeouts: &Timeouts) -> std::io::Result<Option<Self>> {
        if settings.keys.is_empty() && settings.issuer.is_none() {
            return Ok(None);
        }
        let issuer = settings.issuer.as_ref().map(|issuer| Issuer::new(issuer, timeouts)).transpose()?;
        Ok(Some(Self { settings: settings.clone(), keys: Keys::new(&settings.keys), issuer }))
    }

    /// Whether it was made from these settings.
    pub(super) fn is_of(&self, settings: &config::Auth) -> bool {
        self.settings == *settings
    }

    pub(super) async fn identify(&self, authorization: Option<&[u8]>) -> Result<Identity, Denied> {
        match self.identify_now(authorization) {
            Some(known) => known,
            None => match (&self.issuer, authorization.and_then(bearer)) {
                (Some(issuer), Some(token)) => issuer.identify(token).await,
                _ => Err(Denied::Invalid),
            },
        }
    }

    /// As far as nobody needs to be asked; `None` where the issuer does.
    pub(super) fn identify_now(&self, authorization: Option<&[u8]>) -> Option<Result<Identity, Denied>> {
        let Some(authorization) = authorization else { return Some(Err(Denied::Missing)) };
        let Some(token) = bearer(authorization) else { return Some(Err(Denied::Invalid)) };
        match (self.keys.subject(token), &self.issuer) {
            (Some(subject), _) => Some(Ok(Identity { subject, expires: None })),
            (None, None) => Some(Err(Denied::Invalid)),
            (None, Some(issuer)) => issuer.identify_now(token),
        }
    }

    /// How a caller of the endpoint at `path` can become known.
    pub(super) fn challenge(&self, denied: Denied, path: &str, origin: Option<&Origin>) -> Challenge {
        let metadata = origin.filter(|_| self.issuer.is_some());
        let metadata = metadata.and_then(|origin| origin.url(&format!("{WELL_KNOWN}{path}")));
        let metadata = metadata.map(|url| format!("resource_metadata=\"{url}\""));
        let scopes = self.settings.issuer.as_ref().map(|issuer| issuer.scopes.join(" ")).unwrap_or_default();
        let scope = (!scopes.is_empty()).then(|| format!("scope=\"{scopes}\""));
        let with = |error: Option<&str>| {
            let parts: Vec<String> =
                error.map(|error| format!("error=\"{error}\"")).into_iter().chain(scope).chain(metadata).collect();
            HeaderValue::from_str(format!("Bearer {}", parts.join(", ")).trim_end()).ok()
        };
        let (status, code, reason, text, header) = match denied {
            Denied::Missing => {
                let text = "this gateway asks for a bearer token in the Authorization header";
                (StatusCode::UNAUTHORIZED, 1018, "unauthorized", text, with(None))
            }
            Denied::Invalid => {
                let text = "the bearer token is unknown, expired or for somebody else";
                (StatusCode::UNAUTHORIZED, 1019, "invalid_token", text, with(Some("invalid_token")))
            }
            Denied::Scope => {
                let text = "the bearer token lacks a scope";
                (StatusCode::FORBIDDEN, 1020, "insufficient_scope", text, with(Some("insufficient_scope")))
            }
            Denied::Unavailable => {
                let text = "tokens cannot be verified right now: the issuer's keys cannot be fetched";
                (StatusCode::SERVICE_UNAVAILABLE, 1021, "issuer_unavailable", text, None)
            }
        };
        Challenge { status, code, reason, text, header }
    }

    /// Protected-resource metadata (RFC 9728) of the endpoint at `path`, if tokens can be had anywhere.
    pub(super) fn metadata(&self, path: &str, origin: &Origin) -> Option<Response<Bytes>> {
        let issuer = self.settings.issuer.as_ref()?;
        let own = origin.url(path)?;
        // Clients accept a resource that covers the URL they use.
        let covers =
            |audience: &&String| own == **audience || own.starts_with(&format!("{}/", audience.trim_end_matches('/')));
        let resource = issuer.audiences.iter().find(covers).unwrap_or(&own);
        let mut metadata = serde_json::json!({
            "resource": resource,
            "authorization_servers": [issuer.url],
            "bearer_methods_supported": ["header"],
        });
        if !issuer.scopes.is_empty() {
            metadata["scopes_supported"] = issuer.scopes.clone().into();
        }
        let mut response = Response::new(Bytes::from(metadata.to_string()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Some(response)
    }
}

impl Identity {
    /// A connection that showed this once need not show it again.
    pub(super) fn is_valid(&self) -> bool {
        self.expires.is_none_or(|expires| jsonwebtoken::get_current_timestamp() < expires)
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}
