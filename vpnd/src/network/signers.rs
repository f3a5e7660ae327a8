//! Who may sign, which relays there are, and what signers renew.

use std::time::Instant;

use proto::{
    api::{ApiError, ErrorCode},
    roster::{RelayEntry, Roster, renewal_is_due},
};
use rand_core::{OsRng, RngCore};
use tokio::sync::oneshot::{self, error::RecvError};

use super::{
    actor::{Actor, Note},
    clock,
    handle::Reply,
    queries::{no_machine, not_yet},
    signer::{ChangeError, Changed, Edit, Outcome},
};

/// Signers renew at a random time within this after it is due, so that they do not all do it at once; in seconds.
const RENEWAL_SPREAD: u64 = 6 * 3_600;

/// A time to wait with renewals, drawn once for each start.
pub(super) fn renewal_patience() -> u64 {
    u64::from(OsRng.next_u32()) % RENEWAL_SPREAD
}

impl Actor {
    pub(super) fn add_signer(&self, name: &str, reply: Reply<()>) {
        self.set_signer("the machine was not made a signer", name, true, reply);
    }

    pub(super) fn remove_signer(&self, name: &str, reply: Reply<()>) {
        const WHAT: &str = "the machine is a signer still";
        if self.own().is_some_and(|own| own.name == name) {
            return drop(reply.send(Err(ApiError::new(
                ErrorCode::Usage,
                WHAT,
                "it is this machine, and a signer cannot take its own right: what follows is signed by those who stay",
                "do it on another signer: vpnctl signer list shows them",
            ))));
        }
        self.set_signer(WHAT, name, false, reply);
    }

    fn set_signer(&self, what: &'static str, name: &str, signs: bool, reply: Reply<()>) {
        let machine = self.present.borrow().roster.machine_by_name(name).map(|machine| machine.id);
        let Some(id) = machine else {
            let joiner = self.members.values().any(|machine| machine.name == name);
            return drop(reply.send(Err(if joiner { not_yet(what) } else { no_machine(what) })));
        };
        let edit: Edit = Box::new(move |draft| {
            if signs {
                draft.add_signer(&id)?;
            } else {
                draft.remove_signer(&id)?;
            }
            Ok(Outcome::default())
        });
        self.change(what, edit, reply, |_| Ok(()));
    }

    pub(super) fn add_relays(&self, relays: Vec<RelayEntry>, reply: Reply<()>) {
        let edit: Edit = Box::new(move |draft| {
            draft.add_relays(&relays)?;
            Ok(Outcome::default())
        });
        self.change("no relay was added", edit, reply, |_| Ok(()));
    }

    pub(super) fn remove_relay(&self, url: String, reply: Reply<()>) {
        let edit: Edit = Box::new(move |draft| {
            draft.remove_relay(&url)?;
            Ok(Outcome::default())
        });
        self.change("the relay was not removed", edit, reply, |_| Ok(()));
    }

    /// Renews header and epoch, if this machine may and it is time.
    pub(super) fn renew(&mut self) {
        let Some(running) = &self.running else { return };
        let present = self.present.borrow().clone();
        let may = present.roster.is_signer(&self.keys.identity_public());
        let now = clock::now().saturating_sub(self.patience);
        if self.renewing || !may || self.health.hinders_changes() || self.is_refused() {
            return;
        }
        if !is_due(&present.roster, now) {
            return;
        }
        self.renewing = true;
        let (done, outcome) = oneshot::channel();
        running.signer.ask(renewal(), done);
        let notes = self.notes.clone();
        tokio::spawn(async move {
            // Renewed by this signer or by another, or not: the next tick sees.
            let refused = is_refused(&outcome.await);
            let _ = notes.send(Note::Renewed { refused }).await;
        });
    }

    /// Whether the coordinator refused a change of this machine's own accord a moment ago.
    pub(super) fn is_refused(&self) -> bool {
        self.health.refused.is_some_and(|until| Instant::now() < until)
    }

    /// Such a change was refused: the next is tried after a pause, longer each time. Or it was not.
    pub(super) fn heed_refusal(&mut self, refused: bool) {
        if refused {
            self.health.refused = Some(Instant::now() + self.refusals.pause());
        } else {
            self.health.refused = None;
            self.refusals.reset();
        }
    }
}

/// Whether a change ended because the coordinator did not take it.
pub(super) fn is_refused(outcome: &Result<Result<Changed, ChangeError>, RecvError>) -> bool {
    matches!(outcome, Ok(Err(error)) if error.is_refusal())
}

pub(super) fn is_due(roster: &Roster, now: u64) -> bool {
    renewal_is_due(roster.not_after(), now)
}

/// The change that renews. It fails where another signer was faster.
pub(super) fn renewal() -> Edit {
    Box::new(|draft| {
        draft.renew()?;
        Ok(Outcome::default())
    })
}

#[cfg(test)]
mod tests {
    use proto::{
        coordinator::Reason,
        roster::{EditError, FRESH},
    };

    use super::*;
    use crate::{
        coordinator::{Cause, Error},
        network::{catch_up::CatchUpError, sample::network},
    };

    #[test]
    fn a_roster_is_renewed_once_a_month_by_whichever_signer_is_first() {
        let (roster, keys, _) = network(1);
        let due = roster.not_after() - FRESH + 1;
        assert!(!is_due(&roster, due - 1) && is_due(&roster, due));
        let renewed = roster.edit(&keys, due, &mut OsRng, renewal()).unwrap().roster;
        assert_eq!(renewed.epoch_number(), roster.epoch_number() + 1);
        assert!(!is_due(&renewed, due));
        // The other one comes to the renewed roster, and makes nothing of it.
        assert!(renewed.edit(&keys, due, &mut OsRng, renewal()).is_err());
    }

    #[test]
    fn a_change_that_the_coordinator_does_not_take_is_told_from_one_that_does_not_reach_it() {
        let coordinator = |error: Error| ChangeError::CatchUp(CatchUpError::Coordinator(error));
        let refused = |error: ChangeError| is_refused(&Ok(Err(error)));
        assert!(refused(coordinator(Error::Refused(Reason::TooLarge))));
        assert!(refused(coordinator(Error::NotFound)) && refused(ChangeError::Busy));
        assert!(!refused(coordinator(Error::Unreachable(Cause::Connect))));
        assert!(!refused(ChangeError::Edit(EditError::Full)));
    }

    #[test]
    fn signers_do_not_all_renew_at_once() {
        let drawn: Vec<u64> = (0..50).map(|_| renewal_patience()).collect();
        assert!(drawn.iter().all(|wait| *wait < RENEWAL_SPREAD));
        assert!(drawn.iter().max() > drawn.iter().min());
    }
}
