//! Finding which packets may be written as one.
//!
//! Only neighbours in a TCP or UDP flow that the kernel would cut out of one packet in just this way are joined:
//! everything in their headers but length, sequence number, IPv4 identification and checksum is equal, payloads follow
//! on each other, and only the last one may be shorter or carry PSH. Every checksum is verified first, because a joined
//! packet vouches for all that is in it.
//!
//! Order within a flow is kept: a packet is tried against the newest entry of its flow alone, and one that cannot be
//! joined starts an entry too. What is not understood (fragments, options) closes all entries before it.

use std::io::IoSlice;

use super::{
    checksum::{Sum, pseudo},
    headers::{IPV4_LEN, IPV6_LEN, TCP, TCP_LEN, UDP, UDP_LEN, get16, get32, ipv4, ipv6, put16, tcp, udp},
    vnet::{Gso, HEADER_LEN, Vnet},
};

/// Packets looked at together.
pub const MAX_BATCH: usize = 256;

/// Packets joined into one: what the kernel takes as segments of a UDP packet.
pub(super) const MAX_JOINED: usize = 64;

/// The largest packet that may come out: what the length field of IPv4 holds.
const MAX_PACKET: usize = 65_535;

/// The longest headers of a packet that is joined: IPv6 and TCP with all options.
const MAX_HEADERS: usize = IPV6_LEN + 60;

/// Buffers of one write: virtio-net header with the packet's headers, then payloads.
const MAX_PARTS: usize = MAX_JOINED + 1;

/// What became of a batch.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Written {
    /// Write calls made.
    pub writes: usize,
    /// Packets that the device did not take.
    pub dropped: usize,
}

/// A table of up to [`MAX_BATCH`] packets and what they join to. Reused, it allocates nothing.
#[derive(Default)]
pub struct Coalescer {
    entries: Vec<Entry>,
    /// The flow of each entry, hashed: what is searched.
    flows: Vec<u64>,
    /// For each packet, the next one of its entry.
    next: Vec<u16>,
    /// Entries before this one are closed.
    barrier: usize,
}

/// Packets that leave as one.
struct Entry {
    first: u16,
    last: u16,
    count: u16,
    /// How more can be joined; `None` once that is over.
    open: Option<Open>,
    gso: Gso,
    l4: usize,
    headers_len: usize,
    /// Payload bytes of the first packet: of all but the last.
    size: usize,
    /// Payload bytes of all.
    total: usize,
}

#[derive(Clone, Copy)]
struct Open {
    /// The next packet's sequence number (TCP).
    sequence: u32,
    /// The next packet's IPv4 identification, where it means something.
    id: Option<u16>,
}

/// A packet whose place in a flow is known.
struct Parsed {
    flow: u64,
    gso: Gso,
    l4: usize,
    headers_len: usize,
    /// Whether it may be joined with others at all.
    joinable: bool,
}

