//! The roster as a member sees it: every entry opened, and checked against the Merkle root that was signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand_core::CryptoRngCore;

use crate::{
    epoch::{EpochKey, EpochName, RosterKey, slot},
    identity::NetworkId,
    roster::{
        entry::{
            Entry, EntryId, InviteEntry, MAX_INVITES, MAX_MACHINES, MachineEntry, Plain, RelayEntry, Settings,
        },
        error::{MembershipError, RosterError},
        header::{Head, Header, HeaderInvite},
        join::JoinRecord,
        membership::{admit, overused},
        merkle::{self, MerkleProof},
        order::Order,
        state::{Delta, PublicState, SealedEntry},
    },
    seal::SealingSecret,
    wire::WireError,
};

/// An opened roster. It is only ever whole: signed, every entry opened, no two machines sharing a name, an address
/// or a key.
#[derive(Clone)]
pub struct Roster {
    state: PublicState,
    key: EpochKey,
    /// The present epoch's roster key and those that the header wraps.
    keys: BTreeMap<EpochName, RosterKey>,
    entries: BTreeMap<EntryId, Arc<Opened>>,
    settings: Settings,
    relays: Vec<RelayEntry>,
}

/// One entry, sealed and open.
pub(super) struct Opened {
    pub(super) sealed: SealedEntry,
    pub(super) plain: Plain,
    leaf: [u8; 32],
}

/// An invite entry and the proof that it is in a roster, for those who have not seen that roster.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProvenInvite {
    pub(crate) id: EntryId,
    pub(crate) version: u64,
    pub(crate) plain: Vec<u8>,
    pub(crate) proof: MerkleProof,
}

impl Roster {
    /// Opens a state with its epoch's key.
    ///
    /// # Errors
    /// What [`PublicState::verify`] says, [`RosterError::WrongKey`], [`RosterError::Damaged`], and
    /// [`RosterError::Format`] if an entry is not valid or contradicts another.
    pub fn open(state: PublicState, key: EpochKey, network: &NetworkId) -> Result<Self, RosterError> {
        state.verify(network)?;
        Self::assemble(state, key, None)
    }

    /// The roster that `delta` leads to; `key` is needed if the epoch changes ([`Delta::open_key`]).
    ///
    /// # Errors
    /// What [`PublicState::apply`] and [`Roster::open`] say.
    pub fn apply(&self, delta: &Delta, key: Option<EpochKey>) -> Result<Self, RosterError> {
        let same_epoch = delta.header().epoch == self.header().epoch;
        let key = if same_epoch { self.key.clone() } else { key.ok_or(RosterError::WrongKey)? };
        Self::assemble(self.state.apply(delta)?, key, Some(self))
    }

    /// Opens a verified state, taking from `before` the entries that did not change.
    pub(super) fn assemble(
        state: PublicState,
        key: EpochKey,
        before: Option<&Self>,
    ) -> Result<Self, RosterError> {
        let header = state.header();
        if key.name() != header.epoch {
            return Err(RosterError::WrongKey);
        }
        if key.member_key().verifying_key().to_bytes() != header.member {
            return Err(RosterError::Damaged);
        }
        let keys = roster_keys(header, &key)?;
        let entries = open_entries(&state, &keys, before)?;
        let leaves: Vec<_> = entries.values().map(|opened| opened.leaf).collect();
        if merkle::root(&leaves) != header.root {
            return Err(RosterError::Damaged);
        }
        let all = || entries.values().map(|opened| &opened.plain.entry);
        check_consistency(header, all())?;
        let settings = all().find_map(|entry| match entry {
            Entry::Settings(settings) => Some(settings.clone()),
            _ => None,
        });
        let settings = settings.ok_or(WireError::Invalid("settings"))?;
        let relays = all().find_map(|entry| match entry {
            Entry::Relays(relays) => Some(relays.clone()),
            _ => None,
        });
        Ok(Self { settings, relays: relays.unwrap_or_default(), key, keys, entries, state })
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.header().network
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The state as it leaves this machine.
    #[must_use]
    pub fn state(&self) -> &PublicState {
        &self.state
    }

    /// Chain and header.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.state.head
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.state.header()
    }

