//! Removing a machine, revoking an invite, leaving.
//!
//! A removal and a revocation start a new epoch: whoever has it knows the removed machine no more, and nothing that
//! comes after is sealed to it or to the invite. A machine cannot remove itself: the next epoch must be made by one that
//! stays. So leaving erases what is kept here, and a signer takes the machine off the roster.

use proto::{
    api::{ApiError, ErrorCode, Left, MachineRemoved, Revoked},
    coordinator::JoinId,
    roster::{EntryId, JoinRecord, MembershipError, Roster},
};

use super::{
    actor::Actor,
    handle::{Reply, Revocation},
    queries::{no_machine, not_yet},
    running::Ears,
    signer::{Edit, Outcome},
};
use crate::daemon::refusal;

impl Actor {
    pub(super) fn remove(&self, name: &str, reply: Reply<MachineRemoved>) {
        const WHAT: &str = "the machine was not removed";
        if self.own().is_some_and(|own| own.name == name) {
            return drop(reply.send(Err(is_this(WHAT))));
        }
        let machine = self.present.borrow().roster.machine_by_name(name).map(|machine| machine.id);
        let Some(id) = machine else {
            let joiner = self.members.values().any(|machine| machine.name == name);
            return drop(reply.send(Err(if joiner { not_yet(WHAT) } else { no_machine(WHAT) })));
        };
        let edit: Edit = Box::new(move |draft| {
            let ended = count(draft.remove_machine(&id)?.len());
            Ok(Outcome { ended, ..Outcome::default() })
        });
        let name = name.to_owned();
        self.change(WHAT, edit, reply, |changed| Ok(MachineRemoved { name, invites: changed.outcome.ended }));
    }

    pub(super) fn revoke(&self, wish: &Revocation, reply: Reply<Revoked>) {
        const WHAT: &str = "the invite was not revoked";
        let id = match find(&self.present.borrow().roster, &wish.id) {
            Ok(id) => id,
            Err(why) => return drop(reply.send(Err(no_such_invite(WHAT, why)))),
        };
        let joined = self.joiners.of(&id);
        let waiting = count(joined.len());
        self.change(WHAT, revocation(id, joined, wish.fold), reply, move |changed| {
            let taken_in = count(changed.outcome.settled.len());
            Ok(Revoked { id: id.to_hex(), taken_in, dropped: waiting.saturating_sub(taken_in) })
        });
    }

    /// Erases all that is kept of the network. What is in the outer `Err` leaves everything as it was; in the inner
    /// one the network is left, and something of it is still on the disk.
    pub(super) async fn leave(
        &mut self,
        force: bool,
        ears: &mut Option<Ears>,
    ) -> Result<Result<Left, ApiError>, ApiError> {
        const WHAT: &str = "the network was not left";
        if self.is_only_signer() && !force {
            return Err(ApiError::new(
                ErrorCode::NotPermitted,
                WHAT,
                "this machine is its only signer: once it is gone, only the recovery key changes the network",
                "make another machine a signer first, or give the network up: vpnctl leave --force",
            ));
        }
        let own = self.own();
        let listed = own.is_some() && !self.health.removed;
        let machine = own.map(|own| own.name).unwrap_or_default();
        let left = Left { network: self.summary().name, machine, listed };
        let retired = self.folder.retire().map_err(|e| refusal::state(WHAT, &e))?;
        self.take_down(ears).await;
        let erased = retired.erase();
        Ok(erased.map(|()| left).map_err(|e| {
            let why = e.to_string();
            ApiError::new(
                ErrorCode::Storage,
                "the network was left, and something of it is still on the disk",
                why.split(": ").next().unwrap_or_default(),
                "restart vpnd once the disk can be written: it erases the rest",
            )
        }))
    }

    fn is_only_signer(&self) -> bool {
        let present = self.present.borrow();
        let signers = &present.roster.head().chain.current().signers;
        !self.health.removed && *signers == [self.keys.identity_public()]
    }
}

