//! JWTs of one issuer (RFC 9068): signature, issuer, audience, time and scopes; its keys are fetched (RFC 7517, 8414).
//!
//! Invariant: only asymmetric algorithms that are configured; keys are fetched from the configured place alone, at most
//! once in a while, and a token that nobody could have signed does not make the gateway fetch more often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::{Denied, Identity};
use crate::config;
use crate::gateway::config::Timeouts;
use crate::gateway::forward::host_of;
use crate::gateway::hop::{Hop, Right};

/// Keys older than this are fetched anew, behind the back of whoever asks.
const FRESH: Duration = Duration::from_secs(600);
/// Between two fetches that an unknown key id, or a failure, asked for.
const PAUSE: Duration = Duration::from_secs(10);
/// What the issuer gets to answer, and what it may say.
const PATIENCE: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 256 << 10;
const SUBJECT_BYTES_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Issuer {
    settings: config::Issuer,
    validation: Validation,
    keys: Arc<KeyStore>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    scope: String,
    azp: Option<String>,
    client_id: Option<String>,
}

/// Where an issuer says that its keys are.
#[derive(Deserialize)]
struct ServerMetadata {
    issuer: String,
    jwks_uri: String,
}

#[derive(Debug)]
struct KeyStore {
    url: String,
    /// Where keys are, if that is configured.
    jwks_url: Option<String>,
    plain: Hop,
    tls: Hop,
    known: ArcSwapOption<Known>,
    /// When somebody last tried; held while fetching.
    tried: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Known {
    keys: JwkSet,
    since: Instant,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("`{0}` is not a URL")]
    Url(String),
    #[error("exchange with the issuer")]
    Exchange(#[from] crate::gateway::hop::HopError),
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    #[error("read the issuer's answer")]
    Body,
    #[error("understand the issuer's answer")]
    Json(#[from] serde_json::Error),
    #[error("the metadata is of issuer `{0}`")]
    OtherIssuer(String),
}

impl Issuer {
    pub(super) fn new(settings: &config::Issuer, timeouts: &Timeouts) -> std::io::Result<Self> {
        let mut validation = Validation::default();
        validation.set_audience(&settings.audiences);
        validation.set_issuer(&[&settings.url]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        let keys = KeyStore {
            url: settings.url.clone(),
            jwks_url: settings.jwks_url.clone(),
            plain: Hop::plain(timeouts),
            tls: Hop::tls(timeouts)?,
            known: ArcSwapOption::empty(),
            tried: tokio::sync::Mutex::new(None),
        };
        Ok(Self { settings: settings.clone(), validation, keys: Arc::new(keys) })
    }

    /// By the keys at hand; `None` if there are none, or the token names one that is not among them.
    pub(super) fn identify_now(&self, token: &[u8]) -> Option<Result<Identity, Denied>> {
        let Ok(header) = decode_header(token) else { return Some(Err(Denied::Invalid)) };
        if !self.settings.algorithms.contains(&header.alg) {
            return Some(Err(Denied::Invalid));
        }
        let known = self.keys.known.load();
        let known = known.as_ref()?;
        if known.since.elapsed() > FRESH {
            let keys = Arc::clone(&self.keys);
            tokio::spawn(async move { keys.refresh().await });
        }
        let key = match &header.kid {
            Some(kid) => known.keys.find(kid)?,
            // One key needs no name.
            None if known.keys.keys.len() == 1 => known.keys.keys.first()?,
            None => return Some(Err(Denied::Invalid)),
        };
        Some(self.verify(token, header.alg, key))
    }

    /// As above, after the issuer was asked for its keys.
    pub(super) async fn identify(&self, token: &[u8]) -> Result<Identity, Denied> {
        self.keys.refresh().await;
        if self.keys.known.load().is_none() {
            return Err(Denied::Unavailable);
        }
        self.identify_now(token).unwrap_or(Err(Denied::Invalid))
    }

    fn verify(&self, token: &[u8], algorithm: Algorithm, key: &Jwk) -> Result<Identity, Denied> {
        if key.common.key_algorithm.is_some_and(|named| named.to_string() != format!("{algorithm:?}")) {
            return Err(Denied::Invalid);
        }
        let key = DecodingKey::from_jwk(key).map_err(|_| Denied::Invalid)?;
        let validation = Validation { algorithms: vec![algorithm], ..self.validation.clone() };
        let claims = decode::<Claims>(token, &key, &validation).map_err(|_| Denied::Invalid)?.claims;
        let agent = claims.azp.or(claims.client_id).filter(|agent| !agent.is_empty() && *agent != claims.sub);
        let subject = match agent {
            Some(agent) => format!("{}/{agent}", claims.sub),
            None => claims.sub,
        };
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.chars().any(char::is_control) {
            return Err(Denied::Invalid);
        }
        let granted = |scope: &String| claims.scope.split(' ').any(|one| one == scope);
        if !self.settings.scopes.iter().all(granted) {
            return Err(Denied::Scope);
        }
        Ok(Identity { subject: subject.into(), expires: Some(claims.exp) })
    }
}

impl KeyStore {
    /// Fetches the keys, unless somebody just tried.
    async fn refresh(&self) {
        let mut tried = self.tried.lock().await;
        if tried.is_some_and(|tried| tried.elapsed() < PAUSE) {
            return;
        }
        *tried = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                tracing::info!(issuer = self.url, keys = keys.keys.len(), "fetched the issuer's keys");
                self.known.store(Some(Arc::new(Known { keys, since: Instant::now() })));
            }
            Err(error) => tracing::warn!(issuer = self.url, %error, "fetch the issuer's keys; those at hand stay"),
        }
    }

    async fn fetch(&self) -> Result<JwkSet, FetchError> {
        let jwks_url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        Ok(serde_json::from_slice(&self.get(&jwks_url).await?)?)
    }

    /// By the issuer's metadata: RFC 8414, else OpenID Connect Discovery.
    async fn discover(&self) -> Result<String, FetchError> {
        let issuer = url::Url::parse(&self.url).map_err(|_| FetchError::Url(self.url.clone()))?;
        let (origin, path) = (issuer.origin().ascii_serialization(), issuer.path().trim_end_matches('/'));
        let places = [
            format!("{origin}/.well-known/oauth-authorization-server{path}"),
            format!("{origin}{path}/.well-known/openid-configuration"),
        ];
        let mut last = FetchError::Body;
        for place in places {
            match self.get(&place).await {
                Ok(body) => {
                    let metadata: ServerMetadata = serde_json::from_slice(&body)?;
                    if metadata.issuer != self.url {
                        return Err(FetchError::OtherIssuer(metadata.issuer));
                    }
                    return Ok(metadata.jwks_uri);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Url(url.to_owned()))?;
        let hop = match uri.scheme_str() {
            Some("https") => &self.tls,
            Some("http") => &self.plain,
            _ => return Err(FetchError::Url(url.to_owned())),
        };
        let mut request = Request::new(Full::default());
        request.headers_mut().insert(HOST, host_of(&uri));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        *request.uri_mut() = uri;
        let (head, body) = hop.exchange(Right::NoMessage, request, Some(PATIENCE)).await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(FetchError::Status(head.status));
        }
        let body = tokio::time::timeout(PATIENCE, Limited::new(body, BYTES_MAX).collect()).await;
        let body = body.map_err(|_| FetchError::Body)?.map_err(|_| FetchError::Body)?;
        Ok(body.to_bytes())
    }
}
