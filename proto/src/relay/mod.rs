//! What a machine and a relay say to each other.
//!
//! A relay forwards ciphertext between mailboxes ([`crate::mailbox`]). The connection is TLS, then an HTTP Upgrade
//! to [`UPGRADE`] at [`PATH`], then frames in both directions:
//!
//! ```text
//! [length: 2 bytes, big-endian, of what follows][type: 1 byte][body]
//! ```
//!
//! | frame | from | body |
//! |---|---|---|
//! | [`Frame::RelayHello`] | relay, first | version, relay key, day, signature over the TLS exporter and the day |
//! | [`Frame::ClientHello`] | machine, second | version, credential |
//! | [`Frame::Welcome`], [`Frame::Refused`] | relay | nothing; a reason, after which the relay closes |
//! | [`Frame::Open`] | machine | mailbox, day, proof of ownership; the newest wins |
//! | [`Frame::Opened`] | relay | mailbox: it is listening now |
//! | [`Frame::Close`] | machine | mailbox that it no longer listens to |
//! | [`Frame::Send`] | machine | mailbox or handle, payload |
//! | [`Frame::Recv`] | relay | mailbox it came to (if it was sent to one), handle to answer to, payload |
//! | [`Frame::Gone`] | relay | a handle whose other end has left |
//! | [`Frame::Ping`], [`Frame::Pong`] | machine, relay | nothing |
//! | [`Frame::Leaving`] | relay | nothing: it stops in a moment, and forwards until then |
//!
//! A frame of a type that one side does not know is skipped ([`Frame::Unknown`]).
//!
//! The relay's identity is its Ed25519 key, signed into the roster; its TLS certificate may be anything. The
//! signature in its first frame covers a value exported from the TLS session ([`EXPORTER_LABEL`]), so somebody in
//! the middle, whose two TLS sessions export two different values, has nothing to forward. The same value in a
//! mailbox's proof keeps a proof from being played to another connection.
//!
//! A handle is random and belongs to one pair of connections: both ends use it, nobody else can. A machine that
//! sends to a mailbox learns the handle with the answer and may use it from then on, which is shorter.
//!
//! Admission is by [`Credential`]: a bearer proof, made by the coordinator for a network and a month, that names
//! neither the network nor a machine.

mod credential;
mod frame;
mod key_file;
mod patience;

pub use credential::{AdmissionKey, Credential, CredentialIssuer, Pseudonym, month_of};
pub use frame::{
    Frame, HEADER, HELLO_VERSION, Handle, MAX_FRAME, MAX_PAYLOAD, Open, Refusal, RelayHello, To, peek,
};
pub use key_file::{KeyFileError, RelayKeyFile};
pub use patience::{LOOK_AGAIN, patience};

/// The protocol name in the HTTP `Upgrade` header.
pub const UPGRADE: &str = "tacet-relay";

/// The path of the upgrade request.
pub const PATH: &str = "/v1/relay";

/// The label of the value exported from a TLS session (RFC 8446, section 7.5), without context.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL tacet v1";

/// The value exported from the TLS session that carries a connection: 32 bytes that both of its ends know and that
/// differ for every other session.
pub type ExporterValue = [u8; 32];
