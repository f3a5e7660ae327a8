//! One machine's peers shared out among several workers, each a core of its own.
//!
//! A worker has the peers whose number leaves its own when divided by how many workers there are. Of the others it knows what
//! belongs to them, so that the longest range decides for all as it does for one, and which worker has them.
//! What comes in says whose it is by the receiver index, in whose lower bits the worker is ([`addressee`]). An initiation says it
//! only to who holds the key: the first worker reads it, and hands it over as [`Handed`].
//!
//! What one worker learns that others need is a [`Note`].
//!
//! With one worker nothing of this is there.

use std::time::Instant;

use proto::metadata::InnerNet;

use crate::{
    peer::receiver,
    route::Routes,
    session::{Source, worker_in},
    stun::Question,
    table::Table,
};

/// The most workers that an index can tell apart.
pub const MAX_WORKERS: u8 = 16;

/// In a route's owner: a peer of another worker.
const OTHER: u32 = 1 << 31;

/// Which of how many workers this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Share {
    me: u8,
    of: u8,
}

/// An initiation for a peer of another worker, which was held against the limits already.
pub struct Handed {
    /// The worker.
    pub worker: u8,
    pub(crate) peer: u32,
    pub(crate) source: Source,
    pub(crate) datagram: Box<[u8]>,
}

/// What a worker tells others: the first all of them, they the first.
#[derive(Clone)]
pub struct Noted(pub(crate) Note);

/// See [`Noted`].
#[derive(Clone)]
pub(crate) enum Note {
    /// What the outside sees of our sockets.
    Outside(Vec<Question>),
    /// There is data, or a doubt whether the outside still sees us where it did.
    Inside { data: Option<Instant>, doubt: bool },
}

/// What is known of the peers of other workers.
#[derive(Default)]
pub(crate) struct Others(Table<Other>);

struct Other {
    id: u32,
    worker: u8,
    /// In order.
    allowed: Vec<InnerNet>,
}

/// The worker that a datagram is for, where it says so itself: the peer's for data and for answers, the first for all else.
#[must_use]
pub fn addressee(datagram: &[u8]) -> u8 {
    let index = match datagram.first_chunk::<4>() {
        Some([4 | 3, 0, 0, 0]) => receiver(datagram, 4),
        Some([2, 0, 0, 0]) => receiver(datagram, 8),
        _ => None,
    };
    index.map_or(0, worker_in)
}

impl Share {
    /// Worker `me` of `of`.
    ///
    /// # Panics
    /// If there are none, more than [`MAX_WORKERS`], or not so many that this is one of them.
    #[must_use]
    pub fn new(me: u8, of: u8) -> Self {
        assert!(me < of && of <= MAX_WORKERS, "a worker is one of those that there are");
        Self { me, of }
    }

    /// All peers.
    #[must_use]
    pub fn whole() -> Self {
        Self::new(0, 1)
    }

    /// The number of this worker.
    #[must_use]
    pub fn me(self) -> u8 {
        self.me
    }

    /// How many workers there are.
    #[must_use]
    pub fn of(self) -> u8 {
        self.of
    }

    /// The worker that has the peer that control calls so.
    #[must_use]
    pub fn owner(self, peer: u32) -> u8 {
        (peer % u32::from(self.of)) as u8
    }

    /// Whether a peer is this worker's.
    pub(crate) fn has(self, peer: u32) -> bool {
        self.owner(peer) == self.me
    }
}

impl Others {
    /// Another worker's peer is new, or something of it changed.
    pub(crate) fn set(
        &mut self,
        share: Share,
        (id, key): (u32, [u8; 32]),
        mut allowed: Vec<InnerNet>,
        routes: &mut Routes,
    ) {
        if self.0.key_of(id).is_some_and(|known| known != key) {
            self.remove(id, routes);
        }
        let known = self.0.of_id(id).map(|(slot, _)| slot);
        let new = || Other { id, worker: share.owner(id), allowed: Vec::new() };
        let Some(slot) = known.or_else(|| self.0.insert(id, key, |_| new())) else { return };
        let Some(other) = self.0.get(slot) else { return };
        allowed.sort_unstable();
        for net in other.allowed.iter().filter(|net| allowed.binary_search(net).is_err()) {
            routes.remove(*net, slot | OTHER);
        }
        for net in &allowed {
            routes.insert(*net, slot | OTHER);
        }
        other.allowed = allowed;
    }

    pub(crate) fn remove(&mut self, id: u32, routes: &mut Routes) {
        let Some((slot, other)) = self.0.remove(id) else { return };
        for net in other.allowed {
            routes.remove(net, slot | OTHER);
        }
    }

    /// The worker that has the peer which a route names.
    pub(crate) fn worker(&mut self, owner: u32) -> Option<u8> {
        let slot = Some(owner & !OTHER).filter(|_| owner & OTHER != 0)?;
        Some(self.0.get(slot)?.worker)
    }

    /// The worker of the peer with this key, and the peer's number.
    pub(crate) fn of_key(&mut self, key: &[u8; 32]) -> Option<(u8, u32)> {
        let slot = self.0.of_key(key)?;
        let other = self.0.get(slot)?;
        Some((other.worker, other.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> InnerNet {
        InnerNet::new(text.parse().unwrap(), 24).unwrap()
    }

    #[test]
    fn a_range_that_went_from_one_peer_of_a_worker_to_another_stays_there_in_either_order() {
        for first in [1, 3] {
            let (share, mut routes, mut others) = (Share::new(0, 2), Routes::new(), Others::default());
            others.set(share, (1, [1; 32]), vec![net("10.1.0.0"), net("10.2.0.0")], &mut routes);
            others.set(share, (3, [3; 32]), vec![], &mut routes);
            for id in [first, 4 - first] {
                let nets = if id == 1 { vec![net("10.1.0.0")] } else { vec![net("10.2.0.0")] };
                others.set(share, (id, [id as u8; 32]), nets, &mut routes);
            }
            let addr = net("10.2.0.0").addr();
            let owner = routes.owner(addr).unwrap();
            assert_eq!(others.worker(owner), Some(1));
            others.remove(1, &mut routes);
            assert_eq!(routes.owner(addr), Some(owner));
            others.remove(3, &mut routes);
            assert!(routes.owner(addr).is_none() && others.of_key(&[3; 32]).is_none());
        }
    }
}
