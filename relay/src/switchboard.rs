//! Who is where: which connection holds which mailbox, and which two connections share a handle.
//!
//! Locks are taken in one order: the table, then one connection's links; never two connections' links at once. The
//! common case, a frame to a handle, takes only the sender's links. A [`Seat`] is a connection's place here; when it
//! drops, everything about the connection is gone and its partners are told.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use proto::{
    metadata::MailboxId,
    relay::{Frame, Handle, Pseudonym, Refusal, To},
};
use rand_core::{OsRng, RngCore};

use crate::{
    bucket::Bucket,
    limits::{
        BURST, BYTES_PER_SECOND, CONNECTIONS_PER_NETWORK, MAILBOXES_PER_CONNECTION, PAIRS_PER_CONNECTION,
    },
    queue::{Queue, Waits},
};

/// All that the relay knows.
#[derive(Default)]
pub(crate) struct Switchboard {
    mailboxes: Mutex<HashMap<MailboxId, Arc<Connection>>>,
    networks: Mutex<HashMap<Pseudonym, Network>>,
    waits: Waits,
    /// Whether anything was forwarded since somebody asked.
    used: AtomicBool,
    next: AtomicU64,
}

struct Network {
    connections: usize,
    bytes: Arc<Mutex<Bucket>>,
    waits: Waits,
}

/// One connection, as the others see it.
struct Connection {
    id: u64,
    queue: Queue,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    /// Who is at the other end of each handle.
    handles: HashMap<Handle, Arc<Connection>>,
    /// The handle shared with each connection, by its id.
    partners: HashMap<u64, Handle>,
    /// The mailboxes held, and their days.
    mailboxes: HashMap<MailboxId, u32>,
}

/// A connection's place at the switchboard.
pub(crate) struct Seat {
    board: Arc<Switchboard>,
    me: Arc<Connection>,
    pseudonym: Pseudonym,
    bytes: Arc<Mutex<Bucket>>,
}

impl Switchboard {
    /// Seats one more connection of a network, if it may have one more.
    pub(crate) fn admit(self: &Arc<Self>, pseudonym: Pseudonym, now: Instant) -> Option<Seat> {
        let mut networks = lock(&self.networks);
        let network = networks.entry(pseudonym).or_insert_with(|| Network {
            connections: 0,
            bytes: Arc::new(Mutex::new(Bucket::per_second(BURST, BYTES_PER_SECOND, now))),
            waits: self.waits.of_network(),
        });
        if network.connections >= CONNECTIONS_PER_NETWORK {
            return None;
        }
        network.connections += 1;
        let (bytes, waits) = (Arc::clone(&network.bytes), network.waits.clone());
        drop(networks);
        let me = Arc::new(Connection {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            queue: Queue::new(waits),
            links: Mutex::default(),
        });
        Some(Seat { board: Arc::clone(self), me, pseudonym, bytes })
    }

    /// Whether nobody is admitted.
    pub(crate) fn is_deserted(&self) -> bool {
        lock(&self.networks).is_empty()
    }

    /// Whether anything was forwarded since the last call.
    pub(crate) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Bytes waiting for all connections.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.waits.all()
    }

    /// Whether nobody is here.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.mailboxes).is_empty() && self.is_deserted()
    }
}

impl Seat {
    /// What waits for this connection.
    pub(crate) fn queue(&self) -> &Queue {
        &self.me.queue
    }

    /// Takes a mailbox, from whoever held it before. The caller has checked the proof.
    ///
    /// # Errors
    /// [`Refusal::Limit`] if the connection holds as many as it may.
    pub(crate) fn open(&self, mailbox: MailboxId, day: u32) -> Result<(), Refusal> {
        let mut table = lock(&self.board.mailboxes);
        let mut links = lock(&self.me.links);
        if links.mailboxes.len() >= MAILBOXES_PER_CONNECTION && !links.mailboxes.contains_key(&mailbox) {
            return Err(Refusal::Limit);
        }
        links.mailboxes.insert(mailbox, day);
        drop(links);
        let before = table.insert(mailbox, Arc::clone(&self.me));
        if let Some(before) = before.filter(|before| before.id != self.me.id) {
            lock(&before.links).mailboxes.remove(&mailbox);
        }
        Ok(())
    }

