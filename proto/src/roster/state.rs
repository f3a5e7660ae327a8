//! A network's state as the coordinator keeps it: chain, header, sealed entries, sealed epoch keys. It can check who
//! signed it and that nothing sealed was changed; it cannot read a name, an address or a policy.

use std::collections::BTreeMap;

use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    epoch::{EpochName, RosterKey, SEALED_EPOCH_KEY, Slot},
    identity::NetworkId,
    roster::{
        entry::{EntryId, MAX_ENTRIES, MAX_ENTRY, MAX_INVITES, MAX_MACHINES},
        error::RosterError,
        generation::{Chain, MAX_GENERATIONS, SignedGeneration},
        header::{Head, Header, SignedHeader},
        order::Order,
    },
    seal::{LOCK_OVERHEAD, domain, lock, unlock},
    wire::{Reader, Wire, WireError, Writer},
};

/// Sealed epoch keys, at most: every machine, every live invite, the root.
pub const MAX_SLOTS: usize = MAX_MACHINES + MAX_INVITES + 1;

const VERSION: u8 = 1;

/// One entry, sealed under the roster key of the epoch in which it last changed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedEntry {
    /// The entry's id.
    pub id: EntryId,
    /// Its version, from 1.
    pub version: u64,
    /// The epoch that it was sealed in.
    pub epoch: EpochName,
    locked: Vec<u8>,
}

/// An epoch key sealed to one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Where the recipient finds it.
    pub slot: Slot,
    /// [`SEALED_EPOCH_KEY`] bytes.
    pub sealed: Vec<u8>,
}

/// All of a network's state that leaves its machines. Read from bytes it proves nothing until
/// [`PublicState::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct PublicState {
    /// Chain and header.
    pub head: Head,
    entries: Vec<SealedEntry>,
    slots: Vec<SealedKey>,
}

/// A change from one state to the next, O(changed).
#[derive(Clone, PartialEq, Eq)]
pub struct Delta {
    /// Whether `generations` are a fresh chain (a recovery) rather than more of the present one.
    pub(super) fresh: bool,
    pub(super) generations: Vec<SignedGeneration>,
    pub(super) header: SignedHeader,
    pub(super) changed: Vec<SealedEntry>,
    pub(super) removed: Vec<EntryId>,
    /// Newly sealed epoch keys; all of them, and no former one stays, if the epoch changed.
    pub(super) slots: Vec<SealedKey>,
    pub(super) freed: Vec<Slot>,
}

impl SealedEntry {
    pub(super) fn seal(
        network: &NetworkId,
        (id, version): (EntryId, u64),
        (epoch, key): (EpochName, &RosterKey),
        plain: &[u8],
        rng: &mut dyn CryptoRngCore,
    ) -> Self {
        let locked = lock(key.as_bytes(), &entry_aad(network, id, version, epoch), plain, rng);
        Self { id, version, epoch, locked }
    }

    pub(super) fn open(&self, network: &NetworkId, key: &RosterKey) -> Option<Zeroizing<Vec<u8>>> {
        unlock(key.as_bytes(), &entry_aad(network, self.id, self.version, self.epoch), &self.locked)
    }
}

fn entry_aad(network: &NetworkId, id: EntryId, version: u64, epoch: EpochName) -> Vec<u8> {
    let mut aad = domain("roster entry");
    aad.extend_from_slice(&network.0);
    aad.extend_from_slice(&id.0);
    aad.extend_from_slice(&version.to_be_bytes());
    aad.extend_from_slice(&epoch.0);
    aad
}

/// The hash by which a header binds the ciphertexts: both lists in order, each ciphertext by its own hash.
pub(super) fn sealed_hash(entries: &[SealedEntry], slots: &[SealedKey]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(domain("sealed state"));
    hasher.update((entries.len() as u64).to_be_bytes());
    for entry in entries {
        hasher.update(entry.id.0);
        hasher.update(entry.version.to_be_bytes());
        hasher.update(entry.epoch.0);
        hasher.update(Sha256::digest(&entry.locked));
    }
    for key in slots {
        hasher.update(key.slot.0);
        hasher.update(Sha256::digest(&key.sealed));
    }
    hasher.finalize().into()
}