    /// The state's place.
    #[must_use]
    pub fn order(&self) -> Order {
        self.state.order()
    }

    /// The key of the present epoch.
    #[must_use]
    pub fn epoch_key(&self) -> &EpochKey {
        &self.key
    }

    /// How many epochs there were before the present one.
    #[must_use]
    pub fn epoch_number(&self) -> u64 {
        self.header().epoch_number
    }

    /// Until when the roster counts as fresh, in unix seconds.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.header().not_after
    }

    /// What holds for the whole network.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The relays, in the order by which machines number them.
    #[must_use]
    pub fn relays(&self) -> &[RelayEntry] {
        &self.relays
    }

    /// All members.
    pub fn machines(&self) -> impl Iterator<Item = &MachineEntry> + Clone {
        self.entries().filter_map(|entry| match entry {
            Entry::Machine(machine) => Some(machine),
            _ => None,
        })
    }

    /// The member with this entry id.
    #[must_use]
    pub fn machine(&self, id: &EntryId) -> Option<&MachineEntry> {
        match &self.entries.get(id)?.plain.entry {
            Entry::Machine(machine) => Some(machine),
            _ => None,
        }
    }

    /// The member with this identity key: how a machine finds itself.
    #[must_use]
    pub fn machine_by_identity(&self, identity: &[u8; 32]) -> Option<&MachineEntry> {
        self.machines().find(|machine| machine.identity.identity == *identity)
    }

    /// The member of this name.
    #[must_use]
    pub fn machine_by_name(&self, name: &str) -> Option<&MachineEntry> {
        self.machines().find(|machine| machine.name == name)
    }

    /// All live invites.
    pub fn invites(&self) -> impl Iterator<Item = &InviteEntry> + Clone {
        self.entries().filter_map(|entry| match entry {
            Entry::Invite(invite) => Some(invite),
            _ => None,
        })
    }

    /// The live invite with this id.
    #[must_use]
    pub fn invite(&self, id: &EntryId) -> Option<&InviteEntry> {
        match &self.entries.get(id)?.plain.entry {
            Entry::Invite(invite) => Some(invite),
            _ => None,
        }
    }

    /// The policy document.
    #[must_use]
    pub fn policy(&self) -> Option<&[u8]> {
        self.entries().find_map(|entry| match entry {
            Entry::Policy(document) => Some(document.as_slice()),
            _ => None,
        })
    }

    /// The DNS document.
    #[must_use]
    pub fn dns(&self) -> Option<&[u8]> {
        self.entries().find_map(|entry| match entry {
            Entry::Dns(document) => Some(document.as_slice()),
            _ => None,
        })
    }

    /// Whether the machine with this identity key may sign.
    #[must_use]
    pub fn is_signer(&self, identity: &[u8; 32]) -> bool {
        self.head().is_signer(identity)
    }

    /// The membership that `record` gives, provisional until a signer folds it in.
    ///
    /// # Errors
    /// [`MembershipError`] says why it gives none; [`MembershipError::Member`] if it is folded already.
    pub fn provisional(&self, record: &JoinRecord) -> Result<MachineEntry, MembershipError> {
        let join = record.join();
        if self.machine_by_identity(&join.identity.identity).is_some() {
            return Err(MembershipError::Member);
        }
        let invite = self.invite(&join.invite).ok_or(MembershipError::NoInvite)?;
        admit(&self.network(), &self.settings, invite, &self.machines(), record)
    }

    /// The memberships that the whole join list gives, one answer per record. If more machines than an invite has
    /// uses joined by it, none of them is accepted; of two records that claim the same, the first is.
    pub fn provisional_all(&self, records: &[JoinRecord]) -> Vec<Result<MachineEntry, MembershipError>> {
        let overused = self.overused(records);
        let mut machines: Vec<_> = self.machines().cloned().collect();
        records
            .iter()
            .map(|record| {
                let join = record.join();
                if self.machine_by_identity(&join.identity.identity).is_some() {
                    return Err(MembershipError::Member);
                }
                let invite = self.invite(&join.invite).ok_or(MembershipError::NoInvite)?;
                if overused.contains(&join.invite) {
                    return Err(MembershipError::Overused);
                }
                let machine = admit(&self.network(), &self.settings, invite, &machines.iter(), record)?;
                machines.push(machine.clone());
                Ok(machine)
            })
            .collect()
    }

    /// Invites by which more machines joined than they allow.
    #[must_use]
    pub fn overused(&self, records: &[JoinRecord]) -> BTreeSet<EntryId> {
        let folded = |identity: &[u8; 32]| self.machine_by_identity(identity).is_some();
        overused(|id| self.invite(id), folded, &self.network(), records)
    }

    /// Seals a join record for the coordinator's join list.
    pub fn seal_join(&self, record: &JoinRecord, rng: &mut dyn CryptoRngCore) -> Vec<u8> {
        record.seal((self.header().epoch, &self.key.roster_key()), rng)
    }

    /// Opens a record from the join list that was sealed in this epoch or one that the header still wraps.
    ///
    /// # Errors
    /// [`MembershipError::Sealed`], [`MembershipError::Format`].
    pub fn open_join(&self, sealed: &[u8]) -> Result<JoinRecord, MembershipError> {
        JoinRecord::open(&self.network(), sealed, |epoch| self.keys.get(epoch))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.entries.values().map(|opened| &opened.plain.entry)
    }

    pub(super) fn opened(&self) -> &BTreeMap<EntryId, Arc<Opened>> {
        &self.entries
    }

    pub(super) fn keys(&self) -> &BTreeMap<EpochName, RosterKey> {
        &self.keys
    }

    /// The invite with its proof.
    pub(crate) fn prove_invite(&self, id: &EntryId) -> Option<ProvenInvite> {
        self.invite(id)?;
        let index = self.entries.keys().position(|key| key == id)?;
        let leaves: Vec<_> = self.entries.values().map(|opened| opened.leaf).collect();
        let opened = &self.entries[id];
        Some(ProvenInvite {
            id: *id,
            version: opened.sealed.version,
            plain: opened.plain.bytes.clone(),
            proof: merkle::prove(&leaves, index),
        })
    }
}

