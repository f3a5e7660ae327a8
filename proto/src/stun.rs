//! STUN binding: "what address do you see me at?" (RFC 8489).
//!
//! Machines ask from the UDP socket that carries their tunnels, so the answer is the address that peers may try. A
//! STUN message tells itself apart from a WireGuard one by its cookie ([`is_stun`]). Only what a binding needs is
//! here: a request without attributes, and an answer with XOR-MAPPED-ADDRESS; no authentication, since an address
//! believed wrongly costs a probe and no more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    metadata::Endpoint,
    wire::{Reader, WireError},
};

/// The fixed value in each message (RFC 8489, section 5).
const COOKIE: u32 = 0x2112_a442;

/// Bytes before the attributes.
pub const HEADER: usize = 20;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const PASSWORD_ALGORITHM: u16 = 0x001d;
const USERHASH: u16 = 0x001e;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;

/// From here on attributes may be ignored by who does not know them (RFC 8489, section 14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// What the fingerprint is XORed with (RFC 8489, section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// More attributes than any binding message has.
const MAX_ATTRIBUTES: usize = 32;

/// What ties an answer to its question. Random for each question.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// Whether a datagram is a STUN message rather than WireGuard's: it starts with two zero bits, has the cookie, and
/// states its own length.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    let Some(header) = datagram.first_chunk::<HEADER>() else {
        return false;
    };
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    header[0] < 0x40 && header[4..8] == COOKIE.to_be_bytes() && len % 4 == 0 && datagram.len() == HEADER + len
}

/// The question: a binding request without attributes.
#[must_use]
pub fn request(id: TransactionId) -> [u8; HEADER] {
    header(BINDING_REQUEST, 0, id)
}

/// Reads the answer to a question: its transaction and the address that the server saw.
///
/// # Errors
/// [`WireError`] if this is no success answer to a binding request with an address in it, or its fingerprint is wrong.
pub fn read_answer(datagram: &[u8]) -> Result<(TransactionId, Endpoint), WireError> {
    let message = Message::read(datagram)?;
    if message.kind != BINDING_SUCCESS {
        return Err(WireError::Invalid("STUN message type"));
    }
    let mut seen = None;
    for attribute in message.attributes() {
        let (kind, value) = attribute?;
        if kind == XOR_MAPPED_ADDRESS && seen.is_none() {
            seen = Some(unmask(value, message.id)?);
        }
    }
    let seen = seen.ok_or(WireError::Invalid("STUN answer without an address"))?;
    Ok((message.id, seen))
}

/// What a server answers to a datagram that came from `source`; `None` if it is no binding request. A request that
/// demands what we do not know is told so (error 420).
#[must_use]
pub fn answer(datagram: &[u8], source: Endpoint) -> Option<Vec<u8>> {
    let message = Message::read(datagram).ok().filter(|message| message.kind == BINDING_REQUEST)?;
    let mut unknown = Vec::new();
    for attribute in message.attributes() {
        let (kind, _) = attribute.ok()?;
        if kind < COMPREHENSION_OPTIONAL && !is_known(kind) {
            unknown.push(kind);
        }
    }
    let mut body = Vec::new();
    if unknown.is_empty() {
        put(&mut body, XOR_MAPPED_ADDRESS, &mask(source, message.id));
    } else {
        put(&mut body, ERROR_CODE, &[0, 0, 4, 20]);
        let unknown: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        put(&mut body, UNKNOWN_ATTRIBUTES, &unknown);
        return Some([&header(BINDING_ERROR, body.len(), message.id), &body[..]].concat());
    }
    Some([&header(BINDING_SUCCESS, body.len(), message.id), &body[..]].concat())
}

/// A message whose header and fingerprint are right.
struct Message<'a> {
    kind: u16,
    id: TransactionId,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(datagram: &'a [u8]) -> Result<Self, WireError> {
        if !is_stun(datagram) {
            return Err(WireError::Invalid("STUN message"));
        }
        let mut r = Reader::new(datagram);
        let kind = r.u16()?;
        r.raw(6)?;
        let id = TransactionId(r.array()?);
        let message = Self { kind, id, body: r.rest() };
        let mut count = 0;
        let mut at = HEADER;
        for attribute in message.attributes() {
            let (kind, value) = attribute?;
            count += 1;
            if count > MAX_ATTRIBUTES {
                return Err(WireError::TooLong);
            }
            if kind == FINGERPRINT {
                let expected = (crc32(&datagram[..at]) ^ FINGERPRINT_XOR).to_be_bytes();
                if value != expected || at + 8 != datagram.len() {
                    return Err(WireError::Invalid("STUN fingerprint"));
                }
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        Ok(message)
    }

    fn attributes(&self) -> Attributes<'a> {
        Attributes(Reader::new(self.body))
    }
}

struct Attributes<'a>(Reader<'a>);

