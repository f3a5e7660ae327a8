//! The connection to the coordinator: a task that keeps a watch open, catches up when it opens, and tells the actor
//! what comes.
//!
//! A coordinator that is away stops nothing: the task waits, longer each time, and everything that does not need the
//! coordinator goes on. The actor owns the roster; this task reads it ([`Present`]) and hands over newer ones.

use std::{sync::Arc, time::Duration};

use proto::{
    coordinator::{Auth, Join, WatchEvent},
    epoch::EpochName,
    relay::{Credential, month_of},
    roster::{Roster, RosterError},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, interval_at, sleep_until, timeout},
};

use super::{
    catch_up::{Asker, CatchUpError, Present, catch_up, follow, heed},
    clock,
};
use crate::{
    backoff::Backoff,
    coordinator::{Cause, Client, Error, Watch},
    dial::ProxyFault,
};

/// Credentials are fetched for this month and so many after it, so that a coordinator may be away for that long.
const MONTHS_AHEAD: u32 = 2;

/// Between two looks whether a new month needs a credential.
const CREDENTIALS_EVERY: Duration = Duration::from_secs(6 * 3600);

/// For the actor to take a newer roster.
const ADOPTION: Duration = Duration::from_secs(10);

/// How long a coordinator that is well may be silent, in seconds. Its signs keep the watch in the memory of the routers on the way, of
/// which the shortest that was measured is some four minutes (Hätönen et al., 2010), and tell that it is there. That a router forgot everything
/// the first relay shows sooner ([`Link::doubt`]).
const SILENCE: u16 = 150;

/// The same where a network takes watches away in such a silence: so many, one after the other. (Once, it was the coordinator that
/// started anew, or a router.)
const SHORT_SILENCE: u16 = 50;
const TOO_LONG: u32 = 2;

/// A watch that is younger is not opened anew because a relay was: a router that starts takes this long at the least.
const FRESH: Duration = Duration::from_secs(30);

/// Between two looks that peers ask for by what they say they have: one of them may lie, again and again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What the link tells the actor.
pub(crate) enum LinkEvent {
    /// The coordinator answers and everything is caught up.
    Online,
    /// It does not.
    Offline(Trouble),
    /// A newer roster, checked.
    Roster(Box<Roster>),
    /// The whole join list.
    Joins(Vec<Join>),
    /// One more record of it.
    Join(Join),
    /// Credentials for all months from this one on that could be had.
    Credentials(Vec<Credential>),
    /// This machine is not a member any more.
    Removed,
}

/// Why the coordinator is no help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be reached, or is not well.
    Unreachable,
    /// The proxy on the way to it makes no connection.
    Proxy(ProxyFault),
    /// Its key is not the pinned one.
    WrongPin,
    /// It shows a roster that contradicts ours.
    Forked,
    /// It shows what no signer signed, or an older state that it does not let be healed.
    Untrusted,
    /// It does not know the network.
    Unknown,
}

/// The running task. It ends when this is dropped.
pub(crate) struct Link {
    task: JoinHandle<()>,
    retry: Arc<Notify>,
    look: Arc<Notify>,
    doubt: Arc<Notify>,
}

impl Link {
    /// Starts the task. `have` are the months that credentials are at hand for.
    pub(crate) fn start(
        client: Client,
        asker: Asker,
        present: watch::Receiver<Arc<Present>>,
        have: Vec<Credential>,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        let [retry, look, doubt] = std::array::from_fn(|_| Arc::new(Notify::new()));
        let mut keeper = Keeper {
            client,
            asker,
            present,
            credentials: have,
            events,
            retry: Arc::clone(&retry),
            look: Arc::clone(&look),
            doubt: Arc::clone(&doubt),
            patience: Patience::default(),
            looked: None,
        };
        Self { task: tokio::spawn(async move { keeper.run().await }), retry, look, doubt }
    }

    /// The network around us has changed: connects now if it waits to, or if the watch is from an address that is ours
    /// no more.
    pub(crate) fn retry(&self) {
        self.retry.notify_one();
    }

    /// A connection was lost and made anew: whatever took it away may have taken the watch away too, which would show late.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// There may be a newer roster: asks the coordinator, if it was not asked just now. Where it is away, it is asked
    /// once it is back.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    client: Client,
    asker: Asker,
    present: watch::Receiver<Arc<Present>>,
    credentials: Vec<Credential>,
    events: mpsc::Sender<LinkEvent>,
    retry: Arc<Notify>,
    look: Arc<Notify>,
    doubt: Arc<Notify>,
    patience: Patience,
    looked: Option<Instant>,
}

