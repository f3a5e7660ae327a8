//! Values that say who is where. None of them has `Debug`, `Display` or `Serialize`, so none can reach a log, an
//! error text or a file by accident; they cross a wire through the codecs here alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::wire::{Reader, Wire, WireError, Writer};

/// A machine's address on the underlay: where datagrams go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(pub SocketAddr);

/// An address inside the network: a machine's own, or one routed to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InnerAddr(pub IpAddr);

/// A range of inner addresses: what a machine may send from and receives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InnerNet {
    /// The lowest address; bits after `len` are zero.
    addr: IpAddr,
    /// Prefix length: 0 to 32 for IPv4, 0 to 128 for IPv6.
    len: u8,
}

/// A relay mailbox: an Ed25519 public key blinded by (epoch, relay, day).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub [u8; 32]);

impl InnerNet {
    /// The range `addr`/`len`; host bits are cleared.
    ///
    /// # Errors
    /// [`WireError::Invalid`] if `len` is longer than the address.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, WireError> {
        let addr = match addr {
            IpAddr::V4(a) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
            }
            IpAddr::V6(a) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
            }
            _ => return Err(WireError::Invalid("prefix length")),
        };
        Ok(Self { addr, len })
    }

    /// The range of one address.
    #[must_use]
    pub fn host(addr: InnerAddr) -> Self {
        Self { addr: addr.0, len: if addr.0.is_ipv4() { 32 } else { 128 } }
    }

    /// The lowest address.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits. (A length of zero is the default route, not an empty range.)
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// Whether `addr` lies inside.
    #[must_use]
    pub fn contains(self, addr: InnerAddr) -> bool {
        addr.0.is_ipv4() == self.addr.is_ipv4() && Self::new(addr.0, self.len).is_ok_and(|net| net == self)
    }
}

fn put_ip(w: &mut Writer, ip: IpAddr) {
    match ip {
        IpAddr::V4(a) => {
            w.u8(4);
            w.raw(&a.octets());
        }
        IpAddr::V6(a) => {
            w.u8(6);
            w.raw(&a.octets());
        }
    }
}

fn get_ip(r: &mut Reader<'_>) -> Result<IpAddr, WireError> {
    match r.u8()? {
        4 => Ok(IpAddr::V4(Ipv4Addr::from(r.array::<4>()?))),
        6 => Ok(IpAddr::V6(Ipv6Addr::from(r.array::<16>()?))),
        _ => Err(WireError::Invalid("address family")),
    }
}

/// Family (4 or 6), address, port: 7 or 19 bytes.
impl Wire for Endpoint {
    fn encode(&self, w: &mut Writer) {
        put_ip(w, self.0.ip());
        w.u16(self.0.port());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let ip = get_ip(r)?;
        Ok(Self(SocketAddr::new(ip, r.u16()?)))
    }
}

/// Family (4 or 6), address: 5 or 17 bytes.
impl Wire for InnerAddr {
    fn encode(&self, w: &mut Writer) {
        put_ip(w, self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(get_ip(r)?))
    }
}

/// Family, address, prefix length: 6 or 18 bytes. Host bits must be zero.
impl Wire for InnerNet {
    fn encode(&self, w: &mut Writer) {
        put_ip(w, self.addr);
        w.u8(self.len);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let addr = get_ip(r)?;
        let net = Self::new(addr, r.u8()?)?;
        if net.addr == addr { Ok(net) } else { Err(WireError::Invalid("host bits in a prefix")) }
    }
}

/// 32 bytes.
impl Wire for MailboxId {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

/// Does not compile if one of the types has one of the traits: both implementations of `Only` then fit, and the compiler
/// does not choose between them.
macro_rules! lacks {
    ($($kind:ty),+: $($bound:path),+) => { lacks!(@ [$($kind),+] $($bound),+); };
    (@ $kinds:tt $($bound:path),+) => { $(lacks!(@@ $kinds $bound);)+ };
    (@@ [$($kind:ty),+] $bound:path) => { $(
        const _: () = {
            trait Only<Case> {
                const HOLDS: () = ();
            }
            struct Has;
            impl<T: ?Sized> Only<()> for T {}
            impl<T: ?Sized + $bound> Only<Has> for T {}
            <$kind as Only<_>>::HOLDS
        };
    )+ };
}

lacks!(Endpoint, InnerAddr, InnerNet, MailboxId:
    std::fmt::Debug, std::fmt::Display, serde::Serialize);
lacks!(crate::pipe::ToData<'static>, crate::pipe::FromData<'static>, crate::pipe::PeerStatus, crate::pipe::PathView,
    crate::pipe::LocalAddr, crate::beacon::Beacon, crate::probe::Candidate, crate::probe::Message, crate::mailbox::MailboxSecret:
    std::fmt::Debug, std::fmt::Display, serde::Serialize);
lacks!(crate::identity::MachineKeys, crate::epoch::EpochKey, crate::epoch::EpochKeys, crate::roster::InviteSecret,
    crate::relay::Credential, crate::relay::Pseudonym, crate::roster::Roster, crate::roster::MachineEntry:
    std::fmt::Debug, std::fmt::Display, serde::Serialize);

lacks!(crate::pipe::Config, crate::pipe::Peer, crate::pipe::Pong, crate::pipe::Status, crate::relay::Frame<'static>,
    crate::relay::Handle, crate::relay::Open, crate::relay::RelayHello, crate::introduction::Introduction,
    crate::mailbox::BlindedKey, crate::roster::Entry, crate::roster::InviteEntry, crate::roster::RelayEntry,
    crate::roster::Join, crate::roster::JoinRecord, crate::roster::Settings, crate::coordinator::Join,
    crate::coordinator::Joins, crate::coordinator::WatchEvent, crate::roster::Delta, crate::roster::PublicState,
    crate::token::InviteToken, crate::token::RecoveryKey, crate::token::EnrolToken, crate::account::AccountName:
    std::fmt::Debug, std::fmt::Display, serde::Serialize);
// Views of the local API are documents, and no text.
lacks!(crate::api::Status, crate::api::NetworkStatus, crate::api::Own, crate::api::Peer, crate::api::Machine,
    crate::api::Invite, crate::api::Joined:
    std::fmt::Debug, std::fmt::Display);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_clears_its_host_bits_and_contains_what_is_inside() {
        let net = InnerNet::new("10.99.7.1".parse().unwrap(), 16).unwrap();
        assert!(net.addr() == "10.99.0.0".parse::<IpAddr>().unwrap());
        assert!(net.contains(InnerAddr("10.99.255.255".parse().unwrap())));
        assert!(!net.contains(InnerAddr("10.98.255.255".parse().unwrap())));
        assert!(!net.contains(InnerAddr("::".parse().unwrap())));
        assert!(
            InnerNet::new("::".parse().unwrap(), 0).unwrap().contains(InnerAddr("fd00::1".parse().unwrap()))
        );
    }

    #[test]
    fn host_bits_in_a_received_prefix_are_refused() {
        assert!(
            InnerNet::from_bytes(&[4, 10, 0, 0, 1, 24]) == Err(WireError::Invalid("host bits in a prefix"))
        );
        assert!(InnerNet::from_bytes(&[4, 10, 0, 0, 0, 33]).is_err());
    }
}
