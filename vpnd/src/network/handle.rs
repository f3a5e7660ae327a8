//! How the rest of the daemon speaks to a network's actor.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proto::{
    api::{
        ApiError, ErrorCode, Invite, InviteCreated, Left, Machine, MachineRemoved, NetworkStatus,
        NetworkSummary, Path, Revoked,
    },
    identity::{MachineKeys, NetworkId},
    roster::{RelayEntry, Roster},
};
use tokio::sync::{mpsc, oneshot};

use super::catch_up::Present;
use crate::{netcheck::Subject, state::Coordinator};

/// Queries that wait for a busy actor.
const QUEUE: usize = 32;

/// Where an actor's answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// What an actor is asked.
pub(crate) enum Query {
    /// Set the intent and bring the network up.
    Up(Reply<NetworkSummary>),
    /// Set the intent and take the network down.
    Down(Reply<NetworkSummary>),
    /// Tell the network in one line.
    Summary(Reply<NetworkSummary>),
    /// Tell its live state.
    Status(Reply<NetworkStatus>),
    /// Tell its machines.
    Machines(Reply<Vec<Machine>>),
    /// Tell one machine, by default this one.
    Machine(Option<String>, Reply<Machine>),
    /// Rename a machine.
    Rename(Rename, Reply<()>),
    /// Make an invite.
    CreateInvite(NewInvite, Reply<InviteCreated>),
    /// Remove the machine of this name.
    Remove(String, Reply<MachineRemoved>),
    /// End an invite before its time.
    RevokeInvite(Revocation, Reply<Revoked>),
    /// Erase all that is kept of the network, and end; forced also on its only signer.
    Leave(bool, Reply<Left>),
    /// Make the machine of this name a signer.
    AddSigner(String, Reply<()>),
    /// Take its right to sign.
    RemoveSigner(String, Reply<()>),
    /// Add relays.
    AddRelays(Vec<RelayEntry>, Reply<()>),
    /// Remove the relay with this URL.
    RemoveRelay(String, Reply<()>),
    /// Tell what a recovery goes on from.
    Kept(Reply<Kept>),
    /// Take a recovered roster that the coordinator took.
    Adopt(Box<Roster>, Reply<()>),
    /// Tell the live invites.
    Invites(Reply<Vec<Invite>>),
    /// Tell what `netcheck` asks of it.
    Surroundings(Reply<Subject>),
    /// Measure the round trip to a machine once.
    Ping(String, Reply<Option<Echo>>),
    /// Take the network down without a change of intent, and end.
    Stop(Reply<()>),
}

/// A machine's names, old and new.
pub(crate) struct Rename {
    pub(crate) old: String,
    pub(crate) new: String,
}

/// Which invite is to end.
pub(crate) struct Revocation {
    /// Its id, or how it begins.
    pub(crate) id: String,
    /// Whether who joined by it is taken in first.
    pub(crate) fold: bool,
}

/// What a recovery goes on from.
pub(crate) struct Kept {
    /// The roster and the epoch keys.
    pub(crate) present: Arc<Present>,
    /// This machine's keys.
    pub(crate) keys: Arc<MachineKeys>,
}

/// What an invite is to be like.
#[derive(Clone)]
pub(crate) struct NewInvite {
    pub(crate) name: Option<String>,
    pub(crate) uses: u32,
    pub(crate) expires_in: u64,
    pub(crate) groups: Vec<String>,
}

/// An answered probe.
pub(crate) struct Echo {
    pub(crate) rtt: Duration,
    pub(crate) path: Path,
    pub(crate) endpoint: Option<SocketAddr>,
}

/// A running actor.
#[derive(Clone)]
pub(crate) struct Handle {
    /// The network.
    pub(crate) id: NetworkId,
    /// Its name on this machine, where no other network has it.
    pub(crate) name: String,
    /// Its coordinator.
    pub(crate) coordinator: Coordinator,
    queries: mpsc::Sender<Query>,
}

impl Handle {
    /// A handle, and what its actor listens to.
    pub(crate) fn new(
        id: NetworkId,
        name: String,
        coordinator: Coordinator,
    ) -> (Self, mpsc::Receiver<Query>) {
        let (queries, receiver) = mpsc::channel(QUEUE);
        (Self { id, name, coordinator, queries }, receiver)
    }

    /// Whether its actor has ended: the network was left.
    pub(crate) fn has_ended(&self) -> bool {
        self.queries.is_closed()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the caller is to be told.
    pub(crate) async fn ask<T>(&self, query: impl FnOnce(Reply<T>) -> Query) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let gone = || {
            ApiError::new(
                ErrorCode::Failed,
                "the command was not done",
                "vpnd is stopping",
                "try again once it is up: systemctl status vpnd",
            )
        };
        self.queries.send(query(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
