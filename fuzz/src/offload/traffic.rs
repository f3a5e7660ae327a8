//! Packets made up from choices: TCP and UDP over IPv4 and IPv6, with options, extension headers, every flag, and all that
//! can be wrong with them.

use super::{dice::Dice, oracle::ones_complement};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet in plain words.
#[derive(Clone)]
struct Made {
    v6: bool,
    tcp: bool,
    ports: [u8; 4],
    class: u8,
    label: u16,
    ttl: u8,
    id: u16,
    /// The two bytes of an IPv4 header's flags and fragment offset.
    fragment: [u8; 2],
    sequence: u32,
    acknowledged: u32,
    window: u16,
    urgent: u16,
    flags: u8,
    /// The unused bits beside the data offset.
    reserved: u8,
    /// Words of TCP options, and what they say.
    options: usize,
    option: u8,
    /// Options of IPv4 in words, or extension headers of IPv6 in eights of bytes.
    more: usize,
    payload: Vec<u8>,
}

/// What may be wrong with a packet that is ready.
#[derive(Clone, Copy)]
enum Wrong {
    Nothing,
    Checksum,
    HeaderChecksum,
    NoChecksum,
    UdpLength,
    Longer,
    Shorter,
    Protocol,
    Version,
    DataOffset,
}

impl Made {
    fn new(dice: &mut Dice<'_>) -> Self {
        let kind = dice.byte();
        Self {
            v6: kind & 1 != 0,
            tcp: kind & 2 != 0,
            ports: dice.u32().to_be_bytes(),
            class: dice.byte(),
            label: dice.u16(),
            ttl: dice.byte(),
            id: dice.u16(),
            fragment: [if kind & 4 != 0 { 0x40 } else { 0 }, 0],
            sequence: dice.u32(),
            acknowledged: dice.u32(),
            window: dice.u16(),
            urgent: 0,
            flags: 0x10,
            reserved: 0,
            options: dice.of(&[0, 3, 3, 10]),
            option: 1,
            more: 0,
            payload: Vec::new(),
        }
    }

    fn addresses(&self) -> Vec<u8> {
        if self.v6 { (1..=32).collect() } else { vec![10, 0, 0, 1, 10, 0, 0, 2] }
    }

    fn ip_len(&self) -> usize {
        if self.v6 { 40 + 8 * self.more } else { 20 + 4 * self.more }
    }

    fn l4_header_len(&self) -> usize {
        if self.tcp { 20 + 4 * self.options } else { 8 }
    }

