//! What must come of cutting and joining, packet by packet and by the definitions: no table, no hash, no sum that is
//! carried along, and nothing of the code that is tested. Slow, and short enough to be read against the RFCs.

/// Packets that one write stands for at most: the segments that a kernel takes of one UDP packet.
const MOST: usize = 64;
/// The largest packet that a write may make.
const LARGEST: usize = 65_535;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// The ones' complement sum of RFC 1071.
pub(super) fn ones_complement(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn addresses(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] }
}

/// The pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1), for a TCP or UDP part of `len` bytes.
fn pseudo(packet: &[u8], protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = addresses(packet).to_vec();
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// With "don't fragment" set the identification means nothing (RFC 6864): two packets that differ in it are equal.
pub(super) fn without_meaningless_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// The packets that a frame of the device stands for; `None` for one that no kernel hands over.
pub(super) fn cut(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let field = |at: usize| Some(usize::from(u16::from_ne_bytes([*frame.get(at)?, *frame.get(at + 1)?])));
    let (size, start, offset) = (field(4)?, field(6)?, field(8)?);
    let packet = frame.get(10..).filter(|packet| !packet.is_empty())?;
    let (finish, kind) = (frame[0] & 1 != 0, frame[1] & 0x7f);
    if kind == 0 {
        let mut whole = packet.to_vec();
        if finish {
            let field = start + offset;
            whole.get(field..field + 2)?;
            let mut checksum = !ones_complement(&[&whole[start..]]);
            if offset == 6 && checksum == 0 {
                checksum = 0xffff;
            }
            whole[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        return Some(vec![whole]);
    }
    let (protocol, checksum_at, version) = match kind {
        1 => (6, 16, 4),
        4 => (6, 16, 6),
        5 => (17, 6, packet[0] >> 4),
        _ => return None,
    };
    let ip_fits = match packet[0] >> 4 {
        4 => usize::from(packet[0] & 0xf) * 4 == start && start >= 20,
        6 => start >= 40,
        _ => false,
    };
    let l4 = packet.get(start..).filter(|_| ip_fits && finish && size > 0 && offset == checksum_at)?;
    let header = if protocol == 6 { usize::from(*l4.get(12)? >> 4) * 4 } else { 8 };
    if packet[0] >> 4 != version
        || (protocol == 6 && header < 20)
        || l4.len() <= header
        || start + header > 256
        || packet.len() > LARGEST + if version == 6 { 40 } else { 0 }
        || number(&l4[checksum_at..checksum_at + 2])
            != usize::from(ones_complement(&[&pseudo(packet, protocol, l4.len())]))
    {
        return None;
    }
    let pieces: Vec<&[u8]> = l4[header..].chunks(size).collect();
    let whole = |(n, payload): (usize, &&[u8])| {
        let mut piece = packet[..start + header].to_vec();
        piece.extend(*payload);
        let len = piece.len();
        if version == 4 {
            piece[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            let id = number(&packet[4..6]) + n;
            piece[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            piece[10..12].fill(0);
            let checksum = !ones_complement(&[&piece[..start]]);
            piece[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            piece[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        }
        let part = &mut piece[start..];
        if protocol == 6 {
            let sequence = number(&l4[4..8]) + n * size;
            part[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
            if n + 1 < pieces.len() {
                part[13] &= !(FIN | PSH);
            }
            if n > 0 {
                part[13] &= !CWR;
            }
        } else {
            let len = part.len() as u16;
            part[4..6].copy_from_slice(&len.to_be_bytes());
        }
        part[checksum_at..checksum_at + 2].fill(0);
        let mut checksum = !ones_complement(&[&pseudo(packet, protocol, part.len()), part]);
        if protocol == 17 && checksum == 0 {
            checksum = 0xffff;
        }
        part[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        piece
    };
    Some(pieces.iter().enumerate().map(whole).collect())
}

/// A TCP or UDP packet whose lengths and headers are in order.
struct Known<'p> {
    packet: &'p [u8],
    tcp: bool,
    /// Where TCP or UDP starts, and where the payload does.
    l4: usize,
    payload: usize,
}

impl<'p> Known<'p> {
    /// `None` for whatever has options, extension headers, fragments, another protocol, a wrong length or a wrong sum over the
    /// IPv4 header.
    fn of(packet: &'p [u8]) -> Option<Self> {
        let (l4, protocol) = match packet.first()? >> 4 {
            4 => {
                let header = packet.get(..20)?;
                let whole = header[0] == 0x45 && number(&header[2..4]) == packet.len();
                let fragment = header[6] & 0xbf != 0 || header[7] != 0;
                (whole && !fragment && ones_complement(&[header]) == 0xffff).then_some((20, header[9]))?
            }
            6 => {
                let header = packet.get(..40)?;
                (number(&header[4..6]) + 40 == packet.len()).then_some((40, header[6]))?
            }
            _ => return None,
        };
        let header = match protocol {
            6 => usize::from(*packet.get(l4 + 12)? >> 4) * 4,
            17 => 8,
            _ => return None,
        };
        let least = if protocol == 6 { 20 } else { 8 };
        let fits = header >= least && l4 + header <= packet.len();
        fits.then_some(Self { packet, tcp: protocol == 6, l4, payload: l4 + header })
    }

    fn flow(&self) -> (&[u8], bool, &[u8]) {
        (addresses(self.packet), self.tcp, &self.packet[self.l4..self.l4 + 4])
    }

    fn len(&self) -> usize {
        self.packet.len() - self.payload
    }

    fn flags(&self) -> u8 {
        if self.tcp { self.packet[self.l4 + 13] } else { 0 }
    }

    fn sequence(&self) -> u32 {
        number(&self.packet[self.l4 + 4..self.l4 + 8]) as u32
    }

    /// Whether it may be joined with any other.
    fn joinable(&self) -> bool {
        let l4 = &self.packet[self.l4..];
        let protocol = if self.tcp { 6 } else { 17 };
        let plain = if self.tcp {
            self.flags() & ACK != 0 && self.flags() & !(ACK | PSH | ECE) == 0
        } else {
            number(&l4[4..6]) == l4.len() && l4[6..8] != [0, 0]
        };
        plain && self.len() > 0 && ones_complement(&[&pseudo(self.packet, protocol, l4.len()), l4]) == 0xffff
    }

    /// The headers with all that may differ between packets that are joined set to zero.
    fn likeness(&self) -> Vec<u8> {
        let mut headers = self.packet[..self.payload].to_vec();
        if headers[0] >> 4 == 4 {
            // Length, identification, checksum.
            headers[2..6].fill(0);
            headers[10..12].fill(0);
        } else {
            headers[4..6].fill(0);
        }
        let l4 = &mut headers[self.l4..];
        if self.tcp {
            l4[4..8].fill(0);
            l4[13] &= !PSH;
            l4[16..18].fill(0);
        } else {
            l4[4..8].fill(0);
        }
        headers
    }

    /// Whether it says what the packet after `before` says, where that has to follow on.
    fn follows(&self, before: &Self) -> bool {
        let v4 = self.packet[0] >> 4 == 4;
        let id = |known: &Self| number(&known.packet[4..6]) as u16;
        let counts = v4 && before.packet[6] & 0x40 == 0;
        (!counts || id(self) == id(before).wrapping_add(1))
            && (!self.tcp || self.sequence() == before.sequence().wrapping_add(before.len() as u32))
    }
}

/// Which packets go together, by their numbers, in the order of the first of each.
pub(super) fn groups(packets: &[&[u8]], tcp: bool, udp: bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    // Groups before this one take nothing any more.
    let mut since = 0;
    for (n, packet) in packets.iter().enumerate() {
        let Some(known) = Known::of(packet) else {
            groups.push(vec![n]);
            since = groups.len();
            continue;
        };
        let told = |known: &Known<'_>| if known.tcp { tcp } else { udp };
        let newest = groups[since..]
            .iter_mut()
            .rev()
            .find(|group| Known::of(packets[group[0]]).is_some_and(|first| first.flow() == known.flow()));
        let joins = |group: &Vec<usize>| {
            let members: Vec<Known<'_>> = group.iter().filter_map(|&at| Known::of(packets[at])).collect();
            let (Some(first), Some(last)) = (members.first(), members.last()) else { return false };
            let total: usize = members.iter().map(Known::len).sum::<usize>() + known.len();
            told(&known)
                && known.joinable()
                && first.joinable()
                && known.likeness() == first.likeness()
                && known.follows(last)
                // Only the last may be shorter, or ask to be handed on at once.
                && members.iter().all(|member| member.len() == first.len() && member.flags() & PSH == 0)
                && known.len() <= first.len()
                && members.len() < MOST
                && first.payload + total <= LARGEST
        };
        match newest {
            Some(group) if joins(group) => group.push(n),
            _ => groups.push(vec![n]),
        }
    }
    groups
}
