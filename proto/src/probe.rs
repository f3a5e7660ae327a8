//! Candidates and probes: what two machines say to each other inside their session about the paths between them, and
//! which roster they have.
//!
//! A message is an inner IPv6 packet from [`FROM`] to [`TO`], the same two addresses in both directions. They lie in
//! 100::/64, which nobody routes (RFC 6666), so a plain WireGuard peer drops the packet. The session authenticates
//! the sender. Only the machine itself may speak here, not what is routed behind it: the hop limit is 255 and must
//! still be so on arrival (RFC 5082), which no forwarded packet achieves.
//!
//! The payload is a version byte, a type byte, the fields, and optional fields that a reader may not know.

use std::net::{IpAddr, Ipv6Addr};

use crate::{
    metadata::Endpoint,
    roster::Floor,
    wire::{Reader, Wire, WireError, Writer},
};

/// The source of every message.
pub const FROM: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);
/// The destination of every message.
pub const TO: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 2);

/// The most candidates that one machine may announce.
pub const MAX_CANDIDATES: usize = 16;

/// The version of the messages.
pub(crate) const VERSION: u8 = 1;
/// For experiments (RFC 3692): nothing else is told by it.
const NEXT_HEADER: u8 = 253;
const HOP_LIMIT: u8 = 255;
/// Length of an IPv6 header, in bytes.
pub(crate) const HEADER: usize = 40;

const PROBE: u8 = 1;
const ECHO: u8 = 2;
const CANDIDATES: u8 = 3;
const TAKEN: u8 = 4;
/// See [`crate::piece`].
pub(crate) const PIECE: u8 = 5;

/// Optional field of a probe: bytes that say nothing.
const PADDING: u8 = 1;
/// Length of a probe with padding of no bytes: header, version, type, nonce, and the field's tag and length.
const PADDED: usize = HEADER + 2 + 8 + 5;

/// Optional field of an announcement: the sender's roster.
const FLOOR: u8 = 1;
/// Optional field of an announcement, empty: the receiver is a guest.
const GUEST: u8 = 2;
/// Optional field of an announcement: the sender's NAT maps each destination to another port; a number (4 bytes).
const HARD: u8 = 3;

/// How a machine learnt an endpoint of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An address of an interface.
    Interface,
    /// What a STUN server saw.
    Reflexive,
    /// A port that the router forwards on request.
    Mapped,
}

/// An endpoint where a machine may be reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// How it was learnt.
    pub origin: Origin,
    /// The endpoint.
    pub endpoint: Endpoint,
}

/// Names one list of candidates.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListId {
    /// Random, drawn when the sender started.
    pub start: u64,
    /// Rises with every list since.
    pub number: u32,
}

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks for an [`Message::Echo`] on the path that it came by.
    Probe {
        /// Fresh and random: who can repeat it got the probe, whole.
        nonce: u64,
        /// Bytes added to make the probe as large as a packet of data would be. The echo is short all the same: what is
        /// asked is whether this direction takes the size.
        padding: u16,
    },
    /// The answer to a probe.
    Echo {
        /// The probe's.
        nonce: u64,
    },
    /// All endpoints where the sender may be reached; replaces the list before. With it the sender says which roster it
    /// has.
    Candidates {
        /// Names the list.
        id: ListId,
        /// At most [`MAX_CANDIDATES`].
        list: Vec<Candidate>,
        /// The sender's roster, if it has one. What the sender claims, not what is signed: it says whom to ask.
        floor: Option<Floor>,
        /// In the session that this came by, the sender takes messages and sync alone: it is of an epoch that has ended.
        guest: bool,
        /// The sender is behind a NAT that maps each destination to another port. How often it has opened many ports
        /// towards the receiver so far: another number asks to look for one of them now.
        hard: Option<u32>,
    },
    /// A list arrived and need not be sent again.
    Taken {
        /// Which.
        id: ListId,
    },
}

/// Whether an address is one that only messages may use.
#[must_use]
pub fn is_reserved(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.octets()[..8] == FROM.octets()[..8])
}

impl Message {
    /// A probe that is `size` bytes long as an inner packet, or as short as it can be if that is longer.
    #[must_use]
    pub fn sized_probe(nonce: u64, size: u16) -> Self {
        Self::Probe { nonce, padding: size.saturating_sub(PADDED as u16) }
    }

    /// Replaces `packet` with the inner packet that carries the message.
    pub fn write(&self, packet: &mut Vec<u8>) {
        packet.clear();
        let mut w = Writer::after(std::mem::take(packet));
        begin(&mut w);
        match self {
            Self::Probe { nonce, padding } => {
                w.u8(PROBE);
                w.u64(*nonce);
                if *padding > 0 {
                    w.padding(PADDING, (*padding).into());
                }
            }
            Self::Echo { nonce } => {
                w.u8(ECHO);
                w.u64(*nonce);
            }
            Self::Candidates { id, list, floor, guest, hard } => {
                w.u8(CANDIDATES);
                id.encode(&mut w);
                w.list(&list[..list.len().min(MAX_CANDIDATES)], |w, candidate| candidate.encode(w));
                if let Some(floor) = floor {
                    w.optional(FLOOR, &floor.to_bytes());
                }
                if *guest {
                    w.optional(GUEST, &[]);
                }
                if let Some(round) = hard {
                    w.optional(HARD, &round.to_be_bytes());
                }
            }
            Self::Taken { id } => {
                w.u8(TAKEN);
                id.encode(&mut w);
            }
        }
        *packet = finish(w);
    }

