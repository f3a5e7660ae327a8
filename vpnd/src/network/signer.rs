//! Changes of the roster: one at a time, pushed to the coordinator before anybody else hears of them.
//!
//! The coordinator's compare-and-swap decides between two signers that change at once: the loser comes to the newer
//! roster, makes its change again on top of it, and tries again. Without the coordinator nothing changes.

use std::{sync::Arc, time::Duration};

use proto::{
    coordinator::JoinId,
    roster::{Draft, EditError, EntryId, InviteSecret, JoinRecord, MembershipError, Roster},
    wire::Wire,
};
use rand_core::OsRng;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    catch_up::{Asker, CatchUpError, Present, catch_up},
    clock,
    upstream::Upstream,
};
use crate::coordinator::{Client, Error};

/// How often a change that lost against another is made again.
const ATTEMPTS: u32 = 8;

/// Changes that wait.
const QUEUE: usize = 16;

/// For the actor to take a newer roster.
const ADOPTION: Duration = Duration::from_secs(10);

/// What to change, made again on every roster that it is tried on.
pub(crate) type Edit = Box<dyn FnMut(&mut Draft<'_>) -> Result<Outcome, EditError> + Send>;

/// What a change leads to beside the next roster.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Join records that leave the list with it: folded in, or no good.
    pub(crate) settled: Vec<JoinId>,
    /// The secret of an invite that was added.
    pub(crate) invite: Option<InviteSecret>,
    /// How many invites ended with it.
    pub(crate) ended: u32,
}

/// A change that the coordinator took.
pub(crate) struct Changed {
    /// The roster with the change, or a later one.
    pub(crate) present: Arc<Present>,
    /// What it led to.
    pub(crate) outcome: Outcome,
}

/// Where the outcome of a change goes.
pub(crate) type Done = oneshot::Sender<Result<Changed, ChangeError>>;

struct Change {
    edit: Edit,
    done: Done,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The roster does not allow it.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The coordinator cannot be reached, or shows what nobody signed.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// Others changed the roster again and again meanwhile.
    #[error("others change the network at the same time")]
    Busy,
}

impl ChangeError {
    /// Whether the coordinator was there and did not take the change.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::CatchUp(CatchUpError::Coordinator(error)) => {
                !matches!(error, Error::Unreachable(_) | Error::WrongPin | Error::Untrusted)
            }
            Self::Edit(_) | Self::CatchUp(_) => false,
        }
    }
}

/// The running task. It ends when this is dropped.
pub(crate) struct Signer {
    changes: mpsc::Sender<Change>,
    task: JoinHandle<()>,
}

impl Signer {
    /// Starts the task; it hands newer rosters to `rosters`.
    pub(crate) fn start(
        client: Client,
        asker: Asker,
        present: watch::Receiver<Arc<Present>>,
        rosters: mpsc::Sender<Box<Roster>>,
    ) -> Self {
        let (changes, queue) = mpsc::channel(QUEUE);
        let mut worker = Worker { client, asker, present, rosters };
        Self { changes, task: tokio::spawn(async move { worker.run(queue).await }) }
    }

    /// Asks for a change. If too many wait, `done` is dropped, which its owner sees.
    pub(crate) fn ask(&self, edit: Edit, done: Done) {
        let _ = self.changes.try_send(Change { edit, done });
    }

    /// Asks to fold in the joiners of these records. Records that cannot become members leave the list too.
    pub(crate) fn fold(&self, listed: Vec<(JoinId, JoinRecord)>, done: Done) {
        self.ask(folding(listed), done);
    }
}

/// The change that folds records in. It fails where there is nothing to publish: all records wait for something else,
/// or another signer was faster.
pub(super) fn folding(listed: Vec<(JoinId, JoinRecord)>) -> Edit {
    let (ids, records): (Vec<JoinId>, Vec<JoinRecord>) = listed.into_iter().unzip();
    let mut again = false;
    Box::new(move |draft| {
        let folded = draft.fold_all(&records);
        let settled: Vec<JoinId> =
            ids.iter().zip(&folded).filter(|(_, outcome)| is_settled(outcome)).map(|(id, _)| *id).collect();
        let again = std::mem::replace(&mut again, true);
        if settled.is_empty() || (again && folded.iter().all(Result::is_err)) {
            return Err(MembershipError::Member.into());
        }
        Ok(Outcome { settled, ..Outcome::default() })
    })
}