impl ProvenInvite {
    /// The invite, if the proof holds under a verified header.
    pub(crate) fn check(&self, header: &Header) -> Option<InviteEntry> {
        let leaf = merkle::leaf(&self.id, self.version, &self.plain);
        if !self.proof.holds(&header.root, header.entries, leaf) {
            return None;
        }
        match Plain::parse(self.id, self.plain.clone()).ok()?.entry {
            Entry::Invite(invite) => Some(invite),
            _ => None,
        }
    }
}

impl PublicState {
    /// The epoch key that is sealed here to the owner of `sealing`: a machine, an invite or the root.
    #[must_use]
    pub fn open_key(&self, sealing: &SealingSecret) -> Option<EpochKey> {
        let header = self.header();
        let sealed = self.sealed_key(&slot(&sealing.public(), &header.epoch))?;
        EpochKey::open(sealing, &header.network, &header.epoch, sealed)
    }
}

impl Delta {
    /// The epoch key that the change brings for the owner of `sealing`.
    #[must_use]
    pub fn open_key(&self, sealing: &SealingSecret) -> Option<EpochKey> {
        let header = self.header();
        let sealed = self.sealed_key(&slot(&sealing.public(), &header.epoch))?;
        EpochKey::open(sealing, &header.network, &header.epoch, sealed)
    }
}

fn roster_keys(header: &Header, key: &EpochKey) -> Result<BTreeMap<EpochName, RosterKey>, RosterError> {
    let present = key.roster_key();
    let mut keys = BTreeMap::new();
    for wrapped in &header.wrapped {
        let older = wrapped.unwrap(&header.network, (header.epoch, &present)).ok_or(RosterError::Damaged)?;
        keys.insert(wrapped.epoch, older);
    }
    keys.insert(header.epoch, present);
    Ok(keys)
}

