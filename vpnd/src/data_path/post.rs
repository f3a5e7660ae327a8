//! What workers hand each other: one box for each, with a bell.
//!
//! A packet is copied into its worker's box, where the worker takes all that waits at once, by exchanging it for what it has
//! emptied: in a steady state nothing is allocated. A box takes a bounded number of bytes; packets that come to a
//! full one are dropped, as they are by a socket. Nobody waits for anybody.
//!
//! There is none of this where there is one worker.

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use mesh::{Handed, Noted};
use netio::bell::Bell;
use zeroize::Zeroize;

/// Bytes of packets that wait for a worker: what a socket's buffer holds for the moment that a worker takes for its turn.
const PACKETS: usize = 1 << 20;

/// Things that wait, with packets among them: as many as so many bytes of small packets are.
const LETTERS: usize = PACKETS / 64;

/// Bytes of frames that wait: more than control lets wait for a data path. A worker that leaves more is stuck.
const FRAMES: usize = 64 << 20;

/// One thing handed over; its bytes follow those of the one before.
pub(super) enum Letter {
    /// An inner packet that came to the wrong queue.
    Packet,
    /// Datagrams that came to the wrong socket: from whom, with which class, and how long each is.
    Datagrams((u8, SocketAddr), u8, usize),
    /// An initiation, which only who has the key could tell whose it is.
    Handed(Handed),
    /// Datagrams that leave by a socket which the first worker alone has: by which, to whom, with which class, and how long each is.
    Leaving((u8, SocketAddr), u8, usize),
    /// What one worker learned that others need.
    Noted(Noted),
    /// A frame of control's.
    Frame,
    /// A frame of control's with a datagram that came over a relay.
    FromRelay,
    /// A frame for control.
    Said,
    /// A frame for control with a datagram that leaves over a relay.
    ToRelay,
}

impl Letter {
    /// Whether it may be dropped where a box is full.
    fn is_packet(&self) -> bool {
        !matches!(self, Self::Frame | Self::Said | Self::Noted(_))
    }
}

/// What was handed over.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) letters: Vec<(Letter, usize)>,
    pub(super) bytes: Vec<u8>,
    /// Whether nothing may stay of them once they were taken.
    secret: bool,
}

