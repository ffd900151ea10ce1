//! What a reload replaces: who is let in, and which upstreams there are.
//!
//! One value, loaded once a request, so that no request sees half of a change. Not here: what is fixed at the start
//! (`Fixed`). Invariant: an upstream whose settings stay the same is carried over as it is, with its connections,
//! children and sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

use super::aggregate::Aggregate;
use super::auth::Auth;
use super::config::GatewayConfig;
use super::guard::Guard;
use super::rates::Rates;
use super::replicas::Replicas;
use super::shared::Shared;
use super::stdio::StdioUpstream;
use super::{GatewayError, Upstream, tls};
use crate::config::Cidr;
use crate::upstream::{self, Target, UpstreamConfig};

#[derive(Debug)]
pub(super) struct Live {
    /// Grows with each reload: what a connection remembers holds for one of them.
    pub(super) generation: u64,
    pub(super) guard: Guard,
    pub(super) trusted_proxies: Vec<Cidr>,
    /// What connections begin with, if they do.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) auth: Option<Arc<Auth>>,
    /// The endpoint of all upstreams, if there is one.
    pub(super) aggregate: Option<Arc<Aggregate>>,
    pub(super) rates: Arc<Rates>,
    upstreams: BTreeMap<String, Served>,
}

#[derive(Clone, Debug)]
struct Served {
    config: UpstreamConfig,
    upstream: Upstream,
}

impl Live {
    pub(super) fn new(
        config: GatewayConfig,
        before: Option<&Self>,
        shared: &Arc<Shared>,
    ) -> Result<Self, GatewayError> {
        let mut upstreams = BTreeMap::new();
        for config in config.upstreams {
            let name = config.name.clone();
            let same = before.and_then(|before| before.upstreams.get(&name)).filter(|served| served.config == config);
            let upstream = match same {
                Some(served) => served.upstream.clone(),
                None => open(&config, shared)?,
            };
            if upstreams.insert(name.clone(), Served { config, upstream }).is_some() {
                return Err(GatewayError::DuplicateName(name));
            }
        }
        // Keys that were fetched, and buckets that are not full, outlive a reload that does not speak of them.
        let auth = match before.and_then(|before| before.auth.as_ref()).filter(|auth| auth.is_of(&config.auth)) {
            Some(auth) => Some(Arc::clone(auth)),
            None => Auth::new(&config.auth, &shared.config.timeouts).map_err(GatewayError::IssuerRoots)?.map(Arc::new),
        };
        let rates = match before.map(|before| &before.rates).filter(|rates| rates.rate() == config.rate) {
            Some(rates) => Arc::clone(rates),
            None => Arc::new(Rates::new(config.rate)),
        };
        let aggregate = config.aggregate.map(|settings| {
            let upstreams = upstreams.iter().map(|(name, served)| (name.as_str(), &served.upstream));
            let before = before.and_then(|before| before.aggregate.as_deref());
            Aggregate::new(settings, upstreams, auth.is_some(), before, shared)
        });
        Ok(Self {
            aggregate,
            tls: config.tls.as_ref().map(tls::server).transpose()?,
            auth,
            rates,
            generation: before.map_or(0, |before| before.generation + 1),
            guard: Guard::new(config.hosts),
            trusted_proxies: config.trusted_proxies,
            upstreams,
        })
    }

    pub(super) fn upstream(&self, name: &str) -> Option<(&str, &Upstream)> {
        self.upstreams.get_key_value(name).map(|(name, served)| (name.as_str(), &served.upstream))
    }

    /// Who knows the callers of an upstream; `None`: nobody, or the upstream itself.
    pub(super) fn auth_of(&self, upstream: &Upstream) -> Option<&Arc<Auth>> {
        let passed_through = match upstream {
            Upstream::Http(upstream) => upstream.first().is_passed_through(),
            Upstream::Stdio(_) => false,
        };
        self.auth.as_ref().filter(|_| !passed_through)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.upstreams.keys().map(String::as_str)
    }

    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.values().map(|served| &served.upstream)
    }

    /// The upstreams that `next` does not carry over.
    pub(super) fn gone_in(&self, next: &Self) -> Vec<Upstream> {
        let kept = |name: &String, served: &Served| {
            next.upstreams.get(name).is_some_and(|after| after.upstream.is(&served.upstream))
        };
        let gone = self.upstreams.iter().filter(|(name, served)| !kept(name, served));
        gone.map(|(_, served)| served.upstream.clone()).collect()
    }
}

impl Upstream {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http(one), Self::Http(other)) => Arc::ptr_eq(one, other),
            (Self::Stdio(one), Self::Stdio(other)) => Arc::ptr_eq(one, other),
            (Self::Http(_), Self::Stdio(_)) | (Self::Stdio(_), Self::Http(_)) => false,
        }
    }

    /// Ends its children.
    pub(super) async fn close(&self) {
        match self {
            Self::Http(_) => {}
            Self::Stdio(upstream) => upstream.close().await,
        }
    }
}

/// Nothing is connected or started before the first request.
fn open(config: &UpstreamConfig, shared: &Arc<Shared>) -> Result<Upstream, GatewayError> {
    let name = &config.name;
    upstream::check_name(name).map_err(|source| GatewayError::Name { name: name.clone(), source })?;
    match &config.target {
        Target::Http(endpoints) => Replicas::new(config, endpoints, shared)
            .map(|upstream| Upstream::Http(Arc::new(upstream)))
            .map_err(|source| GatewayError::Roots { name: name.clone(), source }),
        Target::Stdio(command) => {
            Ok(Upstream::Stdio(Arc::new(StdioUpstream::new(config, command.clone(), Arc::clone(shared)))))
        }
    }
}
