//! The task that asks and answers.
//!
//! It reads the roster ([`Present`]) and hands over newer ones, as the other tasks of a network do; the actor owns it
//! and never waits for this task.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::{
    roster::{Floor, Head, Roster},
    sync::PORT,
};
use rand_core::OsRng;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, sleep_until, timeout},
};

use super::{
    door::Door,
    exchange::{ExchangeError, Outcome, answer, ask},
    plan::{End, Plan},
};
use crate::{
    apply::Key,
    network::catch_up::{Asker, Present},
};

/// For a connection to come about: a session may have to be made first, whose first initiation was lost.
const CONNECT: Duration = Duration::from_secs(8);

/// Between two tries to listen, while something keeps us from it.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted; those inside are bounded by [`Door`].
const BACKLOG: u32 = 8;

/// Claims that wait. One that finds no room is made again, or another peer's will do.
const QUEUE: usize = 1_024;

/// The members that may ask and be asked, with their addresses.
pub(crate) type Members = Arc<BTreeMap<Key, Ipv6Addr>>;

/// What the actor is told.
pub(crate) enum SyncEvent {
    /// A newer roster, checked.
    Roster(Box<Roster>),
    /// A peer's head, verified, that contradicted ours.
    Forked(Box<Head>),
    /// A newer roster, signed, in which this machine has no part.
    Removed,
}

/// The running task. It ends when this is dropped.
pub(crate) struct Sync {
    told: Told,
    task: JoinHandle<()>,
}

/// What the task is told. However much peers claim, nothing else waits behind that, or is lost for it.
struct Told {
    claims: mpsc::Sender<(Key, Floor)>,
    /// `None` until it was tried.
    coordinator: watch::Sender<Option<bool>>,
    moved: watch::Sender<()>,
    members: watch::Sender<Members>,
    address: watch::Sender<Option<Ipv6Addr>>,
}

impl Sync {
    /// Starts the task for the network behind the interface of this name.
    pub(crate) fn start(
        interface: &str,
        asker: Asker,
        present: watch::Receiver<Arc<Present>>,
        events: mpsc::Sender<SyncEvent>,
    ) -> Self {
        let (told, keeper) = Keeper::new(interface, asker, present, events);
        Self { told, task: tokio::spawn(keeper.run()) }
    }

    /// From now on these may ask and be asked.
    pub(crate) fn set_members(&self, members: BTreeMap<Key, Ipv6Addr>) {
        self.told.members.send_if_modified(|present| {
            let changed = **present != members;
            if changed {
                *present = Arc::new(members);
            }
            changed
        });
    }

    /// From now on this machine answers at this address.
    pub(crate) fn set_address(&self, address: Ipv6Addr) {
        self.told.address.send_replace(Some(address));
    }

    /// Whether the coordinator is well.
    pub(crate) fn coordinator(&self, well: bool) {
        self.told.coordinator.send_replace(Some(well));
    }

    /// A peer said which roster it has.
    pub(crate) fn claim(&self, peer: Key, floor: Floor) {
        let _ = self.told.claims.try_send((peer, floor));
    }