/// What silence a watch bears on this network.
#[derive(Default)]
struct Patience {
    /// How many watches did not survive a long one, one after the other.
    cut: u32,
}

impl Patience {
    /// What the coordinator is asked for, in seconds.
    fn silence(&self) -> u16 {
        if self.cut < TOO_LONG { SILENCE } else { SHORT_SILENCE }
    }

    /// Something came after so long a silence.
    fn survived(&mut self, silence: Duration) {
        if self.is_long(silence) {
            self.cut = 0;
        }
    }

    /// The watch was lost after so long a silence.
    fn lost(&mut self, silence: Duration) {
        if self.is_long(silence) {
            self.cut += 1;
        }
    }

    /// A silence that was to be short and is a little late says nothing of long ones.
    fn is_long(&self, silence: Duration) -> bool {
        self.silence() == SILENCE && silence > Duration::from_secs(SHORT_SILENCE.into())
    }

    /// The network around us is another one.
    fn moved(&mut self) {
        self.cut = 0;
    }
}

impl Keeper {
    async fn run(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let (was_online, end) = self.session().await;
            if was_online {
                backoff.reset();
            }
            match end {
                CatchUpError::Removed => {
                    self.tell(LinkEvent::Removed).await;
                    // A recovery or an administrator's mistake undone may bring it back.
                }
                other => self.tell(LinkEvent::Offline(trouble(&other))).await,
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = self.retry.notified() => {
                    self.patience.moved();
                    backoff.reset();
                }
            }
        }
    }

    /// One watch from its opening to its end: whether it was caught up, and what ended it.
    async fn session(&mut self) -> (bool, CatchUpError) {
        let mut watch = match self.open().await {
            Ok(watch) => watch,
            Err(e) => return (false, e),
        };
        self.tell(LinkEvent::Online).await;
        let mut epoch = self.epoch();
        let retry = Arc::clone(&self.retry);
        let mut renew = interval_at(Instant::now() + CREDENTIALS_EVERY, CREDENTIALS_EVERY);
        let (look, doubt) = (Arc::clone(&self.look), Arc::clone(&self.doubt));
        let mut opened = Instant::now();
        let mut heard = opened;
        // When the coordinator is looked at because a peer says that there is something newer.
        let mut look_at: Option<Instant> = None;
        loop {
            let done = tokio::select! {
                next = watch.next() => match next {
                    Ok(event) => {
                        self.patience.survived(heard.elapsed());
                        heard = Instant::now();
                        self.heed(event).await.map(|()| None)
                    }
                    // A watch ends with its epoch: that is no trouble.
                    Err(_) if self.epoch() != epoch => self.open().await.map(Some),
                    Err(e) => {
                        self.patience.lost(heard.elapsed());
                        Err(e.into())
                    }
                },
                _ = renew.tick() => self.fetch_credentials().await.map(|()| None),
                () = look.notified(), if look_at.is_none() => {
                    let free = self.looked.map(|at| at + LOOK_EVERY);
                    look_at = Some(free.map_or(Instant::now(), |free| free.max(Instant::now())));
                    Ok(None)
                }
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    (look_at, self.looked) = (None, Some(Instant::now()));
                    self.catch_up().await.map(|()| None)
                }
                () = retry.notified() => {
                    self.patience.moved();
                    if watch.is_left_behind() { self.open().await.map(Some) } else { Ok(None) }
                }
                () = doubt.notified() => {
                    if opened.elapsed() >= FRESH { self.open().await.map(Some) } else { Ok(None) }
                }
            };
            match done {
                Ok(None) => {}
                Ok(Some(another)) => {
                    (watch, epoch, opened) = (another, self.epoch(), Instant::now());
                    heard = opened;
                }
                Err(e) => return (true, e),
            }
        }
    }

    fn epoch(&self) -> EpochName {
        self.present.borrow().roster.header().epoch
    }

    /// Opens a watch and fetches all that was missed before it, and begins anew when the network around us changes.
    async fn open(&mut self) -> Result<Watch, CatchUpError> {
        let retry = Arc::clone(&self.retry);
        loop {
            self.client.leave_behind();
            tokio::select! {
                opened = self.catch_up_and_watch() => return opened,
                () = retry.notified() => {}
            }
        }
    }

    async fn catch_up_and_watch(&mut self) -> Result<Watch, CatchUpError> {
        let mut watch = match self.watch().await {
            // The member key is of an epoch that has ended, most likely: come to the present one first.
            Err(Error::NotPermitted) => {
                self.catch_up().await?;
                self.watch().await?
            }
            other => other?,
        };
        if let WatchEvent::Head(head) = watch.next().await? {
            let present = self.present.borrow_and_update().clone();
            let newer = follow(&self.client, &self.asker, &present, &head).await?;
            self.hand_over(newer).await?;
        }
        let member = self.present.borrow().epochs.present().member_key();
        let joins = self.client.joins(&self.asker.network, &Auth::Member(&member)).await?;
        self.tell(LinkEvent::Joins(joins)).await;
        self.fetch_credentials().await?;
        Ok(watch)
    }

    async fn watch(&self) -> Result<Watch, Error> {
        let member = self.present.borrow().epochs.present().member_key();
        self.client.watch(&self.asker.network, &member, self.patience.silence()).await
    }

    async fn heed(&mut self, event: WatchEvent) -> Result<(), CatchUpError> {
        match event {
            WatchEvent::Alive => Ok(()),
            WatchEvent::Join(join) => {
                self.tell(LinkEvent::Join(join)).await;
                Ok(())
            }
            WatchEvent::Head(head) => {
                let present = self.present.borrow_and_update().clone();
                let newer = follow(&self.client, &self.asker, &present, &head).await?;
                self.hand_over(newer).await
            }
            WatchEvent::Delta(delta) => {
                let present = self.present.borrow_and_update().clone();
                let newer = heed(&self.client, &self.asker, &present, &delta).await?;
                self.hand_over(newer).await
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), CatchUpError> {
        let present = self.present.borrow_and_update().clone();
        let newer = catch_up(&self.client, &self.asker, &present).await?;
        self.hand_over(newer).await
    }

    /// Gives the actor a newer roster and waits until it has it.
    async fn hand_over(&mut self, newer: Option<Roster>) -> Result<(), CatchUpError> {
        let Some(roster) = newer else { return Ok(()) };
        let order = roster.order();
        self.tell(LinkEvent::Roster(Box::new(roster))).await;
        let adopted = self.present.wait_for(|present| present.roster.order() >= order);
        let _ = timeout(ADOPTION, adopted).await;
        Ok(())
    }

    /// Fetches the credentials that are missing for this month and the next ones.
    async fn fetch_credentials(&mut self) -> Result<(), CatchUpError> {
        let this_month = month_of(clock::day());
        let member = self.present.borrow().epochs.present().member_key();
        let before = self.credentials.len();
        self.credentials.retain(|credential| credential.month() >= this_month);
        let mut changed = self.credentials.len() != before;
        for month in this_month..=this_month + MONTHS_AHEAD {
            if self.credentials.iter().any(|credential| credential.month() == month) {
                continue;
            }
            let credential = self.client.credential(&self.asker.network, &member, month).await?;
            if credential.month() != month {
                return Err(Error::NotACoordinator.into());
            }
            self.credentials.push(credential);
            changed = true;
        }
        if changed {
            self.tell(LinkEvent::Credentials(self.credentials.clone())).await;
        }
        Ok(())
    }

    /// The actor outlives this task; if it is gone, the task is about to end too.
    async fn tell(&self, event: LinkEvent) {
        let _ = self.events.send(event).await;
    }
}

/// What an error of following is to a person.
pub(super) fn trouble(error: &CatchUpError) -> Trouble {
    match error {
        CatchUpError::Coordinator(Error::WrongPin | Error::Untrusted) => Trouble::WrongPin,
        CatchUpError::Coordinator(Error::Unreachable(Cause::Proxy(fault))) => Trouble::Proxy(*fault),
        CatchUpError::Coordinator(Error::NotFound) => Trouble::Unknown,
        CatchUpError::Coordinator(_) | CatchUpError::Removed => Trouble::Unreachable,
        CatchUpError::Roster(RosterError::Forked) => Trouble::Forked,
        CatchUpError::Roster(_) => Trouble::Untrusted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_takes_quiet_watches_away_is_given_more_signs_until_it_is_another() {
        let [long, short] = [SILENCE, SHORT_SILENCE].map(|silence| Duration::from_secs(silence.into()));
        let mut patience = Patience::default();
        // The coordinator may have started anew, now and then.
        for _ in 0..3 {
            patience.lost(long);
            patience.survived(long);
        }
        // It may do so often while there is something to say.
        for _ in 0..3 {
            patience.lost(short / 2);
        }
        assert_eq!(patience.silence(), SILENCE);
        patience.lost(short * 2);
        patience.lost(long);
        assert_eq!(patience.silence(), SHORT_SILENCE);
        patience.survived(short + Duration::from_secs(1));
        assert_eq!(patience.silence(), SHORT_SILENCE);
        patience.moved();
        assert_eq!(patience.silence(), SILENCE);
    }
}