    /// Gives a mailbox up.
    pub(crate) fn close(&self, mailbox: MailboxId) {
        let mut table = lock(&self.board.mailboxes);
        if lock(&self.me.links).mailboxes.remove(&mailbox).is_some() {
            table.remove(&mailbox);
        }
    }

    /// Gives up the mailboxes whose day is over: before `oldest`.
    pub(crate) fn expire(&self, oldest: u32) {
        let mut table = lock(&self.board.mailboxes);
        lock(&self.me.links).mailboxes.retain(|mailbox, day| {
            let keep = *day >= oldest;
            if !keep {
                table.remove(mailbox);
            }
            keep
        });
    }

    /// Forwards a payload, or drops it: nobody holds the mailbox, the network's share is used up, a queue is full. A
    /// handle whose other end has left is answered with [`Frame::Gone`].
    pub(crate) fn send(&self, to: To, payload: &[u8], now: Instant) {
        let len = Frame::recv_len(to, payload.len());
        if !lock(&self.bytes).take(len as u64, now) {
            return;
        }
        self.board.used.store(true, Ordering::Relaxed);
        match to {
            To::Handle(handle) => {
                let partner = lock(&self.me.links).handles.get(&handle).cloned();
                match partner {
                    Some(partner) => {
                        partner.queue.forward(&Frame::Recv { mailbox: None, handle, payload }, len);
                    }
                    None => self.me.queue.say(&Frame::Gone(handle)),
                }
            }
            To::Mailbox(mailbox) => {
                let Some((holder, handle)) = self.pair(mailbox) else {
                    return;
                };
                holder.queue.forward(&Frame::Recv { mailbox: Some(mailbox), handle, payload }, len);
            }
        }
    }

    /// Who holds a mailbox, and the handle that we share with it; made now if there is none yet.
    fn pair(&self, mailbox: MailboxId) -> Option<(Arc<Connection>, Handle)> {
        let table = lock(&self.board.mailboxes);
        let holder = table.get(&mailbox)?;
        if holder.id == self.me.id {
            return None;
        }
        let mut mine = lock(&self.me.links);
        if let Some(handle) = mine.partners.get(&holder.id) {
            return Some((Arc::clone(holder), *handle));
        }
        if mine.handles.len() >= PAIRS_PER_CONNECTION {
            return None;
        }
        let handle = Handle(OsRng.next_u64());
        mine.handles.insert(handle, Arc::clone(holder));
        mine.partners.insert(holder.id, handle);
        drop(mine);
        let mut theirs = lock(&holder.links);
        if theirs.handles.len() >= PAIRS_PER_CONNECTION {
            drop(theirs);
            lock(&self.me.links).unpair(holder.id);
            return None;
        }
        theirs.handles.insert(handle, Arc::clone(&self.me));
        theirs.partners.insert(self.me.id, handle);
        drop(theirs);
        Some((Arc::clone(holder), handle))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = lock(&self.board.mailboxes);
        let links = std::mem::take(&mut *lock(&self.me.links));
        for mailbox in links.mailboxes.keys() {
            table.remove(mailbox);
        }
        for (handle, partner) in links.handles {
            lock(&partner.links).unpair(self.me.id);
            partner.queue.say(&Frame::Gone(handle));
        }
        drop(table);
        if let Entry::Occupied(mut network) = lock(&self.board.networks).entry(self.pseudonym) {
            network.get_mut().connections -= 1;
            if network.get().connections == 0 {
                network.remove();
            }
        }
    }
}

impl Links {
    fn unpair(&mut self, partner: u64) {
        if let Some(handle) = self.partners.remove(&partner) {
            self.handles.remove(&handle);
        }
    }
}

