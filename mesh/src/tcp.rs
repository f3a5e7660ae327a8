//! The packets that open a TCP connection: they say how large a segment their sender takes (MSS, RFC 9293 section
//! 3.7.1). The daemon lowers that to what the path to the peer carries, in both directions, so that a connection does
//! not begin by losing its first full segments.

use crate::ecn::replaced;

/// TCP's number as a protocol.
const TCP: u8 = 6;
/// Length of a TCP header without options, and of the IP headers that it follows, in bytes.
const HEADER: usize = 20;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Offsets in a TCP header.
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;
/// The flag that opens a connection.
const SYN: u8 = 0x02;
/// Options: the end of the list, one byte of nothing, the greatest segment.
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Whether an IP packet opens a TCP connection or answers one that does. One behind IPv6 extension headers is not
/// recognised: nobody sends such.
pub(crate) fn opens(packet: &[u8]) -> bool {
    header(packet).is_some_and(|at| packet.get(at + FLAGS).is_some_and(|flags| flags & SYN != 0))
}

/// Whether an IP packet is of a TCP connection: what of it is lost is repeated by who sent it.
pub(crate) fn is(packet: &[u8]) -> bool {
    header(packet).is_some()
}

/// Lowers the greatest segment that a packet which [`opens`] names to what fits into `mtu` bytes.
pub(crate) fn clamp(packet: &mut [u8], mtu: u16) {
    let Some(at) = header(packet) else { return };
    let headers = if packet[0] >> 4 == 4 { IPV4 + HEADER } else { IPV6 + HEADER };
    let most = mtu.saturating_sub(headers as u16);
    let Some(option) = greatest_segment(&packet[at..]).map(|option| at + option) else { return };
    let old = u16::from_be_bytes([packet[option], packet[option + 1]]);
    if old <= most {
        return;
    }
    packet[option..option + 2].copy_from_slice(&most.to_be_bytes());
    // The checksum sums words from the header's begin; an option may lie across two of them.
    let as_summed = |value: u16| if (option - at).is_multiple_of(2) { value } else { value.swap_bytes() };
    let before = u16::from_be_bytes([packet[at + CHECKSUM], packet[at + CHECKSUM + 1]]);
    let after = replaced(before, as_summed(old), as_summed(most));
    packet[at + CHECKSUM..at + CHECKSUM + 2].copy_from_slice(&after.to_be_bytes());
}

/// Where the TCP header of a packet begins, if it has a whole one.
fn header(packet: &[u8]) -> Option<usize> {
    let at = match packet.first()? >> 4 {
        4 if packet.len() >= IPV4 => {
            let first_fragment = packet[6] & 0x1f == 0 && packet[7] == 0;
            let at = usize::from(packet[0] & 0xf) * 4;
            (packet[9] == TCP && first_fragment && at >= IPV4).then_some(at)
        }
        6 if packet.len() >= IPV6 => (packet[6] == TCP).then_some(IPV6),
        _ => None,
    }?;
    (packet.len() >= at + HEADER).then_some(at)
}

/// Where in a TCP header the value of that option is.
fn greatest_segment(tcp: &[u8]) -> Option<usize> {
    let end = (usize::from(tcp[DATA_OFFSET] >> 4) * 4).min(tcp.len());
    let mut at = HEADER;
    while at < end {
        match tcp[at] {
            END => return None,
            NOTHING => at += 1,
            kind => {
                let len = usize::from(*tcp[..end].get(at + 1)?);
                if kind == MSS {
                    return (len == 4 && at + 4 <= end).then_some(at + 2);
                }
                at += len.max(2);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet that opens a connection, without addresses.
    fn syn(v6: bool, options: &[u8]) -> Vec<u8> {
        let mut packet = if v6 { vec![0x60; 1] } else { vec![0x45; 1] };
        packet.resize(if v6 { IPV6 } else { IPV4 }, 0);
        packet[if v6 { 6 } else { 9 }] = TCP;
        let at = packet.len();
        packet.resize(at + HEADER, 0);
        packet.extend_from_slice(options);
        packet[at + DATA_OFFSET] = ((HEADER + options.len()) / 4) as u8 * 16;
        packet[at + FLAGS] = SYN;
        let checksum = !sum(&packet[at..]);
        packet[at + CHECKSUM..at + CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// By the definition (RFC 1071).
    fn sum(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) * 256 + pair.get(1).map_or(0, |b| u32::from(*b));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_segment_is_lowered_never_raised_and_the_checksum_stays_right() {
        for v6 in [false, true] {
            let headers = if v6 { 60 } else { 40 };
            for (before, mtu, after) in
                [(1_460, 1_220, 1_220 - headers), (1_000, 1_220, 1_000), (1_380, 1_280, 1_280 - headers)]
            {
                let [high, low] = u16::to_be_bytes(before);
                // Aligned, and across two words; behind others.
                for options in [
                    vec![2, 4, high, low],
                    vec![1, 2, 4, high, low, 1, 1, 0],
                    vec![4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, high, low],
                ] {
                    let mut packet = syn(v6, &options);
                    assert!(opens(&packet));
                    clamp(&mut packet, mtu);
                    let at = if v6 { IPV6 } else { IPV4 };
                    let option = at + greatest_segment(&packet[at..]).unwrap();
                    assert_eq!(u16::from_be_bytes([packet[option], packet[option + 1]]), after);
                    assert_eq!(sum(&packet[at..]), 0xffff);
                }
            }
        }
    }

    #[test]
    fn what_opens_no_connection_is_left_alone() {
        let whole = syn(false, &[2, 4, 5, 180]);
        let change = |at: usize, value: u8| {
            let mut packet = whole.clone();
            packet[at] = value;
            packet
        };
        for packet in [
            change(33, 0x10),
            change(9, 17),
            change(7, 1),
            change(0, 0x55),
            change(0, 0x44),
            whole[..39].to_vec(),
            vec![0x45],
            Vec::new(),
        ] {
            assert!(!opens(&packet));
            let mut after = packet.clone();
            if header(&packet).is_none() {
                clamp(&mut after, 600);
                assert!(after == packet);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_keep_their_sum_and_all_but_four_of_them(
            mut packet in proptest::collection::vec(any::<u8>(), 0..120),
            v6 in any::<bool>(),
            mtu in 68u16..1_500,
        ) {
            // Most random bytes are no TCP: make them look like it.
            if packet.len() > 60 {
                packet[0] = if v6 { 0x60 } else { 0x45 };
                packet[if v6 { 6 } else { 9 }] = TCP;
                packet[6] = if v6 { TCP } else { 0x40 };
                packet[7] = 0;
            }
            let before = packet.clone();
            clamp(&mut packet, mtu);
            prop_assert_eq!(packet.len(), before.len());
            let changed = packet.iter().zip(&before).filter(|(a, b)| a != b).count();
            prop_assert!(changed <= 4);
            if changed > 0 {
                let at = header(&packet).unwrap();
                // Both zeroes of the ones' complement are the same number.
                prop_assert_eq!(sum(&packet[at..]) % 0xffff, sum(&before[at..]) % 0xffff);
            }
        }
    }
}
