//! A change of the roster in the making.
//!
//! A [`Draft`] holds the entries as they will be; [`Roster::edit`] seals and signs what differs. Nothing reaches peers
//! before the coordinator took it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use rand_core::CryptoRngCore;

use crate::{
    identity::{MachineIdentity, NetworkId, Pin},
    metadata::{Endpoint, InnerNet},
    roster::{
        address::{random_ipv4, random_ipv6},
        entry::{
            Entry, EntryId, InviteEntry, MAX_INVITES, MAX_MACHINES, MAX_RELAYS, MAX_USES, MachineEntry,
            RelayEntry, Settings, valid_name,
        },
        error::{MembershipError, RosterError},
        generation::MAX_SIGNERS,
        header::renewal_is_due,
        invite::InviteSecret,
        join::JoinRecord,
        membership::{admit, free_name, overused},
        opened::Roster,
    },
    seal::random,
    wire::WireError,
};

/// Why a change cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A value breaks a limit of the format.
    #[error(transparent)]
    Format(#[from] WireError),
    /// The change would make a roster that nobody accepts.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A join record is no membership.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Only signers change the roster.
    #[error("this machine is not a signer of the network")]
    NotSigner,
    /// There is no such machine.
    #[error("there is no such machine in the network")]
    NoMachine,
    /// There is no such invite.
    #[error("there is no such invite: it was used up, revoked or has expired")]
    NoInvite,
    /// The name is no DNS label.
    #[error("a name has 1 to 63 lower-case letters, digits and inner hyphens")]
    InvalidName,
    /// Another machine has the name, or is to get it by an invite.
    #[error("the name is taken: another machine has it, or is to get it by an invite")]
    NameTaken,
    /// The network has as many as it can have.
    #[error("the network is full")]
    Full,
    /// The IPv4 range is used up.
    #[error("no IPv4 address is left in the network's range")]
    NoAddress,
    /// An invite needs at least one use.
    #[error("an invite has 1 to 4096 uses")]
    InvalidUses,
    /// An invite must end in the future.
    #[error("an invite must expire in the future")]
    InvalidExpiry,
    /// A network needs a signer.
    #[error("the network would be left without a signer: make another machine a signer first")]
    LastSigner,
    /// A signer cannot sign itself away: what follows must be signed by who remains.
    #[error("a signer cannot remove itself: do it on another signer")]
    OwnRemoval,
    /// The machine may change the network already.
    #[error("the machine is a signer already")]
    SignerAlready,
    /// The machine may not change the network.
    #[error("the machine is no signer")]
    NoSigner,
    /// There is no such relay.
    #[error("the network has no such relay")]
    NoRelay,
    /// There is nothing to add.
    #[error("the network has these relays already")]
    RelaysPresent,
    /// The network has as many relays as it can have.
    #[error("a network has at most {MAX_RELAYS} relays")]
    RelaysFull,
    /// Another signer renewed the roster in time.
    #[error("the roster was renewed already")]
    Fresh,
    /// The network asks for the signatures of more than one signer.
    #[error("the network asks for more than one signature, which this program cannot gather")]
    Threshold,
    /// A counter is at its end.
    #[error("the roster's version cannot go higher: change the signers, or recover the network")]
    Exhausted,
}

/// What an invite is to be.
#[derive(Clone, PartialEq, Eq)]
pub struct NewInvite {
    /// The name that the machine gets; its own choice if `None`.
    pub name: Option<String>,
    /// How many machines may join by it.
    pub uses: u32,
    /// When it ends, in unix seconds.
    pub expires: u64,
    /// The groups that the machine gets.
    pub groups: Vec<String>,
}

/// A change in the making.
pub struct Draft<'a> {
    pub(super) network: NetworkId,
    pub(super) settings: Settings,
    pub(super) entries: BTreeMap<EntryId, Entry>,
    /// The machine that makes the change.
    pub(super) by: EntryId,
    pub(super) now: u64,
    pub(super) rng: &'a mut dyn CryptoRngCore,
    pub(super) new_epoch: bool,
    /// The signers as they will be.
    pub(super) signers: Vec<[u8; 32]>,
    pub(super) threshold: u8,
    /// Until when the roster that is changed counts as fresh.
    pub(super) not_after: u64,
}