impl<'a> Attributes<'a> {
    fn read(&mut self) -> Result<(u16, &'a [u8]), WireError> {
        let kind = self.0.u16()?;
        let len = usize::from(self.0.u16()?);
        let value = self.0.raw(len)?;
        self.0.raw(len.next_multiple_of(4) - len)?;
        Ok((kind, value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.rest().is_empty() {
            return None;
        }
        let attribute = self.read();
        if attribute.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(attribute)
    }
}

/// Attributes that a server of ours understands, be it only that it needs none of them: no request is authenticated.
fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        USERNAME
            | MESSAGE_INTEGRITY
            | REALM
            | NONCE
            | MESSAGE_INTEGRITY_SHA256
            | PASSWORD_ALGORITHM
            | USERHASH
            | XOR_MAPPED_ADDRESS
    )
}

fn header(kind: u16, len: usize, id: TransactionId) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..2].copy_from_slice(&kind.to_be_bytes());
    out[2..4].copy_from_slice(&u16::try_from(len).expect("our messages are short").to_be_bytes());
    out[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    out[8..].copy_from_slice(&id.0);
    out
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).expect("our attributes are short").to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The address attribute: a zero, the family (1 or 2), the port XOR the cookie's upper half, the address XOR cookie
/// and transaction (RFC 8489, section 14.2).
fn mask(endpoint: Endpoint, id: TransactionId) -> Vec<u8> {
    let port = endpoint.0.port() ^ (COOKIE >> 16) as u16;
    let mut out = vec![0, if endpoint.0.is_ipv4() { 1 } else { 2 }];
    out.extend_from_slice(&port.to_be_bytes());
    match endpoint.0.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&(ip.to_bits() ^ COOKIE).to_be_bytes()),
        IpAddr::V6(ip) => out.extend_from_slice(&(ip.to_bits() ^ mask_v6(id)).to_be_bytes()),
    }
    out
}

fn unmask(value: &[u8], id: TransactionId) -> Result<Endpoint, WireError> {
    let mut r = Reader::new(value);
    r.u8()?;
    let family = r.u8()?;
    let port = r.u16()? ^ (COOKIE >> 16) as u16;
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from_bits(r.u32()? ^ COOKIE)),
        2 => IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(r.array()?) ^ mask_v6(id))),
        _ => return Err(WireError::Invalid("address family")),
    };
    r.end()?;
    Ok(Endpoint(SocketAddr::new(ip, port)))
}

fn mask_v6(id: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&id.0);
    u128::from_be_bytes(mask)
}

/// CRC-32 as Ethernet's (ITU-T V.42); bit by bit, for a message now and then.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE;

    use super::*;

    /// RFC 5769, sections 2.1 to 2.3.
    const VECTORS: &str = include_str!("../vectors/stun_rfc5769.txt");

    fn vector(name: &str) -> Vec<u8> {
        let mut lines = VECTORS.lines().skip_while(|line| line.trim() != name).skip(1);
        let hex: String = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        HEXLOWER_PERMISSIVE.decode(hex.replace(' ', "").as_bytes()).unwrap()
    }

    fn endpoint(text: &str) -> Endpoint {
        Endpoint(text.parse().unwrap())
    }

    const ID: TransactionId = TransactionId(*b"twelve bytes");

    #[test]
    fn the_answers_of_rfc_5769_are_read() {
        let id = TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
        assert!(read_answer(&vector("ipv4-response")) == Ok((id, endpoint("192.0.2.1:32853"))));
        assert!(
            read_answer(&vector("ipv6-response"))
                == Ok((id, endpoint("[2001:db8:1234:5678:11:2233:4455:6677]:32853")))
        );
    }

    #[test]
    fn the_request_of_rfc_5769_is_told_which_attribute_we_do_not_know() {
        let answer = answer(&vector("request"), endpoint("192.0.2.1:1")).unwrap();
        assert_eq!(answer[..2], [0x01, 0x11]);
        assert_eq!(answer[HEADER..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0x00, 0x24, 0, 0], "PRIORITY");
    }

    #[test]
    fn a_wrong_fingerprint_is_refused() {
        for name in ["ipv4-response", "ipv6-response"] {
            let whole = vector(name);
            let fingerprint = whole.len() - 8;
            for i in (HEADER..fingerprint).chain(fingerprint + 2..whole.len()) {
                let mut changed = whole.clone();
                changed[i] ^= 1;
                assert!(read_answer(&changed).is_err(), "{name}, byte {i}");
            }
        }
    }

    #[test]
    fn a_question_is_answered_with_where_it_came_from() {
        for source in ["203.0.113.9:51820", "[2001:db8::1]:443", "0.0.0.0:0", "255.255.255.255:65535"] {
            let source = endpoint(source);
            let answer = answer(&request(ID), source).unwrap();
            assert!(is_stun(&answer));
            assert!(read_answer(&answer) == Ok((ID, source)));
        }
    }

    #[test]
    fn only_a_request_is_answered() {
        let source = endpoint("192.0.2.1:1");
        assert!(answer(&answer(&request(ID), source).unwrap(), source).is_none());
        assert!(answer(&vector("ipv4-response"), source).is_none());
        assert!(answer(&request(ID)[..19], source).is_none());
        assert!(answer(&[request(ID).as_slice(), &[0; 4]].concat(), source).is_none());
    }

    #[test]
    fn wireguard_messages_are_not_stun() {
        for kind in 1..=4 {
            let mut message = [0; 148];
            message[0] = kind;
            message[4..8].copy_from_slice(&COOKIE.to_be_bytes());
            assert!(!is_stun(&message), "type {kind}");
        }
    }
}
