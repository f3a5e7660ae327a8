//! Cutting what the kernel handed over into the packets that it stands for.
//!
//! Without a copy: the header of each packet is written in front of its payload, over the end of the packet before,
//! which its reader has sealed by then. The type makes sure of that: [`Split::next_packet`] lends one packet at a time.

use super::{
    checksum::Sum,
    headers::{IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, get16, get32, ipv4, ipv6, put16, put32, tcp, udp},
    vnet::{Gso, HEADER_LEN, Vnet},
};

/// The longest headers, IP and TCP together, of a packet that is cut; IPv6 extension headers count.
const MAX_HEADERS: usize = 256;

/// The kernel handed over something that it should not: the packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed packet from the TUN device")]
pub struct Malformed;

/// The packets of one read.
pub struct Split<'a> {
    /// The packet, without the virtio-net header.
    packet: &'a mut [u8],
    /// How it is to be cut; `None` if it goes out as it is.
    cut: Option<Cut>,
    /// Whether a packet that goes out as it is has gone.
    done: bool,
}

struct Cut {
    gso: Gso,
    /// Payload bytes of every packet but the last.
    size: usize,
    /// The headers of the packet, which the second packet's may overwrite.
    headers: [u8; MAX_HEADERS],
    headers_len: usize,
    /// Where the TCP or UDP header starts.
    l4: usize,
    /// The pseudo header's sum without the length.
    pseudo: Sum,
    /// The next packet's number.
    index: usize,
}

impl<'a> Split<'a> {
    /// Reads `frame`, a virtio-net header and a packet.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn new(frame: &'a mut [u8]) -> Result<Self, Malformed> {
        let (header, packet) = frame.split_first_chunk_mut::<HEADER_LEN>().ok_or(Malformed)?;
        let vnet = Vnet::decode(header).ok_or(Malformed)?;
        let Some((gso, size)) = vnet.gso else {
            if let Some((start, offset)) = vnet.checksum {
                finish_checksum(packet, start, offset)?;
            }
            return if packet.is_empty() {
                Err(Malformed)
            } else {
                Ok(Self { packet, cut: None, done: false })
            };
        };
        let (l4, _) = vnet.checksum.ok_or(Malformed)?;
        let cut = Cut::new(packet, gso, size, l4)?;
        Ok(Self { packet, cut: Some(cut), done: false })
    }

    /// The next packet, complete with its checksums.
    pub fn next_packet(&mut self) -> Option<&mut [u8]> {
        if let Some(cut) = &mut self.cut {
            return cut.next(self.packet);
        }
        let first = !std::mem::replace(&mut self.done, true);
        first.then_some(&mut *self.packet)
    }
}

/// Finishes a checksum that the kernel left to us: the field holds the pseudo header's sum.
fn finish_checksum(packet: &mut [u8], start: usize, offset: usize) -> Result<(), Malformed> {
    let covered = packet.get_mut(start..).ok_or(Malformed)?;
    if offset + 2 > covered.len() {
        return Err(Malformed);
    }
    let checksum = Sum::of(covered).checksum();
    let udp = offset == udp::CHECKSUM;
    covered[offset..offset + 2].copy_from_slice(&if udp { not_zero(checksum) } else { checksum });
    Ok(())
}

/// A UDP checksum of zero says that there is none; the right one is then sent as its other form.
fn not_zero(checksum: [u8; 2]) -> [u8; 2] {
    if checksum == [0, 0] { [0xff, 0xff] } else { checksum }
}

impl Cut {
    fn new(packet: &[u8], gso: Gso, size: usize, l4: usize) -> Result<Self, Malformed> {
        let ip_len = match packet.first().ok_or(Malformed)? >> 4 {
            4 => IPV4_LEN,
            6 => IPV6_LEN,
            _ => return Err(Malformed),
        };
        let covered = packet.get(l4..).filter(|_| l4 >= ip_len).ok_or(Malformed)?;
        let (l4_len, checksum_at) = match gso {
            Gso::Tcp if covered.len() < TCP_LEN => return Err(Malformed),
            Gso::Tcp => (usize::from(covered[tcp::DATA_OFFSET] >> 4) * 4, tcp::CHECKSUM),
            Gso::Udp => (UDP_LEN, udp::CHECKSUM),
        };
        let headers_len = l4 + l4_len;
        let short = if gso == Gso::Tcp { l4_len < TCP_LEN } else { false };
        let v4_fits = packet[0] >> 4 != 4 || usize::from(packet[0] & 0xf) * 4 == l4;
        // A payload must follow, and the length fields must be able to hold what comes out.
        if short
            || headers_len > MAX_HEADERS
            || packet.len() <= headers_len
            || packet.len() > 65_535 + IPV6_LEN
            || !v4_fits
        {
            return Err(Malformed);
        }
        let mut headers = [0; MAX_HEADERS];
        headers[..headers_len].copy_from_slice(&packet[..headers_len]);
        // The field holds the sum over the length of the whole; each packet has its own.
        let pseudo = Sum::of(&covered[checksum_at..checksum_at + 2]).without_u16(covered.len() as u16);
        put16(&mut headers, l4 + checksum_at, 0);
        Ok(Self { gso, size, headers, headers_len, l4, pseudo, index: 0 })
    }

    fn next<'p>(&mut self, packet: &'p mut [u8]) -> Option<&'p mut [u8]> {
        let start = self.index * self.size;
        let payload = start + self.headers_len;
        if payload >= packet.len() {
            return None;
        }
        let end = packet.len().min(payload + self.size);
        let last = end == packet.len();
        let out = &mut packet[start..end];
        out[..self.headers_len].copy_from_slice(&self.headers[..self.headers_len]);
        self.ip_header(out);
        match self.gso {
            Gso::Tcp => self.tcp_header(out, last),
            Gso::Udp => self.udp_header(out),
        }
        self.index += 1;
        Some(out)
    }

    fn ip_header(&self, out: &mut [u8]) {
        let len = out.len();
        if out[0] >> 4 == 4 {
            put16(out, ipv4::TOTAL_LEN, len as u16);
            let id = get16(&self.headers, ipv4::ID).wrapping_add(self.index as u16);
            put16(out, ipv4::ID, id);
            put16(out, ipv4::CHECKSUM, 0);
            let checksum = Sum::of(&out[..self.l4]).checksum();
            out[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&checksum);
        } else {
            put16(out, ipv6::PAYLOAD_LEN, (len - IPV6_LEN) as u16);
        }
    }

    fn tcp_header(&self, out: &mut [u8], last: bool) {
        let segment = &mut out[self.l4..];
        let sequence = get32(segment, tcp::SEQUENCE).wrapping_add((self.index * self.size) as u32);
        put32(segment, tcp::SEQUENCE, sequence);
        if !last {
            segment[tcp::FLAGS] &= !(tcp::FIN | tcp::PSH);
        }
        if self.index > 0 {
            segment[tcp::FLAGS] &= !tcp::CWR;
        }
        let checksum = self.sum(segment).checksum();
        segment[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&checksum);
    }

    fn udp_header(&self, out: &mut [u8]) {
        let datagram = &mut out[self.l4..];
        let len = datagram.len() as u16;
        put16(datagram, udp::LEN, len);
        let checksum = not_zero(self.sum(datagram).checksum());
        datagram[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&checksum);
    }

    fn sum(&self, l4: &[u8]) -> Sum {
        self.pseudo.add(Sum::of_u16(l4.len() as u16)).add(Sum::of(l4))
    }
}
