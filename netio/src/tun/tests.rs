//! Split and coalesce against an oracle that builds every packet by itself, field by field.

use proptest::prelude::*;

use super::{
    coalesce::{Coalescer, MAX_BATCH},
    split::{Malformed, Split},
    vnet::HEADER_LEN,
};

/// A TCP or UDP packet in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    v6: bool,
    tcp: bool,
    port: u16,
    tos: u8,
    ttl: u8,
    id: u16,
    df: bool,
    sequence: u32,
    ack: u32,
    window: u16,
    flags: u8,
    options: usize,
    payload: Vec<u8>,
    bad_checksum: bool,
}

fn ones_complement(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl Plain {
    fn addresses(&self) -> Vec<u8> {
        if self.v6 { (1..=32).collect() } else { vec![10, 0, 0, 1, 10, 0, 0, 2] }
    }

    fn l4_len(&self) -> usize {
        if self.tcp { 20 + self.options * 4 } else { 8 }
    }

    /// The packet as it is on the wire; with `partial`, the checksum is left to another.
    fn bytes(&self, partial: bool) -> Vec<u8> {
        let l4_len = self.l4_len() + self.payload.len();
        let protocol = if self.tcp { 6 } else { 17 };
        let mut l4 = vec![0x10, 0x20];
        l4.extend(self.port.to_be_bytes());
        if self.tcp {
            l4.extend(self.sequence.to_be_bytes());
            l4.extend(self.ack.to_be_bytes());
            l4.extend([(5 + self.options as u8) << 4, self.flags]);
            l4.extend(self.window.to_be_bytes());
            l4.extend([0, 0, 0, 0]);
            l4.extend(vec![1; self.options * 4]);
        } else {
            l4.extend((l4_len as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        l4.extend(&self.payload);
        let tail = [0, protocol, (l4_len >> 8) as u8, l4_len as u8];
        let mut checksum = if partial {
            ones_complement(&[&self.addresses(), &tail])
        } else {
            match !ones_complement(&[&self.addresses(), &tail, &l4]) {
                0 if !self.tcp => 0xffff,
                sum => sum,
            }
        };
        if self.bad_checksum {
            checksum ^= 0x0101;
        }
        let at = if self.tcp { 16 } else { 6 };
        l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());

        let mut ip = Vec::new();
        if self.v6 {
            ip.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 9]);
            ip.extend((l4_len as u16).to_be_bytes());
            ip.extend([protocol, self.ttl]);
            ip.extend(self.addresses());
        } else {
            ip.extend([0x45, self.tos]);
            ip.extend((20 + l4_len as u16).to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            ip.extend(self.addresses());
            let sum = !ones_complement(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        ip.extend(l4);
        ip
    }

    /// What a kernel would hand over for this packet, to be cut into pieces of `size` bytes.
    fn frame(&self, size: usize) -> Vec<u8> {
        let l4 = if self.v6 { 40_u16 } else { 20 };
        let kind = match (self.tcp, self.v6) {
            _ if size == 0 => 0,
            (true, false) => 1 | if self.flags & 0x80 != 0 { 0x80 } else { 0 },
            (true, true) => 4 | if self.flags & 0x80 != 0 { 0x80 } else { 0 },
            (false, _) => 5,
        };
        let mut frame = vec![1, kind];
        // hdr_len is wrong on purpose: it is a hint, and nothing may trust it.
        for field in [7, size as u16, l4, if self.tcp { 16 } else { 6 }] {
            frame.extend(field.to_ne_bytes());
        }
        frame.extend(self.bytes(true));
        frame
    }

    /// The packets that it stands for.
    fn cut(&self, size: usize) -> Vec<Plain> {
        let chunks: Vec<&[u8]> = self.payload.chunks(size.max(1)).collect();
        let last = chunks.len() - 1;
        let piece = |(i, chunk): (usize, &&[u8])| {
            let mut flags = self.flags;
            if i < last {
                flags &= !0x09;
            }
            if i > 0 {
                flags &= !0x80;
            }
            Plain {
                sequence: self.sequence.wrapping_add((i * size) as u32),
                id: self.id.wrapping_add(i as u16),
                flags,
                payload: chunk.to_vec(),
                ..self.clone()
            }
        };
        chunks.iter().enumerate().map(piece).collect()
    }
}

fn split(mut frame: Vec<u8>) -> Result<Vec<Vec<u8>>, Malformed> {
    let (mut split, mut out) = (Split::new(&mut frame)?, Vec::new());
    while let Some(packet) = split.next_packet() {
        out.push(packet.to_vec());
        // Its reader may do with it what it likes.
        packet.fill(0xee);
    }
    Ok(out)
}

/// The writes, each with its virtio-net header.
fn coalesce(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut coalescer, mut out) = (Coalescer::new(), Vec::new());
    for batch in packets.chunks(MAX_BATCH) {
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        coalescer.plan(&batch, true, true);
        for joined in coalescer.joined() {
            let mut write = joined.head(&batch).bytes().to_vec();
            joined.parts(&batch).for_each(|part| write.extend(part));
            out.push(write);
        }
    }
    out
}

prop_compose! {
    fn any_plain(max_payload: usize)(
        (v6, tcp, df) in any::<(bool, bool, bool)>(),
        (port, tos, ttl, window) in any::<(u16, u8, u8, u16)>(),
        (id, sequence, ack) in any::<(u16, u32, u32)>(),
        flags in prop::sample::select(vec![0x10_u8, 0x18, 0x11, 0x19, 0x50, 0x90, 0xd8]),
        options in 0_usize..=10,
        payload in prop::collection::vec(any::<u8>(), 1..max_payload),
    ) -> Plain {
        Plain {
            v6, tcp, port, tos, ttl, id, df, sequence, ack, window, flags, options, payload, bad_checksum: false,
        }
    }
}

/// Steps of a few flows: which flow, how it goes on.
fn any_traffic() -> impl Strategy<Value = Vec<Plain>> {
    let flow = any_plain(2).prop_map(|plain| Plain { flags: 0x10, options: plain.options % 4, ..plain });
    let steps = prop::collection::vec((0_usize..4, 0_u8..40, any::<u8>()), 1..400);
    (prop::collection::vec(flow, 4), steps, prop::sample::select(vec![1_usize, 100, 1_400])).prop_map(
        |(mut flows, steps, size)| {
            let mut out = Vec::new();
            for (which, event, fill) in steps {
                let flow = &mut flows[which];
                let mut packet = Plain { payload: vec![fill; size], ..flow.clone() };
                match event {
                    0 => packet.payload.clear(),
                    1 => packet.payload.truncate(size / 2 + 1),
                    2 => packet.payload.extend([fill; 9]),
                    3 => packet.flags |= 0x08,
                    4 => packet.flags |= 0x01,
                    5 => flow.tos ^= 3,
                    6 => packet.bad_checksum = true,
                    7 => packet.sequence = packet.sequence.wrapping_add(1_000_000),
                    8 => flow.ack = flow.ack.wrapping_add(99),
                    9 => flow.id = flow.id.wrapping_add(5),
                    10 => flow.window ^= 1,
                    11 => flow.df = !flow.df,
                    12 => packet.flags |= 0x80,
                    13 => packet.ttl ^= 1,
                    _ => {}
                }
                flow.sequence = flow.sequence.wrapping_add(packet.payload.len() as u32);
                flow.id = flow.id.wrapping_add(1);
                out.push(packet);
            }
            out
        },
    )
}

/// With DF set the identification means nothing and may change (RFC 6864): two packets that differ in it are equal.
fn without_meaningless_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// The packets of each flow, in order. Ports and addresses name it.
fn by_flow(packets: &[Vec<u8>]) -> std::collections::BTreeMap<(u8, u8, Vec<u8>), Vec<Vec<u8>>> {
    let mut flows = std::collections::BTreeMap::<_, Vec<_>>::new();
    for packet in packets {
        let v6 = packet[0] >> 4 == 6;
        let (protocol, l4) = if v6 { (packet[6], 40) } else { (packet[9], 20) };
        let ports = packet[l4..l4 + 4].to_vec();
        flows.entry((packet[0] >> 4, protocol, ports)).or_default().push(without_meaningless_id(packet));
    }
    flows
}

proptest! {
    #[test]
    fn a_large_packet_splits_into_what_the_oracle_cuts(plain in any_plain(30_000), size in 1_usize..2_000) {
        let size = size.max(plain.payload.len() / 500);
        let expected: Vec<Vec<u8>> = plain.cut(size).iter().map(|piece| piece.bytes(false)).collect();
        prop_assert!(split(plain.frame(size)).unwrap() == expected);
    }

    #[test]
    fn a_packet_that_is_not_cut_gets_its_checksum(plain in any_plain(1_500)) {
        prop_assert!(split(plain.frame(0)).unwrap() == [plain.bytes(false)]);
    }

    #[test]
    fn coalescing_then_splitting_is_the_identity_for_every_flow(traffic in any_traffic()) {
        let packets: Vec<Vec<u8>> = traffic.iter().map(|plain| plain.bytes(false)).collect();
        let writes = coalesce(&packets);
        let back: Vec<Vec<u8>> = writes.iter().flat_map(|write| split(write.clone()).unwrap()).collect();
        prop_assert!(by_flow(&back) == by_flow(&packets));
        // A packet with a wrong checksum still has it: nothing vouches for it.
        let bad = traffic.iter().filter(|plain| plain.bad_checksum).map(|plain| plain.bytes(false));
        for packet in bad {
            prop_assert!(writes.iter().any(|write| write[0] == 0 && write[HEADER_LEN..] == packet));
        }
    }

    #[test]
    fn any_frame_is_cut_or_refused_and_nothing_else(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let packets = split(frame.clone()).unwrap_or_default();
        prop_assert!(packets.len() <= frame.len() && packets.iter().all(|packet| packet.len() <= frame.len()));
    }

    #[test]
    fn a_hostile_frame_with_a_likely_header_is_cut_or_refused(
        plain in any_plain(300), at in 0_usize..60, value in any::<u8>(), cut in 0_usize..400,
    ) {
        let mut frame = plain.frame(50);
        frame.truncate(cut.max(HEADER_LEN));
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
        let _ = split(frame);
    }

    #[test]
    fn any_bytes_are_written_as_they_are(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 1..20)) {
        let writes = coalesce(&packets);
        let back: Vec<&[u8]> = writes.iter().map(|write| &write[HEADER_LEN..]).collect();
        prop_assert!(back == packets);
    }
}

/// A bulk flow: what a 64 KB write of TCP becomes on the way.
fn bulk(v6: bool, tcp: bool) -> Plain {
    Plain {
        v6,
        tcp,
        port: 5_201,
        tos: 0,
        ttl: 64,
        id: 0xfff0,
        df: true,
        sequence: u32::MAX - 20_000,
        ack: 1,
        window: 500,
        flags: 0x18,
        options: if tcp { 3 } else { 0 },
        payload: (0..44 * 1_300_usize - 200).map(|i| ((i * 7) >> 3) as u8).collect(),
        bad_checksum: false,
    }
}

#[test]
fn a_bulk_flow_is_written_at_once() {
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let plain = bulk(v6, tcp);
        let packets: Vec<Vec<u8>> = plain.cut(1_300).iter().map(|piece| piece.bytes(false)).collect();
        let writes = coalesce(&packets);
        assert_eq!(writes.len(), 1);
        let expected = plain.frame(1_300);
        assert!(writes[0][HEADER_LEN..] == expected[HEADER_LEN..]);
        // All but the header length, which the oracle gets wrong on purpose.
        assert!(writes[0][..2] == expected[..2] && writes[0][4..HEADER_LEN] == expected[4..HEADER_LEN]);
        assert_eq!(writes[0][2..4], ((if v6 { 40 } else { 20 } + plain.l4_len()) as u16).to_ne_bytes());
    }
}

#[test]
fn two_interleaved_flows_are_each_written_at_once() {
    let (a, b) = (bulk(false, true), Plain { port: 5_202, ..bulk(false, true) });
    let packets: Vec<Vec<u8>> =
        a.cut(1_300).iter().zip(&b.cut(1_300)).flat_map(|(a, b)| [a.bytes(false), b.bytes(false)]).collect();
    assert_eq!(coalesce(&packets).len(), 2);
}

/// Changes a byte of an IPv4 header, and its checksum with it.
fn set_ipv4(packet: &mut [u8], at: usize, value: u8) {
    packet[at] = value;
    packet[10..12].fill(0);
    let sum = !ones_complement(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_fragment_holds_back_what_comes_after_it() {
    let pieces = bulk(false, false).cut(1_300);
    let mut packets: Vec<Vec<u8>> = pieces[..3].iter().map(|piece| piece.bytes(false)).collect();
    // The middle one says that more fragments follow.
    set_ipv4(&mut packets[1], 6, 0x20);
    let writes = coalesce(&packets);
    assert!(
        writes.len() == 3
            && writes.iter().zip(&packets).all(|(write, packet)| write[HEADER_LEN..] == *packet)
    );
}

#[test]
fn fragments_and_packets_with_options_are_not_joined() {
    let packets: Vec<Vec<u8>> =
        bulk(false, true).cut(1_300)[..3].iter().map(|piece| piece.bytes(false)).collect();
    assert_eq!(coalesce(&packets).len(), 1);
    let changed = |at, value| {
        let mut packets = packets.clone();
        packets.iter_mut().for_each(|packet| set_ipv4(packet, at, value));
        packets
    };
    // More fragments follow; an offset; a reserved bit.
    for (at, value) in [(6, 0x20), (7, 1), (6, 0x80)] {
        assert_eq!(coalesce(&changed(at, value)).len(), 3);
    }
    // A wrong header checksum, which a joined packet would hide.
    let mut wrong = packets.clone();
    wrong.iter_mut().for_each(|packet| packet[10] ^= 1);
    assert_eq!(coalesce(&wrong).len(), 3);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_its_other_form_and_none_is_left_alone() {
    let mut plain = Plain { payload: vec![0; 200], ..bulk(false, false) };
    for start in [0, 100] {
        let piece = Plain { payload: vec![0; 100], id: plain.id + u16::from(start > 0), ..plain.clone() };
        // What brings the sum of each piece to zero.
        plain.payload[start..start + 2].copy_from_slice(&piece.bytes(false)[26..28]);
    }
    for packets in [split(plain.frame(100)).unwrap(), split(plain.cut(100)[0].frame(0)).unwrap()] {
        assert!(packets.iter().all(|packet| packet[26..28] == [0xff, 0xff]));
    }
    let mut none: Vec<Vec<u8>> = plain.cut(100).iter().map(|piece| piece.bytes(false)).collect();
    none.iter_mut().for_each(|packet| packet[26..28].fill(0));
    let writes = coalesce(&none);
    assert!(writes.len() == 2 && writes[0][HEADER_LEN..] == none[0]);
}

#[test]
fn what_is_joined_stays_within_what_a_packet_and_the_kernel_take() {
    for size in [1_300, 100] {
        let plain = Plain { payload: vec![7; 200 * size], ..bulk(true, true) };
        let packets: Vec<Vec<u8>> = plain.cut(size).iter().map(|piece| piece.bytes(false)).collect();
        let writes = coalesce(&packets);
        let parts: Vec<Vec<Vec<u8>>> = writes.iter().map(|write| split(write.clone()).unwrap()).collect();
        assert!(writes.iter().all(|write| write.len() <= HEADER_LEN + 65_535));
        assert!(parts.iter().all(|packets| packets.len() <= 64) && writes.len() <= 5);
        assert!(parts.concat() == packets);
    }
}
