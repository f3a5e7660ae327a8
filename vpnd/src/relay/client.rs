//! The client as the network's actor holds it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto::{
    epoch::EpochName,
    mailbox::MailboxSecret,
    relay::{Credential, Handle, MAX_PAYLOAD, Refusal, To},
    roster::RelayEntry,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    calendar::{self, Clock},
    connect::{self, Target},
    outbox::Outbox,
    pace::Pace,
    session::{End, Session},
};
use crate::{
    backoff::Backoff,
    dial::{ProxyFault, Way},
};

/// A relay that stopped, most likely to be replaced by a newer version, is asked for so long whether it is back before the
/// pauses grow.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A connection that was there for so long and is taken away by the network was forgotten on the way, or by a relay that heard nothing
/// more of a machine asleep: the next is made at once. (One that is younger may have met a relay that takes all of them away.)
const STALE: Duration = Duration::from_secs(3);

/// The mailboxes of one epoch.
#[derive(Clone)]
pub struct Listen {
    /// Which epoch; it comes back in [`RelayEvent::Recv`].
    pub epoch: EpochName,
    /// What opens its mailboxes.
    pub secret: MailboxSecret,
}

/// What happens at a relay. `relay` is the number that the client was given.
pub enum RelayEvent {
    /// The relay forwards, and all mailboxes are open.
    Up {
        /// Which relay.
        relay: u8,
    },
    /// The connection is lost; the client connects again by itself. Handles of it are void.
    Down {
        /// Which relay.
        relay: u8,
    },
    /// The relay stops in a moment: it forwards until [`RelayEvent::Down`], and what has another way should take it.
    Leaving {
        /// Which relay.
        relay: u8,
    },
    /// A payload has come.
    Recv {
        /// Which relay.
        relay: u8,
        /// The epoch of the mailbox that it was sent to; none if it was sent to a handle.
        epoch: Option<EpochName>,
        /// What to answer to.
        handle: Handle,
        /// What came.
        payload: Bytes,
    },
    /// The other end of a handle has left.
    Gone {
        /// Which relay.
        relay: u8,
        /// Its handle.
        handle: Handle,
    },
    /// The relay's day is not one that this machine listens on: one of the two clocks is wrong.
    ClockWrong {
        /// Which relay.
        relay: u8,
    },
    /// The proxy on the way makes no connection; the client tries again later.
    Behind {
        /// Which relay.
        relay: u8,
        /// What is wrong with the proxy, or what it said.
        fault: ProxyFault,
    },
    /// The relay ended the connection and said why; the client tries again later.
    Refused {
        /// Which relay.
        relay: u8,
        /// Why.
        refusal: Refusal,
    },
}

/// The relay's URL in the roster is not `https://host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a relay's address in the roster is not of the form https://host[:port]")]
pub struct BadRelayUrl;