    /// The network around us has changed.
    pub(crate) fn retry(&self) {
        self.told.moved.send_replace(());
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    interface: String,
    asker: Arc<Asker>,
    present: watch::Receiver<Arc<Present>>,
    claims: mpsc::Receiver<(Key, Floor)>,
    coordinator: watch::Receiver<Option<bool>>,
    moved: watch::Receiver<()>,
    members: watch::Receiver<Members>,
    address: watch::Receiver<Option<Ipv6Addr>>,
    events: mpsc::Sender<SyncEvent>,
    plan: Plan,
    door: Door,
    under_way: JoinSet<Done>,
}

/// An exchange that ended, who began it, and with whom it was. `None` if no connection came about.
struct Done {
    asked: bool,
    peer: Key,
    outcome: Option<Result<Outcome, ExchangeError>>,
}

/// What can come.
enum Occurrence {
    Claim(Key, Floor),
    Coordinator,
    Moved,
    Members,
    Address,
    Roster,
    Knock(TcpStream, SocketAddr),
    Done(Done),
    Time,
    /// The network is gone.
    End,
}

impl Keeper {
    fn new(
        interface: &str,
        asker: Asker,
        present: watch::Receiver<Arc<Present>>,
        events: mpsc::Sender<SyncEvent>,
    ) -> (Told, Self) {
        let (claims, claims_made) = mpsc::channel(QUEUE);
        let (coordinator, coordinator_seen) = watch::channel(None);
        let (moved, moved_seen) = watch::channel(());
        let (members, members_seen) = watch::channel(Members::default());
        let (address, address_seen) = watch::channel(None);
        let keeper = Self {
            interface: interface.to_owned(),
            asker: Arc::new(asker),
            present,
            claims: claims_made,
            coordinator: coordinator_seen,
            moved: moved_seen,
            members: members_seen,
            address: address_seen,
            events,
            plan: Plan::new(Instant::now()),
            door: Door::default(),
            under_way: JoinSet::new(),
        };
        (Told { claims, coordinator, moved, members, address }, keeper)
    }

    async fn run(mut self) {
        let mut listener = None;
        loop {
            for peer in self.plan.due(Instant::now(), &mut OsRng) {
                self.ask(peer);
            }
            if listener.is_none() {
                listener = self.listen().ok();
            }
            match self.next(listener.as_ref()).await {
                Occurrence::Claim(peer, theirs) => {
                    let own = floor(&self.present.borrow());
                    self.plan.claim(Instant::now(), peer, theirs, &own);
                }
                Occurrence::Coordinator => {
                    if let Some(well) = *self.coordinator.borrow_and_update() {
                        self.plan.coordinator(Instant::now(), well, &mut OsRng);
                    }
                }
                Occurrence::Moved => self.plan.moved(Instant::now(), &mut OsRng),
                Occurrence::Members => {
                    let members = self.members.borrow_and_update().keys().copied().collect();
                    self.plan.set_members(members);
                }
                Occurrence::Address => listener = None,
                Occurrence::Roster => {
                    let floor = floor(&self.present.borrow_and_update());
                    self.plan.adopted(Instant::now(), &floor);
                }
                Occurrence::Knock(stream, from) => self.admit(stream, from),
                Occurrence::Done(done) => self.settle(done).await,
                Occurrence::Time => {}
                Occurrence::End => return,
            }
        }
    }

    async fn next(&mut self, listener: Option<&TcpListener>) -> Occurrence {
        let wake = self.plan.wake();
        tokio::select! {
            claim = self.claims.recv() => match claim {
                Some((peer, theirs)) => Occurrence::Claim(peer, theirs),
                None => Occurrence::End,
            },
            Ok(()) = self.coordinator.changed() => Occurrence::Coordinator,
            Ok(()) = self.moved.changed() => Occurrence::Moved,
            Ok(()) = self.members.changed() => Occurrence::Members,
            Ok(()) = self.address.changed() => Occurrence::Address,
            Ok(()) = self.present.changed() => Occurrence::Roster,
            Some(done) = self.under_way.join_next() => match done {
                Ok(done) => Occurrence::Done(done),
                // Nothing cancels or panics; if it did, the peer is not asked again before the next start.
                Err(_) => Occurrence::Time,
            },
            (stream, from) = accept(listener) => Occurrence::Knock(stream, from),
            () = at(wake) => Occurrence::Time,
            () = sleep(LISTEN_AGAIN), if listener.is_none() && self.address.borrow().is_some() => Occurrence::Time,
        }
    }

    /// Listens on this machine's address, for what comes through its interface alone: another one's neighbours may
    /// claim any address.
    fn listen(&self) -> io::Result<TcpListener> {
        let address = self.address.borrow().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = self.socket()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((address, PORT)))?;
        socket.listen(BACKLOG)
    }

    fn socket(&self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v6()?;
        socket.bind_device(Some(self.interface.as_bytes()))?;
        Ok(socket)
    }

