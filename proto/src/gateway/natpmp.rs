//! The NAT Port Mapping Protocol (RFC 6886): which outer address the router has, and a port of it.

use std::net::Ipv4Addr;

use crate::wire::{Reader, Writer};

const VERSION: u8 = 0;
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const ANSWER: u8 = 0x80;

/// What a router answers.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Its outer address.
    Address(Ipv4Addr),
    /// A port of it leads to this machine.
    Mapped {
        /// The port on this machine.
        internal: u16,
        /// The outer port.
        external: u16,
        /// For how long, in seconds.
        lifetime: u32,
    },
    /// What was asked for is not to be had.
    Refused,
}

/// Asks for the outer address (section 3.2).
#[must_use]
pub fn address_request() -> Vec<u8> {
    vec![VERSION, ADDRESS]
}

/// Asks for an outer port (section 3.3); with a lifetime and an outer port of 0 gives it back (section 3.4).
#[must_use]
pub fn map_request(internal: u16, suggested: u16, lifetime: u32) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(&[VERSION, MAP_UDP, 0, 0]);
    w.u16(internal);
    w.u16(suggested);
    w.u32(lifetime);
    w.finish()
}

/// Reads an answer to either.
#[must_use]
pub fn read(datagram: &[u8]) -> Option<Answer> {
    let mut r = Reader::new(datagram);
    let [version, kind] = r.array().ok()?;
    let result = r.u16().ok()?;
    if version != VERSION || ![ANSWER | ADDRESS, ANSWER | MAP_UDP].contains(&kind) {
        return None;
    }
    if result != 0 {
        return Some(Answer::Refused);
    }
    // Seconds since the router's start (section 3.6); see the epoch in `pcp`.
    r.u32().ok()?;
    if kind == ANSWER | ADDRESS {
        return Some(Answer::Address(Ipv4Addr::from(r.array::<4>().ok()?)));
    }
    let (internal, external) = (r.u16().ok()?, r.u16().ok()?);
    Some(Answer::Mapped { internal, external, lifetime: r.u32().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_rfc_has_them() {
        assert_eq!(address_request(), [0, 0]);
        assert_eq!(
            map_request(51_820, 40_000, 7_200),
            [0, 1, 0, 0, 0xca, 0x6c, 0x9c, 0x40, 0, 0, 0x1c, 0x20]
        );
    }

    #[test]
    fn answers_are_read_if_they_are_whole() {
        let address = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9];
        let mapped = [0, 129, 0, 0, 0, 0, 0, 9, 0xca, 0x6c, 0x9c, 0x40, 0, 0, 0x1c, 0x20];
        assert!(matches!(read(&address), Some(Answer::Address(ip)) if ip == Ipv4Addr::new(203, 0, 113, 9)));
        assert!(matches!(
            read(&mapped),
            Some(Answer::Mapped { internal: 51_820, external: 40_000, lifetime: 7_200 })
        ));
        for whole in [&address[..], &mapped[..]] {
            assert!((0..whole.len()).all(|cut| read(&whole[..cut]).is_none()));
        }
        assert!(matches!(read(&[0, 129, 0, 2]), Some(Answer::Refused)));
        // A question, TCP, another version.
        for other in [[0, 1, 0, 0], [0, 130, 0, 0], [2, 129, 0, 0]] {
            assert!(read(&other).is_none(), "{other:?}");
        }
    }
}
