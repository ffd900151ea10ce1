//! Who may talk to a local gateway: the checks of `Host` and `Origin` that stop a web page from reaching it.
//!
//! A page that rebinds its DNS name to this machine still sends that name as `Host`; a page that simply posts here
//! sends its own `Origin`. Both are looked at before anything else, because `Host` is replaced before forwarding and
//! the upstream can no longer check it. Not here: authentication.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use http::uri::Authority;

use crate::config::HostRules;

/// The names and origins that are let in.
#[derive(Debug)]
pub(crate) struct Guard(HostRules);

/// Which check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Host,
    Origin,
}

impl Guard {
    pub(crate) const fn new(rules: HostRules) -> Self {
        Self(rules)
    }

    /// `reached` is the address of ours that the client connected to.
    pub(crate) fn check(&self, headers: &HeaderMap, reached: IpAddr) -> Result<(), Foreign> {
        let origin = headers.contains_key(ORIGIN).then(|| only(headers, &ORIGIN).unwrap_or_default());
        self.check_values(only(headers, &HOST), origin, reached)
    }

    /// As [`Self::check`], for headers that were read already.
    pub(crate) fn check_values(
        &self,
        host: Option<&str>,
        origin: Option<&str>,
        reached: IpAddr,
    ) -> Result<(), Foreign> {
        if !host.is_some_and(|host| self.host_allowed(host, reached)) {
            return Err(Foreign::Host);
        }
        if origin.is_none_or(|origin| self.0.allows_origin(origin)) { Ok(()) } else { Err(Foreign::Origin) }
    }

    fn host_allowed(&self, host: &str, reached: IpAddr) -> bool {
        self.0.allows_host(host) || host.parse::<Authority>().is_ok_and(|asked| address(asked.host()) == Some(reached))
    }
}

/// The header's value if it occurs exactly once: of two, nobody knows which one the next hop will believe.
fn only<'a>(headers: &'a HeaderMap, name: &http::header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first: &HeaderValue = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>, expect: Result<(), Foreign>) {
        let rules = HostRules::parse(&["Gate.example", "other.example:81"], &["https://app.example"]);
        let guard = Guard::new(rules.unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(guard.check(&headers, "192.0.2.7".parse().unwrap()), expect, "{host} {origin:?}");
    }

    #[test]
    fn local_names_the_reached_address_and_configured_names_pass() {
        for host in ["localhost:8808", "LOCALHOST", "127.0.0.1:1", "127.1.2.3", "[::1]:8808", "192.0.2.7:8808"] {
            check(host, None, Ok(()));
        }
        check("gate.example:9", None, Ok(()));
        check("other.example:81", None, Ok(()));
        for host in ["evil.example", "192.0.2.8", "other.example", "localhost.evil.example", "x@localhost", "a b"] {
            check(host, None, Err(Foreign::Host));
        }
    }

    #[test]
    fn foreign_origins_are_refused() {
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5", "https://APP.example"] {
            check("localhost", Some(origin), Ok(()));
        }
        for origin in ["null", "http://evil.example", "http://localhost@evil.example", "file://localhost", ""] {
            check("localhost", Some(origin), Err(Foreign::Origin));
        }
    }

    #[test]
    fn two_hosts_are_no_host() {
        let guard = Guard::new(HostRules::default());
        let mut headers = HeaderMap::new();
        let reached = "127.0.0.1".parse().unwrap();
        assert_eq!(guard.check(&headers, reached), Err(Foreign::Host));
        headers.append(HOST, "localhost".parse().unwrap());
        headers.append(HOST, "localhost".parse().unwrap());
        assert_eq!(guard.check(&headers, reached), Err(Foreign::Host));
    }
}
