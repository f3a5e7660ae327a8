//! Join records: how a machine becomes a member with no signer online.
//!
//! The joiner signs its machine record with the invite's key and its own identity key; the invite stands in the signed
//! roster. That chain *is* the membership, and any member can check it. The record goes to the coordinator's join list
//! sealed under the roster key, and straight to peers within an introduction.

use std::net::Ipv6Addr;

use rand_core::CryptoRngCore;

use crate::{
    epoch::{EpochName, RosterKey},
    identity::{MachineIdentity, MachineKeys, NetworkId, sign, verify},
    roster::{
        address::random_ipv6,
        entry::{EntryId, get_name, skip_optional},
        error::MembershipError,
        invite::InviteSecret,
        opened::Roster,
    },
    seal::{LOCK_OVERHEAD, domain, lock, random, unlock},
    wire::{Reader, Wire, WireError, Writer},
};

const VERSION: u8 = 1;
const MAX_BODY: usize = 2048;
const MAX_RECORD: usize = MAX_BODY + 4 + 2 * 64;
/// Bytes of a sealed join record, at most.
pub const MAX_SEALED_JOIN: usize = 1 + 32 + MAX_RECORD + LOCK_OVERHEAD;

/// What a joiner says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// The network.
    pub network: NetworkId,
    /// The invite.
    pub invite: EntryId,
    /// The id that its machine entry gets.
    pub id: EntryId,
    /// The name that it would like; the invite's goes before it.
    pub name: String,
    /// Its public keys.
    pub identity: MachineIdentity,
    /// Its address, random in the network's first /64.
    pub ipv6: Ipv6Addr,
}

/// A [`Join`] as invite and machine signed it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinRecord {
    body: Vec<u8>,
    by_invite: [u8; 64],
    by_machine: [u8; 64],
    join: Join,
}

impl JoinRecord {
    /// The record of the machine with `keys`, joining by `invite` under `name`.
    ///
    /// # Errors
    /// [`MembershipError::NoInvite`] if the roster does not hold the invite, [`MembershipError::Format`] if the name
    /// is not valid.
    pub fn create(
        roster: &Roster,
        invite: &InviteSecret,
        keys: &MachineKeys,
        name: &str,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<Self, MembershipError> {
        roster.invite(&invite.id()).ok_or(MembershipError::NoInvite)?;
        let join = Join {
            network: roster.network(),
            invite: invite.id(),
            id: EntryId(random(rng)),
            name: name.to_owned(),
            identity: keys.public(),
            ipv6: random_ipv6(roster.settings().ipv6, rng),
        };
        let body = join.to_bytes();
        Join::from_bytes(&body)?;
        Ok(Self {
            by_invite: sign(&invite.signing(), "join by invite", &body),
            by_machine: sign(keys.identity(), "join by machine", &body),
            body,
            join,
        })
    }

    /// What was signed.
    #[must_use]
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// Checks that the invite with `invite_key` and the machine itself signed this for `network`.
    pub(super) fn verify(&self, network: &NetworkId, invite_key: &[u8; 32]) -> Result<(), MembershipError> {
        let signed = self.join.network == *network
            && verify(invite_key, "join by invite", &self.body, &self.by_invite)
            && verify(&self.join.identity.identity, "join by machine", &self.body, &self.by_machine);
        if signed { Ok(()) } else { Err(MembershipError::Unsigned) }
    }

    /// Seals the record for the join list.
    pub(super) fn seal(&self, (epoch, key): (EpochName, &RosterKey), rng: &mut dyn CryptoRngCore) -> Vec<u8> {
        let mut w = Writer::new();
        w.version(VERSION);
        epoch.encode(&mut w);
        w.raw(&lock(key.as_bytes(), &aad(&self.join.network, &epoch), &self.to_bytes(), rng));
        w.finish()
    }

    /// Opens what [`JoinRecord::seal`] made, with the key that `key_of` finds for its epoch.
    pub(super) fn open<'k>(
        network: &NetworkId,
        sealed: &[u8],
        key_of: impl FnOnce(&EpochName) -> Option<&'k RosterKey>,
    ) -> Result<Self, MembershipError> {
        if sealed.len() > MAX_SEALED_JOIN {
            return Err(WireError::TooLong.into());
        }
        let mut r = Reader::new(sealed);
        r.version(VERSION)?;
        let epoch = EpochName::decode(&mut r)?;
        let key = key_of(&epoch).ok_or(MembershipError::Sealed)?;
        let plain = unlock(key.as_bytes(), &aad(network, &epoch), r.rest()).ok_or(MembershipError::Sealed)?;
        Ok(Self::from_bytes(&plain)?)
    }
}

fn aad(network: &NetworkId, epoch: &EpochName) -> Vec<u8> {
    let mut aad = domain("join list");
    aad.extend_from_slice(&network.0);
    aad.extend_from_slice(&epoch.0);
    aad
}

/// Version, network, invite, id, name, identity, IPv6 address, optional fields.
impl Wire for Join {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        self.network.encode(w);
        self.invite.encode(w);
        self.id.encode(w);
        w.text(&self.name);
        self.identity.encode(w);
        w.raw(&self.ipv6.octets());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let join = Self {
            network: NetworkId::decode(r)?,
            invite: EntryId::decode(r)?,
            id: EntryId::decode(r)?,
            name: get_name(r)?,
            identity: MachineIdentity::decode(r)?,
            ipv6: r.array::<16>()?.into(),
        };
        skip_optional(r)?;
        Ok(join)
    }
}

/// Body as a byte string, the invite's signature, the machine's.
impl Wire for JoinRecord {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.body);
        w.raw(&self.by_invite);
        w.raw(&self.by_machine);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let body = r.bytes(MAX_BODY)?.to_vec();
        let join = Join::from_bytes(&body)?;
        Ok(Self { body, by_invite: r.array()?, by_machine: r.array()?, join })
    }
}
