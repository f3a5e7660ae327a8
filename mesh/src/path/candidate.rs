//! Endpoints that may be probed, and what kind of path they make.
//!
//! A peer names endpoints of its own; nothing proves that they are. So what it names is limited to where a machine
//! of a person can be, and never to what only this machine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proto::pipe::LocalAddr;

/// The kind of a path, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// On a link that this machine is on.
    Lan,
    /// IPv6 beyond the LAN: no translation on the way.
    V6,
    /// IPv4 beyond the LAN.
    V4,
    /// Over a relay.
    Relay,
}

/// Ports under this belong to services, which a probe must not be aimed at.
pub(super) const MIN_PORT: u16 = 1024;

impl Kind {
    /// The kind of a direct path to this address.
    pub(crate) fn of(addr: IpAddr, locals: &[LocalAddr]) -> Self {
        match addr {
            _ if on_link(addr, locals) => Self::Lan,
            IpAddr::V6(_) => Self::V6,
            IpAddr::V4(_) => Self::V4,
        }
    }
}

/// Whether an endpoint that a peer named, or sent from, may be probed. `shares_public` says whether the peer is seen
/// from outside at the same address as this machine: then its private addresses may be beyond a router of ours.
///
/// Endpoints that a signer wrote into the roster are not asked about here.
pub(crate) fn may_probe(endpoint: SocketAddr, locals: &[LocalAddr], shares_public: bool) -> bool {
    let addr = endpoint.ip();
    if endpoint.port() < MIN_PORT || locals.iter().any(|local| local.addr == addr) {
        return false;
    }
    let possible = match addr {
        IpAddr::V4(a) => {
            let first = a.octets()[0];
            first != 0 && first < 224 && !a.is_loopback() && !ends_its_net(a, locals)
        }
        IpAddr::V6(a) => {
            !a.is_unspecified()
                && !a.is_loopback()
                && !a.is_multicast()
                && !a.is_unicast_link_local()
                && !embeds_v4(a)
                && !proto::probe::is_reserved(addr)
        }
    };
    possible && (!is_private(addr) || shares_public || on_link(addr, locals))
}

/// Whether an interface address is worth telling to peers.
pub(crate) fn may_announce(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_link_local() && !a.is_multicast(),
        IpAddr::V6(a) => {
            !a.is_unspecified() && !a.is_loopback() && !a.is_unicast_link_local() && !a.is_multicast()
        }
    }
}

/// Addresses that mean something only inside a site: RFC 1918, RFC 6598 (shared), RFC 3927 and RFC 4193.
pub(crate) fn is_private(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => {
            let [first, second, ..] = a.octets();
            a.is_private() || a.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(a) => a.is_unique_local(),
    }
}

/// IPv4 in disguise: mapped, compatible, and the NAT64 prefix of RFC 6052, which would go around the rules for IPv4.
fn embeds_v4(a: Ipv6Addr) -> bool {
    a.segments()[..5] == [0; 5] || a.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
}

fn on_link(addr: IpAddr, locals: &[LocalAddr]) -> bool {
    locals.iter().any(|local| shares_prefix(local.addr, addr, local.prefix_len))
}

/// Whether the address is the first or the last of a network that we are on: nobody's, or everybody's.
fn ends_its_net(a: Ipv4Addr, locals: &[LocalAddr]) -> bool {
    locals.iter().any(|local| {
        let IpAddr::V4(own) = local.addr else { return false };
        let host = u32::MAX.checked_shr(local.prefix_len.into()).unwrap_or(0);
        // Networks of one or two addresses have no broadcast address (RFC 3021).
        local.prefix_len < 31
            && (a.to_bits() ^ own.to_bits()) & !host == 0
            && (a.to_bits() & host == 0 || a.to_bits() & host == host)
    })
}

fn shares_prefix(a: IpAddr, b: IpAddr, len: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(len),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(len),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> LocalAddr {
        let (addr, len) = text.split_once('/').unwrap();
        LocalAddr { addr: addr.parse().unwrap(), prefix_len: len.parse().unwrap() }
    }

    fn home() -> Vec<LocalAddr> {
        vec![local("192.168.1.10/24"), local("2001:db8:1::10/64"), local("127.0.0.1/8")]
    }

    #[test]
    fn what_no_machine_of_a_person_has_is_never_probed() {
        for refused in [
            "127.0.0.1:5000",
            "0.0.0.0:5000",
            "0.1.2.3:5000",
            "224.0.0.1:5000",
            "255.255.255.255:5000",
            "240.0.0.1:5000",
            "192.168.1.255:5000",
            "192.168.1.0:5000",
            "192.168.1.10:5000",
            "198.51.100.1:1023",
            "198.51.100.1:0",
            "[::]:5000",
            "[::1]:5000",
            "[ff02::1]:5000",
            "[fe80::1]:5000",
            "[::ffff:10.0.0.1]:5000",
            "[64:ff9b::a00:1]:5000",
            "[100::1]:5000",
        ] {
            assert!(!may_probe(refused.parse().unwrap(), &home(), true), "{refused}");
        }
        for allowed in ["198.51.100.1:1024", "192.168.1.11:51820", "[2001:db8:2::1]:51820"] {
            assert!(may_probe(allowed.parse().unwrap(), &home(), false), "{allowed}");
        }
    }

    #[test]
    fn private_addresses_are_probed_on_our_link_or_behind_our_own_router_only() {
        for private in
            ["10.0.0.1:5000", "172.16.0.1:5000", "192.168.2.1:5000", "100.64.0.1:5000", "[fd00::1]:5000"]
        {
            let endpoint = private.parse().unwrap();
            assert!(!may_probe(endpoint, &home(), false), "{private}");
            assert!(may_probe(endpoint, &home(), true), "{private}");
        }
        assert!(may_probe("192.168.1.77:5000".parse().unwrap(), &home(), false));
    }

    #[test]
    fn kinds_are_told_apart_by_our_own_links() {
        let kind = |text: &str| Kind::of(text.parse().unwrap(), &home());
        assert!(kind("192.168.1.7") == Kind::Lan && kind("2001:db8:1::7") == Kind::Lan);
        assert!(kind("2001:db8:2::7") == Kind::V6 && kind("198.51.100.1") == Kind::V4);
        assert!(Kind::Lan < Kind::V6 && Kind::V6 < Kind::V4 && Kind::V4 < Kind::Relay);
    }
}
