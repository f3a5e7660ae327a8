//! The header before every packet of the device: `virtio_net_hdr` of the kernel's `linux/virtio_net.h`, in the
//! machine's byte order.

/// Bytes of the header.
pub const HEADER_LEN: usize = 10;

/// The checksum at `csum_start + csum_offset` holds the pseudo header's sum only; the rest is left to the reader.
const NEEDS_CSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Beside a TCP type: the congestion window was reduced, which the first segment says.
const GSO_ECN: u8 = 0x80;

/// What a packet larger than the MTU is to be cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gso {
    /// TCP segments.
    Tcp,
    /// UDP datagrams.
    Udp,
}

/// What the header says. `hdr_len` is left out: the kernel documents it as a hint, and it is wrong for forwarded
/// packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Vnet {
    /// The packet is to be cut; payload bytes of every piece but the last.
    pub(super) gso: Option<(Gso, usize)>,
    /// Where the bytes that the checksum covers start, and where it lies after that: set if it is to be finished.
    pub(super) checksum: Option<(usize, usize)>,
}

impl Vnet {
    /// A packet as it is.
    pub(super) const PLAIN: [u8; HEADER_LEN] = [0; HEADER_LEN];

    /// Reads the header; `None` for a kind of packet that we did not ask the kernel for.
    pub(super) fn decode(b: &[u8; HEADER_LEN]) -> Option<Self> {
        let u16_at = |i: usize| usize::from(u16::from_ne_bytes([b[i], b[i + 1]]));
        let size = u16_at(4);
        let gso = match b[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 | GSO_TCPV6 if size > 0 => Some((Gso::Tcp, size)),
            GSO_UDP_L4 if size > 0 => Some((Gso::Udp, size)),
            _ => return None,
        };
        let checksum = (b[0] & NEEDS_CSUM != 0).then(|| (u16_at(6), u16_at(8)));
        Some(Self { gso, checksum })
    }

    /// The header of a packet of `size`-byte pieces, all with headers of `header_len` bytes, whose checksums are left
    /// to the kernel.
    pub(super) fn encode(
        gso: Gso,
        v6: bool,
        header_len: usize,
        size: usize,
        (start, offset): (usize, usize),
    ) -> [u8; HEADER_LEN] {
        let kind = match (gso, v6) {
            (Gso::Tcp, false) => GSO_TCPV4,
            (Gso::Tcp, true) => GSO_TCPV6,
            (Gso::Udp, _) => GSO_UDP_L4,
        };
        let [h, s, c, o] = [header_len, size, start, offset].map(|v| (v as u16).to_ne_bytes());
        [NEEDS_CSUM, kind, h[0], h[1], s[0], s[1], c[0], c[1], o[0], o[1]]
    }
}