/// Whether a record has nothing more to wait for. One by an invite that went astray waits for a person to decide, one
/// that finds no address for the network to get room.
fn is_settled(outcome: &Result<EntryId, EditError>) -> bool {
    !matches!(
        outcome,
        Err(EditError::Membership(MembershipError::Overused) | EditError::Full | EditError::NoAddress)
    )
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    client: Client,
    asker: Asker,
    present: watch::Receiver<Arc<Present>>,
    rosters: mpsc::Sender<Box<Roster>>,
}

impl Worker {
    async fn run(&mut self, mut queue: mpsc::Receiver<Change>) {
        while let Some(Change { edit, done }) = queue.recv().await {
            // Who asked may be gone; the change is made all the same.
            let _ = done.send(self.change(edit).await);
        }
    }

    async fn change(&mut self, mut edit: Edit) -> Result<Changed, ChangeError> {
        for _ in 0..ATTEMPTS {
            let present = self.present.borrow_and_update().clone();
            match attempt(&self.client, &self.asker, &present, clock::now(), &mut edit).await? {
                Attempt::Taken(roster, outcome) => {
                    return Ok(Changed { present: self.hand_over(*roster).await, outcome });
                }
                Attempt::Behind(Some(newer)) => drop(self.hand_over(*newer).await),
                Attempt::Behind(None) => {}
            }
        }
        Err(ChangeError::Busy)
    }

    /// Gives the actor a newer roster and waits until it has it.
    async fn hand_over(&mut self, roster: Roster) -> Arc<Present> {
        let order = roster.order();
        let _ = self.rosters.send(Box::new(roster)).await;
        let adopted = self.present.wait_for(|present| present.roster.order() >= order);
        let _ = timeout(ADOPTION, adopted).await;
        self.present.borrow().clone()
    }
}

/// What became of one attempt at a change.
pub(super) enum Attempt {
    /// The coordinator took it.
    Taken(Box<Roster>, Outcome),
    /// Another came first: the roster to make it again on, if it is a newer one.
    Behind(Option<Box<Roster>>),
}

/// Makes a change on top of `present` and offers it to the coordinator.
///
/// # Errors
/// [`ChangeError`].
pub(super) async fn attempt(
    client: &impl Upstream,
    asker: &Asker,
    present: &Present,
    now: u64,
    edit: &mut Edit,
) -> Result<Attempt, ChangeError> {
    let edit = present.roster.edit(&asker.keys, now, &mut OsRng, edit)?;
    let member = present.epochs.present().member_key();
    let settled = edit.outcome.settled.clone();
    match client.push(&asker.network, &member, edit.delta.to_bytes(), settled).await {
        Ok(()) => Ok(Attempt::Taken(Box::new(edit.roster), edit.outcome)),
        // The member key may have ended with its epoch.
        Err(Error::Conflict(_) | Error::NotPermitted) => {
            Ok(Attempt::Behind(catch_up(client, asker, present).await?.map(Box::new)))
        }
        Err(e) => Err(CatchUpError::from(e).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::sample::{network, record};

    #[test]
    fn a_fold_takes_in_who_joined_and_takes_all_records_off_the_list() {
        let (roster, keys, invite) = network(2);
        let good = record(&roster, &invite);
        let (other, _, other_invite) = network(1);
        let foreign = record(&other, &other_invite);
        let mut edit = folding(vec![([1; 32], good), ([2; 32], foreign)]);
        let edit = roster.edit(&keys, 1, &mut OsRng, &mut *edit).unwrap();
        assert_eq!(edit.roster.machines().count(), 2);
        assert!(edit.outcome.settled == [[1; 32], [2; 32]]);
    }

    #[test]
    fn a_signer_that_lost_against_another_folder_publishes_nothing() {
        let (roster, keys, invite) = network(1);
        let mut edit = folding(vec![([1; 32], record(&roster, &invite))]);
        let won = roster.edit(&keys, 1, &mut OsRng, &mut *edit).unwrap().roster;
        assert!(won.edit(&keys, 1, &mut OsRng, &mut *edit).is_err());
    }

    #[test]
    fn records_of_an_invite_that_went_astray_stay_for_a_person_to_decide() {
        let (roster, keys, invite) = network(1);
        let records = [[1; 32], [2; 32]].map(|id| (id, record(&roster, &invite)));
        let mut edit = folding(records.to_vec());
        assert!(roster.edit(&keys, 1, &mut OsRng, &mut *edit).is_err());
    }
}
