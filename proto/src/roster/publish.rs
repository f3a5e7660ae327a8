//! From a draft to a signed state: create, edit, recover.
//!
//! Only what changed is sealed anew. In a new epoch an unchanged entry keeps its ciphertext, and the header wraps the
//! older roster key that it needs; at most [`MAX_WRAPPED`] of them, and entries of still older epochs are sealed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand_core::CryptoRngCore;

use crate::{
    epoch::{EpochKey, EpochName, RosterKey, slot},
    identity::{MachineKeys, Pin, RootKeys},
    metadata::InnerNet,
    roster::{
        address::random_ula,
        draft::{Draft, EditError},
        entry::{Entry, EntryId, Plain, RelayEntry, Settings, valid_name},
        error::RosterError,
        generation::{Chain, MAX_GENERATIONS},
        header::{
            Ancestor, Head, Header, HeaderInvite, MAX_ANCESTORS, MAX_WRAPPED, SignedHeader, WrappedKey,
            ancestor, fresh_until, renewal_is_due,
        },
        merkle,
        opened::{Opened, Roster},
        order::Order,
        state::{Delta, PublicState, SealedEntry, SealedKey, sealed_hash},
    },
    token::RecoveryKey,
};

/// What a new network is to be.
pub struct NewNetwork<'k> {
    /// The network's name.
    pub name: String,
    /// The name of its first machine.
    pub machine_name: String,
    /// The keys of its first machine, which becomes its first signer.
    pub keys: &'k MachineKeys,
    /// The coordinator's URL.
    pub coordinator: String,
    /// Its pin; `None` if it has a certificate of the web's.
    pub pin: Option<Pin>,
    /// The relays that the coordinator offers.
    pub relays: Vec<RelayEntry>,
    /// Machines get their IPv4 addresses from here.
    pub ipv4: InnerNet,
}

/// A change that was made: not yet taken by the coordinator.
pub struct Edit<T> {
    /// The roster as it will be.
    pub roster: Roster,
    /// What the coordinator and other machines need to follow.
    pub delta: Delta,
    /// What the closure returned.
    pub outcome: T,
}

/// All that a signed state is made from.
struct Plan<'a> {
    before: Option<&'a Roster>,
    entries: BTreeMap<EntryId, Entry>,
    chain: Chain,
    order: Order,
    key: EpochKey,
    not_after: u64,
}

