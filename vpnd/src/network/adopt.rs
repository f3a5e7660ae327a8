//! Taking a newer roster, keeping it, and folding in who joined.

use std::sync::Arc;

use proto::{
    epoch::KEEP,
    pipe::ToData,
    roster::{Relation, Roster},
};
use tokio::sync::oneshot;

use super::{
    actor::{Actor, Note},
    catch_up::Present,
    clock,
    link::Trouble,
    running::Running,
    signers::is_refused,
};

impl Actor {
    /// Takes a newer roster: keeps it, tells those who read it, and applies it.
    pub(super) async fn adopt(&mut self, roster: Roster) {
        let next = self.present.borrow().followed_by(roster, clock::now());
        let Some(next) = next else { return };
        self.health.removed = false;
        self.health.contradiction.take_if(|head| head.relation(next.roster.head()) != Relation::Forked);
        self.joiners.settle(&next.roster);
        let wanted = self.own().filter(|_| self.membership.is_some()).map(|own| own.name);
        self.present.send_replace(Arc::new(next));
        if self.health.trouble == Some(Trouble::Forked) {
            // Of the roster before; what this one, which is to be seen by now, is to the coordinator's is asked at once.
            self.health.trouble = None;
            self.running.iter().for_each(Running::retry);
        }
        let named = self.own().map(|own| own.name);
        self.health.renamed |= wanted.is_some_and(|wanted| named.is_some_and(|named| named != wanted));
        self.save();
        if let Some(running) = &self.running {
            running.relays.listen(&self.keys, &self.present.borrow().epochs);
        }
        self.tell(&ToData::Floor(self.floor()));
        self.apply().await;
        self.fold();
    }

    /// Erases the keys of epochs that ended long ago, here and on the disk.
    pub(super) fn forget_old_epochs(&mut self) {
        let present = self.present.borrow().clone();
        let now = clock::now();
        if !present.epochs.ended().iter().any(|ended| now.saturating_sub(ended.at) > KEEP) {
            return;
        }
        let mut epochs = present.epochs.clone();
        epochs.prune(now);
        self.present.send_replace(Arc::new(Present { roster: present.roster.clone(), epochs }));
        self.save();
    }

    /// Writes what is to be kept. What fails is tried again: the network goes on meanwhile.
    pub(super) fn save(&mut self) {
        let present = self.present.borrow().clone();
        let mut saved = self.folder.save_roster(present.roster.state(), &present.epochs);
        if self.unsaved {
            saved = saved
                .and_then(|()| self.folder.save_credentials(&self.credentials))
                .and_then(|()| self.folder.save_settings(&self.settings));
        }
        let folded = present.roster.machine_by_identity(&self.keys.identity_public()).is_some();
        if saved.is_ok() && folded && self.membership.is_some() {
            saved = self.folder.forget_membership();
            if saved.is_ok() {
                self.membership = None;
            }
        }
        self.unsaved = saved.is_err();
        self.health.not_saved = self.unsaved;
    }

    /// Takes a record of the join list. One that cannot be opened is of no use to anybody.
    pub(super) fn learn(&mut self, join: &proto::coordinator::Join) {
        let present = self.present.borrow().clone();
        if let Ok(record) = present.roster.open_join(&join.record) {
            self.joiners.add(record, Some(join.id()));
        }
    }

    /// Asks the signer to fold in who joined, if this machine may and anybody did.
    pub(super) fn fold(&mut self) {
        let Some(running) = &self.running else { return };
        let listed = self.joiners.listed();
        let may = self.present.borrow().roster.is_signer(&self.keys.identity_public());
        if self.folding || listed.is_empty() || !may || self.health.hinders_changes() || self.is_refused() {
            return;
        }
        self.folding = true;
        let (done, outcome) = oneshot::channel();
        running.signer.fold(listed, done);
        let notes = self.notes.clone();
        tokio::spawn(async move {
            // Folded or not: the roster that comes says so, and what is left is tried again.
            let refused = is_refused(&outcome.await);
            let _ = notes.send(Note::Folded { refused }).await;
        });
    }
}