/// A panic elsewhere leaves the tables whole: every change of them is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proto::relay::peek;

    use super::*;

    const A: MailboxId = MailboxId([1; 32]);
    const B: MailboxId = MailboxId([2; 32]);

    fn seat(board: &Arc<Switchboard>, network: u8) -> Seat {
        board.admit(Pseudonym([network; 16]), Instant::now()).unwrap()
    }

    /// What waits in a seat's queue, each frame on its own.
    async fn received(seat: &Seat) -> Vec<Vec<u8>> {
        seat.queue().say(&Frame::Pong);
        let mut out = Vec::new();
        assert!(seat.queue().take(&mut out).await);
        let mut frames = Vec::new();
        while let Some(len) = peek(&out).unwrap() {
            frames.push(out.drain(..len).collect());
        }
        assert!(frames.pop() == Some(Frame::Pong.to_vec()));
        frames
    }

    async fn one(seat: &Seat) -> Vec<u8> {
        let mut frames = received(seat).await;
        assert_eq!(frames.len(), 1);
        frames.remove(0)
    }

    fn handle_of(frame: &[u8]) -> Handle {
        let Ok(Frame::Recv { handle, .. }) = Frame::decode(frame) else {
            panic!("a payload has come");
        };
        handle
    }

    #[tokio::test]
    async fn two_connections_exchange_by_mailbox_and_then_by_handle() {
        let board = Arc::default();
        let (a, b) = (seat(&board, 1), seat(&board, 1));
        b.open(B, 7).unwrap();
        a.send(To::Mailbox(B), b"hello", Instant::now());
        let first = one(&b).await;
        let handle = handle_of(&first);
        assert!(Frame::decode(&first) == Ok(Frame::Recv { mailbox: Some(B), handle, payload: b"hello" }));
        b.send(To::Handle(handle), b"and you", Instant::now());
        let answer = one(&a).await;
        assert!(Frame::decode(&answer) == Ok(Frame::Recv { mailbox: None, handle, payload: b"and you" }));
        a.send(To::Handle(handle), b"well", Instant::now());
        assert!(Frame::decode(&one(&b).await) == Ok(Frame::Recv { mailbox: None, handle, payload: b"well" }));
    }

    #[tokio::test]
    async fn a_pair_has_one_handle_whatever_mailbox_it_met_at() {
        let board = Arc::default();
        let (a, b) = (seat(&board, 1), seat(&board, 1));
        a.open(A, 7).unwrap();
        b.open(B, 7).unwrap();
        a.send(To::Mailbox(B), b"1", Instant::now());
        b.send(To::Mailbox(A), b"2", Instant::now());
        assert!(handle_of(&one(&a).await) == handle_of(&one(&b).await));
    }

    #[tokio::test]
    async fn a_handle_is_of_no_use_to_a_third() {
        let board = Arc::default();
        let (a, b, thief) = (seat(&board, 1), seat(&board, 1), seat(&board, 1));
        b.open(B, 7).unwrap();
        a.send(To::Mailbox(B), b"hello", Instant::now());
        let handle = handle_of(&one(&b).await);
        thief.send(To::Handle(handle), b"stolen", Instant::now());
        assert!(received(&a).await.is_empty() && received(&b).await.is_empty());
        assert!(Frame::decode(&one(&thief).await) == Ok(Frame::Gone(handle)));
    }

    #[tokio::test]
    async fn the_newest_opening_wins_and_the_older_closes_nothing() {
        let board = Arc::default();
        let (old, new, sender) = (seat(&board, 1), seat(&board, 1), seat(&board, 1));
        old.open(A, 7).unwrap();
        new.open(A, 7).unwrap();
        old.close(A);
        sender.send(To::Mailbox(A), b"1", Instant::now());
        assert!(received(&old).await.is_empty());
        one(&new).await;
        drop(old);
        sender.send(To::Mailbox(A), b"2", Instant::now());
        one(&new).await;
    }

    #[tokio::test]
    async fn who_leaves_is_gone_for_its_partners() {
        let board = Arc::default();
        let (a, b) = (seat(&board, 1), seat(&board, 1));
        b.open(B, 7).unwrap();
        a.send(To::Mailbox(B), b"hello", Instant::now());
        let handle = handle_of(&one(&b).await);
        drop(b);
        assert!(Frame::decode(&one(&a).await) == Ok(Frame::Gone(handle)));
        a.send(To::Handle(handle), b"still there?", Instant::now());
        assert!(Frame::decode(&one(&a).await) == Ok(Frame::Gone(handle)));
        assert!(lock(&a.me.links).handles.is_empty() && lock(&a.me.links).partners.is_empty());
    }

    #[test]
    fn nothing_is_left_when_all_have_left() {
        let board: Arc<Switchboard> = Arc::default();
        let (a, b) = (seat(&board, 1), seat(&board, 2));
        a.open(A, 7).unwrap();
        b.open(B, 7).unwrap();
        a.send(To::Mailbox(B), b"1", Instant::now());
        let (me, you) = (Arc::downgrade(&a.me), Arc::downgrade(&b.me));
        drop((a, b));
        assert!(board.is_empty());
        assert!(me.upgrade().is_none() && you.upgrade().is_none());
        assert_eq!(board.queued(), 0);
    }

    #[tokio::test]
    async fn a_mailbox_of_a_past_day_is_given_up() {
        let board = Arc::default();
        let (a, b) = (seat(&board, 1), seat(&board, 1));
        b.open(A, 6).unwrap();
        b.open(B, 7).unwrap();
        b.expire(7);
        a.send(To::Mailbox(A), b"old", Instant::now());
        a.send(To::Mailbox(B), b"new", Instant::now());
        let frame = one(&b).await;
        assert!(Frame::decode(&frame).is_ok_and(|f| matches!(f, Frame::Recv { payload: b"new", .. })));
    }

    #[test]
    fn a_connection_holds_a_bounded_number_of_mailboxes() {
        let board = Arc::default();
        let a = seat(&board, 1);
        for i in 0..MAILBOXES_PER_CONNECTION {
            a.open(MailboxId([i as u8; 32]), 7).unwrap();
        }
        assert!(a.open(MailboxId([0; 32]), 7).is_ok(), "opening again is no new mailbox");
        assert!(a.open(MailboxId([255; 32]), 7) == Err(Refusal::Limit));
        a.close(MailboxId([0; 32]));
        assert!(a.open(MailboxId([255; 32]), 7).is_ok());
    }

    #[test]
    fn a_network_has_a_bounded_number_of_connections_and_another_is_not_touched() {
        let board = Arc::default();
        let mut seats: Vec<Seat> = (0..CONNECTIONS_PER_NETWORK).map(|_| seat(&board, 1)).collect();
        assert!(board.admit(Pseudonym([1; 16]), Instant::now()).is_none());
        assert!(board.admit(Pseudonym([2; 16]), Instant::now()).is_some());
        seats.pop();
        assert!(board.admit(Pseudonym([1; 16]), Instant::now()).is_some());
    }

    #[tokio::test]
    async fn a_network_over_its_share_is_slowed_and_another_is_not() {
        let board = Arc::default();
        let (a, b, other) = (seat(&board, 1), seat(&board, 1), seat(&board, 2));
        b.open(B, 7).unwrap();
        let now = Instant::now();
        let payload = vec![0; 60_000];
        for _ in 0..=BURST / 60_000 {
            a.send(To::Mailbox(B), &payload, now);
        }
        let mut out = Vec::new();
        assert!(b.queue().take(&mut out).await);
        a.send(To::Mailbox(B), &payload, now);
        assert!(received(&b).await.is_empty());
        other.send(To::Mailbox(B), &payload, now);
        assert_eq!(received(&b).await.len(), 1);
    }
}