    /// Reads an inner packet whose source or destination [`is_reserved`].
    ///
    /// # Errors
    /// [`WireError`] if it is no message: another address pair, a forwarded packet, a newer version, a bad field.
    pub fn read(packet: &[u8]) -> Result<Self, WireError> {
        let (kind, mut r) = open(packet)?;
        let mut message = match kind {
            PROBE => Self::Probe { nonce: r.u64()?, padding: 0 },
            ECHO => Self::Echo { nonce: r.u64()? },
            CANDIDATES => Self::Candidates {
                id: ListId::decode(&mut r)?,
                list: r.list(MAX_CANDIDATES, Candidate::decode)?,
                floor: None,
                guest: false,
                hard: None,
            },
            TAKEN => Self::Taken { id: ListId::decode(&mut r)? },
            _ => return Err(WireError::Invalid("message type")),
        };
        while let Some((field, value)) = r.optional()? {
            match &mut message {
                Self::Probe { padding, .. } if field == PADDING => {
                    *padding = u16::try_from(value.len()).map_err(|_| WireError::TooLong)?;
                }
                Self::Candidates { floor, .. } if field == FLOOR => *floor = Some(Floor::from_bytes(value)?),
                Self::Candidates { guest, .. } if field == GUEST => *guest = true,
                Self::Candidates { hard, .. } if field == HARD => {
                    let round = value.try_into().map_err(|_| WireError::Invalid("round of a hard NAT"))?;
                    *hard = Some(u32::from_be_bytes(round));
                }
                _ => {}
            }
        }
        Ok(message)
    }
}

/// Writes the IPv6 header, without its length, and the version.
pub(crate) fn begin(w: &mut Writer) {
    w.raw(&[0x60, 0, 0, 0, 0, 0, NEXT_HEADER, HOP_LIMIT]);
    w.raw(&FROM.octets());
    w.raw(&TO.octets());
    w.version(VERSION);
}

/// Writes the length into what [`begin`] began.
pub(crate) fn finish(w: Writer) -> Vec<u8> {
    let mut packet = w.finish();
    let payload = (packet.len() - HEADER) as u16;
    packet[4..6].copy_from_slice(&payload.to_be_bytes());
    packet
}

/// Checks header and version; the type, and a reader at the fields.
pub(crate) fn open(packet: &[u8]) -> Result<(u8, Reader<'_>), WireError> {
    let mut r = Reader::new(packet);
    let fixed = r.array::<8>()?;
    let (from, to) = (r.array::<16>()?, r.array::<16>()?);
    if fixed[0] >> 4 != 6 || fixed[6] != NEXT_HEADER || from != FROM.octets() || to != TO.octets() {
        return Err(WireError::Invalid("addresses or protocol"));
    }
    if fixed[7] != HOP_LIMIT {
        return Err(WireError::Invalid("hop limit"));
    }
    if usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) != r.rest().len() {
        return Err(WireError::Invalid("length"));
    }
    r.version(VERSION)?;
    Ok((r.u8()?, r))
}

/// Start (8 bytes), number (4).
impl Wire for ListId {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.start);
        w.u32(self.number);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { start: r.u64()?, number: r.u32()? })
    }
}

