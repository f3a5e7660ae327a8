//! The frames and their codec.
//!
//! Data frames are read in place ([`Frame::decode`] borrows the payload) and written straight into the buffer that
//! goes to the socket ([`Frame::encode`]), so forwarding costs one copy.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{Credential, ExporterValue};
use crate::{
    metadata::MailboxId,
    wire::{Reader, Wire, WireError},
};

/// Bytes in front of a frame's body: two of length, one of type.
pub const HEADER: usize = 3;

/// The longest frame, header included.
pub const MAX_FRAME: usize = 2 + u16::MAX as usize;

/// The longest payload: what fits a frame beside a mailbox and a handle, rounded down.
pub const MAX_PAYLOAD: usize = 65_000;

/// The version byte of both hellos.
pub const HELLO_VERSION: u8 = 1;

const HELLO_DOMAIN: &[u8] = b"tacet relay hello v1\0";

const RELAY_HELLO: u8 = 1;
const CLIENT_HELLO: u8 = 2;
const WELCOME: u8 = 3;
const REFUSED: u8 = 4;
const OPEN: u8 = 5;
const OPENED: u8 = 6;
const CLOSE: u8 = 7;
const SEND_MAILBOX: u8 = 8;
const SEND_HANDLE: u8 = 9;
const RECV_MAILBOX: u8 = 10;
const RECV_HANDLE: u8 = 11;
const GONE: u8 = 12;
const PING: u8 = 13;
const PONG: u8 = 14;
const LEAVING: u8 = 15;

/// The other end of a pair of connections. Random, and of use to that pair alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// Where a payload goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To whoever holds this mailbox open.
    Mailbox(MailboxId),
    /// To the other end of this handle.
    Handle(Handle),
}

/// The relay's first words.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayHello {
    /// The relay's Ed25519 key.
    pub key: [u8; 32],
    /// The unix day by the relay's clock.
    pub day: u32,
    signature: [u8; 64],
}

/// A request to receive what is sent to a mailbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Open {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The unix day that it belongs to.
    pub day: u32,
    /// The signature by the mailbox's own key ([`crate::mailbox::verify_open`]).
    pub proof: [u8; 64],
}

/// Why a relay ends a connection or refuses a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The credential was not issued for this relay, or its month is over or not yet begun.
    #[error("the relay does not accept this network's credential; the coordinator issues a new one")]
    Credential,
    /// The network has as many connections or mailboxes as one network may have.
    #[error("the relay serves no more connections of this network")]
    Limit,
    /// The proof of ownership does not fit the mailbox, the relay or the connection.
    #[error("the relay does not accept the proof for a mailbox")]
    Proof,
    /// The mailbox's day is too far from the relay's.
    #[error("the relay's day is another: check this machine's clock")]
    Day,
    /// The relay speaks another version or did not understand.
    #[error("the relay did not understand: update the older of the two")]
    Protocol,
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
}

/// One frame. It borrows its payload.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The relay names itself.
    RelayHello(RelayHello),
    /// The machine shows its network's credential.
    ClientHello(Credential),
    /// The credential is good.
    Welcome,
    /// The relay refuses, and closes after it.
    Refused(Refusal),
    /// Listen to a mailbox.
    Open(Open),
    /// The mailbox is open.
    Opened(MailboxId),
    /// Listen to it no longer.
    Close(MailboxId),
    /// Forward a payload.
    Send {
        /// Where to.
        to: To,
        /// What.
        payload: &'a [u8],
    },
    /// A payload has come.
    Recv {
        /// The mailbox that it was sent to; none if it was sent to a handle.
        mailbox: Option<MailboxId>,
        /// What to answer to.
        handle: Handle,
        /// What came.
        payload: &'a [u8],
    },
    /// The other end of a handle has left.
    Gone(Handle),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// The relay stops in a moment: it forwards still, and what has another way should take it.
    Leaving,
    /// A frame of a later version, to be skipped.
    Unknown,
}

/// The length of the frame at the front of `buffer`, header included, if it is there whole.
///
/// # Errors
/// [`WireError::Invalid`] if the length cannot be: a frame has at least its type.
pub fn peek(buffer: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(len) = buffer.first_chunk::<2>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*len));
    if len == 0 {
        return Err(WireError::Invalid("frame length"));
    }
    Ok((buffer.len() >= 2 + len).then_some(2 + len))
}

