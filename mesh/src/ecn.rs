//! Explicit congestion notification through the tunnel (RFC 6040): a router on the way marks the outer header instead of
//! dropping the datagram, and whoever sent the inner packet learns of it.
//!
//! Going out, the outer header says what the inner one says (RFC 6040, section 4.1, normal mode). Coming in, what a router
//! said is carried over into the inner header (section 4.2): see [`arrive`]. A plain WireGuard peer is served by that too,
//! whether it says "not capable" on every datagram or does as we do. The class of service (DSCP) goes out with it only where
//! that was chosen ([`Shown`]), and never in: on arrival each packet has the one that it was sent with. Nothing of this is in a message about paths, nor in
//! the pieces of a large packet: they leave as not capable, which section 4.1 allows.

/// "Not ECN-capable transport".
const NOT_ECT: u8 = 0;
/// "ECN-capable transport (1)".
const ECT_1: u8 = 1;
/// "Congestion experienced".
const CE: u8 = 3;
/// These two bits of a type of service or traffic class.
const MASK: u8 = 3;

const IPV4: usize = 20;
const IPV6: usize = 40;
/// Where an IPv4 header's checksum is.
const CHECKSUM: usize = 10;

/// What of an inner packet's header is copied to the outer one.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shown {
    /// What it says of congestion.
    #[default]
    Congestion,
    /// The class of service (DSCP) beside it.
    Class,
}

/// What the header of an inner packet says, for the outer one: the two bits, in the place that they have there, and the class of
/// service above them where that is shown.
pub(crate) fn outer(packet: &[u8], shown: Shown) -> u8 {
    let mask = match shown {
        Shown::Congestion => MASK,
        Shown::Class => u8::MAX,
    };
    class(packet).unwrap_or(NOT_ECT) & mask
}

/// Carries over what the outer header said when the packet arrived; `outer` is its whole type of service or traffic class.
/// False if the packet is to be dropped: congestion was met on the way, and its sender can be told by nothing else.
#[must_use]
pub(crate) fn arrive(packet: &mut [u8], outer: u8) -> bool {
    let outer = outer & MASK;
    if outer == NOT_ECT {
        return true;
    }
    let Some(class) = class(packet) else { return true };
    match (class & MASK, outer) {
        (NOT_ECT, CE) => return false,
        (NOT_ECT | CE, _) => {}
        (_, CE | ECT_1) => set_class(packet, class, class & !MASK | outer),
        _ => {}
    }
    true
}

/// The type of service (IPv4) or traffic class (IPv6) of a packet that has its whole header.
fn class(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4 => Some(packet[1]),
        6 if packet.len() >= IPV6 => Some(packet[0] << 4 | packet[1] >> 4),
        _ => None,
    }
}

fn set_class(packet: &mut [u8], old: u8, new: u8) {
    if packet[0] >> 4 == 6 {
        packet[0] = 0x60 | new >> 4;
        packet[1] = new << 4 | packet[1] & 0xf;
        return;
    }
    packet[1] = new;
    // The word that changed is the header's first: version and length stand in its upper half.
    let word = |class: u8| u16::from_be_bytes([packet[0], class]);
    let before = u16::from_be_bytes([packet[CHECKSUM], packet[CHECKSUM + 1]]);
    let after = replaced(before, word(old), word(new));
    packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&after.to_be_bytes());
}

/// A checksum after one of the words that it covers was replaced (RFC 1624, equation 3).
pub(crate) fn replaced(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECT_0: u8 = 2;

    /// An outer header each, and what comes out.
    type Line = [(u8, Option<u8>); 4];

    /// RFC 6040, figure 4, line by line: the inner header, and what comes out under each outer one; `None` is a drop.
    const FIGURE_4: [(u8, Line); 4] = [
        (NOT_ECT, [(NOT_ECT, Some(NOT_ECT)), (ECT_0, Some(NOT_ECT)), (ECT_1, Some(NOT_ECT)), (CE, None)]),
        (ECT_0, [(NOT_ECT, Some(ECT_0)), (ECT_0, Some(ECT_0)), (ECT_1, Some(ECT_1)), (CE, Some(CE))]),
        (ECT_1, [(NOT_ECT, Some(ECT_1)), (ECT_0, Some(ECT_1)), (ECT_1, Some(ECT_1)), (CE, Some(CE))]),
        (CE, [(NOT_ECT, Some(CE)), (ECT_0, Some(CE)), (ECT_1, Some(CE)), (CE, Some(CE))]),
    ];

    fn v4(class: u8, fill: &[u8; 18]) -> Vec<u8> {
        let mut packet = vec![0x45, class];
        packet.extend(fill);
        packet[CHECKSUM..CHECKSUM + 2].fill(0);
        let checksum = !sum(&packet);
        packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// RFC 1071, by the definition.
    fn sum(header: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in header.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn what_arrives_is_what_figure_4_says_and_the_checksum_is_right(fill: [u8; 18], upper in 0u8..64, flow: u8) {
            let upper = upper << 2;
            for (inner, line) in FIGURE_4 {
                for (on_the_way, result) in line {
                    let mut packet = v4(upper | inner, &fill);
                    prop_assert_eq!(outer(&packet, Shown::Congestion), inner);
                    prop_assert_eq!(outer(&packet, Shown::Class), upper | inner);
                    // What the outer DSCP says stays outside.
                    prop_assert_eq!(arrive(&mut packet, on_the_way | 0xb8), result.is_some());
                    let expected = v4(upper | result.unwrap_or(inner), &fill);
                    prop_assert_eq!(sum(&packet), 0xffff);
                    // Both forms of zero are right.
                    packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&expected[CHECKSUM..CHECKSUM + 2]);
                    prop_assert_eq!(packet, expected);

                    let v6 = |class: u8| {
                        let mut packet = vec![0x60 | class >> 4, class << 4 | flow >> 4];
                        packet.resize(IPV6, flow);
                        packet
                    };
                    let mut packet = v6(upper | inner);
                    prop_assert_eq!(outer(&packet, Shown::Congestion), inner);
                    prop_assert_eq!(outer(&packet, Shown::Class), upper | inner);
                    prop_assert_eq!(arrive(&mut packet, on_the_way), result.is_some());
                    prop_assert_eq!(packet, v6(upper | result.unwrap_or(inner)));
                }
            }
        }

        #[test]
        fn what_is_no_packet_stays_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..40), on_the_way: u8) {
            let mut changed = bytes.clone();
            let kept = arrive(&mut changed, on_the_way);
            let v4 = bytes.first().is_some_and(|first| first >> 4 == 4) && bytes.len() >= IPV4;
            prop_assert!(v4 || (kept && changed == bytes && outer(&bytes, Shown::Class) == 0));
        }
    }
}
