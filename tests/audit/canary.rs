//! What nothing else on earth is called: the addresses, ports, names and bytes of one life, drawn anew for each.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::encode::{self, Form};

/// What a canary stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The address that the world sees a machine at.
    Public,
    /// A machine's address in its home.
    Lan,
    /// What a machine is called.
    Name,
    /// A name that was looked up.
    Lookup,
    /// A machine's address inside the network.
    Tunnel,
    /// Bytes that were sent.
    Payload,
    /// Ports of what was sent.
    Ports,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Canary {
    /// What it stands for.
    pub(crate) kind: Kind,
    /// The machine it belongs to, by its number.
    pub(crate) machine: Option<usize>,
    /// What it is, for a reader.
    pub(crate) value: String,
    forms: Vec<Form>,
}

impl Kind {
    /// For a reader.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Public => "public address",
            Self::Lan => "LAN address",
            Self::Name => "machine name",
            Self::Lookup => "looked-up name",
            Self::Tunnel => "tunnel address",
            Self::Payload => "payload",
            Self::Ports => "ports",
        }
    }
}

impl Canary {
    pub(crate) fn ipv4(kind: Kind, machine: Option<usize>, address: Ipv4Addr, ports: &[u16]) -> Self {
        Self { kind, machine, value: address.to_string(), forms: encode::ipv4(address, ports) }
    }

    /// An address inside the network, of either family.
    pub(crate) fn inner(machine: usize, address: IpAddr) -> Self {
        let forms = match address {
            IpAddr::V4(address) => encode::ipv4(address, &[]),
            IpAddr::V6(address) => encode::ipv6(address),
        };
        Self { kind: Kind::Tunnel, machine: Some(machine), value: address.to_string(), forms }
    }

    /// A public IPv6 address. Its first half alone gives the household away, so that is what is searched for; the
    /// whole address contains it, in every form but one number.
    pub(crate) fn household(machine: usize, address: Ipv6Addr) -> Self {
        let mut forms = encode::ipv6_prefix(address);
        forms.extend(encode::ipv6(address).into_iter().filter(|form| form.name == "decimal"));
        Self { kind: Kind::Public, machine: Some(machine), value: address.to_string(), forms }
    }

    pub(crate) fn name(kind: Kind, machine: Option<usize>, name: &str) -> Self {
        Self { kind, machine, value: name.to_owned(), forms: encode::name(name) }
    }

    pub(crate) fn payload(what: &str, bytes: &[u8]) -> Self {
        Self { kind: Kind::Payload, machine: None, value: what.to_owned(), forms: encode::payload(bytes) }
    }

    pub(crate) fn ports(from: u16, to: u16) -> Self {
        let value = format!("{from} and {to}");
        Self { kind: Kind::Ports, machine: None, value, forms: encode::ports(from, to) }
    }

    /// All forms it might have.
    pub(crate) fn forms(&self) -> Vec<Form> {
        self.forms.clone()
    }
}

/// Randomness for what must be nowhere else.
pub(crate) struct Dice(File);

impl Dice {
    /// From the kernel.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(File::open("/dev/urandom")?))
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("the kernel's randomness does not end");
        bytes
    }

    /// One of `low..=high`.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + u32::from_be_bytes(self.bytes()) % (high - low + 1)
    }

    /// A byte between two others.
    pub(crate) fn byte(&mut self, low: u8, high: u8) -> u8 {
        u8::try_from(self.between(low.into(), high.into())).unwrap_or(high)
    }

    /// A word that no language has.
    pub(crate) fn word(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjkmnpqrstvwxz";
        (0..9).map(|_| char::from(LETTERS[self.between(0, LETTERS.len() as u32 - 1) as usize])).collect()
    }

    /// A /24 that is public, by its first three octets.
    pub(crate) fn public_net(&mut self) -> [u8; 3] {
        const FIRST: [u8; 12] = [31, 37, 62, 77, 83, 91, 109, 151, 178, 185, 193, 212];
        let first = FIRST[self.between(0, FIRST.len() as u32 - 1) as usize];
        [first, self.byte(11, 250), self.byte(11, 250)]
    }

    /// A /24 of a home, outside of the ranges that a network draws its own from.
    pub(crate) fn home_net(&mut self) -> [u8; 3] {
        [172, self.byte(18, 31), self.byte(11, 250)]
    }

    /// A public /64, by its four groups.
    pub(crate) fn net6(&mut self) -> [u16; 4] {
        let mut group = || u16::try_from(self.between(0x1111, 0xfffe)).unwrap_or(0x1111);
        [0x2a02, group(), group(), group()]
    }

    /// Two ports that no service has and the kernel gives to nobody.
    pub(crate) fn ports(&mut self) -> (u16, u16) {
        let mut port = || u16::try_from(self.between(12_001, 31_999)).unwrap_or(12_001);
        (port(), port())
    }
}
