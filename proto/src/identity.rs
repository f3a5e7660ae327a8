//! Who is who: a machine's four key pairs, the network's root, and the name that follows from the root.
//!
//! A machine's keys are made on it and never leave it. The root is what the paper holds: a 32-byte seed of an
//! Ed25519 and an X-Wing key; the network is named by the hash of both public keys, so whoever knows the name can
//! check everything that descends from the root. No address or public identifier is derived from a machine's keys.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRngCore;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    seal::{SealingPublic, SealingSecret, derive, hash, random},
    wire::{Reader, Wire, WireError, Writer},
};

/// The format of [`MachineKeys`] in a state directory.
const KEYS_VERSION: u8 = 1;

/// A machine's four secrets. Control keeps identity and sealing; the data path is given the WireGuard key alone.
pub struct MachineKeys {
    identity: SigningKey,
    wireguard: StaticSecret,
    /// Asked for with every peer.
    wireguard_public: PublicKey,
    sealing: SealingSecret,
    mailbox: SigningKey,
}

/// The public halves of [`MachineKeys`].
#[derive(Clone, PartialEq, Eq)]
pub struct MachineIdentity {
    /// Ed25519: signs the machine's join record and, if it is a signer, rosters.
    pub identity: [u8; 32],
    /// X25519: the WireGuard peer key.
    pub wireguard: [u8; 32],
    /// X-Wing: epoch keys are sealed to it.
    pub sealing: SealingPublic,
    /// Ed25519: blinded by epoch, relay and day it names the machine's mailboxes.
    pub mailbox: [u8; 32],
}

/// A network's name: the hash of its root's public keys. A secret of its members.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId(pub [u8; 32]);

/// The root's secrets, both from one seed; erased after `network create`, back only from the paper.
pub struct RootKeys {
    seed: RootSeed,
    signing: SigningKey,
    sealing: SealingSecret,
}

/// The seed that the recovery key carries.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct RootSeed(pub [u8; 32]);

/// The root's public keys; the network is named by their hash.
#[derive(Clone, PartialEq, Eq)]
pub struct RootPublic {
    /// Ed25519: signs the first generation of each recovery count.
    pub signing: [u8; 32],
    /// X-Wing: every epoch key is sealed to it too.
    pub sealing: SealingPublic,
}

/// SHA-256 of the `SubjectPublicKeyInfo` of a coordinator's long-lived key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl MachineKeys {
    /// Four new key pairs.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        Self::new(
            SigningKey::from_bytes(&Zeroizing::new(random(rng))),
            StaticSecret::from(random(rng)),
            SealingSecret::generate(rng),
            SigningKey::from_bytes(&Zeroizing::new(random(rng))),
        )
    }

    fn new(
        identity: SigningKey,
        wireguard: StaticSecret,
        sealing: SealingSecret,
        mailbox: SigningKey,
    ) -> Self {
        Self { identity, wireguard_public: PublicKey::from(&wireguard), wireguard, sealing, mailbox }
    }

    /// The public halves. Computed anew, which takes some hundred microseconds.
    #[must_use]
    pub fn public(&self) -> MachineIdentity {
        MachineIdentity {
            identity: self.identity.verifying_key().to_bytes(),
            wireguard: self.wireguard_public(),
            sealing: self.sealing.public(),
            mailbox: self.mailbox.verifying_key().to_bytes(),
        }
    }

    /// The Ed25519 key that signs records and rosters.
    #[must_use]
    pub fn identity(&self) -> &SigningKey {
        &self.identity
    }

    /// The public half of [`MachineKeys::identity`], by which rosters name this machine.
    #[must_use]
    pub fn identity_public(&self) -> [u8; 32] {
        self.identity.verifying_key().to_bytes()
    }

    /// The X25519 key of the WireGuard sessions.
    #[must_use]
    pub fn wireguard(&self) -> &StaticSecret {
        &self.wireguard
    }

    /// The public half of [`MachineKeys::wireguard`].
    #[must_use]
    pub fn wireguard_public(&self) -> [u8; 32] {
        self.wireguard_public.to_bytes()
    }

    /// The X-Wing key that epoch keys are sealed to.
    #[must_use]
    pub fn sealing(&self) -> &SealingSecret {
        &self.sealing
    }

    /// The Ed25519 key that is blinded into mailbox keys.
    #[must_use]
    pub fn mailbox(&self) -> &SigningKey {
        &self.mailbox
    }
}

/// Version, identity seed, WireGuard secret, sealing seed, mailbox seed: 129 bytes, for the state directory alone.
impl Wire for MachineKeys {
    fn encode(&self, w: &mut Writer) {
        w.version(KEYS_VERSION);
        w.raw(self.identity.as_bytes());
        w.raw(self.wireguard.as_bytes());
        w.raw(self.sealing.seed());
        w.raw(self.mailbox.as_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(KEYS_VERSION)?;
        Ok(Self::new(
            SigningKey::from_bytes(&Zeroizing::new(r.array()?)),
            StaticSecret::from(r.array::<32>()?),
            SealingSecret::from_seed(r.array()?),
            SigningKey::from_bytes(&Zeroizing::new(r.array()?)),
        ))
    }
}

/// Identity, WireGuard, sealing, mailbox: 1312 bytes. Ed25519 keys must be points of large order.
impl Wire for MachineIdentity {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.identity);
        w.raw(&self.wireguard);
        self.sealing.encode(w);
        w.raw(&self.mailbox);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let identity = verifying_bytes(r.array()?)?;
        let wireguard = r.array()?;
        let sealing = SealingPublic::decode(r)?;
        Ok(Self { identity, wireguard, sealing, mailbox: verifying_bytes(r.array()?)? })
    }
}