impl Coalescer {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins `packets`, at most [`MAX_BATCH`], those of TCP and of UDP only if `told` so, and shows `take` the buffers of each write in
    /// turn: what [`Tun::write`](super::Tun::write) makes of them, without a device.
    pub fn writes(&mut self, packets: &[&[u8]], told: (bool, bool), mut take: impl FnMut(&[IoSlice<'_>])) {
        self.plan(packets, told.0, told.1);
        for joined in self.joined() {
            joined.with_parts(packets, &mut take);
        }
    }

    /// Decides over `packets`, at most [`MAX_BATCH`]; TCP and UDP are joined only if told.
    pub(super) fn plan(&mut self, packets: &[&[u8]], join_tcp: bool, join_udp: bool) {
        self.entries.clear();
        self.flows.clear();
        self.next.clear();
        self.barrier = 0;
        for (i, packet) in packets.iter().take(MAX_BATCH).enumerate() {
            self.next.push(0);
            match parse(packet) {
                Some(mut parsed) => {
                    parsed.joinable &= match parsed.gso {
                        Gso::Tcp => join_tcp,
                        Gso::Udp => join_udp,
                    };
                    self.place(packets, i, &parsed);
                }
                None => self.stranger(i, packet.len()),
            }
        }
    }

    /// A packet of no flow that we know.
    fn stranger(&mut self, i: usize, len: usize) {
        let index = i as u16;
        self.flows.push(0);
        self.entries.push(Entry {
            first: index,
            last: index,
            count: 1,
            open: None,
            gso: Gso::Tcp,
            l4: 0,
            headers_len: 0,
            size: len,
            total: len,
        });
        self.barrier = self.entries.len();
    }

    fn place(&mut self, packets: &[&[u8]], i: usize, parsed: &Parsed) {
        let packet = packets[i];
        let newest = self.flows[self.barrier..].iter().rposition(|&flow| flow == parsed.flow);
        if let Some(at) = newest
            && self.entries[self.barrier + at].join(packets, i, packet, parsed)
        {
            let entry = &mut self.entries[self.barrier + at];
            self.next[usize::from(entry.last)] = i as u16;
            entry.last = i as u16;
            return;
        }
        let payload = packet.len() - parsed.headers_len;
        let psh = parsed.gso == Gso::Tcp && packet[parsed.l4 + tcp::FLAGS] & tcp::PSH != 0;
        let open = (parsed.joinable && !psh).then(|| Open::after(packet, parsed, payload));
        self.flows.push(parsed.flow);
        self.entries.push(Entry {
            first: i as u16,
            last: i as u16,
            count: 1,
            open,
            gso: parsed.gso,
            l4: parsed.l4,
            headers_len: parsed.headers_len,
            size: payload,
            total: payload,
        });
    }

    /// The packets to write, in order.
    pub(super) fn joined(&self) -> impl Iterator<Item = Joined<'_>> {
        self.entries.iter().map(|entry| Joined { entry, next: &self.next })
    }
}

impl Open {
    fn after(packet: &[u8], parsed: &Parsed, payload: usize) -> Self {
        let sequence = match parsed.gso {
            Gso::Tcp => get32(packet, parsed.l4 + tcp::SEQUENCE).wrapping_add(payload as u32),
            Gso::Udp => 0,
        };
        // With DF the identification says nothing (RFC 6864, section 4.1).
        let counts = packet[0] >> 4 == 4 && packet[ipv4::FRAGMENT] & ipv4::DF == 0;
        Self { sequence, id: counts.then(|| get16(packet, ipv4::ID).wrapping_add(1)) }
    }
}

impl Entry {
    /// Takes the packet in if it continues this entry.
    fn join(&mut self, packets: &[&[u8]], i: usize, packet: &[u8], parsed: &Parsed) -> bool {
        let Some(open) = self.open else {
            return false;
        };
        debug_assert!(usize::from(self.last) < i, "packets come in order");
        let payload = packet.len() - parsed.headers_len;
        let fits = parsed.joinable
            && parsed.gso == self.gso
            && parsed.l4 == self.l4
            && parsed.headers_len == self.headers_len
            && payload <= self.size
            && usize::from(self.count) < MAX_JOINED
            && self.headers_len + self.total + payload <= MAX_PACKET;
        let first = packets[usize::from(self.first)];
        let continues = || {
            let id = packet[0] >> 4 == 6 || open.id.is_none_or(|id| get16(packet, ipv4::ID) == id);
            let sequence = match self.gso {
                Gso::Tcp => get32(packet, self.l4 + tcp::SEQUENCE) == open.sequence,
                Gso::Udp => true,
            };
            id && sequence && alike(first, packet, self.gso, self.l4, self.headers_len)
        };
        if !fits || !continues() {
            return false;
        }
        self.count += 1;
        self.total += payload;
        let psh = self.gso == Gso::Tcp && packet[self.l4 + tcp::FLAGS] & tcp::PSH != 0;
        self.open = (payload == self.size && !psh).then(|| Open::after(packet, parsed, payload));
        true
    }
}

/// Whether two packets' headers agree in all that a cut packet repeats.
fn alike(a: &[u8], b: &[u8], gso: Gso, l4: usize, end: usize) -> bool {
    let same = |range: std::ops::Range<usize>| a[range.clone()] == b[range];
    let ip = if a[0] >> 4 == 4 {
        // Version and type of service; fragment field, TTL and protocol; addresses.
        same(0..ipv4::TOTAL_LEN) && same(ipv4::FRAGMENT..ipv4::CHECKSUM) && same(ipv4::ADDRESSES)
    } else {
        // Version, traffic class and flow label; next header, hop limit and addresses.
        same(0..ipv6::PAYLOAD_LEN) && same(ipv6::NEXT_HEADER..IPV6_LEN)
    };
    ip && same(l4..l4 + 4)
        && match gso {
            Gso::Udp => true,
            Gso::Tcp => {
                // Acknowledgement and data offset; flags but PSH; window; urgent pointer and options.
                same(l4 + 8..l4 + tcp::FLAGS)
                    && (a[l4 + tcp::FLAGS] ^ b[l4 + tcp::FLAGS]) & !tcp::PSH == 0
                    && same(l4 + tcp::FLAGS + 1..l4 + tcp::CHECKSUM)
                    && same(l4 + tcp::CHECKSUM + 2..end)
            }
        }
}

/// Finds the flow of a TCP or UDP packet; `None` for anything else: other protocols, options, extension headers,
/// fragments, lengths that do not agree.
fn parse(packet: &[u8]) -> Option<Parsed> {
    let (l4, protocol, addresses) = match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<IPV4_LEN>()?;
            let whole = header[0] == 0x45
                && usize::from(get16(header, ipv4::TOTAL_LEN)) == packet.len()
                && header[ipv4::FRAGMENT] & !ipv4::DF == 0
                && header[ipv4::FRAGMENT + 1] == 0
                && Sum::of(header).is_right();
            (IPV4_LEN, whole.then_some(header[ipv4::PROTOCOL])?, &packet[ipv4::ADDRESSES])
        }
        6 => {
            let header = packet.first_chunk::<IPV6_LEN>()?;
            let whole = usize::from(get16(header, ipv6::PAYLOAD_LEN)) == packet.len() - IPV6_LEN;
            (IPV6_LEN, whole.then_some(header[ipv6::NEXT_HEADER])?, &packet[ipv6::ADDRESSES])
        }
        _ => return None,
    };
    let rest = &packet[l4..];
    let (gso, l4_len) = match protocol {
        TCP => (Gso::Tcp, usize::from(*rest.get(tcp::DATA_OFFSET)? >> 4) * 4),
        UDP => (Gso::Udp, UDP_LEN),
        _ => return None,
    };
    if rest.len() < l4_len || (gso == Gso::Tcp && l4_len < TCP_LEN) {
        return None;
    }
    let payload = rest.len() - l4_len;
    let plain = match gso {
        Gso::Tcp => {
            let flags = rest[tcp::FLAGS];
            flags & tcp::ACK != 0 && flags & !(tcp::ACK | tcp::PSH | tcp::ECE) == 0
        }
        Gso::Udp => usize::from(get16(rest, udp::LEN)) == rest.len() && get16(rest, udp::CHECKSUM) != 0,
    };
    let joinable =
        plain && payload > 0 && pseudo(addresses, protocol, rest.len()).add(Sum::of(rest)).is_right();
    Some(Parsed { flow: flow(addresses, protocol, &rest[..4]), gso, l4, headers_len: l4 + l4_len, joinable })
}

