//! Frames as the kernel hands them over at the TUN: a virtio-net header, and a packet that is large or has its checksum open.

use netio::tun::HEADER_LEN;

/// IPv4.
const IPV4: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    #[allow(dead_code, reason = "what counts instructions has none")]
    Udp,
}

impl Protocol {
    /// Bytes of the headers, of IPv4 and its own, neither with options.
    pub(crate) const fn headers(self) -> usize {
        IPV4 + match self {
            Self::Tcp => 20,
            Self::Udp => 8,
        }
    }
}

/// What a frame holds.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) protocol: Protocol,
    pub(crate) from: [u8; 4],
    pub(crate) to: [u8; 4],
    /// Part of a port.
    pub(crate) flow: u8,
    /// Bytes of payload in all.
    pub(crate) payload: usize,
    /// What it is to be cut into, if there is more.
    pub(crate) segment: usize,
    /// The number of the first byte (TCP).
    pub(crate) sequence: usize,
}

impl Frame {
    /// How many packets it stands for.
    #[allow(dead_code, reason = "what counts instructions counts packets itself")]
    pub(crate) fn packets(&self) -> usize {
        self.payload.div_ceil(self.segment).max(1)
    }

    /// The frame, whose checksum is left to the reader.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let headers = self.protocol.headers();
        let mut packet = vec![0x5a; headers + self.payload];
        let (number, kind, checksum) = match self.protocol {
            Protocol::Tcp => (6, 1, 16),
            Protocol::Udp => (17, 5, 6),
        };
        packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, number, 0, 0]);
        packet[12..16].copy_from_slice(&self.from);
        packet[16..20].copy_from_slice(&self.to);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[20..24].copy_from_slice(&[0x20, self.flow, 0x14, 0x51]);
        match self.protocol {
            Protocol::Tcp => {
                packet[24..28].copy_from_slice(&(self.sequence as u32).to_be_bytes());
                packet[28..40].copy_from_slice(&[0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
            }
            Protocol::Udp => packet[24..26].copy_from_slice(&(len - IPV4 as u16).to_be_bytes()),
        }
        let header = !sum(&packet[..IPV4]);
        packet[10..12].copy_from_slice(&header.to_be_bytes());
        let pseudo = sum(&[&packet[12..20], &[0, number], &(len - IPV4 as u16).to_be_bytes()].concat());
        packet[IPV4 + checksum..][..2].copy_from_slice(&pseudo.to_be_bytes());

        let (kind, size) = if self.payload > self.segment { (kind, self.segment) } else { (0, 0) };
        let mut frame = vec![1, kind];
        for field in [headers, size, IPV4, checksum] {
            frame.extend((field as u16).to_ne_bytes());
        }
        assert_eq!(frame.len(), HEADER_LEN);
        frame.extend(packet);
        frame
    }
}

/// The internet checksum's sum, plainly.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
