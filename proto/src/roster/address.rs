//! Random inner addresses. They are never derived from a machine's keys: a public identifier that follows from a key
//! makes its owner linkable elsewhere.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rand_core::CryptoRngCore;

use crate::{metadata::InnerNet, seal::random};

/// Draws before a nearly full range is searched from a random place on.
const DRAWS: usize = 64;

/// A random /48 of unique local addresses (RFC 4193, section 3.2).
pub(super) fn random_ula(rng: &mut dyn CryptoRngCore) -> InnerNet {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&random::<5>(rng));
    InnerNet::new(IpAddr::V6(octets.into()), 48).expect("48 bits fit an IPv6 address")
}

/// A random address in the first /64 of `net`.
pub(super) fn random_ipv6(net: InnerNet, rng: &mut dyn CryptoRngCore) -> Ipv6Addr {
    let prefix = ipv6_bits(net.addr());
    loop {
        let host = u64::from_be_bytes(random(rng));
        // All zeros is the subnet-router anycast address (RFC 4291, section 2.6.1).
        if host != 0 {
            return Ipv6Addr::from_bits(prefix | u128::from(host));
        }
    }
}

/// Whether `addr` could have come from [`random_ipv6`].
pub(super) fn in_first_subnet(net: InnerNet, addr: Ipv6Addr) -> bool {
    let prefix = ipv6_bits(net.addr());
    addr.to_bits() >> 64 == prefix >> 64 && addr.to_bits() != prefix
}

/// A random address of `net` that is not `taken`; never its first or last where it has more than two. `None` if the
/// range is full.
pub(super) fn random_ipv4(
    net: InnerNet,
    taken: &BTreeSet<Ipv4Addr>,
    rng: &mut dyn CryptoRngCore,
) -> Option<Ipv4Addr> {
    let IpAddr::V4(base) = net.addr() else {
        return None;
    };
    let size = 1_u64 << (32 - net.prefix_len());
    let (first, count) = if size > 2 { (1, size - 2) } else { (0, size) };
    let at = |n: u64| Ipv4Addr::from_bits(base.to_bits() + (first + n % count) as u32);
    let draw = |rng: &mut dyn CryptoRngCore| u64::from_be_bytes(random(rng)) % count;
    for _ in 0..DRAWS {
        let addr = at(draw(rng));
        if !taken.contains(&addr) {
            return Some(addr);
        }
    }
    let start = draw(rng);
    // No more than `taken` addresses can be in the way.
    (0..count.min(taken.len() as u64 + 1)).map(|n| at(start + n)).find(|addr| !taken.contains(addr))
}

fn ipv6_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V6(addr) => addr.to_bits(),
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    fn net(text: &str, len: u8) -> InnerNet {
        InnerNet::new(text.parse().unwrap(), len).unwrap()
    }

    #[test]
    fn every_address_of_a_small_range_is_given_once_and_then_none() {
        let range = net("10.1.2.0", 29);
        let mut taken = BTreeSet::new();
        while let Some(addr) = random_ipv4(range, &taken, &mut OsRng) {
            assert!(taken.insert(addr));
        }
        let want: BTreeSet<_> = (1..7).map(|n| Ipv4Addr::new(10, 1, 2, n)).collect();
        assert!(taken == want);
    }

    #[test]
    fn networks_and_machines_get_unlike_addresses_of_the_right_shape() {
        let (a, b) = (random_ula(&mut OsRng), random_ula(&mut OsRng));
        assert!(a != b && a.addr().to_string().starts_with("fd"));
        let addr = random_ipv6(a, &mut OsRng);
        assert!(in_first_subnet(a, addr) && !in_first_subnet(b, addr));
        assert!(addr != random_ipv6(a, &mut OsRng));
    }
}
