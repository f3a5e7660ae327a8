//! Telling a sender that its packet is too large for the path to the peer: ICMP destination unreachable, fragmentation
//! needed (RFC 792, RFC 1191) and ICMPv6 packet too big (RFC 4443, section 3.2).
//!
//! It goes into the TUN as if the destination had sent it: a host drops what has its own address as its source. The
//! kernel takes it for a packet that it sent itself, and TCP and UDP lower what they send.

/// The longest answer, in bytes: what every link carries (RFC 4443, section 2.4).
pub(crate) const MAX_LEN: usize = 1_280;
/// The same for IPv4 (RFC 1812, section 4.3.2.3).
const MAX_LEN_V4: usize = 576;
/// No IPv6 sender makes packets smaller than this (RFC 8200, section 5): what it sends beneath goes in pieces.
const LEAST_V6: u16 = 1_280;

const IPV4: usize = 20;
const IPV6: usize = 40;
/// Length of either ICMP header, in bytes.
const ICMP: usize = 8;
const ICMPV4: u8 = 1;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;
/// Internetwork control, as routers send theirs (RFC 1812, section 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// An answer that a sender may be given.
pub(crate) struct TooBig<'a> {
    packet: &'a [u8],
    mtu: u16,
}

impl<'a> TooBig<'a> {
    /// What the sender of `packet` is to be told when `mtu` bytes go whole to its destination. Nothing if the packet is
    /// not too large by the rules of its family, if it may be cut, or if it must not be answered: ICMP errors, later
    /// fragments, and senders that are not one host (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
    pub(crate) fn of(packet: &'a [u8], mtu: u16) -> Option<Self> {
        let (mtu, may) = match packet.first()? >> 4 {
            4 if packet.len() >= IPV4 => (mtu, may_answer_v4(packet)),
            6 if packet.len() >= IPV6 => (mtu.max(LEAST_V6), may_answer_v6(packet)),
            _ => return None,
        };
        (may && packet.len() > usize::from(mtu)).then_some(Self { packet, mtu })
    }

    /// Writes the answer; its length. `room` has [`MAX_LEN`] bytes at least.
    pub(crate) fn write(&self, room: &mut [u8]) -> usize {
        if self.packet[0] >> 4 == 4 { self.write_v4(room) } else { self.write_v6(room) }
    }

    fn write_v4(&self, room: &mut [u8]) -> usize {
        let len = MAX_LEN_V4.min(IPV4 + ICMP + self.packet.len());
        let out = &mut room[..len];
        let [high, low] = (len as u16).to_be_bytes();
        out[..12].copy_from_slice(&[0x45, PRECEDENCE, high, low, 0, 0, 0, 0, HOP_LIMIT, ICMPV4, 0, 0]);
        out[12..16].copy_from_slice(&self.packet[16..20]);
        out[16..20].copy_from_slice(&self.packet[12..16]);
        let [high, low] = self.mtu.to_be_bytes();
        out[IPV4..IPV4 + ICMP].copy_from_slice(&[3, 4, 0, 0, 0, 0, high, low]);
        out[IPV4 + ICMP..].copy_from_slice(&self.packet[..len - IPV4 - ICMP]);
        let header = checksum(&out[..IPV4], 0);
        out[10..12].copy_from_slice(&header);
        let message = checksum(&out[IPV4..], 0);
        out[IPV4 + 2..IPV4 + 4].copy_from_slice(&message);
        len
    }

    fn write_v6(&self, room: &mut [u8]) -> usize {
        let len = MAX_LEN.min(IPV6 + ICMP + self.packet.len());
        let out = &mut room[..len];
        let payload = (len - IPV6) as u16;
        let [high, low] = payload.to_be_bytes();
        out[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, ICMPV6, HOP_LIMIT]);
        out[8..24].copy_from_slice(&self.packet[24..40]);
        out[24..40].copy_from_slice(&self.packet[8..24]);
        out[IPV6..IPV6 + ICMP].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
        out[IPV6 + 4..IPV6 + 8].copy_from_slice(&u32::from(self.mtu).to_be_bytes());
        out[IPV6 + ICMP..].copy_from_slice(&self.packet[..len - IPV6 - ICMP]);
        // Addresses and message lie together; length and protocol are the rest of the pseudo header.
        let message = checksum(&out[8..], u32::from(payload) + u32::from(ICMPV6));
        out[IPV6 + 2..IPV6 + 4].copy_from_slice(&message);
        len
    }
}

fn may_answer_v4(packet: &[u8]) -> bool {
    let dont_fragment = packet[6] & 0x40 != 0;
    let first = packet[6] & 0x1f == 0 && packet[7] == 0;
    let one_host = !matches!(packet[12], 0 | 127 | 224..);
    let payload = usize::from(packet[0] & 0xf) * 4;
    // Unreachable, source quench, redirect, time exceeded, parameter problem.
    let error =
        packet[9] == ICMPV4 && packet.get(payload).is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12));
    dont_fragment && first && one_host && !error
}

fn may_answer_v6(packet: &[u8]) -> bool {
    let unspecified = packet[8..24].iter().all(|byte| *byte == 0);
    let multicast = packet[8] == 0xff || packet[24] == 0xff;
    !unspecified
        && !multicast
        && payload_v6(packet)
            .is_some_and(|(kind, at)| kind != ICMPV6 || packet.get(at).is_some_and(|kind| *kind >= 128))
}