impl PublicState {
    /// A state from its parts, entries by id and sealed keys by slot; it proves nothing until
    /// [`PublicState::verify`].
    #[must_use]
    pub fn new(head: Head, entries: Vec<SealedEntry>, slots: Vec<SealedKey>) -> Self {
        Self { head, entries, slots }
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.head.header()
    }

    /// The state's place.
    #[must_use]
    pub fn order(&self) -> Order {
        self.head.order()
    }

    /// The sealed entries, in the order of their ids.
    #[must_use]
    pub fn entries(&self) -> &[SealedEntry] {
        &self.entries
    }

    /// The sealed epoch keys, in the order of their slots.
    #[must_use]
    pub fn slots(&self) -> &[SealedKey] {
        &self.slots
    }

    /// The epoch key sealed at `slot`.
    #[must_use]
    pub fn sealed_key(&self, slot: &Slot) -> Option<&[u8]> {
        let at = self.slots.binary_search_by(|key| key.slot.cmp(slot)).ok()?;
        Some(&self.slots[at].sealed)
    }

    /// Checks all that can be checked without the epoch key: chain, signatures, and that entries and slots are the
    /// ones that were signed.
    ///
    /// # Errors
    /// [`RosterError::OtherNetwork`], [`RosterError::Unsigned`], [`RosterError::Damaged`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), RosterError> {
        self.head.verify(network)?;
        let header = self.header();
        let known = |epoch: &EpochName| {
            *epoch == header.epoch || header.wrapped.iter().any(|key| key.epoch == *epoch)
        };
        let whole = self.entries.len() == header.entries as usize
            && self.entries.is_sorted_by(|a, b| a.id < b.id)
            && self.slots.is_sorted_by(|a, b| a.slot < b.slot)
            && self.entries.iter().all(|entry| known(&entry.epoch))
            && sealed_hash(&self.entries, &self.slots) == header.sealed;
        if whole { Ok(()) } else { Err(RosterError::Damaged) }
    }

    /// The state that `delta` leads to, verified; `self` must have been verified before.
    ///
    /// # Errors
    /// [`RosterError::Stale`] if it is not newer, [`RosterError::Detached`] if it follows another state,
    /// [`RosterError::Forked`] if its signers contradict the present chain, and what [`PublicState::verify`] says.
    pub fn apply(&self, delta: &Delta) -> Result<Self, RosterError> {
        let (now, next) = (self.header(), delta.header());
        if next.network != now.network {
            return Err(RosterError::OtherNetwork);
        }
        if next.order <= now.order {
            return Err(RosterError::Stale);
        }
        if next.parent != self.head.header.hash() {
            return Err(RosterError::Detached);
        }
        let chain = self.chain_after(delta);
        let grown = chain.generations.len() > self.head.chain.generations.len();
        if (delta.fresh || grown) && next.order.version != 1 {
            return Err(RosterError::Unsigned);
        }
        let state = Self {
            head: Head { chain, header: delta.header.clone() },
            entries: self.entries_after(delta),
            slots: self.slots_after(delta),
        };
        state.verify(&now.network)?;
        // Last: a fork is what signers signed.
        if delta.fresh && next.order.recovery <= now.order.recovery {
            return Err(RosterError::Forked);
        }
        Ok(state)
    }

    fn chain_after(&self, delta: &Delta) -> Chain {
        let mut chain = self.head.chain.clone();
        if delta.fresh {
            chain.generations.clear();
        }
        chain.generations.extend_from_slice(&delta.generations);
        chain
    }

    fn entries_after(&self, delta: &Delta) -> Vec<SealedEntry> {
        let mut entries: BTreeMap<_, _> = self.entries.iter().map(|entry| (entry.id, entry)).collect();
        for id in &delta.removed {
            entries.remove(id);
        }
        entries.extend(delta.changed.iter().map(|entry| (entry.id, entry)));
        entries.into_values().cloned().collect()
    }

    fn slots_after(&self, delta: &Delta) -> Vec<SealedKey> {
        let same_epoch = delta.header().epoch == self.header().epoch;
        let kept: &[SealedKey] = if same_epoch { &self.slots } else { &[] };
        let mut slots: BTreeMap<_, _> = kept.iter().map(|key| (key.slot, key)).collect();
        for slot in &delta.freed {
            slots.remove(slot);
        }
        slots.extend(delta.slots.iter().map(|key| (key.slot, key)));
        slots.into_values().cloned().collect()
    }
}