    fn checksum_at(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    /// TCP or UDP and its payload; with `partial`, the checksum is left to another.
    fn l4(&self, partial: bool) -> Vec<u8> {
        let len = self.l4_header_len() + self.payload.len();
        let mut l4 = self.ports.to_vec();
        if self.tcp {
            l4.extend(self.sequence.to_be_bytes());
            l4.extend(self.acknowledged.to_be_bytes());
            l4.extend([(5 + self.options as u8) << 4 | self.reserved & 0xf, self.flags]);
            l4.extend(self.window.to_be_bytes());
            l4.extend([0, 0]);
            l4.extend(self.urgent.to_be_bytes());
            l4.extend(vec![self.option; 4 * self.options]);
        } else {
            l4.extend((len as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        l4.extend(&self.payload);
        let protocol = if self.tcp { TCP } else { UDP };
        let tail = [0, protocol, (len >> 8) as u8, len as u8];
        let checksum = if partial {
            ones_complement(&[&self.addresses(), &tail])
        } else {
            match !ones_complement(&[&self.addresses(), &tail, &l4]) {
                0 if !self.tcp => 0xffff,
                checksum => checksum,
            }
        };
        let at = self.checksum_at();
        l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        l4
    }

    fn packet(&self, partial: bool) -> Vec<u8> {
        let l4 = self.l4(partial);
        let protocol = if self.tcp { TCP } else { UDP };
        let mut packet = Vec::new();
        if self.v6 {
            packet.extend([0x60 | self.class >> 4, self.class << 4]);
            packet.extend(self.label.to_be_bytes());
            packet.extend(((8 * self.more + l4.len()) as u16).to_be_bytes());
            // Destination options that pad.
            packet.extend([if self.more > 0 { 60 } else { protocol }, self.ttl]);
            packet.extend(self.addresses());
            for n in 1..=self.more {
                packet.extend([if n == self.more { protocol } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
            }
        } else {
            packet.extend([0x45 + self.more as u8, self.class]);
            packet.extend(((20 + 4 * self.more + l4.len()) as u16).to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            packet.extend(self.fragment);
            packet.extend([self.ttl, protocol, 0, 0]);
            packet.extend(self.addresses());
            packet.extend(vec![1; 4 * self.more]);
            set_header_checksum(&mut packet);
        }
        packet.extend(l4);
        packet
    }

    fn wrong(&self, wrong: Wrong, dice: &mut Dice<'_>) -> Vec<u8> {
        let mut packet = self.packet(false);
        let (l4, checksum) = (self.ip_len(), self.ip_len() + self.checksum_at());
        match wrong {
            Wrong::Nothing => {}
            Wrong::Checksum => packet[checksum] ^= 1 << dice.below(8),
            Wrong::HeaderChecksum if self.v6 => {}
            Wrong::HeaderChecksum => packet[10] ^= 1,
            Wrong::NoChecksum => packet[checksum..checksum + 2].fill(0),
            Wrong::UdpLength => packet[l4 + 5] ^= 1 << dice.below(4),
            Wrong::Longer => packet.push(dice.byte()),
            Wrong::Shorter => packet.truncate(packet.len() - dice.below(packet.len())),
            Wrong::Protocol => {
                packet[if self.v6 { 6 } else { 9 }] = dice.of(&[1, 58, TCP, UDP, 0, 44, 50]);
                if !self.v6 {
                    set_header_checksum(&mut packet[..20 + 4 * self.more]);
                }
            }
            Wrong::Version => packet[0] = dice.byte(),
            Wrong::DataOffset => packet[l4 + 8 + 4 * usize::from(self.tcp)] ^= 0x10 << dice.below(4),
        }
        packet
    }
}

fn set_header_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = !ones_complement(&[header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// A frame as a kernel hands it over.
pub(super) fn frame(dice: &mut Dice<'_>) -> Vec<u8> {
    let mut made = Made::new(dice);
    made.flags = dice.byte();
    made.reserved = dice.byte();
    made.urgent = dice.u16();
    made.more = dice.of(&[0, 0, 1, 2]);
    let size = dice.of(&[0, 1, 7, 100, 536, 1_200, 1_400]);
    let len = match size {
        0 => 1 + dice.below(1_400),
        _ => 1 + dice.below(60 * size),
    };
    made.payload = (0..len).map(|n| (n ^ n >> 8) as u8).collect();
    if dice.below(4) == 0 {
        made.payload.fill(0);
    }
    let kind = match (made.tcp, made.v6) {
        _ if size == 0 => 0,
        (true, v6) => (if v6 { 4 } else { 1 }) | made.flags & 0x80,
        (false, _) => 5,
    };
    let mut frame = vec![1, kind];
    // The length of the headers is a hint: nothing may trust it.
    let fields = [dice.u16(), size as u16, made.ip_len() as u16, made.checksum_at() as u16];
    frame.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
    frame.extend(made.packet(true));
    frame
}

/// What a few flows send, and strangers among them.
pub(super) fn packets(dice: &mut Dice<'_>) -> Vec<Vec<u8>> {
    let size = dice.of(&[1_usize, 100, 100, 1_400]);
    let mut flows: Vec<Made> = (0..=dice.below(4)).map(|_| Made::new(dice)).collect();
    let mut packets = Vec::new();
    while !dice.is_empty() && packets.len() < 600 {
        let count = flows.len();
        let flow = &mut flows[dice.below(count)];
        let mut packet = Made { payload: vec![dice.byte(); size], ..flow.clone() };
        let mut wrong = Wrong::Nothing;
        match dice.below(160) {
            0 => packet.payload.clear(),
            1..3 => packet.payload.truncate(1 + size / 2),
            3 => packet.payload.push(9),
            4..6 => packet.flags |= 0x08,
            6 => packet.flags = dice.byte(),
            7 => flow.class = dice.byte(),
            8 => packet.ttl ^= 1,
            9 => packet.sequence ^= 1 << dice.below(32),
            10 => flow.acknowledged ^= 1 << dice.below(32),
            11 => flow.window ^= 1 << dice.below(16),
            12 => flow.id ^= 1 << dice.below(16),
            13 => packet.fragment[0] ^= 0x40,
            14 => packet.fragment = [dice.byte(), dice.byte()],
            15 => packet.urgent = dice.u16(),
            16 => packet.reserved = dice.byte(),
            17 => flow.option ^= 1,
            18 => flow.options = dice.below(11),
            19 => packet.label ^= 1 << dice.below(16),
            20 => packet.more = 1,
            21 => packet.ports[dice.below(4)] ^= 1,
            22..24 => wrong = Wrong::Checksum,
            24 => wrong = Wrong::HeaderChecksum,
            25 => wrong = Wrong::NoChecksum,
            26 => wrong = Wrong::UdpLength,
            27 => wrong = Wrong::Longer,
            28 => wrong = Wrong::Shorter,
            29 => wrong = Wrong::Protocol,
            30 => wrong = Wrong::Version,
            31 => wrong = Wrong::DataOffset,
            _ => {}
        }
        flow.sequence = flow.sequence.wrapping_add(packet.payload.len() as u32);
        flow.id = flow.id.wrapping_add(1);
        packets.push(packet.wrong(wrong, dice));
    }
    packets
}
