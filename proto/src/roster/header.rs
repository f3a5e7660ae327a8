//! The header: what signers sign, and all that the coordinator can read of a roster.

use std::cmp::Ordering;

use ed25519_dalek::SigningKey;

use crate::{
    epoch::{EpochName, RosterKey},
    identity::{NetworkId, verifying_bytes},
    roster::{
        entry::{EntryId, MAX_ENTRIES, MAX_INVITES},
        error::RosterError,
        generation::{Chain, Signatures},
        order::{Floor, Order},
    },
    seal::{LOCK_OVERHEAD, domain, hash, lock, unlock},
    wire::{Reader, Wire, WireError, Writer},
};

/// Older roster keys that a header wraps, at most; entries that would need more are sealed anew.
pub const MAX_WRAPPED: usize = 12;
/// States before the parent that a header names, at most: so many changes may a machine have missed and still be certain
/// that what it is shown comes after what it has. (Beyond that the number of the epoch tells, where it changed.)
pub(super) const MAX_ANCESTORS: usize = 63;
/// How long a header is fresh at least, in seconds: 30 days. Past it `status` warns that the roster may be stale.
pub const FRESH: u64 = 30 * 86_400;

/// Until when a header made `now` (unix seconds) is fresh: between [`FRESH`] and twice that ahead, in whole multiples of
/// it, so that nobody reads off it when the roster last changed.
#[must_use]
pub fn fresh_until(now: u64) -> u64 {
    now.saturating_add(FRESH).div_ceil(FRESH).saturating_mul(FRESH)
}

/// Whether a header that is fresh until `not_after` is to be renewed: once in [`FRESH`]. Any change that a signer makes
/// from then on renews it, and starts a new epoch.
#[must_use]
pub fn renewal_is_due(not_after: u64, now: u64) -> bool {
    fresh_until(now) > not_after
}

const VERSION: u8 = 1;
const MAX_HEADER: usize = 64 << 10;
const WRAPPED: usize = 32 + LOCK_OVERHEAD;

/// Optional field: the ancestors.
const ANCESTORS: u8 = 1;

/// The first half of a header's hash: enough to tell an ancestor from any other state, and 1 KiB for all of them.
pub type Ancestor = [u8; 16];

/// How a header names the one with this hash among its ancestors.
pub(super) fn ancestor(hash: &[u8; 32]) -> Ancestor {
    let (first, _) = hash.split_at(size_of::<Ancestor>());
    first.try_into().expect("half of a hash")
}

/// What a header says.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The network.
    pub network: NetworkId,
    /// The state's place.
    pub order: Order,
    /// The hash of the header that this one was made from; zeros in a network's first.
    pub parent: [u8; 32],
    /// How many epochs there were before this one; its low bits tell neighbouring epochs apart.
    pub epoch_number: u64,
    /// The epoch, and the commitment to its key.
    pub epoch: EpochName,
    /// Ed25519: proves membership in this epoch.
    pub member: [u8; 32],
    /// The Merkle root of the plaintext entries.
    pub root: [u8; 32],
    /// How many entries there are.
    pub entries: u32,
    /// The hash of all sealed entries and slots, so that nobody but a signer can change a ciphertext.
    pub sealed: [u8; 32],
    /// Live invites, as the coordinator needs them, in the order of their ids.
    pub invites: Vec<HeaderInvite>,
    /// The roster keys of older epochs that unchanged entries still need, under the present one.
    pub wrapped: Vec<WrappedKey>,
    /// Unix seconds; see [`fresh_until`].
    pub not_after: u64,
    /// The states of this generation before the parent, the latest first.
    pub ancestors: Vec<Ancestor>,
}

/// What the coordinator is told about an invite.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderInvite {
    /// The invite's opaque id.
    pub id: EntryId,
    /// Ed25519: verifies its requests.
    pub key: [u8; 32],
    /// How many appends to the join list are left.
    pub uses: u32,
    /// When it ends, in unix seconds.
    pub expires: u64,
}

/// The roster key of an older epoch, locked under the present one's.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The older epoch.
    pub epoch: EpochName,
    locked: [u8; WRAPPED],
}

/// A header as it was signed.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedHeader {
    body: Vec<u8>,
    signatures: Signatures,
    header: Header,
}

/// Chain and header: all that it takes to check who signed a network's state. Read from bytes it proves nothing until
/// [`Head::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// The signers' generations.
    pub chain: Chain,
    /// The header.
    pub header: SignedHeader,
}

