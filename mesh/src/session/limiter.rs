//! Handshakes that one source may start.
//!
//! A handshake message costs us a Diffie-Hellman. If only all of them together were counted, one source could make every
//! other pay with a round trip.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

/// Handshake messages that a source may send at once. An initiation and its repetitions for a few peers behind one
/// address.
const BURST: u32 = 20;
/// After that, one more in each of these.
const REFILL: Duration = Duration::from_millis(50);
/// Sources that are remembered: enough to make collisions rare, small enough to stay in the cache.
const BUCKETS: usize = 1_024;

/// Where a datagram came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `class` is what the outer header said beside the address: its type of service or traffic class.
    Udp {
        socket: u8,
        src: SocketAddr,
        class: u8,
    },
    Relay {
        relay: u8,
        handle: u64,
    },
}

/// Token buckets in a fixed table; two sources that fall into one bucket share it.
pub(crate) struct Limiter {
    seed: u64,
    /// [`REFILL`], or longer where others grant the rest.
    refill: Duration,
    /// When each bucket is full again.
    full_at: Vec<Option<Instant>>,
}

impl Source {
    /// What stands for the source in a WireGuard cookie, which is to bind to its address and port (the paper, section 5.4.7):
    /// `Tunn` takes an address alone, so one is made up of both. Of a relay handle too; those of handles and of IPv4 lie
    /// outside of every range that is in use. (An IPv6 address shares its own with neighbours in its /112 at other ports.)
    pub(crate) fn cookie_address(self) -> IpAddr {
        let bits = match self {
            Self::Udp { src, .. } => match src.ip() {
                IpAddr::V4(ip) => 0x0101 << 112 | u128::from(ip.to_bits()) << 16 | u128::from(src.port()),
                IpAddr::V6(ip) => ip.to_bits() ^ u128::from(src.port()),
            },
            Self::Relay { relay, handle } => made_up(relay, handle),
        };
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }

    /// What the outer header said of congestion and the like; over a relay nothing.
    pub(crate) fn class(self) -> u8 {
        match self {
            Self::Udp { class, .. } => class,
            Self::Relay { .. } => 0,
        }
    }

    /// What is limited as one: an IPv4 address, an IPv6 /64, a handle.
    fn key(self) -> u128 {
        match self {
            Self::Udp { src, .. } => match src.ip() {
                IpAddr::V4(ip) => u128::from(ip.to_bits()),
                IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
            },
            Self::Relay { relay, handle } => made_up(relay, handle),
        }
    }
}

/// An address that nobody has (RFC 6666), for a relay's handle.
fn made_up(relay: u8, handle: u64) -> u128 {
    0x0100 << 112 | (1 + u128::from(relay)) << 64 | u128::from(handle)
}

impl Limiter {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, refill: REFILL, full_at: vec![None; BUCKETS] }
    }

    /// There are so many, and all together allow what one does.
    pub(crate) fn is_one_of(&mut self, limiters: u8) {
        self.refill = REFILL * limiters.into();
    }

    /// Whether the source may send one more handshake message now.
    pub(crate) fn allows(&mut self, now: Instant, source: Source) -> bool {
        let bucket = self.bucket(source.key());
        let full_at = self.full_at[bucket].map_or(now, |at| at.max(now));
        if full_at + self.refill > now + self.refill * BURST {
            return false;
        }
        self.full_at[bucket] = Some(full_at + self.refill);
        true
    }

    /// A keyed mix, so that nobody can aim at another's bucket.
    fn bucket(&self, key: u128) -> usize {
        let mut h = self.seed;
        for half in [key as u64, (key >> 64) as u64] {
            h = (h ^ half).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            h ^= h >> 32;
        }
        h as usize % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(addr: &str) -> Source {
        Source::Udp { socket: 0, src: SocketAddr::new(addr.parse().unwrap(), 1), class: 0 }
    }

    #[test]
    fn one_source_is_limited_and_another_is_not() {
        let now = Instant::now();
        let mut limiter = Limiter::new(1);
        let allowed = (0..100).filter(|_| limiter.allows(now, from("192.0.2.1"))).count();
        assert_eq!(allowed, BURST as usize);
        assert!(limiter.allows(now, from("192.0.2.2")));
        assert!(limiter.allows(now + REFILL, from("192.0.2.1")));
        assert!(!limiter.allows(now + REFILL, from("192.0.2.1")));
    }

    #[test]
    fn all_of_an_ipv6_network_is_one_source_and_every_relay_handle_its_own() {
        let now = Instant::now();
        let mut limiter = Limiter::new(2);
        let allowed = (0..100).filter(|n| limiter.allows(now, from(&format!("2001:db8::{n}")))).count();
        assert_eq!(allowed, BURST as usize);
        let handle = |handle| Source::Relay { relay: 1, handle };
        assert!((0..BURST).all(|_| limiter.allows(now, handle(1))) && !limiter.allows(now, handle(1)));
        assert!(limiter.allows(now, handle(2)));
        assert!(handle(1).cookie_address() != handle(2).cookie_address());
    }

    #[test]
    fn a_cookie_is_for_an_address_and_a_port() {
        let at =
            |text: &str, class| Source::Udp { socket: 0, src: text.parse().unwrap(), class }.cookie_address();
        for [here, there] in [["192.0.2.1:5", "192.0.2.1:6"], ["[2001:db8::1]:5", "[2001:db8::1]:6"]] {
            assert!(at(here, 0) == at(here, 3) && at(here, 0) != at(there, 0));
        }
        assert!(at("192.0.2.1:5", 0) != at("192.0.2.2:5", 0));
        assert!(at("[2001:db8::1]:5", 0) != at("[2001:db8:0:0:1::1]:5", 0));
    }
}
