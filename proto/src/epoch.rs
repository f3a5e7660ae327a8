//! An epoch: the span in which one key is shared by all members of a network.
//!
//! The key yields five, one per purpose: it seals roster entries, pairs machines (WireGuard's pre-shared key),
//! blinds mailboxes, proves membership to the coordinator and seals what is said on a LAN. An epoch is named by its commitment, the hash of the
//! key, which the signed roster header carries: that is what authenticates a key however it arrives. Removing a
//! machine, revoking an invite, and every month start a new one.

use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    identity::NetworkId,
    seal::{SEAL_OVERHEAD, SealingPublic, SealingSecret, derive, domain, hash, open, random, seal},
    wire::{Reader, Wire, WireError, Writer},
};

/// How long after its end an epoch's key is kept, in seconds, for machines that slept through it: 30 days.
pub const KEEP: u64 = 30 * DAY;
/// Seconds in a day.
const DAY: u64 = 86_400;
/// How many ended epochs are kept at most.
pub const KEEP_EPOCHS: usize = 8;
/// Bytes of an epoch key sealed to one machine, invite or root.
pub const SEALED_EPOCH_KEY: usize = 32 + SEAL_OVERHEAD;

/// 2: with the numbers of ended epochs.
const KEYS_VERSION: u8 = 2;

/// The secret that all members of an epoch share.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct EpochKey([u8; 32], #[zeroize(skip)] EpochName);

/// An epoch's name: the commitment to its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpochName(pub [u8; 32]);

/// Seals and opens the roster entries of one epoch.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RosterKey([u8; 32]);

/// Where the coordinator keeps an epoch key sealed to one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub [u8; 32]);

impl EpochKey {
    /// The key of a new epoch.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        Self::of(random(rng))
    }

    /// The epoch's name, and the commitment to this key.
    #[must_use]
    pub fn name(&self) -> EpochName {
        self.1
    }

    /// With its name, which is asked for with each packet over a relay.
    fn of(key: [u8; 32]) -> Self {
        Self(key, EpochName(hash("epoch", &[&key])))
    }

    /// Seals the epoch's roster entries.
    #[must_use]
    pub fn roster_key(&self) -> RosterKey {
        RosterKey(*derive(&self.0, "roster key", b""))
    }

    /// WireGuard's pre-shared key of two machines, the same whichever is named first.
    #[must_use]
    pub fn pairing_psk(&self, a: &[u8; 32], b: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        let pairing = derive(&self.0, "pairing key", b"");
        derive(&pairing, "pair", &[a.min(b).as_slice(), a.max(b)].concat())
    }

    /// Blinds the mailbox keys of the epoch, and seals introductions.
    #[must_use]
    pub fn mailbox_key(&self) -> Zeroizing<[u8; 32]> {
        derive(&self.0, "mailbox key", b"")
    }

    /// Seals beacons ([`crate::beacon`]).
    #[must_use]
    pub fn beacon_key(&self) -> Zeroizing<[u8; 32]> {
        derive(&self.0, "beacon key", b"")
    }

    /// Proves to the coordinator that its holder is a member, not which one.
    #[must_use]
    pub fn member_key(&self) -> SigningKey {
        SigningKey::from_bytes(&derive(&self.0, "member key", b""))
    }

    /// Seals the key to one recipient, for the slot of that recipient: [`SEALED_EPOCH_KEY`] bytes.
    pub fn seal_to(&self, to: &SealingPublic, network: &NetworkId, rng: &mut dyn CryptoRngCore) -> Vec<u8> {
        seal(to, &seal_info(network), &self.name().0, &self.0, rng)
    }

    /// Opens what [`EpochKey::seal_to`] made; `None` unless it is the key of the epoch `name` of `network`.
    #[must_use]
    pub fn open(
        secret: &SealingSecret,
        network: &NetworkId,
        name: &EpochName,
        sealed: &[u8],
    ) -> Option<Self> {
        let plain = open(secret, &seal_info(network), &name.0, sealed)?;
        let key = Self::of(plain.as_slice().try_into().ok()?);
        (key.name() == *name).then_some(key)
    }
}