impl RelayHello {
    /// The hello of the relay that holds `key`, on the connection that exports `exporter`, on `day`.
    #[must_use]
    pub fn sign(key: &SigningKey, exporter: &ExporterValue, day: u32) -> Self {
        let signature = key.sign(&hello_message(exporter, day)).to_bytes();
        Self { key: key.verifying_key().to_bytes(), day, signature }
    }

    /// Whether the relay named `expected` said this on the connection that exports `exporter`.
    #[must_use]
    pub fn verify(&self, expected: &[u8; 32], exporter: &ExporterValue) -> bool {
        if self.key != *expected {
            return false;
        }
        let Ok(key) = VerifyingKey::from_bytes(expected) else {
            return false;
        };
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&hello_message(exporter, self.day), &signature).is_ok()
    }
}

fn hello_message(exporter: &ExporterValue, day: u32) -> Vec<u8> {
    let mut message = HELLO_DOMAIN.to_vec();
    message.extend_from_slice(exporter);
    message.extend_from_slice(&day.to_be_bytes());
    message
}

impl<'a> Frame<'a> {
    /// Appends the whole frame to `out`.
    ///
    /// # Panics
    /// If a payload is longer than [`MAX_PAYLOAD`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::RelayHello(hello) => {
                put(
                    out,
                    RELAY_HELLO,
                    &[&[HELLO_VERSION], &hello.key, &hello.day.to_be_bytes(), &hello.signature],
                );
            }
            Self::ClientHello(credential) => {
                put(out, CLIENT_HELLO, &[&[HELLO_VERSION], &credential.to_bytes()]);
            }
            Self::Welcome => put(out, WELCOME, &[]),
            Self::Refused(refusal) => put(out, REFUSED, &[&[refusal.code()]]),
            Self::Open(open) => put(out, OPEN, &[&open.mailbox.0, &open.day.to_be_bytes(), &open.proof]),
            Self::Opened(mailbox) => put(out, OPENED, &[&mailbox.0]),
            Self::Close(mailbox) => put(out, CLOSE, &[&mailbox.0]),
            Self::Send { to: To::Mailbox(mailbox), payload } => {
                put(out, SEND_MAILBOX, &[&mailbox.0, payload]);
            }
            Self::Send { to: To::Handle(handle), payload } => {
                put(out, SEND_HANDLE, &[&handle.0.to_be_bytes(), payload]);
            }
            Self::Recv { mailbox: Some(mailbox), handle, payload } => {
                put(out, RECV_MAILBOX, &[&mailbox.0, &handle.0.to_be_bytes(), payload]);
            }
            Self::Recv { mailbox: None, handle, payload } => {
                put(out, RECV_HANDLE, &[&handle.0.to_be_bytes(), payload]);
            }
            Self::Gone(handle) => put(out, GONE, &[&handle.0.to_be_bytes()]),
            Self::Ping => put(out, PING, &[]),
            Self::Pong => put(out, PONG, &[]),
            Self::Leaving => put(out, LEAVING, &[]),
            Self::Unknown => {}
        }
    }

    /// The frame alone, as bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// The length of a [`Frame::Send`] to `to` with a payload of so many bytes, header included.
    #[must_use]
    pub fn send_len(to: To, payload: usize) -> usize {
        let address = match to {
            To::Mailbox(_) => 32,
            To::Handle(_) => 8,
        };
        HEADER + address + payload
    }

    /// The length of the [`Frame::Recv`] that such a send becomes, header included.
    #[must_use]
    pub fn recv_len(to: To, payload: usize) -> usize {
        let address = match to {
            To::Mailbox(_) => 32 + 8,
            To::Handle(_) => 8,
        };
        HEADER + address + payload
    }

    /// Reads the frame that fills `frame`, header included ([`peek`] says where it ends). Bytes after what this
    /// version knows of a control frame are skipped.
    ///
    /// # Errors
    /// [`WireError`] if the bytes are not a frame.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(frame);
        if usize::from(r.u16()?) + 2 != frame.len() {
            return Err(WireError::Invalid("frame length"));
        }
        Ok(match r.u8()? {
            RELAY_HELLO => {
                r.version(HELLO_VERSION)?;
                Self::RelayHello(RelayHello { key: r.array()?, day: r.u32()?, signature: r.array()? })
            }
            CLIENT_HELLO => {
                r.version(HELLO_VERSION)?;
                Self::ClientHello(Credential::decode(&mut r)?)
            }
            WELCOME => Self::Welcome,
            REFUSED => Self::Refused(Refusal::from_code(r.u8()?)),
            OPEN => {
                Self::Open(Open { mailbox: MailboxId::decode(&mut r)?, day: r.u32()?, proof: r.array()? })
            }
            OPENED => Self::Opened(MailboxId::decode(&mut r)?),
            CLOSE => Self::Close(MailboxId::decode(&mut r)?),
            SEND_MAILBOX => {
                let to = To::Mailbox(MailboxId::decode(&mut r)?);
                Self::Send { to, payload: payload(&r)? }
            }
            SEND_HANDLE => {
                let to = To::Handle(Handle(r.u64()?));
                Self::Send { to, payload: payload(&r)? }
            }
            RECV_MAILBOX => {
                let mailbox = Some(MailboxId::decode(&mut r)?);
                Self::Recv { mailbox, handle: Handle(r.u64()?), payload: payload(&r)? }
            }
            RECV_HANDLE => Self::Recv { mailbox: None, handle: Handle(r.u64()?), payload: payload(&r)? },
            GONE => Self::Gone(Handle(r.u64()?)),
            PING => Self::Ping,
            PONG => Self::Pong,
            LEAVING => Self::Leaving,
            _ => Self::Unknown,
        })
    }
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Self::Credential => 1,
            Self::Limit => 2,
            Self::Proof => 3,
            Self::Day => 4,
            Self::Protocol => 5,
            Self::Stopping => 6,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Credential,
            2 => Self::Limit,
            3 => Self::Proof,
            4 => Self::Day,
            6 => Self::Stopping,
            _ => Self::Protocol,
        }
    }
}

