//! Beacons: what a machine says to every host on its LAN when it looks for another of its network, so that the two find each
//! other where neither coordinator nor relay can be reached.
//!
//! A beacon is [`LEN`] bytes that look random: a nonce, and a plaintext of fixed length sealed under a key that the members
//! of one epoch have ([`EpochKey::beacon_key`]). Whoever has not sees that some host sent so many bytes to [`PORT`], and from
//! where; two beacons have nothing in common. It is sent from the data path's own socket: where it comes from is where the
//! machine is reached. That endpoint is sealed inside as well, with the time, so that one that was recorded says nothing
//! later, and nothing from anywhere else.
//!
//! The sender names whom it looks for. Those machines say the same of themselves, once, looking for nobody; all others are
//! silent. A beacon is believed as any member of the network is: it makes a machine send a sealed handshake to an address on
//! its own link, and nothing more.
//!
//! [`EpochKey::beacon_key`]: crate::epoch::EpochKey::beacon_key

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand_core::CryptoRngCore;

use crate::{
    metadata::Endpoint,
    seal::{LOCK_OVERHEAD, lock, unlock},
    wire::{Reader, WireError, Writer},
};

/// The UDP port that beacons are sent to. (Assigned to nobody, and below those that systems hand out.)
pub const PORT: u16 = 21_420;

/// Where they are sent to over IPv4: to all hosts (RFC 1112). A group of our own would have to be joined, and the kernel's
/// reports of that would tell the LAN which hosts listen, whether anybody looks for them or not.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// Over IPv6: all nodes of the link (RFC 4291).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The most machines that one beacon looks for.
pub const MAX_WANTED: usize = 8;

/// Bytes of a beacon.
pub const LEN: usize = LOCK_OVERHEAD + PLAIN;

/// How far a beacon's time may be from the receiver's, in seconds. Without the internet clocks are not set: one that was right
/// weeks ago is minutes off.
pub const FRESH: u64 = 600;

const VERSION: u8 = 1;
/// Version, time, endpoint (family, 16 bytes, port), key, number of names, names.
const PLAIN: usize = 1 + 8 + (1 + 16 + 2) + 32 + 1 + MAX_WANTED * NAME;
/// Bytes by which a machine is named.
const NAME: usize = 8;

/// A machine as beacons name it: the first bytes of its WireGuard key. Two machines with one name would both answer.
pub type Name = [u8; NAME];

/// What a machine says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Beacon {
    /// When it was said, in unix seconds.
    pub time: u64,
    /// Where the machine is reached, and what the datagram comes from.
    pub from: Endpoint,
    /// Its WireGuard key.
    pub sender: [u8; 32],
    /// Whom it looks for, at most [`MAX_WANTED`].
    pub wanted: Vec<Name>,
}

/// The name of the machine with this WireGuard key.
#[must_use]
pub fn name(key: &[u8; 32]) -> Name {
    std::array::from_fn(|i| key[i])
}

