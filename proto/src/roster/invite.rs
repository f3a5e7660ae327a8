//! What an invite token's secret stands for.

use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    roster::EntryId,
    seal::{SealingSecret, derive, random},
    wire::{Reader, Wire, WireError, Writer},
};

/// The secret in an invite token. It seeds the invite's signing and sealing keys, so that every later epoch can be
/// sealed to the token too, and the opaque id by which coordinator and roster know the invite.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct InviteSecret([u8; 32]);

impl InviteSecret {
    /// A new secret.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        Self(random(rng))
    }

    /// The invite's opaque id, which is its roster entry's id too.
    #[must_use]
    pub fn id(&self) -> EntryId {
        let full = derive(&self.0, "invite id", b"");
        let mut id = [0; 16];
        id.copy_from_slice(&full[..16]);
        EntryId(id)
    }

    /// Signs join records, and the invite's requests to the coordinator.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_bytes(&derive(&self.0, "invite signing", b""))
    }

    /// Opens the epoch keys that are sealed to the invite.
    #[must_use]
    pub fn sealing(&self) -> SealingSecret {
        SealingSecret::from_seed(*derive(&self.0, "invite sealing", b""))
    }
}

/// 32 bytes, for a token alone.
impl Wire for InviteSecret {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}
