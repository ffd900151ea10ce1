//! Which `Host` and `Origin` headers a listener answers to: the guard against DNS rebinding.
//!
//! Loopback names are always right; anything else must be configured. Used by the MCP and the admin listener.

use std::net::IpAddr;

/// A host as it stands in `Host`, perhaps with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    /// Lower case, without brackets.
    host: String,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None => None,
        };
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
        let valid = !host.is_empty() && host.bytes().all(legal);
        valid.then(|| Self { host: host.to_ascii_lowercase(), port })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// The hosts and origins that a listener answers to, besides loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    hosts: Vec<Authority>,
    /// Lower case, `scheme://host[:port]`.
    origins: Vec<String>,
}

impl HostRules {
    /// Rules of these hosts and origins, besides loopback; `None` where one of them is not one.
    #[must_use]
    pub fn parse(hosts: &[&str], origins: &[&str]) -> Option<Self> {
        let mut rules = Self::default();
        hosts.iter().try_for_each(|host| rules.add_host(host))?;
        origins.iter().try_for_each(|origin| rules.add_origin(origin))?;
        Some(rules)
    }

    /// `None` where an entry is not `HOST` or `HOST:PORT`.
    pub(super) fn add_host(&mut self, text: &str) -> Option<()> {
        self.hosts.push(Authority::parse(text)?);
        Some(())
    }

    /// `None` where an entry is not `SCHEME://HOST[:PORT]`.
    pub(super) fn add_origin(&mut self, text: &str) -> Option<()> {
        let (scheme, authority) = text.split_once("://")?;
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return None;
        }
        Authority::parse(authority)?;
        self.origins.push(text.to_ascii_lowercase());
        Some(())
    }

    /// Nothing but loopback is allowed.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether a request with this `Host` header is meant for us. A configured host without a port allows any port.
    #[must_use]
    pub fn allows_host(&self, header: &str) -> bool {
        let Some(asked) = Authority::parse(header) else { return false };
        let same = |own: &Authority| own.host == asked.host && (own.port.is_none() || own.port == asked.port);
        asked.is_loopback() || self.hosts.iter().any(same)
    }

    /// Whether a page of this `Origin` may talk to us (requests without the header do not come from a page).
    #[must_use]
    pub fn allows_origin(&self, header: &str) -> bool {
        let lower = header.to_ascii_lowercase();
        let own_page = match lower.split_once("://") {
            Some(("http" | "https", authority)) => Authority::parse(authority).is_some_and(|a| a.is_loopback()),
            _ => false,
        };
        own_page || self.origins.contains(&lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> HostRules {
        let mut rules = HostRules::default();
        rules.add_host("Gateway.Example.com").unwrap();
        rules.add_host("pinned.example.com:8808").unwrap();
        rules.add_origin("https://console.example.com").unwrap();
        rules
    }

    // Goal: a page that rebinds its name to 127.0.0.1 is told apart from a local client.
    #[test]
    fn loopback_and_configured_hosts_are_ours_and_nothing_else_is() {
        let check = |host: &str, expect: bool| assert_eq!(rules().allows_host(host), expect, "{host:?}");
        check("localhost:8808", true);
        check("LOCALHOST", true);
        check("app.localhost", true);
        check("127.0.0.1:1", true);
        check("127.8.8.8", true);
        check("[::1]:8808", true);
        check("gateway.example.com", true);
        check("gateway.example.com:9", true);
        check("pinned.example.com:8808", true);
        check("pinned.example.com", false);
        check("pinned.example.com:1", false);
        check("evil.example.com", false);
        check("localhost.evil.com", false);
        check("127.0.0.1.evil.com", false);
        check("localhost@evil.com", false);
        check("[::1", false);
        check("[::1]evil", false);
        check("localhost:80x", false);
        check("localhost:+80", false);
        check("", false);
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let check = |origin: &str, expect: bool| assert_eq!(rules().allows_origin(origin), expect, "{origin:?}");
        check("http://localhost:6274", true);
        check("https://127.0.0.1", true);
        check("https://console.example.com", true);
        check("http://console.example.com", false);
        check("https://evil.example.com", false);
        check("null", false);
        check("file://localhost", false);
        check("", false);
    }

    #[test]
    fn entries_that_are_not_hosts_are_not_taken() {
        let mut rules = HostRules::default();
        for wrong in ["", "*", "http://a", "a/b", "a b", "a:b"] {
            assert_eq!(rules.add_host(wrong), None, "{wrong:?}");
        }
        for wrong in ["example.com", "://a", "https://", "https://a/b", "*"] {
            assert_eq!(rules.add_origin(wrong), None, "{wrong:?}");
        }
    }
}