impl Beacon {
    /// Seals it for members who have `key`. Names over the limit are left out.
    ///
    /// # Panics
    /// Never: what is sealed has one length.
    pub fn seal(&self, key: &[u8; 32], rng: &mut dyn CryptoRngCore) -> [u8; LEN] {
        let mut w = Writer::new();
        w.version(VERSION);
        w.u64(self.time);
        let (family, ip) = match self.from.0.ip() {
            IpAddr::V4(ip) => (4, ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => (6, ip),
        };
        w.u8(family);
        w.raw(&ip.octets());
        w.u16(self.from.0.port());
        w.raw(&self.sender);
        let wanted = &self.wanted[..self.wanted.len().min(MAX_WANTED)];
        w.u8(wanted.len() as u8);
        wanted.iter().for_each(|name| w.raw(name));
        let mut plain = w.finish();
        plain.resize(PLAIN, 0);
        lock(key, b"", &plain, rng).try_into().expect("a plaintext of PLAIN bytes is LEN when it is sealed")
    }

    /// Opens a datagram. `None` if it is no beacon, or not for who has `key`.
    #[must_use]
    pub fn open(datagram: &[u8], key: &[u8; 32]) -> Option<Self> {
        if datagram.len() != LEN {
            return None;
        }
        Self::read(&unlock(key, b"", datagram)?).ok()
    }

    /// Reads what was sealed.
    ///
    /// # Errors
    /// [`WireError`] if a member sealed what is none.
    pub fn read(plain: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(plain);
        r.version(VERSION)?;
        let time = r.u64()?;
        let family = r.u8()?;
        let ip = Ipv6Addr::from(r.array::<16>()?);
        let ip = match (family, ip.to_ipv4_mapped()) {
            (4, Some(ip)) => IpAddr::V4(ip),
            (6, None) => IpAddr::V6(ip),
            _ => return Err(WireError::Invalid("address family")),
        };
        let from = Endpoint(SocketAddr::new(ip, r.u16()?));
        let sender = r.array()?;
        let count = usize::from(r.u8()?);
        if count > MAX_WANTED {
            return Err(WireError::TooLong);
        }
        let wanted = (0..count).map(|_| r.array()).collect::<Result<_, _>>()?;
        // A later version may say more in what is left.
        Ok(Self { time, from, sender, wanted })
    }

    /// Whether it was said about now.
    #[must_use]
    pub fn is_fresh(&self, now: u64) -> bool {
        self.time.abs_diff(now) <= FRESH
    }

    /// Whether it looks for the machine with this WireGuard key.
    #[must_use]
    pub fn wants(&self, key: &[u8; 32]) -> bool {
        self.wanted.contains(&name(key))
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::{epoch::EpochKey, seal::random};

    fn beacon(from: &str, wanted: usize) -> Beacon {
        let wanted = (0..wanted).map(|n| [n as u8 + 1; NAME]).collect();
        Beacon { time: 1_700_000_000, from: Endpoint(from.parse().unwrap()), sender: [7; 32], wanted }
    }

    #[test]
    fn members_of_the_epoch_read_a_beacon_and_nobody_else_does() {
        let (key, other) = (EpochKey::generate(&mut OsRng), EpochKey::generate(&mut OsRng));
        for from in ["192.168.1.20:51820", "[fd00::20]:51820"] {
            for wanted in 0..=MAX_WANTED {
                let said = beacon(from, wanted);
                let datagram = said.seal(&key.beacon_key(), &mut OsRng);
                assert!(Beacon::open(&datagram, &key.beacon_key()) == Some(said), "{from}, {wanted}");
                assert!(Beacon::open(&datagram, &other.beacon_key()).is_none());
                assert!(Beacon::open(&datagram, &key.mailbox_key()).is_none());
                assert!(Beacon::open(&datagram[1..], &key.beacon_key()).is_none());
            }
        }
    }

    #[test]
    fn beacons_have_one_length_and_nothing_in_common() {
        let key = EpochKey::generate(&mut OsRng).beacon_key();
        let said: Vec<[u8; LEN]> =
            (0..64).map(|n| beacon("192.168.1.20:51820", n % 9).seal(&key, &mut OsRng)).collect();
        for (n, one) in said.iter().enumerate() {
            for other in &said[..n] {
                let same = one.windows(4).zip(other.windows(4)).filter(|(a, b)| a == b).count();
                assert_eq!(same, 0);
            }
        }
    }

    #[test]
    fn a_changed_bit_anywhere_makes_it_nothing() {
        let key = EpochKey::generate(&mut OsRng).beacon_key();
        let datagram = beacon("192.168.1.20:51820", 2).seal(&key, &mut OsRng);
        for at in 0..LEN {
            let mut changed = datagram;
            changed[at] ^= 1 << (at % 8);
            assert!(Beacon::open(&changed, &key).is_none(), "byte {at}");
        }
    }

    #[test]
    fn what_a_member_sealed_that_is_no_beacon_is_refused() {
        let mut plain = vec![0; PLAIN];
        assert!(Beacon::read(&plain).is_err(), "no version");
        plain[0] = VERSION;
        assert!(Beacon::read(&plain).is_err(), "no family");
        plain[9] = 4;
        assert!(Beacon::read(&plain).is_err(), "no IPv4 address");
        plain[9] = 6;
        assert!(Beacon::read(&plain).is_ok());
        plain[60] = MAX_WANTED as u8 + 1;
        assert!(Beacon::read(&plain).is_err(), "too many names");
        let random: [u8; 40] = random(&mut OsRng);
        assert!(Beacon::read(&random[..]).is_err());
    }

    #[test]
    fn a_beacon_is_fresh_for_minutes_and_wants_whom_it_names() {
        let said = beacon("192.168.1.20:51820", 2);
        for (now, fresh) in [(0, true), (FRESH, true), (FRESH + 1, false)] {
            assert_eq!(said.is_fresh(said.time + now), fresh);
            assert_eq!(said.is_fresh(said.time - now), fresh);
        }
        assert!(!said.is_fresh(0) && !said.is_fresh(u64::MAX));
        assert!(
            said.wants(&[1; 32]) && said.wants(&[2; 32]) && !said.wants(&[3; 32]) && !said.wants(&[0; 32])
        );
    }
}