/// How one head stands to another of the same network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same state.
    Same,
    /// It comes after the other.
    Newer,
    /// It comes before the other.
    Older,
    /// Signers signed both, but only one can be: keep the first seen, report it, recover.
    Forked,
}

impl Header {
    /// Whether the state with this hash has its place in the line that ends here. Nothing if no state is named at its place.
    ///
    /// Only states of one generation are. What a signer signs after its generation ended is overruled by the next one,
    /// whatever it follows: a removed signer must not be able to split the network.
    fn has_ancestor(&self, at: Order, hash: &[u8; 32]) -> Option<bool> {
        let order = self.order;
        if (order.recovery, order.generation) != (at.recovery, at.generation) {
            return None;
        }
        match order.version.checked_sub(at.version)? {
            0 => None,
            1 => Some(self.parent == *hash),
            distance => {
                let named = self.ancestors.get(usize::try_from(distance - 2).ok()?)?;
                Some(*named == ancestor(hash))
            }
        }
    }

    /// Whether this header, of a higher order, can come after `older`, which has the hash `hash`.
    fn follows(&self, older: &Self, hash: &[u8; 32]) -> bool {
        let (new, old) = (self.order, older.order);
        match self.has_ancestor(old, hash) {
            Some(has) => has,
            None if (new.recovery, new.generation) != (old.recovery, old.generation) => true,
            // Too long ago. In a line of states the epochs are in order, and each has one key.
            None => match self.epoch_number.cmp(&older.epoch_number) {
                Ordering::Less => false,
                Ordering::Equal => self.epoch == older.epoch,
                Ordering::Greater => true,
            },
        }
    }
}

impl SignedHeader {
    pub(super) fn sign(header: Header, key: &SigningKey) -> Self {
        let body = header.to_bytes();
        let signatures = Signatures::one(key, "header", &body);
        Self { body, signatures, header }
    }

    /// What was signed.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// By which the next header names this one.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash("header", &[&self.body])
    }
}

impl Head {
    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header.header
    }

    /// The state's place.
    #[must_use]
    pub fn order(&self) -> Order {
        self.header().order
    }

    /// This state as the least that a newcomer accepts.
    #[must_use]
    pub fn floor(&self) -> Floor {
        Floor { order: self.order(), header: self.header.hash() }
    }

    /// Checks the chain from the network's name on, and that the present generation signed the header.
    ///
    /// # Errors
    /// [`RosterError::OtherNetwork`], [`RosterError::Unsigned`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), RosterError> {
        self.chain.verify(network)?;
        let (header, generation) = (self.header(), self.chain.current());
        if header.network != *network {
            return Err(RosterError::OtherNetwork);
        }
        let order = header.order;
        if order.recovery != generation.recovery
            || order.generation != generation.number
            || order.version == 0
        {
            return Err(RosterError::Unsigned);
        }
        if !generation.signed(&self.header.signatures, "header", &self.header.body) {
            return Err(RosterError::Unsigned);
        }
        Ok(())
    }

    /// How this head stands to `other`; both verified for the same network.
    #[must_use]
    pub fn relation(&self, other: &Self) -> Relation {
        if self.chain.contradicts(&other.chain) {
            return Relation::Forked;
        }
        let follows =
            |newer: &Self, older: &Self| newer.header().follows(older.header(), &older.header.hash());
        match self.order().cmp(&other.order()) {
            Ordering::Greater if follows(self, other) => Relation::Newer,
            Ordering::Less if follows(other, self) => Relation::Older,
            Ordering::Equal if self.header.body == other.header.body => Relation::Same,
            _ => Relation::Forked,
        }
    }

    /// Checks a verified head against what an invite's maker saw.
    ///
    /// # Errors
    /// [`RosterError::Stale`] if it is older, [`RosterError::Forked`] if it contradicts it.
    pub fn meets(&self, floor: &Floor) -> Result<(), RosterError> {
        match self.order().cmp(&floor.order) {
            Ordering::Less => Err(RosterError::Stale),
            Ordering::Equal if self.header.hash() != floor.header => Err(RosterError::Forked),
            Ordering::Greater if self.header().has_ancestor(floor.order, &floor.header) == Some(false) => {
                Err(RosterError::Forked)
            }
            _ => Ok(()),
        }
    }

    /// Whether `identity` is a signer of the present generation.
    #[must_use]
    pub fn is_signer(&self, identity: &[u8; 32]) -> bool {
        self.chain.current().is_signer(identity)
    }
}