impl RosterKey {
    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Where the key of `epoch` lies, sealed to the owner of `sealing`.
#[must_use]
pub fn slot(sealing: &SealingPublic, epoch: &EpochName) -> Slot {
    Slot(hash("slot", &[sealing.as_bytes(), &epoch.0]))
}

fn seal_info(network: &NetworkId) -> Vec<u8> {
    let mut info = domain("epoch key");
    info.extend_from_slice(&network.0);
    info
}

/// 32 bytes: for the state directory and for a seal alone.
impl Wire for EpochKey {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self::of(r.array()?))
    }
}

/// 32 bytes.
impl Wire for EpochName {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

/// 32 bytes.
impl Wire for Slot {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

/// The epoch keys that a machine keeps in its state directory: the present one, and ended ones for [`KEEP`], at most
/// [`KEEP_EPOCHS`], in whose mailboxes it still listens for machines that slept.
#[derive(Clone)]
pub struct EpochKeys {
    present: EpochKey,
    /// Newest first.
    ended: Vec<EndedEpoch>,
}

/// An epoch that another has followed.
#[derive(Clone)]
pub struct EndedEpoch {
    /// Its key.
    pub key: EpochKey,
    /// Its number; `None` if it was kept by a version that did not keep numbers.
    pub number: Option<u64>,
    /// The day on which it ended (0:00 UTC), in unix seconds: erasing it needs nothing finer.
    pub at: u64,
}

impl EpochKeys {
    /// The keys of a machine that knows one epoch.
    #[must_use]
    pub fn new(present: EpochKey) -> Self {
        Self { present, ended: Vec::new() }
    }

    /// The key of the present epoch.
    #[must_use]
    pub fn present(&self) -> &EpochKey {
        &self.present
    }

    /// Ended epochs, newest first.
    #[must_use]
    pub fn ended(&self) -> &[EndedEpoch] {
        &self.ended
    }

    /// The key of an epoch, if it is kept.
    #[must_use]
    pub fn find(&self, name: &EpochName) -> Option<&EpochKey> {
        std::iter::once(&self.present)
            .chain(self.ended.iter().map(|e| &e.key))
            .find(|key| key.name() == *name)
    }

    /// Makes `key` the present one and ends the former, whose number is `former`, today. Does nothing if it is the
    /// present one already.
    pub fn advance(&mut self, key: EpochKey, former: u64, now: u64) {
        if key == self.present {
            return;
        }
        self.ended.retain(|ended| ended.key != key);
        let number = Some(former);
        let former = std::mem::replace(&mut self.present, key);
        self.ended.insert(0, EndedEpoch { key: former, number, at: now - now % DAY });
        self.ended.truncate(KEEP_EPOCHS);
    }