/// Origin (1 byte), endpoint.
impl Wire for Candidate {
    fn encode(&self, w: &mut Writer) {
        w.u8(match self.origin {
            Origin::Interface => 1,
            Origin::Reflexive => 2,
            Origin::Mapped => 3,
        });
        self.endpoint.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let origin = match r.u8()? {
            1 => Origin::Interface,
            2 => Origin::Reflexive,
            3 => Origin::Mapped,
            _ => return Err(WireError::Invalid("origin of a candidate")),
        };
        Ok(Self { origin, endpoint: Endpoint::decode(r)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::roster::Order;

    fn floor() -> Floor {
        Floor { order: Order { recovery: 1, generation: 2, version: 3 }, header: [4; 32] }
    }

    fn messages() -> Vec<Message> {
        let id = ListId { start: 7, number: 9 };
        let list = vec![
            Candidate { origin: Origin::Interface, endpoint: Endpoint("192.168.1.2:51820".parse().unwrap()) },
            Candidate {
                origin: Origin::Reflexive,
                endpoint: Endpoint("[2001:db8::1]:4000".parse().unwrap()),
            },
        ];
        vec![
            Message::Probe { nonce: 1, padding: 0 },
            Message::Probe { nonce: 2, padding: 90 },
            Message::Echo { nonce: u64::MAX },
            Message::Candidates { id, list: list.clone(), floor: None, guest: false, hard: None },
            Message::Candidates { id, list, floor: Some(floor()), guest: true, hard: Some(0x0102_0304) },
            Message::Taken { id },
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        for message in messages() {
            let mut packet = vec![1, 2, 3];
            message.write(&mut packet);
            assert!(Message::read(&packet) == Ok(message));
        }
    }

    #[test]
    fn a_probe_is_as_long_as_it_was_asked_to_be() {
        let mut packet = Vec::new();
        for size in [PADDED as u16 + 1, 516, 1_280, 1_420, 9_000] {
            Message::sized_probe(7, size).write(&mut packet);
            assert_eq!(packet.len(), usize::from(size));
            assert!(matches!(Message::read(&packet), Ok(Message::Probe { nonce: 7, .. })));
        }
        Message::sized_probe(7, 20).write(&mut packet);
        assert!(Message::read(&packet) == Ok(Message::Probe { nonce: 7, padding: 0 }));
    }

    #[test]
    fn a_forwarded_message_is_refused() {
        let mut packet = Vec::new();
        Message::Probe { nonce: 1, padding: 0 }.write(&mut packet);
        packet[7] -= 1;
        assert!(Message::read(&packet) == Err(WireError::Invalid("hop limit")));
    }

    #[test]
    fn an_unknown_optional_field_is_skipped_and_a_newer_version_is_not() {
        let mut packet = Vec::new();
        Message::Probe { nonce: 5, padding: 0 }.write(&mut packet);
        let mut w = Writer::after(packet);
        w.optional(99, b"from the future");
        let mut packet = w.finish();
        packet[5] = (packet.len() - HEADER) as u8;
        assert!(Message::read(&packet) == Ok(Message::Probe { nonce: 5, padding: 0 }));
        packet[HEADER] = 2;
        assert!(Message::read(&packet) == Err(WireError::Newer { found: 2, known: 1 }));
    }

    #[test]
    fn a_list_without_a_roster_is_read_and_a_roster_that_is_none_is_refused() {
        let read = |with: Option<&[u8]>| {
            let list = Message::Candidates {
                id: ListId { start: 7, number: 9 },
                list: Vec::new(),
                floor: None,
                guest: false,
                hard: None,
            };
            let mut packet = Vec::new();
            list.write(&mut packet);
            let mut w = Writer::after(packet);
            if let Some(value) = with {
                w.optional(FLOOR, value);
            }
            let mut packet = w.finish();
            packet[5] = (packet.len() - HEADER) as u8;
            Message::read(&packet)
        };
        assert!(matches!(read(None), Ok(Message::Candidates { floor: None, .. })));
        let bytes = floor().to_bytes();
        assert_eq!(bytes.len(), 56);
        assert!(matches!(read(Some(&bytes)), Ok(Message::Candidates { floor: Some(f), .. }) if f == floor()));
        assert!(read(Some(&bytes[1..])).is_err());
        assert!(read(Some(&[&bytes[..], &[0]].concat())).is_err());
    }

    #[test]
    fn a_reader_that_knows_nothing_of_hard_nats_reads_the_list_and_a_round_that_is_no_number_is_refused() {
        let id = ListId { start: 7, number: 9 };
        let list = Message::Candidates { id, list: Vec::new(), floor: None, guest: false, hard: Some(3) };
        let (mut packet, mut without) = (Vec::new(), Vec::new());
        list.write(&mut packet);
        Message::Candidates { id, list: Vec::new(), floor: None, guest: false, hard: None }
            .write(&mut without);
        // After a tag and a length that whoever does not know the tag skips.
        assert_eq!(packet[without.len()..], [HARD, 0, 0, 0, 4, 0, 0, 0, 3]);
        assert!(Message::read(&packet) == Ok(list));
        packet[without.len() + 4] = 3;
        packet.pop();
        packet[5] -= 1;
        assert!(Message::read(&packet) == Err(WireError::Invalid("round of a hard NAT")));
    }

    #[test]
    fn more_candidates_than_allowed_are_refused() {
        let Some(Message::Candidates { id, list, .. }) = messages().into_iter().nth(3) else { panic!() };
        let mut packet = Vec::new();
        Message::Candidates {
            id,
            list: vec![list[0]; MAX_CANDIDATES],
            floor: None,
            guest: false,
            hard: None,
        }
        .write(&mut packet);
        assert!(Message::read(&packet).is_ok());
        let count_at = HEADER + 2 + 12 + 3;
        packet[count_at] += 1;
        assert!(Message::read(&packet) == Err(WireError::TooLong));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(flips in proptest::collection::vec((0usize..200, any::<u8>()), 0..8), cut in 0usize..200) {
            for message in messages() {
                let mut packet = Vec::new();
                message.write(&mut packet);
                for (at, value) in &flips {
                    let at = at % packet.len();
                    packet[at] = *value;
                }
                packet.truncate(cut);
                let _ = Message::read(&packet);
            }
        }
    }
}
