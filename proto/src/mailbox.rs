//! Mailboxes: where a machine is reached at a relay.
//!
//! A mailbox's name is the machine's mailbox key blinded by (epoch, relay, day). Any member can compute it from the
//! roster and the epoch key; only the machine can open it, because only the machine has the blinded secret; and
//! without the epoch key two names of one machine, of two days or at two relays, cannot be linked.
//!
//! Blinding is that of Tor's v3 onion services (proposal 224, "Key derivation overview"): the key is multiplied by a
//! scalar made from a parameter, and the half of the expanded secret that makes nonces is hashed anew. The parameter
//! is our own: SHA-256 over a domain, the epoch's mailbox key, the relay's key and the day.
//!
//! To open a mailbox, its owner signs with the blinded key. The signature covers the relay and the connection, so a
//! relay cannot take it to another relay, nor to another connection.

use curve25519_dalek::{Scalar, edwards::CompressedEdwardsY, scalar::clamp_integer, traits::IsIdentity};
use ed25519_dalek::{
    Signature, SigningKey, VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use sha2::{Digest, Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    metadata::MailboxId,
    relay::{ExporterValue, Open},
};

const PARAMETER_DOMAIN: &[u8] = b"tacet mailbox blinding v1\0";
const OPEN_DOMAIN: &[u8] = b"tacet mailbox open v1\0";

/// What Tor prepends when it hashes the second half of the expanded secret (proposal 224).
const NONCE_DOMAIN: &[u8] = b"Derive temporary signing key hash input";

/// What a machine needs to open its mailboxes of one epoch, at every relay and on every day.
#[derive(Clone)]
pub struct MailboxSecret {
    key: SigningKey,
    epoch: Zeroizing<[u8; 32]>,
}

/// The secret of one mailbox: of one epoch, relay and day.
pub struct BlindedKey {
    secret: ExpandedSecretKey,
    public: VerifyingKey,
    relay: [u8; 32],
    day: u32,
}

impl MailboxSecret {
    /// `key` is the machine's mailbox key, `epoch_mailbox_key` what the epoch key yields for mailboxes.
    #[must_use]
    pub fn new(key: &SigningKey, epoch_mailbox_key: &[u8; 32]) -> Self {
        Self { key: key.clone(), epoch: Zeroizing::new(*epoch_mailbox_key) }
    }

    /// The mailbox at the relay with key `relay`, on unix day `day`.
    #[must_use]
    pub fn blind(&self, relay: &[u8; 32], day: u32) -> BlindedKey {
        let expanded = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(self.key.as_bytes())));
        let secret = blind_secret(&expanded, &parameter(&self.epoch, relay, day));
        let public = VerifyingKey::from(&secret);
        BlindedKey { secret, public, relay: *relay, day }
    }
}

impl BlindedKey {
    /// The mailbox's name.
    #[must_use]
    pub fn id(&self) -> MailboxId {
        MailboxId(self.public.to_bytes())
    }

    /// The unix day that it belongs to.
    #[must_use]
    pub fn day(&self) -> u32 {
        self.day
    }

    /// The request to open it on the connection that exports `exporter`.
    #[must_use]
    pub fn open(&self, exporter: &ExporterValue) -> Open {
        let mailbox = self.id();
        let message = open_message(&self.relay, exporter, mailbox, self.day);
        let proof = raw_sign::<Sha512>(&self.secret, &message, &self.public).to_bytes();
        Open { mailbox, day: self.day, proof }
    }
}

/// The mailbox of the machine whose mailbox public key is `machine`, at the relay with key `relay`, on unix day
/// `day`. `None` if `machine` is not a key that mailboxes can be made of.
#[must_use]
pub fn mailbox_of(
    machine: &[u8; 32],
    epoch_mailbox_key: &[u8; 32],
    relay: &[u8; 32],
    day: u32,
) -> Option<MailboxId> {
    blind_public(machine, &parameter(epoch_mailbox_key, relay, day)).map(MailboxId)
}

/// Whether the owner of the mailbox made this request, for the relay with key `relay`, on the connection that
/// exports `exporter`.
#[must_use]
pub fn verify_open(open: &Open, relay: &[u8; 32], exporter: &ExporterValue) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&open.mailbox.0) else {
        return false;
    };
    let message = open_message(relay, exporter, open.mailbox, open.day);
    key.verify_strict(&message, &Signature::from_bytes(&open.proof)).is_ok()
}

fn open_message(relay: &[u8; 32], exporter: &ExporterValue, mailbox: MailboxId, day: u32) -> Vec<u8> {
    [OPEN_DOMAIN, relay, exporter, &mailbox.0, &day.to_be_bytes()].concat()
}

fn parameter(epoch_mailbox_key: &[u8; 32], relay: &[u8; 32], day: u32) -> Zeroizing<[u8; 32]> {
    let digest = Sha256::new()
        .chain_update(PARAMETER_DOMAIN)
        .chain_update(epoch_mailbox_key)
        .chain_update(relay)
        .chain_update(day.to_be_bytes())
        .finalize();
    Zeroizing::new(digest.into())
}