/// The change that ends an invite. With `fold`, who joined by it is taken in by the same change; the coordinator drops
/// the other records with the invite.
pub(super) fn revocation(id: EntryId, joined: Vec<(JoinId, JoinRecord)>, fold: bool) -> Edit {
    let (ids, records): (Vec<JoinId>, Vec<JoinRecord>) = joined.into_iter().unzip();
    Box::new(move |draft| {
        let mut settled = Vec::new();
        if fold {
            let folded = draft.fold_all(&records);
            if folded.iter().any(|outcome| *outcome == Err(MembershipError::Overused.into())) {
                return Err(MembershipError::Overused.into());
            }
            settled.extend(ids.iter().zip(&folded).filter(|(_, outcome)| outcome.is_ok()).map(|(id, _)| *id));
        }
        // The last use of an invite ends it, but not the epoch.
        if draft.invites().any(|invite| invite.id == id) {
            draft.remove_invite(&id)?;
        } else if settled.is_empty() {
            return Err(proto::roster::EditError::NoInvite);
        }
        draft.new_epoch();
        Ok(Outcome { settled, ended: 1, ..Outcome::default() })
    })
}

/// The invite whose id begins so, or why there is none.
fn find(roster: &Roster, prefix: &str) -> Result<EntryId, &'static str> {
    let prefix = prefix.to_ascii_lowercase();
    let mut found = roster.invites().map(|invite| invite.id).filter(|id| id.to_hex().starts_with(&prefix));
    match (found.next().filter(|_| !prefix.is_empty()), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err("several invites begin so"),
        (None, _) => Err("no live invite begins so: it was used up, revoked or has expired"),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn is_this(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Usage,
        what,
        "it is this machine, and a machine cannot remove itself",
        "leave the network: vpnctl leave, or remove it on another signer",
    )
}

fn no_such_invite(what: &str, why: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, what, why, "see the live ones: vpnctl invite list")
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::network::sample::{network, record};

    #[test]
    fn a_revoked_invite_ends_its_epoch_and_takes_in_nobody_unless_told_to() {
        let (roster, keys, invite) = network(3);
        let joined = vec![([1; 32], record(&roster, &invite))];
        for (fold, machines) in [(false, 1), (true, 2)] {
            let mut edit = revocation(invite.id(), joined.clone(), fold);
            let edit = roster.edit(&keys, 0, &mut OsRng, &mut *edit).unwrap();
            assert_eq!(edit.roster.machines().count(), machines);
            assert_eq!(edit.outcome.settled.len(), machines - 1);
            assert_eq!(edit.roster.invites().count(), 0);
            assert_eq!(edit.roster.epoch_number(), roster.epoch_number() + 1);
        }
    }

    #[test]
    fn an_invite_whose_last_use_is_taken_in_by_its_revocation_ends_the_epoch_too() {
        let (roster, keys, invite) = network(1);
        let mut edit = revocation(invite.id(), vec![([1; 32], record(&roster, &invite))], true);
        let edit = roster.edit(&keys, 0, &mut OsRng, &mut *edit).unwrap();
        assert_eq!((edit.roster.machines().count(), edit.roster.invites().count()), (2, 0));
        assert_eq!(edit.roster.epoch_number(), roster.epoch_number() + 1);
        // Another signer was faster.
        let mut again = revocation(invite.id(), Vec::new(), true);
        assert!(edit.roster.edit(&keys, 0, &mut OsRng, &mut *again).is_err());
    }

    #[test]
    fn an_invite_that_went_astray_takes_in_nobody_by_its_revocation() {
        let (roster, keys, invite) = network(1);
        let joined = [1, 2].map(|n| ([n; 32], record(&roster, &invite))).to_vec();
        let mut fold = revocation(invite.id(), joined.clone(), true);
        assert!(roster.edit(&keys, 0, &mut OsRng, &mut *fold).is_err());
        let mut drop_all = revocation(invite.id(), joined, false);
        let edit = roster.edit(&keys, 0, &mut OsRng, &mut *drop_all).unwrap();
        assert_eq!((edit.roster.machines().count(), edit.roster.invites().count()), (1, 0));
    }

    #[test]
    fn an_invite_is_named_by_the_first_digits_that_no_other_has() {
        let (roster, _, invite) = network(1);
        let id = invite.id().to_hex();
        assert!(find(&roster, &id) == Ok(invite.id()) && find(&roster, &id[..8]) == Ok(invite.id()));
        assert!(find(&roster, &id.to_uppercase()) == Ok(invite.id()));
        assert!(find(&roster, "").is_err() && find(&roster, "xyz").is_err());
    }
}
