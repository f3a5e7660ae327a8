//! The Port Control Protocol (RFC 6887): a MAP request for UDP over IPv4, and its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Granted, UDP};
use crate::{
    metadata::Endpoint,
    wire::{Reader, WireError, Writer},
};

const VERSION: u8 = 2;
const MAP: u8 = 1;
const ANSWER: u8 = 0x80;
const SUCCESS: u8 = 0;
const UNSUPPORTED_VERSION: u8 = 1;

/// What is asked for. To give a mapping back is to ask for it with a lifetime of 0 (section 15).
#[derive(Clone, Copy)]
pub struct Ask {
    /// Names the mapping from its first request to its last; random.
    pub nonce: [u8; 12],
    /// The address that the request is sent from.
    pub client: Ipv4Addr,
    /// The port on this machine.
    pub internal: u16,
    /// The outer address and port that it had before, or would like to have.
    pub suggested: (Ipv4Addr, u16),
    /// For how long, in seconds.
    pub lifetime: u32,
}

/// What a router answers.
pub enum Answer {
    /// The mapping is there, or gone if it was asked for with a lifetime of 0.
    Granted(Granted),
    /// There is none.
    Refused,
    /// The router does not know this version of the protocol; it may know NAT-PMP.
    OtherVersion,
}

impl Ask {
    /// The request (sections 7.1 and 11.1).
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&[VERSION, MAP, 0, 0]);
        w.u32(self.lifetime);
        w.raw(&self.client.to_ipv6_mapped().octets());
        w.raw(&self.nonce);
        w.raw(&[UDP, 0, 0, 0]);
        w.u16(self.internal);
        w.u16(self.suggested.1);
        w.raw(&self.suggested.0.to_ipv6_mapped().octets());
        w.finish()
    }

    /// Reads an answer; `None` if it is none to this request.
    #[must_use]
    pub fn read(&self, datagram: &[u8]) -> Option<Answer> {
        // A router that knows NAT-PMP alone answers in its format (RFC 6886, section 3.5).
        if let [0, kind, 0, UNSUPPORTED_VERSION, ..] = datagram {
            return (kind & ANSWER != 0).then_some(Answer::OtherVersion);
        }
        self.read_own(datagram).ok().flatten()
    }

    fn read_own(&self, datagram: &[u8]) -> Result<Option<Answer>, WireError> {
        let mut r = Reader::new(datagram);
        let [version, kind, _, result] = r.array()?;
        if kind != ANSWER | MAP {
            return Ok(None);
        }
        if result == UNSUPPORTED_VERSION {
            return Ok(Some(Answer::OtherVersion));
        }
        let lifetime = r.u32()?;
        // The epoch, whose leaps tell that a router forgot its mappings, and twelve bytes for later: each request asks for the
        // mapping itself, so nothing has to be concluded.
        let _: [u8; 16] = r.array()?;
        let nonce: [u8; 12] = r.array()?;
        let [protocol, ..]: [u8; 4] = r.array()?;
        let internal = r.u16()?;
        if (version, protocol, nonce, internal) != (VERSION, UDP, self.nonce, self.internal) {
            return Ok(None);
        }
        if result != SUCCESS {
            return Ok(Some(Answer::Refused));
        }
        let port = r.u16()?;
        let address = Ipv6Addr::from(r.array::<16>()?);
        let Some(address) = address.to_ipv4_mapped() else { return Ok(Some(Answer::Refused)) };
        let external = Endpoint(SocketAddr::new(IpAddr::V4(address), port));
        Ok(Some(Answer::Granted(Granted { external, lifetime })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Ask = Ask {
        nonce: *b"twelve bytes",
        client: Ipv4Addr::new(192, 168, 1, 10),
        internal: 51_820,
        suggested: (Ipv4Addr::UNSPECIFIED, 51_820),
        lifetime: 1_200,
    };

    /// As RFC 6887 lays it out (figures 3 and 10), written down byte by byte.
    fn answer() -> Vec<u8> {
        let mut bytes = vec![2, 0x81, 0, 0, 0, 0, 0x04, 0xb0, 0, 0, 0, 9];
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(b"twelve bytes");
        bytes.extend_from_slice(&[17, 0, 0, 0, 0xca, 0x6c, 0x9c, 0x40]);
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9]);
        bytes
    }

    #[test]
    fn the_request_is_laid_out_as_the_rfc_has_it() {
        let mut wanted = vec![2, 1, 0, 0, 0, 0, 0x04, 0xb0];
        wanted.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 10]);
        wanted.extend_from_slice(b"twelve bytes");
        wanted.extend_from_slice(&[17, 0, 0, 0, 0xca, 0x6c, 0xca, 0x6c]);
        wanted.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(ASK.request(), wanted);
    }

    #[test]
    fn an_answer_is_read_only_if_it_is_whole_and_ours() {
        let Some(Answer::Granted(granted)) = ASK.read(&answer()) else { panic!("it is granted") };
        assert_eq!(granted.lifetime, 1_200);
        assert!(granted.external == Endpoint("203.0.113.9:40000".parse().unwrap()));
        for cut in 0..60 {
            assert!(ASK.read(&answer()[..cut]).is_none(), "cut at {cut}");
        }
        // Version, kind, nonce, protocol, port.
        for at in [0, 1, 24, 35, 36, 40, 41] {
            let mut changed = answer();
            changed[at] ^= 0x40;
            assert!(ASK.read(&changed).is_none(), "byte {at}");
        }
    }

    #[test]
    fn refusals_and_other_versions_are_told_apart() {
        let mut refused = answer();
        refused[3] = 8;
        assert!(matches!(ASK.read(&refused), Some(Answer::Refused)));
        let mut v6 = answer();
        v6[44] = 0x20;
        assert!(matches!(ASK.read(&v6), Some(Answer::Refused)), "no IPv4 address is of no use");
        refused[3] = 1;
        assert!(matches!(ASK.read(&refused[..24]), Some(Answer::OtherVersion)));
        assert!(matches!(ASK.read(&[0, 0x81, 0, 1, 0, 0, 0, 5]), Some(Answer::OtherVersion)));
        assert!(ASK.read(&[0, 1, 0, 1]).is_none(), "a question is no answer");
    }
}