impl Roster {
    /// A new network with one machine, and the paper that wins over every signer.
    ///
    /// # Errors
    /// [`EditError`] if a name, a relay or the IPv4 range is not valid.
    pub fn create(
        new: NewNetwork<'_>,
        now: u64,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<(Self, RecoveryKey), EditError> {
        if !valid_name(&new.name) {
            return Err(EditError::InvalidName);
        }
        let root = RootKeys::generate(rng);
        let network = root.public().network_id();
        let settings = Settings {
            name: new.name,
            ipv4: new.ipv4,
            ipv6: random_ula(rng),
            coordinator: new.coordinator.clone(),
            pins: new.pin.into_iter().collect(),
        };
        let identity = new.keys.public();
        let signers = vec![identity.identity];
        let mut draft = Draft {
            network,
            settings: settings.clone(),
            entries: BTreeMap::new(),
            by: EntryId([0; 16]),
            now,
            rng,
            new_epoch: true,
            signers: signers.clone(),
            threshold: 1,
            not_after: 0,
        };
        draft.put_settings(settings);
        draft.set_relays(new.relays);
        draft.add_machine(&new.machine_name, identity)?;
        let entries = draft.entries;
        let plan = Plan {
            before: None,
            entries,
            chain: Chain::start(&root, 0, signers),
            order: Order { recovery: 0, generation: 1, version: 1 },
            key: EpochKey::generate(rng),
            not_after: fresh_until(now),
        };
        let roster = plan.publish(new.keys, rng)?;
        let paper = RecoveryKey { url: new.coordinator, pin: new.pin, network, seed: root.seed().clone() };
        Ok((roster, paper))
    }

    /// The next state, as `change` makes it, signed by `signer`. An empty change renews the header.
    ///
    /// # Errors
    /// What `change` returns; [`EditError::NotSigner`], [`EditError::Threshold`], [`EditError::Exhausted`],
    /// [`EditError::Format`] and [`EditError::Roster`] if the state would break a rule.
    pub fn edit<T>(
        &self,
        signer: &MachineKeys,
        now: u64,
        rng: &mut dyn CryptoRngCore,
        change: impl FnOnce(&mut Draft<'_>) -> Result<T, EditError>,
    ) -> Result<Edit<T>, EditError> {
        let identity = signer.identity_public();
        let by = self.machine_by_identity(&identity).ok_or(EditError::NotSigner)?.id;
        if !self.is_signer(&identity) {
            return Err(EditError::NotSigner);
        }
        let mut draft = Draft::of(self, by, now, rng);
        let outcome = change(&mut draft)?;
        draft.forget_ended_invites();
        let Draft { entries, new_epoch, signers, threshold, .. } = draft;
        let present = self.head().chain.current();
        let mut order = self.order();
        let chain = if signers == present.signers {
            order.version = order.version.checked_add(1).ok_or(EditError::Exhausted)?;
            self.head().chain.clone()
        } else {
            if self.head().chain.generations().len() >= MAX_GENERATIONS {
                return Err(EditError::Exhausted);
            }
            order = Order { generation: order.generation + 1, version: 1, ..order };
            self.head().chain.followed_by(signers, threshold, signer.identity())
        };
        if present.threshold != 1 || threshold != 1 {
            return Err(EditError::Threshold);
        }
        // An epoch lasts a month at most, whatever the change is.
        let new_epoch = new_epoch || renewal_is_due(self.not_after(), now);
        let key = if new_epoch { EpochKey::generate(rng) } else { self.epoch_key().clone() };
        let not_after = fresh_until(now);
        let roster =
            Plan { before: Some(self), entries, chain, order, key, not_after }.publish(signer, rng)?;
        let delta = Delta::between(self.state(), roster.state());
        Ok(Edit { roster, delta, outcome })
    }

    /// The state with which the root takes the network back from `self`, the roster that is to be kept: a recovery
    /// count higher, a fresh chain with `machine` as the only signer, a new epoch. `machine` is added under `name`
    /// if it is not a member; `change` removes who is lost.
    ///
    /// # Errors
    /// [`EditError::Roster`] with [`RosterError::OtherNetwork`] if the root is another network's, and as
    /// [`Roster::edit`].
    pub fn recover<T>(
        &self,
        root: &RootKeys,
        machine: &MachineKeys,
        name: &str,
        now: u64,
        rng: &mut dyn CryptoRngCore,
        change: impl FnOnce(&mut Draft<'_>) -> Result<T, EditError>,
    ) -> Result<Edit<T>, EditError> {
        if root.public().network_id() != self.network() {
            return Err(RosterError::OtherNetwork.into());
        }
        let recovery = self.order().recovery.checked_add(1).ok_or(EditError::Exhausted)?;
        let identity = machine.public();
        let signers = vec![identity.identity];
        let by = self.machine_by_identity(&identity.identity).map(|machine| machine.id);
        let mut draft = Draft::of(self, by.unwrap_or(EntryId([0; 16])), now, rng);
        if by.is_none() {
            draft.by = draft.add_machine(name, identity)?;
        }
        draft.signers.clone_from(&signers);
        draft.threshold = 1;
        let outcome = change(&mut draft)?;
        draft.forget_ended_invites();
        let (entries, signers) = (draft.entries, draft.signers);
        let plan = Plan {
            before: Some(self),
            entries,
            chain: Chain::start(root, recovery, signers),
            order: Order { recovery, generation: 1, version: 1 },
            key: EpochKey::generate(rng),
            not_after: fresh_until(now),
        };
        let roster = plan.publish(machine, rng)?;
        let delta = Delta::between(self.state(), roster.state());
        Ok(Edit { roster, delta, outcome })
    }
}

impl Plan<'_> {
    fn publish(mut self, signer: &MachineKeys, rng: &mut dyn CryptoRngCore) -> Result<Roster, EditError> {
        let network = self.chain.root.network_id();
        let (epoch, roster_key) = (self.key.name(), self.key.roster_key());
        let wrapped = self.wrapped(epoch, &roster_key, rng);
        let entries = self.seal_entries(&wrapped, epoch, &roster_key, rng)?;
        let slots = self.seal_keys(epoch, rng);
        let leaves: Vec<_> = entries.iter().map(|opened| opened.leaf()).collect();
        let sealed: Vec<_> = entries.iter().map(|opened| opened.sealed.clone()).collect();
        let header = Header {
            network,
            order: self.order,
            parent: self.before.map_or([0; 32], |before| before.head().header.hash()),
            epoch_number: self.epoch_number(epoch)?,
            epoch,
            member: self.key.member_key().verifying_key().to_bytes(),
            root: merkle::root(&leaves),
            entries: sealed.len() as u32,
            sealed: sealed_hash(&sealed, &slots),
            invites: self.header_invites(),
            wrapped,
            not_after: self.not_after,
            ancestors: self.ancestors(),
        };
        let head = Head { chain: self.chain, header: SignedHeader::sign(header, signer.identity()) };
        // What others would refuse is not handed out.
        let state = PublicState::new(head, sealed, slots);
        state.verify(&network)?;
        Ok(Roster::assemble(state, self.key, self.before)?)
    }

    /// The states of this generation before the one that this follows, the latest first.
    fn ancestors(&self) -> Vec<Ancestor> {
        let same = |before: &&Roster| {
            let (now, then) = (self.order, before.order());
            (now.recovery, now.generation) == (then.recovery, then.generation)
        };
        let Some(before) = self.before.filter(same) else { return Vec::new() };
        // The first of a generation follows a state of another one.
        let parent = (before.order().version > 1).then(|| ancestor(&before.header().parent));
        parent.into_iter().chain(before.header().ancestors.iter().copied()).take(MAX_ANCESTORS).collect()
    }

    fn epoch_number(&self, epoch: EpochName) -> Result<u64, EditError> {
        match self.before {
            None => Ok(0),
            Some(before) if before.header().epoch == epoch => Ok(before.epoch_number()),
            Some(before) => before.epoch_number().checked_add(1).ok_or(EditError::Exhausted),
        }
    }

    /// The older roster keys that entries which stay as they are need, newest first. The epoch just before is always
    /// among them, so that join records sealed in it can be read.
    fn wrapped(&self, epoch: EpochName, key: &RosterKey, rng: &mut dyn CryptoRngCore) -> Vec<WrappedKey> {
        let Some(before) = self.before else {
            return Vec::new();
        };
        let header = before.header();
        let older = header.wrapped.iter().map(|wrapped| wrapped.epoch);
        let former = (header.epoch != epoch).then_some(header.epoch);
        let needed: BTreeSet<_> = self.unchanged(before).map(|opened| opened.sealed.epoch).collect();
        let kept = former.into_iter().chain(older).enumerate();
        let kept = kept.filter(|(n, epoch)| *n == 0 || needed.contains(epoch)).map(|(_, epoch)| epoch);
        kept.take(MAX_WRAPPED)
            .map(|older| match header.wrapped.iter().find(|wrapped| wrapped.epoch == older) {
                Some(wrapped) if former.is_none() => wrapped.clone(),
                _ => {
                    let older_key = &before.keys()[&older];
                    WrappedKey::wrap(&header.network, (older, older_key), (epoch, key), rng)
                }
            })
            .collect()
    }

    fn unchanged<'r>(&'r self, before: &'r Roster) -> impl Iterator<Item = &'r Arc<Opened>> {
        let same =
            |id, opened: &Opened| self.entries.get(id).is_some_and(|entry| *entry == opened.plain.entry);
        before.opened().iter().filter(move |(id, opened)| same(id, opened)).map(|(_, opened)| opened)
    }

    fn seal_entries(
        &mut self,
        wrapped: &[WrappedKey],
        epoch: EpochName,
        key: &RosterKey,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<Vec<Arc<Opened>>, EditError> {
        let network = self.chain.root.network_id();
        let readable = |at: EpochName| at == epoch || wrapped.iter().any(|wrapped| wrapped.epoch == at);
        let mut sealed = Vec::new();
        for (id, entry) in &self.entries {
            let known = self.before.and_then(|before| before.opened().get(id));
            let (plain, version) = match known {
                Some(known) if known.plain.entry == *entry => {
                    if readable(known.sealed.epoch) {
                        sealed.push(Arc::clone(known));
                        continue;
                    }
                    (known.plain.clone(), known.sealed.version)
                }
                Some(known) => {
                    let version = known.sealed.version.checked_add(1).ok_or(EditError::Exhausted)?;
                    (Plain::new(*id, entry, rng)?, version)
                }
                None => (Plain::new(*id, entry, rng)?, 1),
            };
            let entry = SealedEntry::seal(&network, (*id, version), (epoch, key), &plain.bytes, rng);
            sealed.push(Arc::new(Opened::new(entry, plain)));
        }
        Ok(sealed)
    }

    /// The epoch key, sealed to the root, every machine and every live invite; as it was for those that have it.
    fn seal_keys(&self, epoch: EpochName, rng: &mut dyn CryptoRngCore) -> Vec<SealedKey> {
        let members = self.entries.values().filter_map(|entry| match entry {
            Entry::Machine(machine) => Some(&machine.identity.sealing),
            Entry::Invite(invite) => Some(&invite.sealing),
            _ => None,
        });
        let network = self.chain.root.network_id();
        let mut slots: Vec<_> = std::iter::once(&self.chain.root.sealing)
            .chain(members)
            .map(|to| {
                let slot = slot(to, &epoch);
                let known = self.before.and_then(|before| before.state().sealed_key(&slot));
                let sealed = known.map_or_else(|| self.key.seal_to(to, &network, rng), <[u8]>::to_vec);
                SealedKey { slot, sealed }
            })
            .collect();
        slots.sort_by_key(|key| key.slot);
        slots
    }

    fn header_invites(&self) -> Vec<HeaderInvite> {
        let invites = self.entries.values().filter_map(|entry| match entry {
            Entry::Invite(invite) => Some(invite),
            _ => None,
        });
        invites
            .map(|invite| HeaderInvite {
                id: invite.id,
                key: invite.key,
                uses: invite.uses,
                expires: invite.expires,
            })
            .collect()
    }
}

impl Delta {
    /// What leads from one state to its successor.
    fn between(before: &PublicState, after: &PublicState) -> Self {
        let fresh = before.order().recovery != after.order().recovery;
        let known = if fresh { 0 } else { before.head.chain.generations.len() };
        let old: BTreeMap<_, _> = before.entries().iter().map(|entry| (entry.id, entry)).collect();
        let new: BTreeSet<_> = after.entries().iter().map(|entry| entry.id).collect();
        let same_epoch = before.header().epoch == after.header().epoch;
        let freed = before.slots().iter().map(|key| key.slot);
        Self {
            fresh,
            generations: after.head.chain.generations[known..].to_vec(),
            header: after.head.header.clone(),
            changed: after
                .entries()
                .iter()
                .filter(|entry| old.get(&entry.id) != Some(entry))
                .cloned()
                .collect(),
            removed: old.into_keys().filter(|id| !new.contains(id)).collect(),
            slots: after
                .slots()
                .iter()
                .filter(|key| !same_epoch || before.sealed_key(&key.slot).is_none())
                .cloned()
                .collect(),
            freed: freed.filter(|slot| same_epoch && after.sealed_key(slot).is_none()).collect(),
        }
    }
}