impl NetworkId {
    /// 64 lower-case hexadecimal digits: the network in a coordinator's paths.
    #[must_use]
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// Reads what [`NetworkId::to_hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// 32 bytes.
impl Wire for NetworkId {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

impl RootKeys {
    /// The keys of a new network.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        Self::from_seed(&RootSeed(random(rng)))
    }

    /// The keys of the paper's seed.
    #[must_use]
    pub fn from_seed(seed: &RootSeed) -> Self {
        Self {
            seed: seed.clone(),
            signing: SigningKey::from_bytes(&derive(&seed.0, "root signing", b"")),
            sealing: SealingSecret::from_seed(*derive(&seed.0, "root sealing", b"")),
        }
    }

    /// The public halves.
    #[must_use]
    pub fn public(&self) -> RootPublic {
        RootPublic { signing: self.signing.verifying_key().to_bytes(), sealing: self.sealing.public() }
    }

    /// The seed, for the paper.
    #[must_use]
    pub fn seed(&self) -> &RootSeed {
        &self.seed
    }

    /// The key that opens every epoch.
    #[must_use]
    pub fn sealing(&self) -> &SealingSecret {
        &self.sealing
    }

    /// The key that signs the first generation of a recovery count.
    #[must_use]
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }
}

impl RootPublic {
    /// The name of the network that this is the root of.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        NetworkId(hash("network", &[&self.signing, self.sealing.as_bytes()]))
    }
}

/// Signing key, sealing key: 1248 bytes.
impl Wire for RootPublic {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.signing);
        self.sealing.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { signing: r.array()?, sealing: SealingPublic::decode(r)? })
    }
}

/// 32 bytes.
impl Wire for Pin {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

/// An Ed25519 signature over `b"tacet <what> v1\0"` and `message`.
#[must_use]
pub fn sign(key: &SigningKey, what: &str, message: &[u8]) -> [u8; 64] {
    let mut signed = crate::seal::domain(what);
    signed.extend_from_slice(message);
    key.sign(&signed).to_bytes()
}

/// Whether `signature` is what [`sign`] made with `key`'s secret half. Weak keys and malleable signatures do not count.
#[must_use]
pub fn verify(key: &[u8; 32], what: &str, message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else {
        return false;
    };
    let mut signed = crate::seal::domain(what);
    signed.extend_from_slice(message);
    key.verify_strict(&signed, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

/// Refuses bytes that are no Ed25519 point, or one of small order.
pub(crate) fn verifying_bytes(bytes: [u8; 32]) -> Result<[u8; 32], WireError> {
    match VerifyingKey::from_bytes(&bytes) {
        Ok(key) if !key.is_weak() => Ok(bytes),
        _ => Err(WireError::Invalid("Ed25519 key")),
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn keys_come_back_from_the_state_directory_as_they_were() {
        let keys = MachineKeys::generate(&mut OsRng);
        let back = MachineKeys::from_bytes(&keys.to_bytes()).unwrap();
        assert!(back.public() == keys.public());
    }

    #[test]
    fn keys_of_a_newer_format_are_refused_in_plain_words() {
        let mut bytes = MachineKeys::generate(&mut OsRng).to_bytes();
        bytes[0] = 2;
        assert!(MachineKeys::from_bytes(&bytes).err() == Some(WireError::Newer { found: 2, known: 1 }));
    }

    #[test]
    fn the_paper_names_its_network() {
        let root = RootKeys::generate(&mut OsRng);
        let again = RootKeys::from_seed(root.seed());
        assert!(again.public().network_id() == root.public().network_id());
        assert!(RootKeys::generate(&mut OsRng).public().network_id() != root.public().network_id());
    }

    #[test]
    fn a_network_in_hex_reads_back_and_nothing_else_does() {
        let id = NetworkId(random(&mut OsRng));
        assert!(NetworkId::from_hex(&id.to_hex()) == Some(id));
        assert!(NetworkId::from_hex(&id.to_hex()[2..]).is_none());
        assert!(NetworkId::from_hex("x").is_none());
    }

    #[test]
    fn a_signature_holds_for_its_key_purpose_and_message_alone() {
        let key = SigningKey::from_bytes(&random(&mut OsRng));
        let public = key.verifying_key().to_bytes();
        let signature = sign(&key, "purpose", b"message");
        assert!(verify(&public, "purpose", b"message", &signature));
        assert!(!verify(&public, "other", b"message", &signature));
        assert!(!verify(&public, "purpose", b"massage", &signature));
        let other = SigningKey::from_bytes(&random(&mut OsRng)).verifying_key().to_bytes();
        assert!(!verify(&other, "purpose", b"message", &signature));
    }

    #[test]
    fn a_key_of_small_order_is_no_identity() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(verifying_bytes(identity).is_err());
    }
}
