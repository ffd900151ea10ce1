//! Who the client is behind proxies that are trusted to say so.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::Cidr;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether what `peer` says about its clients is believed.
pub(super) fn is_trusted(peer: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| range.contains(peer))
}

/// The client that trusted proxies name: the last address of `X-Forwarded-For` that is not a trusted proxy itself.
/// `None` where the peer is not trusted, or names nobody: then the peer is the client.
pub(super) fn forwarded(headers: &HeaderMap, peer: IpAddr, trusted: &[Cidr]) -> Option<IpAddr> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    let mut named = None;
    // Proxies append, so only what stands at the end was written by one of ours.
    for header in headers.get_all(FORWARDED_FOR).iter().rev() {
        for text in header.to_str().ok()?.rsplit(',') {
            let address = text.trim().parse::<IpAddr>().ok()?.to_canonical();
            named = Some(address);
            if !is_trusted(address, trusted) {
                return named;
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, headers: &[&str], expect: Option<&str>) {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(FORWARDED_FOR, header.parse().unwrap());
        }
        let expect = expect.map(|address| address.parse().unwrap());
        assert_eq!(forwarded(&map, peer.parse().unwrap(), &trusted), expect, "{peer} {headers:?}");
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        check("192.0.2.1", &["198.51.100.7"], None);
        check("10.0.0.1", &[], None);
        check("10.0.0.1", &["198.51.100.7"], Some("198.51.100.7"));
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"], Some("198.51.100.7"));
        check("10.0.0.1", &["203.0.113.9", "198.51.100.7"], Some("198.51.100.7"));
        check("10.0.0.1", &["10.0.0.3"], Some("10.0.0.3"));
        check("10.0.0.1", &["unknown"], None);
    }
}
