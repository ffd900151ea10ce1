//! A network of addresses, `10.0.0.0/8`, for the list of trusted proxies.

use std::net::IpAddr;
use std::str::FromStr;

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    bits: u128,
    prefix: u32,
    width: u32,
}

/// Not `ADDRESS` or `ADDRESS/BITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or network")]
pub struct NotCidr;

/// The address as a number and its width in bits; IPv4 inside IPv6 counts as IPv4.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl FromStr for Cidr {
    type Err = NotCidr;

    fn from_str(text: &str) -> Result<Self, NotCidr> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| NotCidr)?)),
            None => (text, None),
        };
        let (bits, width) = bits(address.parse().map_err(|_| NotCidr)?);
        let prefix = prefix.unwrap_or(width);
        if prefix > width { Err(NotCidr) } else { Ok(Self { bits, prefix, width }) }
    }
}

impl Cidr {
    /// Whether the address lies in this network.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (bits, width) = bits(ip);
        let ignored = self.width - self.prefix;
        width == self.width && (bits ^ self.bits).checked_shr(ignored).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_networks_only() {
        let check = |network: &str, ip: &str, expect: bool| {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(network.contains(ip.parse().unwrap()), expect, "{network:?} {ip}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "fe80::1", true);
        check("fd00::/8", "fd12::1", true);
        check("127.0.0.1", "::ffff:127.0.0.1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(wrong.parse::<Cidr>(), Err(NotCidr), "{wrong:?}");
        }
    }
}
