//! Sealing: to a public key (HPKE base mode, RFC 9180, with the X-Wing KEM), and under a shared key
//! (XChaCha20-Poly1305 with random nonces); hashes and key derivation with a domain each.
//!
//! A seal to a public key says nothing about its author: what is inside is authenticated by a signed commitment
//! (the epoch key) or by signatures of its own.
//!
//! `hpke` speaks another generation of `rand_core` than the rest; the bridge between the two lives here and
//! nowhere else.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead, aead::Payload};
use hkdf::Hkdf;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::wire::{Reader, Wire, WireError, Writer};

type Kem = hpke::kem::XWing;
type Kdf = hpke::kdf::HkdfSha256;
type Cipher = hpke::aead::ChaCha20Poly1305;

/// Bytes of an X-Wing public key: ML-KEM-768 encapsulation key, then X25519.
pub const SEALING_PUBLIC: usize = 1216;
/// Bytes of an X-Wing encapsulation, which a seal to a public key starts with.
const ENCAPSULATION: usize = 1120;
/// Bytes of a Poly1305 tag.
const TAG: usize = 16;
/// Bytes of an XChaCha20 nonce, which a seal under a shared key starts with.
const NONCE: usize = 24;
/// What a seal to a public key adds to its content, in bytes.
pub const SEAL_OVERHEAD: usize = ENCAPSULATION + TAG;
/// What a seal under a shared key adds to its content, in bytes.
pub const LOCK_OVERHEAD: usize = NONCE + TAG;

/// An X-Wing private key, kept as its 32-byte seed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealingSecret([u8; 32]);

/// An X-Wing public key that was checked to be one.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingPublic(Box<[u8; SEALING_PUBLIC]>);

impl SealingSecret {
    /// A new random key.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        Self(random(rng))
    }

    /// The key of a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The seed, for a state directory.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public key that others seal to.
    #[must_use]
    pub fn public(&self) -> SealingPublic {
        let bytes = Kem::sk_to_pk(&self.kem_key()).to_bytes();
        let mut out = Box::new([0; SEALING_PUBLIC]);
        out.copy_from_slice(&bytes);
        SealingPublic(out)
    }

    fn kem_key(&self) -> <Kem as hpke::Kem>::PrivateKey {
        Deserializable::from_bytes(&self.0).expect("an X-Wing seed is any 32 bytes")
    }
}

impl SealingPublic {
    /// Checks that `bytes` are a key: a malformed one would make every later seal to its owner fail.
    ///
    /// # Errors
    /// [`WireError::Invalid`].
    pub fn from_array(bytes: &[u8; SEALING_PUBLIC]) -> Result<Self, WireError> {
        kem_public(bytes).map_err(|_| WireError::Invalid("sealing key"))?;
        Ok(Self(Box::new(*bytes)))
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SEALING_PUBLIC] {
        &self.0
    }
}

/// 1216 bytes.
impl Wire for SealingPublic {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0[..]);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::from_array(&r.array()?)
    }
}

/// Seals `plaintext` to a public key: 1120 bytes of encapsulation, then the ciphertext with its tag.
/// `info` and `aad` are bound to it and must be given again to open it.
pub fn seal(
    to: &SealingPublic,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut dyn CryptoRngCore,
) -> Vec<u8> {
    let key = kem_public(&to.0).expect("a SealingPublic was checked when it was made");
    let (encapsulation, ciphertext) = hpke::single_shot_seal_with_rng::<Cipher, Kdf, Kem>(
        &OpModeS::Base,
        &key,
        info,
        plaintext,
        aad,
        &mut Bridge(rng),
    )
    .expect("sealing one short message in memory has no way to fail");
    let mut out = encapsulation.to_bytes().to_vec();
    out.extend_from_slice(&ciphertext);
    out
}

/// Opens what [`seal`] made; `None` if it was made for another key, `info` or `aad`, or was changed.
#[must_use]
pub fn open(secret: &SealingSecret, info: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (encapsulation, ciphertext) = sealed.split_at_checked(ENCAPSULATION)?;
    let encapsulation = Deserializable::from_bytes(encapsulation).ok()?;
    hpke::single_shot_open::<Cipher, Kdf, Kem>(
        &OpModeR::Base,
        &secret.kem_key(),
        &encapsulation,
        info,
        ciphertext,
        aad,
    )
    .ok()
    .map(Zeroizing::new)
}