impl<'a> Draft<'a> {
    pub(super) fn of(roster: &Roster, by: EntryId, now: u64, rng: &'a mut dyn CryptoRngCore) -> Self {
        let generation = roster.head().chain.current();
        Self {
            network: roster.network(),
            settings: roster.settings().clone(),
            entries: roster.opened().iter().map(|(id, opened)| (*id, opened.plain.entry.clone())).collect(),
            by,
            now,
            rng,
            new_epoch: false,
            signers: generation.signers.clone(),
            threshold: generation.threshold,
            not_after: roster.not_after(),
        }
    }

    /// All members as they will be.
    pub fn machines(&self) -> impl Iterator<Item = &MachineEntry> + Clone {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Machine(machine) => Some(machine),
            _ => None,
        })
    }

    /// All live invites as they will be.
    pub fn invites(&self) -> impl Iterator<Item = &InviteEntry> + Clone {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Invite(invite) => Some(invite),
            _ => None,
        })
    }

    /// Adds an invite and returns its secret, for the token. One of a single use carries an IPv4 address.
    ///
    /// # Errors
    /// [`EditError`] if a value is not valid, a machine or another invite has the name, or the network or its IPv4 range
    /// is full.
    pub fn add_invite(&mut self, new: NewInvite) -> Result<InviteSecret, EditError> {
        if !(1..=MAX_USES).contains(&new.uses) {
            return Err(EditError::InvalidUses);
        }
        if new.expires <= self.now {
            return Err(EditError::InvalidExpiry);
        }
        if !new.name.iter().chain(&new.groups).all(|name| valid_name(name)) {
            return Err(EditError::InvalidName);
        }
        if let Some(name) = &new.name {
            let machine = self.machines().any(|machine| machine.name == *name);
            if machine || self.invites().any(|invite| invite.name.as_ref() == Some(name)) {
                return Err(EditError::NameTaken);
            }
        }
        if self.invites().count() >= MAX_INVITES {
            return Err(EditError::Full);
        }
        let ipv4 = if new.uses == 1 { Some(self.free_ipv4()?) } else { None };
        let secret = InviteSecret::generate(self.rng);
        let invite = InviteEntry {
            id: secret.id(),
            key: secret.signing().verifying_key().to_bytes(),
            sealing: secret.sealing().public(),
            creator: self.by,
            name: new.name,
            uses: new.uses,
            expires: new.expires,
            groups: new.groups,
            ipv4,
        };
        self.entries.insert(invite.id, Entry::Invite(invite));
        Ok(secret)
    }

    /// Revokes an invite and starts a new epoch: who saw the token reads no roster after this one. Records that
    /// joined by it and are not folded before, in the same change, are dropped by it.
    ///
    /// # Errors
    /// [`EditError::NoInvite`].
    pub fn remove_invite(&mut self, id: &EntryId) -> Result<(), EditError> {
        self.invite(id)?;
        self.entries.remove(id);
        self.new_epoch = true;
        Ok(())
    }

    /// Removes all invites that have ended, and returns how many. It starts no epoch: the next one leaves them out.
    pub fn remove_expired_invites(&mut self) -> usize {
        let before = self.entries.len();
        let now = self.now;
        self.entries.retain(|_, entry| !matches!(entry, Entry::Invite(invite) if invite.expires <= now));
        before - self.entries.len()
    }

    /// Leaves out by which invite a machine joined, once that is gone: nothing needs it any more, and it would tell for ever
    /// which machines joined by the same one.
    pub(super) fn forget_ended_invites(&mut self) {
        let live: BTreeSet<EntryId> = self.invites().map(|invite| invite.id).collect();
        for entry in self.entries.values_mut() {
            if let Entry::Machine(machine) = entry {
                machine.invite = machine.invite.filter(|id| live.contains(id));
            }
        }
    }

    /// Makes a provisional member a full one, with an IPv4 address and a name of its own. The last use deletes the
    /// invite. It does not look at other records: see [`Draft::fold_all`].
    ///
    /// # Errors
    /// [`EditError::Membership`] if the record gives no membership (an invite that has ended does not),
    /// [`EditError::Full`], [`EditError::NoAddress`].
    pub fn fold(&mut self, record: &JoinRecord) -> Result<EntryId, EditError> {
        let join = record.join();
        if self.machines().any(|machine| machine.identity.identity == join.identity.identity) {
            return Err(MembershipError::Member.into());
        }
        let mut invite = self.invite(&join.invite).map_err(|_| MembershipError::NoInvite)?.clone();
        if invite.expires <= self.now {
            return Err(MembershipError::Expired.into());
        }
        let mut machine = admit(&self.network, &self.settings, &invite, &self.machines(), record)?;
        if self.entries.contains_key(&machine.id) {
            return Err(MembershipError::Taken.into());
        }
        if self.machines().count() >= MAX_MACHINES {
            return Err(EditError::Full);
        }
        if machine.ipv4.is_none() {
            machine.ipv4 = Some(self.free_ipv4()?);
        }
        invite.uses -= 1;
        if invite.uses == 0 {
            self.entries.remove(&invite.id);
        } else {
            self.entries.insert(invite.id, Entry::Invite(invite));
        }
        let id = machine.id;
        self.entries.insert(id, Entry::Machine(machine));
        Ok(id)
    }

    /// Folds the whole join list, one answer per record. Records by an invite that more machines joined by than it
    /// allows are not folded.
    pub fn fold_all(&mut self, records: &[JoinRecord]) -> Vec<Result<EntryId, EditError>> {
        let folded =
            |identity: &[u8; 32]| self.machines().any(|machine| machine.identity.identity == *identity);
        let overused = overused(|id| self.invite(id).ok(), folded, &self.network, records);
        records
            .iter()
            .map(|record| {
                if overused.contains(&record.join().invite) {
                    return Err(MembershipError::Overused.into());
                }
                self.fold(record)
            })
            .collect()
    }

    /// Adds a machine by a signer's own word. A clash of names gets a digit.
    ///
    /// # Errors
    /// [`EditError::InvalidName`], [`EditError::Full`], [`EditError::NoAddress`].
    pub fn add_machine(&mut self, name: &str, identity: MachineIdentity) -> Result<EntryId, EditError> {
        if !valid_name(name) {
            return Err(EditError::InvalidName);
        }
        if self.machines().count() >= MAX_MACHINES {
            return Err(EditError::Full);
        }
        let machine = MachineEntry {
            id: EntryId(random(self.rng)),
            name: free_name(name, |name| self.machines().any(|machine| machine.name == name)),
            identity,
            ipv4: Some(self.free_ipv4()?),
            ipv6: random_ipv6(self.settings.ipv6, self.rng),
            groups: Vec::new(),
            routes: Vec::new(),
            endpoints: Vec::new(),
            invite: None,
        };
        let id = machine.id;
        self.entries.insert(id, Entry::Machine(machine));
        Ok(id)
    }

    /// Gives a machine another name.
    ///
    /// # Errors
    /// [`EditError::NoMachine`], [`EditError::InvalidName`], [`EditError::NameTaken`].
    pub fn rename_machine(&mut self, id: &EntryId, name: &str) -> Result<(), EditError> {
        if !valid_name(name) {
            return Err(EditError::InvalidName);
        }
        if self.machines().any(|machine| machine.name == name && machine.id != *id) {
            return Err(EditError::NameTaken);
        }
        name.clone_into(&mut self.machine_mut(id)?.name);
        Ok(())
    }

    /// Removes a machine and starts a new epoch. The invite that it joined by and those that it made go too, for it
    /// knows their tokens; their ids are returned. If it was a signer, a new generation starts without it.
    ///
    /// # Errors
    /// [`EditError::NoMachine`], [`EditError::LastSigner`], [`EditError::OwnRemoval`].
    pub fn remove_machine(&mut self, id: &EntryId) -> Result<Vec<EntryId>, EditError> {
        let machine = self.machine_mut(id)?.clone();
        if self.signers == [machine.identity.identity] {
            return Err(EditError::LastSigner);
        }
        if machine.id == self.by {
            return Err(EditError::OwnRemoval);
        }
        self.signers.retain(|signer| *signer != machine.identity.identity);
        let known: Vec<_> = self
            .invites()
            .filter(|invite| invite.creator == machine.id || machine.invite == Some(invite.id))
            .map(|invite| invite.id)
            .collect();
        for gone in known.iter().chain([id]) {
            self.entries.remove(gone);
        }
        self.new_epoch = true;
        Ok(known)
    }

    /// Sets a machine's groups.
    ///
    /// # Errors
    /// [`EditError::NoMachine`], [`EditError::InvalidName`].
    pub fn set_groups(&mut self, id: &EntryId, groups: Vec<String>) -> Result<(), EditError> {
        if !groups.iter().all(|group| valid_name(group)) {
            return Err(EditError::InvalidName);
        }
        self.machine_mut(id)?.groups = groups;
        Ok(())
    }

    /// Sets the further ranges that a machine forwards to.
    ///
    /// # Errors
    /// [`EditError::NoMachine`].
    pub fn set_routes(&mut self, id: &EntryId, routes: Vec<InnerNet>) -> Result<(), EditError> {
        self.machine_mut(id)?.routes = routes;
        Ok(())
    }

    /// Sets where a machine can always be reached.
    ///
    /// # Errors
    /// [`EditError::NoMachine`].
    pub fn set_endpoints(&mut self, id: &EntryId, endpoints: Vec<Endpoint>) -> Result<(), EditError> {
        self.machine_mut(id)?.endpoints = endpoints;
        Ok(())
    }

    /// Sets the relays; their order is how machines number them.
    pub fn set_relays(&mut self, relays: Vec<RelayEntry>) {
        self.put_single(Entry::Relays(relays), |entry| matches!(entry, Entry::Relays(_)));
    }

    /// Adds relays behind those that are there. One with the URL of another takes its place: its key is another now.
    ///
    /// # Errors
    /// [`EditError::RelaysPresent`] if nothing is new, [`EditError::RelaysFull`].
    pub fn add_relays(&mut self, more: &[RelayEntry]) -> Result<(), EditError> {
        let before = self.relays();
        let mut relays = before.clone();
        for relay in more {
            match relays.iter_mut().find(|known| known.url == relay.url) {
                Some(known) => known.clone_from(relay),
                None => relays.push(relay.clone()),
            }
        }
        if relays == before {
            return Err(EditError::RelaysPresent);
        }
        if relays.len() > MAX_RELAYS {
            return Err(EditError::RelaysFull);
        }
        self.set_relays(relays);
        Ok(())
    }

    /// Removes the relay with this URL; a slash at the end makes no difference.
    ///
    /// # Errors
    /// [`EditError::NoRelay`].
    pub fn remove_relay(&mut self, url: &str) -> Result<(), EditError> {
        let mut relays = self.relays();
        let before = relays.len();
        let bare = url.trim_end_matches('/');
        relays.retain(|relay| relay.url.trim_end_matches('/') != bare);
        if relays.len() == before {
            return Err(EditError::NoRelay);
        }
        self.set_relays(relays);
        Ok(())
    }

    fn relays(&self) -> Vec<RelayEntry> {
        let found = self.entries.values().find_map(|entry| match entry {
            Entry::Relays(relays) => Some(relays.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// Sets the policy document.
    pub fn set_policy(&mut self, document: Vec<u8>) {
        self.put_single(Entry::Policy(document), |entry| matches!(entry, Entry::Policy(_)));
    }

    /// Sets the DNS document.
    pub fn set_dns(&mut self, document: Vec<u8>) {
        self.put_single(Entry::Dns(document), |entry| matches!(entry, Entry::Dns(_)));
    }

    /// Sets where the coordinator is: its URL, its present pin and the next one.
    pub fn set_coordinator(&mut self, url: String, pins: Vec<Pin>) {
        let settings = Settings { coordinator: url, pins, ..self.settings.clone() };
        self.put_settings(settings);
    }

    /// Makes these machines the signers, in a new generation if they differ from the present ones.
    ///
    /// # Errors
    /// [`EditError::NoMachine`], [`EditError::LastSigner`], [`EditError::Full`], and [`EditError::OwnRemoval`] if
    /// the machine that makes the change is not among them.
    pub fn set_signers(&mut self, machines: &[EntryId]) -> Result<(), EditError> {
        if machines.is_empty() {
            return Err(EditError::LastSigner);
        }
        if machines.len() > MAX_SIGNERS {
            return Err(EditError::Full);
        }
        if !machines.contains(&self.by) {
            return Err(EditError::OwnRemoval);
        }
        let mut signers = Vec::new();
        for id in machines {
            let identity = self.machine_mut(id)?.identity.identity;
            if !signers.contains(&identity) {
                signers.push(identity);
            }
        }
        self.signers = signers;
        Ok(())
    }

    /// Makes a machine a signer, in a new generation.
    ///
    /// # Errors
    /// [`EditError::NoMachine`], [`EditError::SignerAlready`], [`EditError::Full`].
    pub fn add_signer(&mut self, id: &EntryId) -> Result<(), EditError> {
        let identity = self.machine_mut(id)?.identity.identity;
        if self.signers.contains(&identity) {
            return Err(EditError::SignerAlready);
        }
        if self.signers.len() >= MAX_SIGNERS {
            return Err(EditError::Full);
        }
        self.signers.push(identity);
        Ok(())
    }

    /// Takes a signer's right away, in a new generation; it stays a member.
    ///
    /// # Errors
    /// [`EditError::NoMachine`], [`EditError::NoSigner`], [`EditError::LastSigner`], [`EditError::OwnRemoval`].
    pub fn remove_signer(&mut self, id: &EntryId) -> Result<(), EditError> {
        let identity = self.machine_mut(id)?.identity.identity;
        if !self.signers.contains(&identity) {
            return Err(EditError::NoSigner);
        }
        if self.signers == [identity] {
            return Err(EditError::LastSigner);
        }
        if *id == self.by {
            return Err(EditError::OwnRemoval);
        }
        self.signers.retain(|signer| *signer != identity);
        Ok(())
    }

    /// Renews the roster: its freshness and its epoch.
    ///
    /// # Errors
    /// [`EditError::Fresh`] if it does not need that yet ([`renewal_is_due`]).
    pub fn renew(&mut self) -> Result<(), EditError> {
        if !renewal_is_due(self.not_after, self.now) {
            return Err(EditError::Fresh);
        }
        self.remove_expired_invites();
        self.new_epoch = true;
        Ok(())
    }

    /// Removes every invite, as after a theft: nobody knows who has seen their tokens.
    pub fn remove_all_invites(&mut self) {
        self.entries.retain(|_, entry| !matches!(entry, Entry::Invite(_)));
        self.new_epoch = true;
    }

    /// Starts a new epoch with this change.
    pub fn new_epoch(&mut self) {
        self.new_epoch = true;
    }

    pub(super) fn put_settings(&mut self, settings: Settings) {
        self.settings = settings.clone();
        self.put_single(Entry::Settings(settings), |entry| matches!(entry, Entry::Settings(_)));
    }

    fn put_single(&mut self, entry: Entry, is_it: impl Fn(&Entry) -> bool) {
        let known = self.entries.iter().find(|(_, entry)| is_it(entry)).map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| EntryId(random(self.rng)));
        self.entries.insert(id, entry);
    }

    fn invite(&self, id: &EntryId) -> Result<&InviteEntry, EditError> {
        match self.entries.get(id) {
            Some(Entry::Invite(invite)) => Ok(invite),
            _ => Err(EditError::NoInvite),
        }
    }

    fn machine_mut(&mut self, id: &EntryId) -> Result<&mut MachineEntry, EditError> {
        match self.entries.get_mut(id) {
            Some(Entry::Machine(machine)) => Ok(machine),
            _ => Err(EditError::NoMachine),
        }
    }

    fn free_ipv4(&mut self) -> Result<Ipv4Addr, EditError> {
        let machines = self.machines().filter_map(|machine| machine.ipv4);
        let taken = machines.chain(self.invites().filter_map(|invite| invite.ipv4)).collect();
        random_ipv4(self.settings.ipv4, &taken, self.rng).ok_or(EditError::NoAddress)
    }
}
