//! How a request proves its right.
//!
//! What is signed covers the TLS exporter of the connection that carries the request, so a proof is worth nothing on
//! any other connection, and nobody in the middle can use it. A member signs with the epoch's member key, which all
//! members share: the coordinator learns that a member asks, not which.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    account::SessionKey,
    roster::EntryId,
    wire::{Reader, Wire, WireError, Writer},
};

/// The request header that carries a [`Proof`].
pub const AUTH_HEADER: &str = "tacet-auth";

/// By what right a request is made.
pub enum Auth<'a> {
    /// The epoch's member key.
    Member(&'a SigningKey),
    /// An invite's own key.
    Invite {
        /// The invite's opaque id.
        id: EntryId,
        /// The key that its secret seeds.
        key: &'a SigningKey,
    },
    /// A login.
    Session {
        /// The session's id, from [`super::LoginDone`].
        id: [u8; 16],
        /// The key that the login yielded.
        key: &'a SessionKey,
    },
}

/// What a proof covers.
pub struct RequestParts<'a> {
    /// The TLS exporter of the connection, 32 bytes under [`EXPORTER_LABEL`](super::EXPORTER_LABEL).
    pub exporter: &'a [u8; 32],
    /// `GET`, `POST` or `PUT`.
    pub method: &'a str,
    /// The path as sent, without scheme and host.
    pub path: &'a str,
    /// The whole body.
    pub body: &'a [u8],
}

/// A proof as it travels in [`AUTH_HEADER`], base64url without padding.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// Signed by the epoch's member key.
    Member {
        /// Ed25519.
        signature: [u8; 64],
    },
    /// Signed by an invite's key.
    Invite {
        /// The invite's opaque id.
        id: EntryId,
        /// Ed25519.
        signature: [u8; 64],
    },
    /// MACed by a session's key.
    Session {
        /// The session's id.
        id: [u8; 16],
        /// HMAC-SHA256.
        mac: [u8; 32],
    },
}

impl RequestParts<'_> {
    /// Domain, exporter, method and path with their lengths, SHA-256 of the body.
    fn message(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(b"tacet request v1\0");
        w.raw(self.exporter);
        w.text(self.method);
        w.text(self.path);
        w.raw(&Sha256::digest(self.body));
        w.finish()
    }
}

impl Auth<'_> {
    /// Proves the right for one request.
    #[must_use]
    pub fn prove(&self, request: &RequestParts<'_>) -> Proof {
        let message = request.message();
        match self {
            Self::Member(key) => Proof::Member { signature: key.sign(&message).to_bytes() },
            Self::Invite { id, key } => Proof::Invite { id: *id, signature: key.sign(&message).to_bytes() },
            Self::Session { id, key } => Proof::Session { id: *id, mac: key.mac(&message) },
        }
    }
}

impl Proof {
    /// Whether the signature of a member or an invite is by `key`. Always false for a session.
    #[must_use]
    pub fn signed_by(&self, key: &[u8; 32], request: &RequestParts<'_>) -> bool {
        let (Self::Member { signature } | Self::Invite { signature, .. }) = self else {
            return false;
        };
        VerifyingKey::from_bytes(key)
            .is_ok_and(|key| key.verify_strict(&request.message(), &Signature::from_bytes(signature)).is_ok())
    }

    /// Whether the MAC of a session is by `key`. Always false for the others.
    #[must_use]
    pub fn maced_by(&self, key: &SessionKey, request: &RequestParts<'_>) -> bool {
        let Self::Session { mac, .. } = self else {
            return false;
        };
        key.mac(&request.message()).ct_eq(mac).into()
    }

    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        BASE64URL_NOPAD.encode(&self.to_bytes())
    }

    /// Reads the header's value.
    ///
    /// # Errors
    /// [`WireError`] if it is not a proof.
    pub fn from_header(value: &[u8]) -> Result<Self, WireError> {
        let bytes = BASE64URL_NOPAD.decode(value).map_err(|_| WireError::Invalid("base64"))?;
        Self::from_bytes(&bytes)
    }
}

/// Version, kind (1 member, 2 invite, 3 session), id where there is one, signature or MAC.
impl Wire for Proof {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        match self {
            Self::Member { signature } => {
                w.u8(1);
                w.raw(signature);
            }
            Self::Invite { id, signature } => {
                w.u8(2);
                w.raw(&id.0);
                w.raw(signature);
            }
            Self::Session { id, mac } => {
                w.u8(3);
                w.raw(id);
                w.raw(mac);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        Ok(match r.u8()? {
            1 => Self::Member { signature: r.array()? },
            2 => Self::Invite { id: EntryId(r.array()?), signature: r.array()? },
            3 => Self::Session { id: r.array()?, mac: r.array()? },
            _ => return Err(WireError::Invalid("kind of proof")),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn a_proof_holds_for_its_own_request_and_connection_only() {
        let key = SigningKey::generate(&mut OsRng);
        let public = key.verifying_key().to_bytes();
        let request = RequestParts { exporter: &[1; 32], method: "POST", path: "/v1/x", body: b"body" };
        let proof = Auth::Member(&key).prove(&request);
        assert!(proof.signed_by(&public, &request));
        for other in [
            RequestParts { exporter: &[2; 32], ..parts(&request) },
            RequestParts { method: "PUT", ..parts(&request) },
            RequestParts { path: "/v1/y", ..parts(&request) },
            RequestParts { body: b"bodx", ..parts(&request) },
        ] {
            assert!(!proof.signed_by(&public, &other));
        }
        let stranger = SigningKey::generate(&mut OsRng).verifying_key().to_bytes();
        assert!(!proof.signed_by(&stranger, &request));
    }

    #[test]
    fn a_header_value_reads_back_and_a_cut_one_does_not() {
        let proof = Proof::Invite { id: EntryId([3; 16]), signature: [4; 64] };
        let header = proof.to_header();
        assert!(Proof::from_header(header.as_bytes()) == Ok(proof));
        assert!(Proof::from_header(&header.as_bytes()[..header.len() - 4]).is_err());
    }

    fn parts<'a>(of: &RequestParts<'a>) -> RequestParts<'a> {
        RequestParts { exporter: of.exporter, method: of.method, path: of.path, body: of.body }
    }
}
