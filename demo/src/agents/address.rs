//! A loopback address for each session, so that the gateway sees each as a principal of its own.
//!
//! Linux and Windows own all of 127.0.0.0/8; elsewhere only 127.0.0.1 can be bound, and sessions are told apart by
//! their start times.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// The address to call from: `127.AGENT.HIGH.LOW`, so a reader of the history can tell the agent too.
#[must_use]
pub fn session_address(agent: usize, number: usize) -> Ipv4Addr {
    let octet = |value: usize| (value % 250) as u8;
    Ipv4Addr::new(127, 10 + (agent % 240) as u8, octet(number / 250), 1 + octet(number))
}

/// Whether this machine lets a session call from an address of its own, to this server.
#[must_use]
pub fn own_addresses_work(server: IpAddr) -> bool {
    server.is_loopback() && TcpListener::bind(SocketAddr::new(IpAddr::V4(session_address(0, 0)), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_have_different_addresses() {
        let addresses: std::collections::BTreeSet<_> = (0..5000).map(|n| session_address(3, n)).collect();
        assert_eq!(addresses.len(), 5000);
        assert!(addresses.iter().all(Ipv4Addr::is_loopback));
    }
}
