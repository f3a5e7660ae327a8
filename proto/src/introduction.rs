//! A joiner's first frame to a peer that may not have seen it yet.
//!
//! It carries all that the peer needs to check the membership by itself (chain, header, the invite with its Merkle
//! proof, the join record) and the first WireGuard handshake initiation, sealed under a key that only members of the
//! epoch have. Control checks it and hands peer and initiation to the data path in one frame. It is repeated before
//! each handshake until a signer has folded the machine in.
//!
//! If the peer's roster is as new as the joiner's or newer, the peer's decides; only an unseen newer one is proved.

use rand_core::CryptoRngCore;

use crate::{
    epoch::{EpochKey, EpochName},
    identity::NetworkId,
    roster::{
        EntryId, Head, JoinRecord, MachineEntry, MembershipError, MerkleProof, ProvenInvite, Relation,
        Roster, RosterError, admit,
    },
    seal::{derive, domain, lock, unlock},
    wire::{Reader, Wire, WireError, Writer},
};

/// Bytes of a WireGuard handshake initiation (WireGuard's paper, section 5.4.2).
pub const INITIATION: usize = 148;
/// The first byte of a sealed introduction; WireGuard's own messages start with 1 to 4.
pub const MARK: u8 = 0xa1;
/// Bytes of a sealed introduction, at most: what one relay frame holds.
pub const MAX_INTRODUCTION: usize = 60 << 10;

const VERSION: u8 = 1;
const MAX_PLAIN: usize = 4096;

/// The proof of a provisional membership, and a handshake initiation.
#[derive(Clone, PartialEq, Eq)]
pub struct Introduction {
    head: Head,
    invite: ProvenInvite,
    record: JoinRecord,
    initiation: [u8; INITIATION],
}

impl Introduction {
    /// The introduction of the machine of `record`, as `roster` allows it.
    ///
    /// # Errors
    /// [`MembershipError::NoInvite`] if the roster does not hold the invite.
    pub fn new(
        roster: &Roster,
        record: &JoinRecord,
        initiation: &[u8; INITIATION],
    ) -> Result<Self, MembershipError> {
        let invite = roster.prove_invite(&record.join().invite).ok_or(MembershipError::NoInvite)?;
        Ok(Self { head: roster.head().clone(), invite, record: record.clone(), initiation: *initiation })
    }

    /// Whether `frame` is a sealed introduction rather than a WireGuard message.
    #[must_use]
    pub fn is_one(frame: &[u8]) -> bool {
        frame.first() == Some(&MARK)
    }

    /// Seals the introduction for members of the epoch of `key`.
    ///
    /// # Errors
    /// [`WireError::TooLong`] if chain and header are too long for one relay frame.
    pub fn seal(&self, key: &EpochKey, rng: &mut dyn CryptoRngCore) -> Result<Vec<u8>, WireError> {
        let locked =
            lock(&sealing_key(key), &aad(&self.head.header().network, &key.name()), &self.to_bytes(), rng);
        let mut frame = vec![MARK, VERSION];
        frame.extend_from_slice(&locked);
        if frame.len() > MAX_INTRODUCTION { Err(WireError::TooLong) } else { Ok(frame) }
    }

    /// Opens what [`Introduction::seal`] made in the epoch of `key`.
    ///
    /// # Errors
    /// [`MembershipError::Sealed`], [`MembershipError::Format`].
    pub fn open(frame: &[u8], network: &NetworkId, key: &EpochKey) -> Result<Self, MembershipError> {
        if frame.len() > MAX_INTRODUCTION {
            return Err(WireError::TooLong.into());
        }
        let mut r = Reader::new(frame);
        if r.u8()? != MARK {
            return Err(WireError::Invalid("introduction").into());
        }
        r.version(VERSION)?;
        let plain =
            unlock(&sealing_key(key), &aad(network, &key.name()), r.rest()).ok_or(MembershipError::Sealed)?;
        Ok(Self::from_bytes(&plain)?)
    }

    /// The provisional member that is introduced to a peer with `roster`.
    ///
    /// # Errors
    /// [`MembershipError::Member`] if it is folded already (the initiation is a member's then), and why it is none
    /// otherwise.
    pub fn check(&self, roster: &Roster) -> Result<MachineEntry, MembershipError> {
        if roster.invite(&self.invite.id).is_some() || self.is_member_of(roster) {
            return roster.provisional(&self.record);
        }
        let network = roster.network();
        self.head.verify(&network).map_err(MembershipError::Roster)?;
        match self.head.relation(roster.head()) {
            Relation::Newer => {}
            Relation::Same | Relation::Older => return Err(MembershipError::NoInvite),
            Relation::Forked => return Err(MembershipError::Roster(RosterError::Forked)),
        }
        let header = self.head.header();
        if header.epoch != roster.header().epoch {
            return Err(MembershipError::Sealed);
        }
        let invite = self.invite.check(header).ok_or(MembershipError::Roster(RosterError::Damaged))?;
        admit(&network, roster.settings(), &invite, &roster.machines(), &self.record)
    }

    /// The head that the joiner knows; newer than the peer's own if the peer has to synchronise.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The join record, to be treated as one from the join list.
    #[must_use]
    pub fn record(&self) -> &JoinRecord {
        &self.record
    }

    /// The handshake initiation.
    #[must_use]
    pub fn initiation(&self) -> &[u8; INITIATION] {
        &self.initiation
    }

    fn is_member_of(&self, roster: &Roster) -> bool {
        roster.machine_by_identity(&self.record.join().identity.identity).is_some()
    }
}

fn sealing_key(key: &EpochKey) -> zeroize::Zeroizing<[u8; 32]> {
    derive(&key.mailbox_key(), "introduction", b"")
}

fn aad(network: &NetworkId, epoch: &EpochName) -> Vec<u8> {
    let mut aad = domain("introduction");
    aad.extend_from_slice(&network.0);
    aad.extend_from_slice(&epoch.0);
    aad
}

/// Head, invite id, its version, its plaintext, its proof, record, initiation, optional fields.
impl Wire for Introduction {
    fn encode(&self, w: &mut Writer) {
        self.head.encode(w);
        self.invite.id.encode(w);
        w.u64(self.invite.version);
        w.bytes(&self.invite.plain);
        self.invite.proof.encode(w);
        self.record.encode(w);
        w.raw(&self.initiation);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let introduction = Self {
            head: Head::decode(r)?,
            invite: ProvenInvite {
                id: EntryId::decode(r)?,
                version: r.u64()?,
                plain: r.bytes(MAX_PLAIN)?.to_vec(),
                proof: MerkleProof::decode(r)?,
            },
            record: JoinRecord::decode(r)?,
            initiation: r.array()?,
        };
        while r.optional()?.is_some() {}
        Ok(introduction)
    }
}