/// A connection to one relay that renews itself. It ends when this is dropped.
pub struct RelayClient {
    outbox: Arc<Outbox>,
    retry: Arc<Notify>,
    spare: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RelayClient {
    /// Starts a client, which connects by `way`. `credentials` are those at hand, of any month; `mailboxes` are what to listen to, and both
    /// are followed as they change. `events` should have room for some hundred: payloads that it has no room for are
    /// dropped. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BadRelayUrl`].
    pub fn spawn(
        relay: u8,
        entry: &RelayEntry,
        way: Way,
        credentials: watch::Receiver<Vec<Credential>>,
        mailboxes: watch::Receiver<Vec<Listen>>,
        events: mpsc::Sender<RelayEvent>,
    ) -> Result<Self, BadRelayUrl> {
        Self::spawn_with_clock(relay, entry, way, credentials, mailboxes, events, calendar::system)
    }

    /// As [`RelayClient::spawn`], by another clock.
    ///
    /// # Errors
    /// [`BadRelayUrl`].
    pub fn spawn_with_clock(
        relay: u8,
        entry: &RelayEntry,
        way: Way,
        credentials: watch::Receiver<Vec<Credential>>,
        mailboxes: watch::Receiver<Vec<Listen>>,
        events: mpsc::Sender<RelayEvent>,
        clock: Clock,
    ) -> Result<Self, BadRelayUrl> {
        let target = Target::new(&entry.url, entry.key, way)?;
        let outbox = Arc::new(Outbox::default());
        let retry = Arc::new(Notify::new());
        let spare = watch::Sender::new(false);
        let keeper = Keeper {
            relay,
            target,
            credentials,
            mailboxes,
            events,
            clock,
            outbox: Arc::clone(&outbox),
            retry: Arc::clone(&retry),
            pace: Pace::new(spare.subscribe()),
            expected: None,
        };
        let task = tokio::spawn(keeper.run());
        Ok(Self { outbox, retry, spare, task })
    }

    /// Sends a payload of at most [`MAX_PAYLOAD`] bytes. `false` if it was dropped: the relay is down, the payload
    /// is too long, or too much is waiting already.
    pub fn try_send(&self, to: To, payload: &[u8]) -> bool {
        payload.len() <= MAX_PAYLOAD && self.outbox.send(to, payload)
    }

    /// Whether another relay speaks for this one, which may then be silent for longer. One that becomes the first and was is given a
    /// sign at once.
    pub fn set_spare(&self, spare: bool) {
        self.spare.send_if_modified(|now| std::mem::replace(now, spare) != spare);
    }

    /// The network around us has changed: connects now if the connection is from an address that is ours no more, or
    /// if there is none, and otherwise finds out sooner than usual whether it still holds.
    pub fn retry(&self) {
        self.retry.notify_one();
    }
}

impl Drop for RelayClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects, again and again.
struct Keeper {
    relay: u8,
    target: Target,
    credentials: watch::Receiver<Vec<Credential>>,
    mailboxes: watch::Receiver<Vec<Listen>>,
    events: mpsc::Sender<RelayEvent>,
    clock: Clock,
    outbox: Arc<Outbox>,
    retry: Arc<Notify>,
    pace: Pace,
    /// Until when the relay is expected back.
    expected: Option<Instant>,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let Some(credential) = self.credential().await else {
                return;
            };
            let began = Instant::now();
            let (end, was_up) = self.visit(&credential).await;
            self.outbox.close();
            let relay = self.relay;
            let event = match end {
                End::ReceiverGone => return,
                // The relay is as well as it was, and traffic waits.
                End::Moved => {
                    backoff.reset();
                    continue;
                }
                End::Broken if began.elapsed() >= STALE => {
                    backoff.reset();
                    continue;
                }
                End::Lost | End::Broken => None,
                End::Proxy(fault) => Some(RelayEvent::Behind { relay, fault }),
                End::ClockWrong => Some(RelayEvent::ClockWrong { relay }),
                End::Refused(refusal) => Some(RelayEvent::Refused { relay, refusal }),
            };
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return;
            }
            let expected = self.expected.is_some_and(|until| Instant::now() < until);
            if expected || was_up && matches!(end, End::Lost | End::Broken) {
                // It was well and is being restarted, most likely: however often that happens, it is back soon.
                backoff.reset();
            } else {
                backoff.lasted(began.elapsed());
            }
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                () = self.retry.notified() => backoff.reset(),
                Ok(()) = self.credentials.changed() => backoff.reset(),
            }
        }
    }

    /// The credential of this month; waits for one. Where there are only others, one of those: it is refused, or the relay
    /// says what day it is, and whoever looks learns that this machine's clock is wrong. `None` if none will ever come.
    async fn credential(&mut self) -> Option<Credential> {
        loop {
            let month = proto::relay::month_of(calendar::day((self.clock)()));
            let known = self.credentials.borrow_and_update().clone();
            let newest = known.iter().max_by_key(|credential| credential.month());
            let found = known.iter().find(|credential| credential.month() == month).or(newest);
            if found.is_some() {
                return found.cloned();
            }
            self.credentials.changed().await.ok()?;
        }
    }

    /// One connection from its beginning to its end: what ended it, and whether the relay forwarded.
    async fn visit(&mut self, credential: &Credential) -> (End, bool) {
        let connecting = connect::connect(&self.target, credential, self.clock);
        let connection = tokio::select! {
            connected = connecting => match connected {
                Ok(connection) => connection,
                Err(end) => return (end, false),
            },
            // What was begun on the old network leads nowhere.
            () = self.retry.notified() => return (End::Moved, false),
        };
        let (key, pace) = (self.target.key(), &mut self.pace);
        let mut session = Session::new(self.relay, key, &self.events, self.clock, &self.outbox, pace);
        let end = session.run(connection, &mut self.mailboxes, &self.retry).await;
        if session.was_left() || end == End::Refused(Refusal::Stopping) {
            self.expected = Some(Instant::now() + BACK_WITHIN);
        } else if session.was_up() {
            self.expected = None;
        }
        if session.was_up() && self.events.send(RelayEvent::Down { relay: self.relay }).await.is_err() {
            return (End::ReceiverGone, true);
        }
        (end, session.was_up())
    }
}
