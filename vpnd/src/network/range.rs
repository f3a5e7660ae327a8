//! The IPv4 range of a new network: private, small, and not in anybody's way.

use std::net::{IpAddr, Ipv4Addr};

use proto::metadata::{InnerAddr, InnerNet};
use rand_core::RngCore;

/// 4,094 addresses: more than machines in a network, and rarely in the way of another private range.
pub(crate) const PREFIX: u8 = 20;

/// Parts of 10.0.0.0/8 that routers, VPNs and container platforms take by default. 100.64.0.0/10 (carriers, and other
/// mesh networks), 172.16.0.0/12 (containers) and 192.168.0.0/16 (homes) are not drawn from at all.
const COMMON: [(Ipv4Addr, u8); 8] = [
    (Ipv4Addr::new(10, 0, 0, 0), 14),
    (Ipv4Addr::new(10, 8, 0, 0), 16),
    (Ipv4Addr::new(10, 10, 0, 0), 16),
    (Ipv4Addr::new(10, 42, 0, 0), 15),
    (Ipv4Addr::new(10, 88, 0, 0), 16),
    (Ipv4Addr::new(10, 89, 0, 0), 16),
    (Ipv4Addr::new(10, 96, 0, 0), 12),
    (Ipv4Addr::new(10, 244, 0, 0), 16),
];

/// Draws a range that touches neither a common one nor one that this host has a route to (`routes`; default routes
/// do not count). `None` if the host's routes leave no room.
pub(crate) fn choose(rng: &mut impl RngCore, routes: &[InnerNet]) -> Option<InnerNet> {
    let common = COMMON.iter().filter_map(|&(addr, len)| InnerNet::new(IpAddr::V4(addr), len).ok());
    let taken: Vec<InnerNet> =
        common.chain(routes.iter().copied().filter(|route| route.prefix_len() > 0)).collect();
    let slots = 1u32 << (PREFIX - 8);
    let start = rng.next_u32() % slots;
    (0..slots).map(|n| nth((start + n) % slots)).find(|&net| !taken.iter().any(|&other| overlap(net, other)))
}

/// The range with this number in 10.0.0.0/8.
fn nth(n: u32) -> InnerNet {
    let addr = Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]) | n << (32 - PREFIX));
    InnerNet::new(IpAddr::V4(addr), PREFIX).expect("the prefix length is that of IPv4")
}

/// Of two ranges that share an address, one contains the other.
fn overlap(a: InnerNet, b: InnerNet) -> bool {
    a.contains(InnerAddr(b.addr())) || b.contains(InnerAddr(a.addr()))
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    fn net(addr: &str, len: u8) -> InnerNet {
        InnerNet::new(addr.parse().unwrap(), len).unwrap()
    }

    fn second_octet(net: InnerNet) -> u8 {
        let IpAddr::V4(addr) = net.addr() else { panic!("an IPv6 range") };
        assert_eq!((addr.octets()[0], net.prefix_len()), (10, PREFIX));
        addr.octets()[1]
    }

    #[test]
    fn a_range_is_private_and_avoids_common_ones() {
        for _ in 0..2000 {
            let octet = second_octet(choose(&mut OsRng, &[net("0.0.0.0", 0)]).unwrap());
            assert!(!matches!(octet, 0..=3 | 8 | 10 | 42 | 43 | 88 | 89 | 96..=111 | 244), "{octet}");
        }
    }

    #[test]
    fn a_range_avoids_the_hosts_routes_narrow_and_wide() {
        let all_but_one = [
            net("10.0.0.0", 9),
            net("10.128.0.0", 10),
            net("10.192.0.0", 11),
            net("10.224.0.0", 12),
            net("10.248.0.0", 13),
            net("10.240.0.0", 14),
            net("10.244.0.0", 14),
        ];
        assert!(choose(&mut OsRng, &all_but_one).is_none());
        let octet = second_octet(choose(&mut OsRng, &all_but_one[..5]).unwrap());
        assert!(matches!(octet, 240..=243 | 245..=247), "{octet}");
        assert!(choose(&mut OsRng, &[net("10.0.0.0", 8)]).is_none());
        let host = InnerAddr("10.200.16.5".parse().unwrap());
        let route = [InnerNet::host(host)];
        assert!((0..5_000).all(|_| !choose(&mut OsRng, &route).unwrap().contains(host)));
    }
}