/// Seals `plaintext` under a shared key: a random 24-byte nonce, then the ciphertext with its tag.
pub fn lock(key: &[u8; 32], aad: &[u8], plaintext: &[u8], rng: &mut dyn CryptoRngCore) -> Vec<u8> {
    let nonce: [u8; NONCE] = random(rng);
    let ciphertext = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plaintext, aad })
        .expect("our messages are far below the cipher's 256 GiB");
    let mut out = nonce.to_vec();
    out.extend_from_slice(&ciphertext);
    out
}

/// Opens what [`lock`] made; `None` if the key or `aad` is another, or a byte was changed.
#[must_use]
pub fn unlock(key: &[u8; 32], aad: &[u8], locked: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = locked.split_at_checked(NONCE)?;
    XChaCha20Poly1305::new(key.into())
        .decrypt(XNonce::from_slice(nonce), Payload { msg: ciphertext, aad })
        .ok()
        .map(Zeroizing::new)
}

/// SHA-256 over `b"tacet <what> v1\0"` and the parts back to back. Parts must be of fixed length, or only the last
/// one may vary: nothing here separates them.
#[must_use]
pub fn hash(what: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(domain(what));
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// HKDF-SHA256 from a uniformly random `key` with the domain as info, followed by `context`.
#[must_use]
pub fn derive(key: &[u8; 32], what: &str, context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, key)
        .expand_multi_info(&[&domain(what), context], &mut out[..])
        .expect("32 bytes are within what HKDF-SHA256 yields");
    out
}

/// `b"tacet <what> v1\0"`: starts every hash, signature and derivation, so that none can stand for another.
#[must_use]
pub fn domain(what: &str) -> Vec<u8> {
    format!("tacet {what} v1\0").into_bytes()
}

/// `N` random bytes.
pub fn random<const N: usize>(rng: &mut dyn CryptoRngCore) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

fn kem_public(bytes: &[u8; SEALING_PUBLIC]) -> Result<<Kem as hpke::Kem>::PublicKey, hpke::HpkeError> {
    Deserializable::from_bytes(bytes)
}

/// Lets `hpke` (`rand_core` 0.10) draw from our generators (`rand_core` 0.6).
struct Bridge<'a>(&'a mut dyn CryptoRngCore);

impl hpke::rand_core::TryRng for Bridge<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill_bytes(dst);
        Ok(())
    }
}

impl hpke::rand_core::TryCryptoRng for Bridge<'_> {}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn a_seal_opens_only_for_its_key_info_and_aad() {
        let secret = SealingSecret::generate(&mut OsRng);
        let sealed = seal(&secret.public(), b"info", b"aad", b"content", &mut OsRng);
        assert_eq!(sealed.len(), b"content".len() + SEAL_OVERHEAD);
        assert_eq!(&open(&secret, b"info", b"aad", &sealed).unwrap()[..], b"content");
        assert!(open(&SealingSecret::generate(&mut OsRng), b"info", b"aad", &sealed).is_none());
        assert!(open(&secret, b"other", b"aad", &sealed).is_none());
        assert!(open(&secret, b"info", b"other", &sealed).is_none());
    }

    #[test]
    fn a_changed_byte_anywhere_in_a_seal_is_refused() {
        let secret = SealingSecret::generate(&mut OsRng);
        let sealed = seal(&secret.public(), b"", b"", b"content", &mut OsRng);
        for at in [0, 700, ENCAPSULATION - 1, ENCAPSULATION, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&secret, b"", b"", &changed).is_none(), "byte {at}");
        }
        assert!(open(&secret, b"", b"", &sealed[..ENCAPSULATION - 1]).is_none());
    }

    #[test]
    fn a_locked_message_opens_only_unchanged() {
        let key = random(&mut OsRng);
        let locked = lock(&key, b"aad", b"content", &mut OsRng);
        assert_eq!(locked.len(), b"content".len() + LOCK_OVERHEAD);
        assert_eq!(&unlock(&key, b"aad", &locked).unwrap()[..], b"content");
        assert!(unlock(&key, b"other", &locked).is_none());
        for at in 0..locked.len() {
            let mut changed = locked.clone();
            changed[at] ^= 0x80;
            assert!(unlock(&key, b"aad", &changed).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_malformed_sealing_key_is_refused_before_anybody_seals_to_it() {
        // All ones is no reduced ML-KEM coefficient.
        assert!(SealingPublic::from_array(&[0xff; SEALING_PUBLIC]).is_err());
    }

    #[test]
    fn one_key_yields_unrelated_keys_for_unlike_purposes() {
        let key = random(&mut OsRng);
        assert!(*derive(&key, "one", b"") != *derive(&key, "two", b""));
        assert!(*derive(&key, "one", b"a") != *derive(&key, "one", b"b"));
    }
}