    /// Erases what ended more than [`KEEP`] ago; true if something was.
    pub fn prune(&mut self, now: u64) -> bool {
        let before = self.ended.len();
        self.ended.retain(|ended| now.saturating_sub(ended.at) <= KEEP);
        self.ended.len() != before
    }
}

/// Version, present key, list of (key, end, number + 1 or 0). Version 1 had no numbers.
impl Wire for EpochKeys {
    fn encode(&self, w: &mut Writer) {
        w.version(KEYS_VERSION);
        self.present.encode(w);
        w.list(&self.ended, |w, ended| {
            ended.key.encode(w);
            w.u64(ended.at);
            w.u64(ended.number.map_or(0, |number| number.saturating_add(1)));
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = r.version(KEYS_VERSION)?;
        let present = EpochKey::decode(r)?;
        let ended = r.list(KEEP_EPOCHS, |r| {
            let (key, at) = (EpochKey::decode(r)?, r.u64()?);
            let number = if version == 1 { None } else { r.u64()?.checked_sub(1) };
            Ok(EndedEpoch { key, number, at })
        })?;
        Ok(Self { present, ended })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn two_machines_derive_the_same_pre_shared_key_and_a_third_another() {
        let key = EpochKey::generate(&mut OsRng);
        let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
        assert!(key.pairing_psk(&a, &b) == key.pairing_psk(&b, &a));
        assert!(key.pairing_psk(&a, &b) != key.pairing_psk(&a, &c));
        assert!(key.pairing_psk(&a, &b) != EpochKey::generate(&mut OsRng).pairing_psk(&a, &b));
    }

    #[test]
    fn a_sealed_epoch_key_opens_for_its_owner_network_and_name_alone() {
        let (key, owner) = (EpochKey::generate(&mut OsRng), SealingSecret::generate(&mut OsRng));
        let network = NetworkId([7; 32]);
        let sealed = key.seal_to(&owner.public(), &network, &mut OsRng);
        assert_eq!(sealed.len(), SEALED_EPOCH_KEY);
        assert!(EpochKey::open(&owner, &network, &key.name(), &sealed) == Some(key.clone()));
        assert!(EpochKey::open(&owner, &NetworkId([8; 32]), &key.name(), &sealed).is_none());
        assert!(EpochKey::open(&owner, &network, &EpochName([0; 32]), &sealed).is_none());
        assert!(
            EpochKey::open(&SealingSecret::generate(&mut OsRng), &network, &key.name(), &sealed).is_none()
        );
    }

    #[test]
    fn a_sealed_key_that_does_not_match_its_commitment_is_refused() {
        let owner = SealingSecret::generate(&mut OsRng);
        let (network, promised) = (NetworkId([7; 32]), EpochKey::generate(&mut OsRng).name());
        // Anyone can seal anything to a public key, and name any epoch while doing so.
        let forged = seal(&owner.public(), &seal_info(&network), &promised.0, &[9; 32], &mut OsRng);
        assert!(EpochKey::open(&owner, &network, &promised, &forged).is_none());
    }

    #[test]
    fn ended_epochs_are_kept_for_a_month_and_eight_at_most() {
        let mut keys = EpochKeys::new(EpochKey::generate(&mut OsRng));
        for n in 0..12 {
            keys.advance(EpochKey::generate(&mut OsRng), n, n * DAY + 4711);
        }
        assert_eq!(
            keys.ended().iter().map(|e| e.at).collect::<Vec<_>>(),
            [11, 10, 9, 8, 7, 6, 5, 4].map(|n| n * DAY)
        );
        assert_eq!(keys.ended()[0].number, Some(11));
        assert!(!keys.prune(4 * DAY + KEEP));
        assert!(keys.prune(4 * DAY + 1 + KEEP));
        assert_eq!(keys.ended().len(), 7);
        let back = EpochKeys::from_bytes(&keys.to_bytes()).unwrap();
        assert!(back.to_bytes() == keys.to_bytes());
        assert!(back.find(&keys.ended()[3].key.name()).is_some());
    }

    #[test]
    fn keys_that_were_kept_without_numbers_are_read_and_kept_with_them_from_then_on() {
        let [present, former] = [1, 2].map(|n| EpochKey::of([n; 32]));
        let mut old = vec![1];
        old.extend(
            [present.to_bytes(), vec![0, 0, 0, 1], former.to_bytes(), DAY.to_be_bytes().to_vec()].concat(),
        );
        let mut keys = EpochKeys::from_bytes(&old).unwrap();
        assert!(keys.find(&former.name()).is_some() && keys.ended()[0].number.is_none());
        keys.advance(EpochKey::of([3; 32]), 7, 2 * DAY);
        let back = EpochKeys::from_bytes(&keys.to_bytes()).unwrap();
        assert_eq!(back.ended().iter().map(|e| e.number).collect::<Vec<_>>(), [Some(7), None]);
    }
}
