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

/// Claims and changes that wait. A claim that finds no room is made again, or another peer's will do.
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

/// What the task is told.
#[derive(Clone, Copy)]
enum News {
    Coordinator(bool),
    Claim(Key, Floor),
    Moved,
}

/// The running task. It ends when this is dropped.
pub(crate) struct Sync {
    news: mpsc::Sender<News>,
    members: watch::Sender<Members>,
    address: watch::Sender<Option<Ipv6Addr>>,
    task: JoinHandle<()>,
}

impl Sync {
    /// Starts the task for the network behind the interface of this name.
    pub(crate) fn start(
        interface: &str,
        asker: Asker,
        present: watch::Receiver<Arc<Present>>,
        events: mpsc::Sender<SyncEvent>,
    ) -> Self {
        let (news, queue) = mpsc::channel(QUEUE);
        let (members, members_seen) = watch::channel(Members::default());
        let (address, address_seen) = watch::channel(None);
        let keeper = Keeper {
            interface: interface.to_owned(),
            asker: Arc::new(asker),
            present,
            members: members_seen,
            address: address_seen,
            events,
            plan: Plan::new(Instant::now()),
            door: Door::default(),
            under_way: JoinSet::new(),
        };
        Self { news, members, address, task: tokio::spawn(keeper.run(queue)) }
    }

    /// From now on these may ask and be asked.
    pub(crate) fn set_members(&self, members: BTreeMap<Key, Ipv6Addr>) {
        self.members.send_if_modified(|present| {
            let changed = **present != members;
            if changed {
                *present = Arc::new(members);
            }
            changed
        });
    }

    /// From now on this machine answers at this address.
    pub(crate) fn set_address(&self, address: Ipv6Addr) {
        self.address.send_replace(Some(address));
    }

    /// Whether the coordinator is well.
    pub(crate) fn coordinator(&self, well: bool) {
        let _ = self.news.try_send(News::Coordinator(well));
    }

    /// A peer said which roster it has.
    pub(crate) fn claim(&self, peer: Key, floor: Floor) {
        let _ = self.news.try_send(News::Claim(peer, floor));
    }

    /// The network around us has changed.
    pub(crate) fn retry(&self) {
        let _ = self.news.try_send(News::Moved);
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
    News(News),
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
    async fn run(mut self, mut queue: mpsc::Receiver<News>) {
        let mut listener = None;
        loop {
            for peer in self.plan.due(Instant::now(), &mut OsRng) {
                self.ask(peer);
            }
            if listener.is_none() {
                listener = self.listen().ok();
            }
            match self.next(&mut queue, listener.as_ref()).await {
                Occurrence::News(news) => self.heed(news),
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

    async fn next(&mut self, queue: &mut mpsc::Receiver<News>, listener: Option<&TcpListener>) -> Occurrence {
        let wake = self.plan.wake();
        tokio::select! {
            news = queue.recv() => news.map_or(Occurrence::End, Occurrence::News),
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

    fn heed(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Coordinator(well) => self.plan.coordinator(now, well, &mut OsRng),
            News::Claim(peer, floor) => {
                let own = self::floor(&self.present.borrow());
                self.plan.claim(now, peer, floor, &own);
            }
            News::Moved => self.plan.moved(now, &mut OsRng),
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