/// Tor's `a' = h a` and `RH' = H(domain, RH)`, over an expanded secret key; `h` is the parameter, clamped.
fn blind_secret(expanded: &[u8; 64], parameter: &[u8; 32]) -> ExpandedSecretKey {
    let own = ExpandedSecretKey::from_bytes(expanded);
    let mut factor = Scalar::from_bytes_mod_order(clamp_integer(*parameter));
    let scalar = own.scalar * factor;
    factor.zeroize();
    let nonces: Zeroizing<[u8; 64]> = Zeroizing::new(
        Sha512::new().chain_update(NONCE_DOMAIN).chain_update(own.hash_prefix).finalize().into(),
    );
    let mut hash_prefix = [0; 32];
    hash_prefix.copy_from_slice(&nonces[..32]);
    let blinded = ExpandedSecretKey { scalar, hash_prefix };
    hash_prefix.zeroize();
    blinded
}

/// Tor's `A' = h A`. The clamped factor is a multiple of 8, which clears what is not of prime order.
fn blind_public(public: &[u8; 32], parameter: &[u8; 32]) -> Option<[u8; 32]> {
    let point = CompressedEdwardsY(*public).decompress()?.mul_clamped(*parameter);
    (!point.is_identity()).then(|| point.compress().to_bytes())
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// Tor's own vectors: `src/test/ed25519_vectors.inc` of the Tor sources.
    const TOR: &str = include_str!("../vectors/ed25519_blinding_tor.txt");

    const RELAY: [u8; 32] = [2; 32];

    fn secret(machine: u8, epoch: u8) -> MailboxSecret {
        MailboxSecret::new(&SigningKey::from_bytes(&[machine; 32]), &[epoch; 32])
    }

    fn public(machine: u8) -> [u8; 32] {
        SigningKey::from_bytes(&[machine; 32]).verifying_key().to_bytes()
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn blinding_agrees_with_tors_vectors() {
        let mut count = 0;
        for line in TOR.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [seed, expanded, own, parameter, blinded_secret, blinded_public] = fields[..] else {
                panic!("a vector has six fields");
            };
            assert_eq!(<[u8; 64]>::from(Sha512::digest(hex::<32>(seed)))[32..], hex::<64>(expanded)[32..]);
            let secret = blind_secret(&hex(expanded), &hex(parameter));
            assert_eq!(secret.scalar.to_bytes(), hex::<64>(blinded_secret)[..32]);
            assert_eq!(secret.hash_prefix, hex::<64>(blinded_secret)[32..]);
            assert_eq!(VerifyingKey::from(&secret).to_bytes(), hex(blinded_public));
            assert_eq!(blind_public(&hex(own), &hex(parameter)), Some(hex(blinded_public)));
            count += 1;
        }
        assert_eq!(count, 10);
    }

    #[test]
    fn any_member_computes_the_mailbox_that_its_owner_opens() {
        for day in [0, 20_000, u32::MAX] {
            let owned = secret(1, 9).blind(&RELAY, day);
            assert!(mailbox_of(&public(1), &[9; 32], &RELAY, day) == Some(owned.id()));
            assert!(verify_open(&owned.open(&[5; 32]), &RELAY, &[5; 32]));
        }
    }

    #[test]
    fn the_parameter_is_made_as_the_vector_says() {
        // Keys of one repeated byte each: mailbox secret 1, epoch 9, relay 2; day 20,000. Made with Python's hashlib
        // and the curve's formulas, apart from this code.
        let expected = hex("14cfd288ef2d5d2862143811354001ab3e93c2892b8f3a6a6bb732fcd49a564c");
        assert_eq!(secret(1, 9).blind(&RELAY, 20_000).id().0, expected);
    }

    #[test]
    fn mailboxes_differ_by_machine_epoch_relay_and_day() {
        let ids = [
            secret(1, 9).blind(&RELAY, 1).id(),
            secret(2, 9).blind(&RELAY, 1).id(),
            secret(1, 8).blind(&RELAY, 1).id(),
            secret(1, 9).blind(&[3; 32], 1).id(),
            secret(1, 9).blind(&RELAY, 2).id(),
        ];
        for (i, a) in ids.iter().enumerate() {
            assert!(ids[..i].iter().all(|b| a != b), "id {i}");
        }
    }

    #[test]
    fn a_proof_counts_for_its_mailbox_relay_connection_and_day_alone() {
        let open = secret(1, 9).blind(&RELAY, 7).open(&[5; 32]);
        assert!(verify_open(&open, &RELAY, &[5; 32]));
        assert!(!verify_open(&open, &[3; 32], &[5; 32]));
        assert!(!verify_open(&open, &RELAY, &[6; 32]));
        assert!(!verify_open(&Open { day: 8, ..open.clone() }, &RELAY, &[5; 32]));
        let other = secret(2, 9).blind(&RELAY, 7).id();
        assert!(!verify_open(&Open { mailbox: other, ..open }, &RELAY, &[5; 32]));
    }

    #[test]
    fn a_key_of_small_order_makes_no_mailbox() {
        let identity = CompressedEdwardsY({
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        });
        assert!(mailbox_of(&identity.0, &[9; 32], &RELAY, 1).is_none());
        assert!(mailbox_of(&[0; 32], &[9; 32], &RELAY, 1).is_none());
    }
}