impl Delta {
    /// What the new header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.header.header()
    }

    /// The place of the state that it leads to.
    #[must_use]
    pub fn order(&self) -> Order {
        self.header().order
    }

    /// The epoch key sealed at `slot`, if the delta brings it.
    #[must_use]
    pub fn sealed_key(&self, slot: &Slot) -> Option<&[u8]> {
        self.slots.iter().find(|key| key.slot == *slot).map(|key| key.sealed.as_slice())
    }
}

/// Id, version, epoch, ciphertext as a byte string.
impl Wire for SealedEntry {
    fn encode(&self, w: &mut Writer) {
        self.id.encode(w);
        w.u64(self.version);
        self.epoch.encode(w);
        w.bytes(&self.locked);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (id, version, epoch) = (EntryId::decode(r)?, r.u64()?, EpochName::decode(r)?);
        Ok(Self { id, version, epoch, locked: r.bytes(MAX_ENTRY + LOCK_OVERHEAD)?.to_vec() })
    }
}

/// Slot, sealed key: 1200 bytes.
impl Wire for SealedKey {
    fn encode(&self, w: &mut Writer) {
        self.slot.encode(w);
        w.raw(&self.sealed);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { slot: Slot::decode(r)?, sealed: r.raw(SEALED_EPOCH_KEY)?.to_vec() })
    }
}

/// Version, head, entries, slots.
impl Wire for PublicState {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        self.head.encode(w);
        w.list(&self.entries, |w, entry| entry.encode(w));
        w.list(&self.slots, |w, key| key.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let head = Head::decode(r)?;
        let entries = r.list(MAX_ENTRIES, SealedEntry::decode)?;
        Ok(Self { head, entries, slots: r.list(MAX_SLOTS, SealedKey::decode)? })
    }
}

/// Version, whether the chain is fresh, generations, header, changed entries, removed ids, new slots, freed slots.
impl Wire for Delta {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        w.u8(u8::from(self.fresh));
        w.list(&self.generations, |w, generation| generation.encode(w));
        self.header.encode(w);
        w.list(&self.changed, |w, entry| entry.encode(w));
        w.list(&self.removed, |w, id| id.encode(w));
        w.list(&self.slots, |w, key| key.encode(w));
        w.list(&self.freed, |w, slot| slot.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let fresh = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Invalid("flag")),
        };
        let generations = r.list(MAX_GENERATIONS, SignedGeneration::decode)?;
        if fresh && generations.is_empty() {
            return Err(WireError::Invalid("chain"));
        }
        Ok(Self {
            fresh,
            generations,
            header: SignedHeader::decode(r)?,
            changed: r.list(MAX_ENTRIES, SealedEntry::decode)?,
            removed: r.list(MAX_ENTRIES, EntryId::decode)?,
            slots: r.list(MAX_SLOTS, SealedKey::decode)?,
            freed: r.list(MAX_SLOTS, Slot::decode)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::epoch::EpochKey;

    #[test]
    fn a_sealed_entry_opens_at_its_place_alone() {
        let key = EpochKey::generate(&mut OsRng);
        let (network, epoch, key) = (NetworkId([1; 32]), key.name(), key.roster_key());
        let entry = SealedEntry::seal(&network, (EntryId([2; 16]), 3), (epoch, &key), b"plain", &mut OsRng);
        assert_eq!(&entry.open(&network, &key).unwrap()[..], b"plain");
        assert!(entry.open(&NetworkId([9; 32]), &key).is_none());
        assert!(entry.open(&network, &EpochKey::generate(&mut OsRng).roster_key()).is_none());
        let moved = SealedEntry { id: EntryId([9; 16]), ..entry.clone() };
        let older = SealedEntry { version: 2, ..entry.clone() };
        let elsewhere = SealedEntry { epoch: EpochName([9; 32]), ..entry };
        for wrong in [moved, older, elsewhere] {
            assert!(wrong.open(&network, &key).is_none());
        }
    }
}