/// A flow's hash, never 0. Whoever makes two flows collide only keeps them from being joined.
fn flow(addresses: &[u8], protocol: u8, ports: &[u8]) -> u64 {
    /// An odd number with bits all over: 2^64 divided by the golden ratio.
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = u64::from(protocol);
    for word in addresses.chunks_exact(4).chain([ports]) {
        let word = u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        hash = (hash.rotate_left(23) ^ word).wrapping_mul(MIX);
    }
    hash | 1
}

/// What is written at once.
pub(super) struct Joined<'c> {
    entry: &'c Entry,
    next: &'c [u16],
}

/// The virtio-net header of a write, with the headers of the joined packet behind it.
pub(super) struct Head {
    bytes: [u8; HEADER_LEN + MAX_HEADERS],
    len: usize,
}

impl Head {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Joined<'_> {
    /// How many packets these are.
    pub(super) fn count(&self) -> usize {
        usize::from(self.entry.count)
    }

    pub(super) fn gso(&self) -> Gso {
        self.entry.gso
    }

    /// The packets themselves.
    pub(super) fn packets<'p>(&self, packets: &'p [&'p [u8]]) -> impl Iterator<Item = &'p [u8]> {
        let mut at = usize::from(self.entry.first);
        (0..self.entry.count).map(move |_| {
            let packet = packets[at];
            at = usize::from(self.next[at]);
            packet
        })
    }

    /// What stands before the parts: for a single packet, which is left as it is, the virtio-net header alone.
    pub(super) fn head(&self, packets: &[&[u8]]) -> Head {
        let mut head = Head { bytes: [0; _], len: HEADER_LEN };
        let Entry { gso, l4, headers_len, size, total, count, .. } = *self.entry;
        if count == 1 {
            head.bytes[..HEADER_LEN].copy_from_slice(&Vnet::PLAIN);
            return head;
        }
        head.len += headers_len;
        let headers = &mut head.bytes[HEADER_LEN..HEADER_LEN + headers_len];
        headers.copy_from_slice(&packets[usize::from(self.entry.first)][..headers_len]);
        let v6 = headers[0] >> 4 == 6;
        let (protocol, checksum_at) = match gso {
            Gso::Tcp => {
                // PSH closes an entry, so only the last can have it.
                headers[l4 + tcp::FLAGS] |= packets[usize::from(self.entry.last)][l4 + tcp::FLAGS] & tcp::PSH;
                (TCP, tcp::CHECKSUM)
            }
            Gso::Udp => {
                put16(headers, l4 + udp::LEN, (UDP_LEN + total) as u16);
                (UDP, udp::CHECKSUM)
            }
        };
        let l4_total = headers_len - l4 + total;
        let addresses = if v6 {
            put16(headers, ipv6::PAYLOAD_LEN, l4_total as u16);
            ipv6::ADDRESSES
        } else {
            put16(headers, ipv4::TOTAL_LEN, (l4 + l4_total) as u16);
            put16(headers, ipv4::CHECKSUM, 0);
            let checksum = Sum::of(&headers[..l4]).checksum();
            headers[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&checksum);
            ipv4::ADDRESSES
        };
        let partial = pseudo(&headers[addresses], protocol, l4_total).partial();
        headers[l4 + checksum_at..l4 + checksum_at + 2].copy_from_slice(&partial);
        let vnet = Vnet::encode(gso, v6, headers_len, size, (l4, checksum_at));
        head.bytes[..HEADER_LEN].copy_from_slice(&vnet);
        head
    }

    /// The buffers of the write, the virtio-net header first.
    pub(super) fn with_parts<T>(&self, packets: &[&[u8]], write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let head = self.head(packets);
        let mut parts = [IoSlice::new(&[]); MAX_PARTS];
        parts[0] = IoSlice::new(head.bytes());
        let mut count = 1;
        for (place, part) in parts[1..].iter_mut().zip(self.parts(packets)) {
            *place = IoSlice::new(part);
            count += 1;
        }
        write(&parts[..count])
    }

    /// What follows the head: a single packet whole, of joined ones the payloads.
    pub(super) fn parts<'p>(&self, packets: &'p [&'p [u8]]) -> impl Iterator<Item = &'p [u8]> {
        let skip = if self.entry.count == 1 { 0 } else { self.entry.headers_len };
        self.packets(packets).map(move |packet| &packet[skip..])
    }
}