fn open_entries(
    state: &PublicState,
    keys: &BTreeMap<EpochName, RosterKey>,
    before: Option<&Roster>,
) -> Result<BTreeMap<EntryId, Arc<Opened>>, RosterError> {
    let network = state.header().network;
    let mut entries = BTreeMap::new();
    for sealed in state.entries() {
        let known = before.and_then(|roster| roster.entries.get(&sealed.id));
        let opened = match known {
            Some(known) if known.sealed == *sealed => Arc::clone(known),
            _ => Arc::new(Opened::open(sealed, &network, keys)?),
        };
        entries.insert(sealed.id, opened);
    }
    Ok(entries)
}

impl Opened {
    fn open(
        sealed: &SealedEntry,
        network: &NetworkId,
        keys: &BTreeMap<EpochName, RosterKey>,
    ) -> Result<Self, RosterError> {
        let key = keys.get(&sealed.epoch).ok_or(RosterError::Damaged)?;
        let bytes = sealed.open(network, key).ok_or(RosterError::Damaged)?;
        let leaf = merkle::leaf(&sealed.id, sealed.version, &bytes);
        Ok(Self { sealed: sealed.clone(), plain: Plain::parse(sealed.id, bytes.to_vec())?, leaf })
    }

    pub(super) fn new(sealed: SealedEntry, plain: Plain) -> Self {
        let leaf = merkle::leaf(&sealed.id, sealed.version, &plain.bytes);
        Self { sealed, plain, leaf }
    }

    pub(super) fn leaf(&self) -> [u8; 32] {
        self.leaf
    }
}

