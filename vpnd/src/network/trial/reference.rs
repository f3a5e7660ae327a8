//! The plain model: what a network is after the changes that the coordinator took, kept in sets.

use std::collections::{BTreeMap, BTreeSet};

use proto::roster::{JoinRecord, Roster};

pub(super) type Identity = [u8; 32];
pub(super) type InviteId = [u8; 16];

/// Who and what is in a network.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Reference {
    /// By identity key, with the invite by which each joined.
    pub(super) members: BTreeMap<Identity, Option<InviteId>>,
    pub(super) signers: BTreeSet<Identity>,
    pub(super) invites: BTreeMap<InviteId, Ticket>,
    /// Names that were given; others are the machines' own.
    pub(super) names: BTreeMap<Identity, String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) uses: u32,
    pub(super) expires: u64,
    pub(super) creator: Identity,
}

impl Reference {
    /// A network of these members; what they joined by is used up.
    pub(super) fn of(members: &[Identity], signers: &[Identity]) -> Self {
        Self {
            members: members.iter().map(|identity| (*identity, None)).collect(),
            signers: signers.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// Takes in who joined by an invite that is live.
    pub(super) fn fold(&mut self, records: &[JoinRecord], now: u64) {
        for record in records {
            let join = record.join();
            let identity = join.identity.identity;
            let Some(ticket) = self.invites.get_mut(&join.invite.0) else { continue };
            if ticket.expires <= now || self.members.contains_key(&identity) {
                continue;
            }
            ticket.uses -= 1;
            if ticket.uses == 0 {
                self.invites.remove(&join.invite.0);
            }
            self.members.insert(identity, Some(join.invite.0));
        }
    }

    /// Takes out a machine, and the invites that it knows.
    pub(super) fn remove(&mut self, identity: &Identity) {
        let joined_by = self.members.remove(identity).flatten();
        self.signers.remove(identity);
        self.names.remove(identity);
        self.invites.retain(|id, ticket| ticket.creator != *identity && joined_by != Some(*id));
    }

    pub(super) fn expire(&mut self, now: u64) {
        self.invites.retain(|_, ticket| ticket.expires > now);
    }

    /// Whether `roster` says the same.
    pub(super) fn agrees(&self, roster: &Roster) -> bool {
        let members: BTreeSet<_> = roster.machines().map(|machine| machine.identity.identity).collect();
        let signers = roster.head().chain.current().signers.iter().copied().collect::<BTreeSet<_>>();
        let invites: BTreeMap<_, _> = roster.invites().map(|invite| (invite.id.0, invite.uses)).collect();
        members.iter().eq(self.members.keys())
            && signers == self.signers
            && invites.into_iter().eq(self.invites.iter().map(|(id, ticket)| (*id, ticket.uses)))
            && self.names.iter().all(|(identity, name)| {
                roster.machine_by_identity(identity).is_some_and(|machine| machine.name == *name)
            })
    }
}