fn payload<'a>(r: &Reader<'a>) -> Result<&'a [u8], WireError> {
    let payload = r.rest();
    if payload.len() > MAX_PAYLOAD { Err(WireError::TooLong) } else { Ok(payload) }
}

fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let len = u16::try_from(len).expect("a payload is at most MAX_PAYLOAD bytes");
    out.reserve(2 + usize::from(len));
    out.extend_from_slice(&len.to_be_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::relay::CredentialIssuer;

    const VECTORS: &str = include_str!("../../vectors/relay_frames.txt");

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    #[test]
    fn every_frame_comes_back_as_it_was_sent() {
        let credential = CredentialIssuer::generate(&mut rand_core::OsRng).issue(&[1; 32], 24_000);
        let frames = [
            Frame::RelayHello(RelayHello::sign(&key(), &[1; 32], 20_000)),
            Frame::ClientHello(credential),
            Frame::Welcome,
            Frame::Refused(Refusal::Day),
            Frame::Open(Open { mailbox: MailboxId([3; 32]), day: 9, proof: [4; 64] }),
            Frame::Opened(MailboxId([3; 32])),
            Frame::Close(MailboxId([3; 32])),
            Frame::Send { to: To::Mailbox(MailboxId([5; 32])), payload: b"mailbox" },
            Frame::Send { to: To::Handle(Handle(u64::MAX)), payload: &[6; MAX_PAYLOAD] },
            Frame::Recv { mailbox: Some(MailboxId([8; 32])), handle: Handle(1), payload: &[9; MAX_PAYLOAD] },
            Frame::Recv { mailbox: None, handle: Handle(1), payload: b"" },
            Frame::Gone(Handle(2)),
            Frame::Ping,
            Frame::Pong,
            Frame::Leaving,
        ];
        for frame in frames {
            let bytes = frame.to_vec();
            assert!(peek(&bytes) == Ok(Some(bytes.len())));
            assert!(peek(&bytes[..bytes.len() - 1]) == Ok(None));
            assert!(Frame::decode(&bytes) == Ok(frame));
        }
    }

    #[test]
    fn frames_are_written_as_the_vectors_say() {
        let mailbox = MailboxId([0x11; 32]);
        let handle = Handle(0x0102_0304_0506_0708);
        let issuer = CredentialIssuer::from_bytes(&[&[1][..], &[3; 32], &[4; 32]].concat()).unwrap();
        let payload = b"hi";
        let frames = [
            ("client-hello", Frame::ClientHello(issuer.issue(&[5; 32], 24_311))),
            ("welcome", Frame::Welcome),
            ("refused-day", Frame::Refused(Refusal::Day)),
            ("open", Frame::Open(Open { mailbox, day: 20_000, proof: [0x22; 64] })),
            ("opened", Frame::Opened(mailbox)),
            ("close", Frame::Close(mailbox)),
            ("send-mailbox", Frame::Send { to: To::Mailbox(mailbox), payload }),
            ("send-handle", Frame::Send { to: To::Handle(handle), payload }),
            ("recv-mailbox", Frame::Recv { mailbox: Some(mailbox), handle, payload }),
            ("recv-handle", Frame::Recv { mailbox: None, handle, payload }),
            ("gone", Frame::Gone(handle)),
            ("ping", Frame::Ping),
            ("pong", Frame::Pong),
            ("leaving", Frame::Leaving),
        ];
        let written: String = frames
            .iter()
            .map(|(name, frame)| format!("{name} {}\n", HEXLOWER.encode(&frame.to_vec())))
            .collect();
        let vectors: String =
            VECTORS.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        assert_eq!(written, vectors);
    }

    proptest! {
        #[test]
        fn any_stream_of_payloads_is_cut_where_it_was_joined(
            payloads in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            kept in 0..100_usize,
        ) {
            let mut stream = Vec::new();
            for (handle, payload) in &payloads {
                Frame::Send { to: To::Handle(Handle(*handle)), payload }.encode(&mut stream);
            }
            stream.truncate(stream.len() * kept / 99);
            let mut read = Vec::new();
            let mut rest = &stream[..];
            while let Some(len) = peek(rest).unwrap() {
                let Ok(Frame::Send { to: To::Handle(handle), payload }) = Frame::decode(&rest[..len]) else {
                    panic!("a send was written");
                };
                read.push((handle.0, payload.to_vec()));
                rest = &rest[len..];
            }
            prop_assert!(payloads.starts_with(&read));
            prop_assert!(kept < 99 || read.len() == payloads.len());
        }

        #[test]
        fn no_bytes_break_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some(len)) = peek(&bytes) {
                let _ = Frame::decode(&bytes[..len]);
            }
            let _ = Frame::decode(&bytes);
        }
    }

    #[test]
    fn the_stated_lengths_are_the_lengths() {
        let handle = Handle(0);
        let box_ = MailboxId([0; 32]);
        for (to, mailbox) in [(To::Mailbox(box_), Some(box_)), (To::Handle(handle), None)] {
            let payload = &[0; 77];
            assert_eq!(Frame::Send { to, payload }.to_vec().len(), Frame::send_len(to, 77));
            assert_eq!(Frame::Recv { mailbox, handle, payload }.to_vec().len(), Frame::recv_len(to, 77));
        }
    }

    #[test]
    fn a_hello_counts_for_its_relay_its_connection_and_its_day_alone() {
        let relay = key().verifying_key().to_bytes();
        let hello = RelayHello::sign(&key(), &[1; 32], 20_000);
        assert!(hello.verify(&relay, &[1; 32]));
        assert!(!hello.verify(&relay, &[2; 32]));
        assert!(!hello.verify(&SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes(), &[1; 32]));
        assert!(!RelayHello { day: 20_001, ..hello }.verify(&relay, &[1; 32]));
    }

    #[test]
    fn a_frame_of_a_later_version_is_skipped_and_a_later_hello_refused_in_plain_words() {
        assert!(Frame::decode(&[0, 2, 200, 0]) == Ok(Frame::Unknown));
        let mut hello = Frame::RelayHello(RelayHello::sign(&key(), &[1; 32], 1)).to_vec();
        hello[HEADER] = 2;
        assert!(Frame::decode(&hello).err() == Some(WireError::Newer { found: 2, known: 1 }));
    }

    #[test]
    fn a_frame_without_a_type_is_refused() {
        assert!(peek(&[0, 0]) == Err(WireError::Invalid("frame length")));
    }
}