impl Letters {
    /// Room that becomes too small is left empty: what was in it must not stay.
    fn push(&mut self, letter: Letter, bytes: &[u8]) {
        let len = self.bytes.len() + bytes.len();
        if len > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(len.next_power_of_two());
            larger.extend_from_slice(&self.bytes);
            mem::replace(&mut self.bytes, larger).zeroize();
        }
        self.secret |= !letter.is_packet();
        self.bytes.extend_from_slice(bytes);
        self.letters.push((letter, bytes.len()));
    }

    /// Leaves room for others.
    pub(super) fn clear(&mut self) {
        self.wipe();
        self.letters.clear();
        self.bytes.clear();
    }

    /// Frames carry keys. Packets stay until others come over them, as in every buffer on their way: wiping goes byte by byte.
    fn wipe(&mut self) {
        if mem::take(&mut self.secret) {
            self.bytes.as_mut_slice().zeroize();
        }
    }

    /// Leaves nothing of what was there before, nor later of what is there now.
    fn forget(&mut self) {
        self.secret = true;
        self.bytes.spare_capacity_mut().zeroize();
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Every worker's box.
pub(super) struct Post(Vec<Place>);

struct Place {
    waiting: Mutex<Letters>,
    bell: Bell,
}

impl Post {
    /// For so many workers.
    pub(super) fn new(workers: usize) -> io::Result<Self> {
        let place = || Ok(Place { waiting: Mutex::default(), bell: Bell::new()? });
        Ok(Self((0..workers).map(|_| place()).collect::<io::Result<_>>()?))
    }

    /// Hands over, and says whether there was room.
    pub(super) fn send(&self, to: u8, letter: Letter, bytes: &[u8]) -> bool {
        let Some(place) = self.0.get(usize::from(to)) else { return false };
        let (most, letters) = if letter.is_packet() { (PACKETS, LETTERS) } else { (FRAMES, FRAMES) };
        let mut waiting = place.lock();
        if waiting.bytes.len() + bytes.len() > most || waiting.letters.len() >= letters {
            return false;
        }
        let first = waiting.letters.is_empty();
        waiting.push(letter, bytes);
        drop(waiting);
        if first {
            place.bell.ring();
        }
        true
    }

    /// Takes what waits for a worker, in exchange for `empty`.
    pub(super) fn take(&self, me: u8, empty: &mut Letters) {
        let Some(place) = self.0.get(usize::from(me)) else { return };
        // Before looking: what comes after is rung for again.
        place.bell.silence();
        mem::swap(&mut *place.lock(), empty);
    }

    /// The bell of a worker.
    pub(super) fn bell(&self, me: u8) -> &Bell {
        &self.0[usize::from(me)].bell
    }

    /// The bells by their descriptors.
    pub(super) fn bells(&self) -> Vec<RawFd> {
        self.0.iter().map(|place| place.bell.as_fd().as_raw_fd()).collect()
    }

    /// Gives up the room in a worker's box, where what was taken is still, addresses too, if nothing waits there; otherwise wipes
    /// what is not in use.
    pub(super) fn forget(&self, me: u8) {
        let Some(place) = self.0.get(usize::from(me)) else { return };
        let mut waiting = place.lock();
        if waiting.letters.is_empty() {
            *waiting = Letters::default();
        } else {
            waiting.forget();
        }
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use netio::epoll::{Epoll, Interest};
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_handed_over_is_rung_for_and_comes_in_order_to_that_worker_alone() {
        let post = Post::new(2).unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.add(post.bell(1), 0, Interest::Read).unwrap();
        let mut rung = || epoll.wait(Some(Duration::ZERO)).unwrap().count();
        assert_eq!(rung(), 0);
        assert!(post.send(1, Letter::Packet, &[1; 3]) && post.send(1, Letter::Frame, &[2; 2]));
        assert_eq!(rung(), 1);
        let mut taken = Letters::default();
        post.take(0, &mut taken);
        assert!(taken.letters.is_empty());
        post.take(1, &mut taken);
        assert_eq!(rung(), 0);
        let sizes: Vec<usize> = taken.letters.iter().map(|(_, len)| *len).collect();
        assert!(sizes == [3, 2] && taken.bytes == [1, 1, 1, 2, 2]);
        taken.clear();
        assert!(!post.send(2, Letter::Packet, &[]), "there is no third");
    }

    #[test]
    fn a_full_box_drops_packets_and_takes_frames() {
        let post = Post::new(2).unwrap();
        let taken = (0..).take_while(|_| post.send(1, Letter::Packet, &[0; 1_400])).count();
        assert_eq!(taken, PACKETS / 1_400);
        assert!(post.send(1, Letter::Frame, &[0; 1_400]));
        let mut letters = Letters::default();
        post.take(1, &mut letters);
        assert!(post.send(1, Letter::Packet, &[0; 1_400]));
        // Of what is small as many as wait at most, and frames all the same.
        let taken = (1..).take_while(|_| post.send(1, Letter::ToRelay, &[])).count();
        assert_eq!(taken + 1, LETTERS);
        assert!(post.send(1, Letter::Frame, &[]) && post.send(1, Letter::Said, &[]));
    }

    #[test]
    fn nothing_stays_of_frames_nor_of_what_waits_while_a_peer_is_forgotten() {
        let left = |letters: Vec<Letter>, forgotten| {
            let mut all = Letters::default();
            for letter in letters {
                all.push(letter, &[7; 8]);
            }
            if forgotten {
                all.forget();
            }
            all.wipe();
            all.bytes.contains(&7)
        };
        assert!(!left(vec![Letter::Packet, Letter::Frame], false) && !left(vec![Letter::Said], false));
        assert!(!left(vec![Letter::Packet], true));
        assert!(left(vec![Letter::Packet, Letter::ToRelay], false), "packets go at full speed");
    }
}
