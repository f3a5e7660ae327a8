//! Where things lie in IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293) and UDP (RFC 768) headers.

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Bytes of an IPv4 header without options.
pub(super) const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header without extensions.
pub(super) const IPV6_LEN: usize = 40;
/// Bytes of a TCP header without options.
pub(super) const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
pub(super) const UDP_LEN: usize = 8;

/// Offsets in an IPv4 header.
pub(super) mod ipv4 {
    pub(in crate::tun) const TOTAL_LEN: usize = 2;
    pub(in crate::tun) const ID: usize = 4;
    pub(in crate::tun) const FRAGMENT: usize = 6;
    pub(in crate::tun) const PROTOCOL: usize = 9;
    pub(in crate::tun) const CHECKSUM: usize = 10;
    pub(in crate::tun) const ADDRESSES: std::ops::Range<usize> = 12..20;
    /// In the byte at `FRAGMENT`: don't fragment.
    pub(in crate::tun) const DF: u8 = 0x40;
}

/// Offsets in an IPv6 header.
pub(super) mod ipv6 {
    pub(in crate::tun) const PAYLOAD_LEN: usize = 4;
    pub(in crate::tun) const NEXT_HEADER: usize = 6;
    pub(in crate::tun) const ADDRESSES: std::ops::Range<usize> = 8..40;
}

/// Offsets and flags in a TCP header.
pub(super) mod tcp {
    pub(in crate::tun) const SEQUENCE: usize = 4;
    pub(in crate::tun) const DATA_OFFSET: usize = 12;
    pub(in crate::tun) const FLAGS: usize = 13;
    pub(in crate::tun) const CHECKSUM: usize = 16;
    pub(in crate::tun) const FIN: u8 = 0x01;
    pub(in crate::tun) const PSH: u8 = 0x08;
    pub(in crate::tun) const ACK: u8 = 0x10;
    pub(in crate::tun) const ECE: u8 = 0x40;
    pub(in crate::tun) const CWR: u8 = 0x80;
}

/// Offsets in a UDP header.
pub(super) mod udp {
    pub(in crate::tun) const LEN: usize = 4;
    pub(in crate::tun) const CHECKSUM: usize = 6;
}

pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub(super) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