/// Refuses what no honest signer signs: consumers may rely on it.
fn check_consistency<'e>(header: &Header, entries: impl Iterator<Item = &'e Entry>) -> Result<(), WireError> {
    fn once<T: Ord>(set: &mut BTreeSet<T>, value: T, what: &'static str) -> Result<(), WireError> {
        if set.insert(value) { Ok(()) } else { Err(WireError::Invalid(what)) }
    }
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let (mut ipv4, mut ipv6, mut kinds) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut invites = Vec::new();
    for entry in entries {
        match entry {
            Entry::Machine(machine) => {
                once(&mut names, machine.name.as_str(), "two machines of one name")?;
                let identity = &machine.identity;
                for key in [&identity.identity[..], &identity.wireguard, &identity.mailbox] {
                    once(&mut keys, key, "two machines with one key")?;
                }
                once(&mut keys, identity.sealing.as_bytes(), "two machines with one key")?;
                once(&mut ipv6, machine.ipv6, "two machines with one address")?;
                if let Some(addr) = machine.ipv4 {
                    once(&mut ipv4, addr, "two machines with one address")?;
                }
            }
            Entry::Invite(invite) => {
                if let Some(addr) = invite.ipv4 {
                    once(&mut ipv4, addr, "an invite with a machine's address")?;
                }
                invites.push(HeaderInvite {
                    id: invite.id,
                    key: invite.key,
                    uses: invite.uses,
                    expires: invite.expires,
                });
            }
            Entry::Relays(_) => once(&mut kinds, 0, "two lists of relays")?,
            Entry::Settings(_) => once(&mut kinds, 1, "two settings")?,
            Entry::Policy(_) => once(&mut kinds, 2, "two policies")?,
            Entry::Dns(_) => once(&mut kinds, 3, "two DNS documents")?,
            Entry::Unknown => {}
        }
    }
    if names.len() > MAX_MACHINES || invites.len() > MAX_INVITES {
        return Err(WireError::TooLong);
    }
    if invites != header.invites {
        return Err(WireError::Invalid("invites in the header"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::{
        identity::MachineKeys,
        metadata::InnerNet,
        roster::{NewNetwork, SignedHeader, state::sealed_hash},
    };

    fn found() -> (MachineKeys, Roster) {
        let keys = MachineKeys::generate(&mut OsRng);
        let new = NewNetwork {
            name: "home".into(),
            machine_name: "server".into(),
            keys: &keys,
            coordinator: "https://vpn.example.org".into(),
            pin: None,
            relays: Vec::new(),
            ipv4: InnerNet::new("10.71.0.0".parse().unwrap(), 16).unwrap(),
        };
        let (roster, _) = Roster::create(new, 0, &mut OsRng).unwrap();
        (keys, roster)
    }

    /// The state with entries and header as a signer that breaks the rules would sign them.
    fn signed_anyhow(
        roster: &Roster,
        keys: &MachineKeys,
        entries: Vec<SealedEntry>,
        change: impl FnOnce(&mut Header),
    ) -> Result<Roster, RosterError> {
        let slots = roster.state.slots().to_vec();
        let mut header = roster.header().clone();
        header.sealed = sealed_hash(&entries, &slots);
        header.entries = entries.len() as u32;
        change(&mut header);
        let head =
            Head { chain: roster.head().chain.clone(), header: SignedHeader::sign(header, keys.identity()) };
        Roster::open(PublicState::new(head, entries, slots), roster.key.clone(), &roster.network())
    }

    #[test]
    fn a_header_that_does_not_fit_its_entries_is_refused_though_a_signer_signed_it() {
        let (keys, roster) = found();
        let entries = || roster.state.entries().to_vec();
        assert!(signed_anyhow(&roster, &keys, entries(), |_| {}).is_ok());
        let damaged = Some(RosterError::Damaged);
        assert_eq!(signed_anyhow(&roster, &keys, entries(), |h| h.root = [0; 32]).err(), damaged);
        assert_eq!(signed_anyhow(&roster, &keys, entries(), |h| h.entries += 1).err(), damaged);
        let other = EpochKey::generate(&mut OsRng).member_key().verifying_key().to_bytes();
        assert_eq!(signed_anyhow(&roster, &keys, entries(), |h| h.member = other).err(), damaged);
        let renamed = EpochName([0; 32]);
        assert_eq!(signed_anyhow(&roster, &keys, entries(), |h| h.epoch = renamed).err(), damaged);
        let invite = HeaderInvite { id: EntryId([1; 16]), key: other, uses: 1, expires: 1 };
        let refused = signed_anyhow(&roster, &keys, entries(), |h| h.invites.push(invite)).err();
        assert!(matches!(refused, Some(RosterError::Format(_))));
    }

    #[test]
    fn machines_that_share_a_name_a_key_or_an_address_are_refused_though_a_signer_signed_them() {
        let (keys, roster) = found();
        let server = roster.machines().next().unwrap();
        let twin = MachineEntry {
            id: EntryId([0; 16]),
            name: "twin".into(),
            identity: MachineKeys::generate(&mut OsRng).public(),
            ipv4: None,
            ipv6: "fd00::1".parse().unwrap(),
            ..server.clone()
        };
        let with = |machine: MachineEntry| {
            let plain = Plain::new(machine.id, &Entry::Machine(machine.clone()), &mut OsRng).unwrap();
            let (epoch, key) = (roster.header().epoch, roster.key.roster_key());
            let sealed = SealedEntry::seal(
                &roster.network(),
                (machine.id, 1),
                (epoch, &key),
                &plain.bytes,
                &mut OsRng,
            );
            let added = Opened::new(sealed.clone(), plain);
            let mut entries = roster.state.entries().to_vec();
            entries.insert(0, sealed);
            let leaves: Vec<_> =
                std::iter::once(added.leaf()).chain(roster.opened().values().map(|o| o.leaf())).collect();
            signed_anyhow(&roster, &keys, entries, |header| header.root = merkle::root(&leaves))
        };
        assert!(with(twin.clone()).is_ok());
        for claim in ["name", "identity", "wireguard", "mailbox", "sealing", "ipv4", "ipv6"] {
            let mut machine = twin.clone();
            match claim {
                "name" => machine.name.clone_from(&server.name),
                "identity" => machine.identity.identity = server.identity.identity,
                "wireguard" => machine.identity.wireguard = server.identity.wireguard,
                "mailbox" => machine.identity.mailbox = server.identity.mailbox,
                "sealing" => machine.identity.sealing = server.identity.sealing.clone(),
                "ipv4" => machine.ipv4 = server.ipv4,
                _ => machine.ipv6 = server.ipv6,
            }
            assert!(matches!(with(machine).err(), Some(RosterError::Format(_))), "{claim}");
        }
    }
}