/// The protocol behind the extension headers, and where it begins. Nothing for a later fragment.
fn payload_v6(packet: &[u8]) -> Option<(u8, usize)> {
    let (mut kind, mut at) = (packet[6], IPV6);
    loop {
        let len = match kind {
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            44 => {
                let offset = u16::from_be_bytes([*packet.get(at + 2)?, *packet.get(at + 3)?]);
                if offset >> 3 != 0 {
                    return None;
                }
                8
            }
            _ => return Some((kind, at)),
        };
        kind = *packet.get(at)?;
        at += len;
    }
}

/// The checksum of RFC 1071 over bytes and a sum that belongs to them.
fn checksum(bytes: &[u8], first: u32) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum = first + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(len: usize) -> Vec<u8> {
        let mut packet = vec![7; len];
        packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        packet
    }

    fn v6(len: usize) -> Vec<u8> {
        let mut packet = vec![7; len];
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
        packet[8..24].copy_from_slice(&[0xfd; 16]);
        packet[24..40].copy_from_slice(&[0xfc; 16]);
        packet
    }

    fn told(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
        let mut room = vec![0xee; MAX_LEN];
        TooBig::of(packet, mtu).map(|too_big| {
            let len = too_big.write(&mut room);
            room[..len].to_vec()
        })
    }

    /// What a host does with a packet that it is told of: whether all sums are right.
    fn sums_are_right(packet: &[u8]) -> bool {
        let sum = |bytes: &[u8], first: u64| {
            let all: u64 =
                bytes.chunks(2).map(|p| u64::from(p[0]) * 256 + p.get(1).map_or(0, |b| u64::from(*b))).sum();
            (first + all).is_multiple_of(0xffff)
        };
        if packet[0] >> 4 == 4 {
            sum(&packet[..20], 0) && sum(&packet[20..], 0)
        } else {
            sum(&packet[8..], (packet.len() - 40) as u64 + 58)
        }
    }

    #[test]
    fn a_sender_is_told_the_mtu_with_the_packet_it_sent() {
        let packet = v4(1_400);
        let answer = told(&packet, 1_220).unwrap();
        assert_eq!((answer.len(), &answer[20..22], &answer[26..28]), (576, &[3, 4][..], &[4, 196][..]));
        assert_eq!((&answer[12..16], &answer[16..20]), (&[10, 9, 0, 2][..], &[10, 9, 0, 1][..]));
        assert!(answer[28..] == packet[..548] && sums_are_right(&answer));
        let packet = v6(1_400);
        let answer = told(&packet, 1_300).unwrap();
        assert_eq!(
            (answer.len(), &answer[40..42], &answer[44..48]),
            (1_280, &[2, 0][..], &[0, 0, 5, 20][..])
        );
        assert!(answer[8..24] == [0xfc; 16] && answer[24..40] == [0xfd; 16]);
        assert!(answer[48..] == packet[..1_232] && sums_are_right(&answer));
    }

    #[test]
    fn no_ipv6_sender_is_told_less_than_1280() {
        let answer = told(&v6(1_281), 1_200).unwrap();
        assert_eq!(&answer[44..48], &[0, 0, 5, 0]);
        assert!(told(&v6(1_280), 1_200).is_none());
    }

    #[test]
    fn what_may_be_cut_and_what_must_not_be_answered_is_not() {
        let change = |packet: &[u8], changes: &[(usize, u8)]| {
            let mut packet = packet.to_vec();
            changes.iter().for_each(|(at, value)| packet[*at] = *value);
            packet
        };
        let (four, six) = (v4(1_400), v6(1_400));
        for (why, packet) in [
            ("may be cut", change(&four, &[(6, 0)])),
            ("a later fragment", change(&four, &[(7, 1)])),
            ("an error", change(&four, &[(9, 1), (20, 3)])),
            ("from nobody", change(&four, &[(12, 0)])),
            ("from many", change(&four, &[(12, 239)])),
            ("an error", change(&six, &[(6, 58), (40, 1)])),
            ("an error behind options", change(&six, &[(6, 60), (40, 58), (41, 0), (48, 4)])),
            ("a later fragment", change(&six, &[(6, 44), (43, 8)])),
            ("from many", change(&six, &[(8, 0xff)])),
            ("to many", change(&six, &[(24, 0xff)])),
            ("small", v4(1_220)),
            ("no packet", vec![0; 1_400]),
        ] {
            assert!(told(&packet, 1_220).is_none(), "{why}");
        }
        for packet in [
            change(&four, &[(9, 1), (20, 8)]),
            change(&six, &[(6, 58), (40, 128)]),
            change(&six, &[(6, 44), (40, 17), (42, 0), (43, 1)]),
        ] {
            assert!(told(&packet, 1_220).is_some());
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_whole_and_answers_no_answer(
            mut packet in proptest::collection::vec(any::<u8>(), 0..1_500),
            four in any::<bool>(),
            mtu in 68u16..1_420,
        ) {
            if let Some(first) = packet.first_mut() {
                *first = if four { 0x45 } else { 0x60 };
            }
            if let Some(answer) = told(&packet, mtu) {
                prop_assert!(sums_are_right(&answer));
                prop_assert!(answer.len() <= MAX_LEN && packet.len() > usize::from(mtu));
                let named = if four { u16::from_be_bytes([answer[2], answer[3]]) } else { u16::from_be_bytes([answer[4], answer[5]]) + 40 };
                prop_assert_eq!(usize::from(named), answer.len());
                let mut long = answer;
                long.resize(1_500, 0);
                long[6] |= if four { 0x40 } else { 0 };
                prop_assert!(told(&long, 68).is_none());
            }
        }
    }
}