impl WrappedKey {
    pub(super) fn wrap(
        network: &NetworkId,
        (older, older_key): (EpochName, &RosterKey),
        (present, present_key): (EpochName, &RosterKey),
        rng: &mut dyn rand_core::CryptoRngCore,
    ) -> Self {
        let locked =
            lock(present_key.as_bytes(), &wrap_aad(network, &older, &present), older_key.as_bytes(), rng);
        Self { epoch: older, locked: locked.try_into().expect("a locked key has one length") }
    }

    pub(super) fn unwrap(
        &self,
        network: &NetworkId,
        (present, present_key): (EpochName, &RosterKey),
    ) -> Option<RosterKey> {
        let plain = unlock(present_key.as_bytes(), &wrap_aad(network, &self.epoch, &present), &self.locked)?;
        RosterKey::from_slice(&plain)
    }
}

fn wrap_aad(network: &NetworkId, older: &EpochName, present: &EpochName) -> Vec<u8> {
    let mut aad = domain("wrapped roster key");
    for part in [&network.0, &older.0, &present.0] {
        aad.extend_from_slice(part);
    }
    aad
}

fn ancestors(value: &[u8]) -> Result<Vec<Ancestor>, WireError> {
    let (hashes, rest) = value.as_chunks();
    if !rest.is_empty() {
        return Err(WireError::Invalid("ancestors"));
    }
    if hashes.len() > MAX_ANCESTORS { Err(WireError::TooLong) } else { Ok(hashes.to_vec()) }
}

/// Version, then the fields in their order, then optional fields.
impl Wire for Header {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        self.network.encode(w);
        self.order.encode(w);
        w.raw(&self.parent);
        w.u64(self.epoch_number);
        self.epoch.encode(w);
        w.raw(&self.member);
        w.raw(&self.root);
        w.u32(self.entries);
        w.raw(&self.sealed);
        w.list(&self.invites, |w, invite| {
            invite.id.encode(w);
            w.raw(&invite.key);
            w.u32(invite.uses);
            w.u64(invite.expires);
        });
        w.list(&self.wrapped, |w, wrapped| {
            wrapped.epoch.encode(w);
            w.raw(&wrapped.locked);
        });
        w.u64(self.not_after);
        if !self.ancestors.is_empty() {
            w.optional(ANCESTORS, self.ancestors.as_flattened());
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let mut header = Self {
            network: NetworkId::decode(r)?,
            order: Order::decode(r)?,
            parent: r.array()?,
            epoch_number: r.u64()?,
            epoch: EpochName::decode(r)?,
            member: verifying_bytes(r.array()?)?,
            root: r.array()?,
            entries: r.u32()?,
            sealed: r.array()?,
            invites: r.list(MAX_INVITES, |r| {
                Ok(HeaderInvite {
                    id: EntryId::decode(r)?,
                    key: verifying_bytes(r.array()?)?,
                    uses: r.u32()?,
                    expires: r.u64()?,
                })
            })?,
            wrapped: r
                .list(MAX_WRAPPED, |r| Ok(WrappedKey { epoch: EpochName::decode(r)?, locked: r.array()? }))?,
            not_after: r.u64()?,
            ancestors: Vec::new(),
        };
        while let Some((field, value)) = r.optional()? {
            if field == ANCESTORS {
                header.ancestors = ancestors(value)?;
            }
        }
        if header.entries as usize > MAX_ENTRIES {
            return Err(WireError::TooLong);
        }
        if !header.invites.is_sorted_by(|a, b| a.id < b.id) {
            return Err(WireError::Invalid("order of invites"));
        }
        Ok(header)
    }
}

/// Body as a byte string, signatures.
impl Wire for SignedHeader {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.body);
        self.signatures.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let body = r.bytes(MAX_HEADER)?.to_vec();
        let header = Header::from_bytes(&body)?;
        Ok(Self { body, signatures: Signatures::decode(r)?, header })
    }
}

/// Chain, header.
impl Wire for Head {
    fn encode(&self, w: &mut Writer) {
        self.chain.encode(w);
        self.header.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { chain: Chain::decode(r)?, header: SignedHeader::decode(r)? })
    }
}