    /// Begins an exchange that somebody asks for, or closes the connection.
    fn admit(&mut self, mut stream: TcpStream, from: SocketAddr) {
        let SocketAddr::V6(from) = from else { return };
        let Some(peer) = self.door.knock(Instant::now(), *from.ip(), &self.members.borrow()) else { return };
        let (asker, present) = (self.asker.clone(), self.present.borrow().clone());
        self.under_way.spawn(async move {
            let outcome = Some(answer(&mut stream, &asker, &present).await);
            Done { asked: false, peer, outcome }
        });
    }

    /// Begins an exchange with a member.
    fn ask(&mut self, peer: Key) {
        let address = self.members.borrow().get(&peer).copied();
        let socket = self.socket();
        let (asker, present) = (self.asker.clone(), self.present.borrow().clone());
        self.under_way.spawn(async move {
            let stream = async {
                let to = SocketAddrV6::new(address?, PORT, 0, 0);
                timeout(CONNECT, socket.ok()?.connect(to.into())).await.ok()?.ok()
            };
            let outcome = match stream.await {
                Some(mut stream) => Some(ask(&mut stream, &asker, &present).await),
                None => None,
            };
            Done { asked: true, peer, outcome }
        });
    }

    /// Draws the conclusions of an exchange that ended.
    async fn settle(&mut self, done: Done) {
        let Done { asked, peer, outcome } = done;
        let (mut own, end) = (floor(&self.present.borrow()), end(outcome.as_ref()));
        let event = match outcome {
            Some(Ok(Outcome::Took(roster))) => {
                // The actor is about to have it.
                own = roster.head().floor();
                Some(SyncEvent::Roster(roster))
            }
            Some(Ok(Outcome::Forked(head))) => Some(SyncEvent::Forked(head)),
            Some(Ok(Outcome::Removed)) => Some(SyncEvent::Removed),
            Some(Ok(Outcome::Same | Outcome::Gave) | Err(_)) | None => None,
        };
        if asked {
            self.plan.ended(Instant::now(), &peer, end, &own);
        } else {
            self.door.left(&peer);
        }
        if let Some(event) = event {
            // If the actor is gone, this task is about to end too.
            let _ = self.events.send(event).await;
        }
    }
}

fn end(outcome: Option<&Result<Outcome, ExchangeError>>) -> End {
    match outcome {
        None | Some(Err(ExchangeError::Silent)) => End::Unreachable,
        Some(Err(_)) => End::Bad,
        Some(Ok(_)) => End::Fine,
    }
}

fn floor(present: &Present) -> Floor {
    present.roster.head().floor()
}

async fn accept(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // No descriptors left, most likely.
            Err(_) => sleep(LISTEN_AGAIN).await,
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use proto::epoch::EpochKeys;

    use super::*;
    use crate::network::sample::network;

    #[tokio::test]
    async fn a_peer_that_claims_more_than_there_is_room_for_hides_no_change_of_the_coordinator() {
        let (roster, keys, _) = network(1);
        let asker = Asker { network: roster.network(), keys: Arc::new(keys), invite: None };
        let (claimed, epochs) = (roster.head().floor(), EpochKeys::new(roster.epoch_key().clone()));
        let (_roster, present) = watch::channel(Arc::new(Present { roster, epochs }));
        let (events, _actor) = mpsc::channel(1);
        let (told, mut keeper) = Keeper::new("none", asker, present, events);
        let sync = Sync { told, task: tokio::spawn(std::future::pending()) };

        for _ in 0..2 * QUEUE {
            sync.claim([1; 32], claimed);
        }
        sync.coordinator(false);
        sync.retry();

        let (mut claims, mut away, mut moved) = (0, false, false);
        while claims < QUEUE || !away || !moved {
            match timeout(CONNECT, keeper.next(None)).await {
                Ok(Occurrence::Claim(..)) => claims += 1,
                Ok(Occurrence::Coordinator) => away = *keeper.coordinator.borrow() == Some(false),
                Ok(Occurrence::Moved) => moved = true,
                _ => panic!("lost: {claims} claims, {away}, {moved}"),
            }
        }
    }
}
