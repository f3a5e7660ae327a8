//! What little was sent lately, as it was sent: it may have been lost.
//!
//! A path that dies without a word is in doubt a fifth of a second later at the soonest, and all that was sent until then is
//! gone. TCP sends it again; for a call, a game or a ping nobody does. So small datagrams of other kinds, to a peer that is
//! sent few of them, are kept for as long, and go by the spare when the doubt begins: the very same ones, of which the
//! receiver's replay window drops what had come. A flow that is large or fast costs a comparison or two a packet, and no copy.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Packets longer than this, in bytes, are not kept: the sound of a call is shorter.
pub(crate) const SMALL: usize = 512;
/// So many are kept of all peers together, the newest.
const KEPT: usize = 256;
/// A peer that is sent more than so many (a call sends 5, an answer to what was repeated comes with all others)…
const FEW: u32 = 64;
/// …in this time has a flow of another kind…
const WINDOW: Duration = Duration::from_millis(100);
/// …and nothing is kept for it for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Datagrams of all peers, the oldest first.
#[derive(Default)]
pub(crate) struct Kept(VecDeque<Datagram>);

struct Datagram {
    slot: u32,
    sent: Instant,
    bytes: Vec<u8>,
}

/// How much one peer is sent.
#[derive(Default)]
pub(crate) struct Rate {
    /// Since when it is counted, and how many there were.
    window: Option<(Instant, u32)>,
    /// It was too much for a while.
    until: Option<Instant>,
}

impl Rate {
    /// Whether what is sent now is little enough to be kept.
    pub(crate) fn is_low(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        let (begun, count) = self.window.filter(|(begun, _)| now < *begun + WINDOW).unwrap_or((now, 0));
        self.window = Some((begun, count + 1));
        self.until = (count >= FEW).then(|| now + PAUSE);
        self.until.is_none()
    }
}

impl Kept {
    /// Keeps a datagram that was sent to the peer in this slot. Does not allocate once it has been full.
    pub(crate) fn push(&mut self, now: Instant, slot: u32, datagram: &[u8]) {
        let oldest = if self.0.len() < KEPT { None } else { self.0.pop_front() };
        let mut bytes = oldest.map(|oldest| oldest.bytes).unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(datagram);
        self.0.push_back(Datagram { slot, sent: now, bytes });
    }

    /// What was sent to the peer in this slot since then, the oldest first.
    pub(crate) fn since(&self, since: Instant, slot: u32) -> impl Iterator<Item = &[u8]> {
        let wanted = move |kept: &&Datagram| kept.slot == slot && kept.sent >= since;
        self.0.iter().filter(wanted).map(|kept| &*kept.bytes)
    }

    /// Forgets what was sent to the peer in this slot.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.0.retain(|kept| kept.slot != slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_datagrams_of_a_peer_are_kept() {
        let (begin, mut kept) = (Instant::now(), Kept::default());
        let at = |n: u64| begin + Duration::from_millis(n);
        for n in 0..KEPT as u64 + 10 {
            kept.push(at(n), (n % 2) as u32, &n.to_le_bytes());
        }
        assert_eq!(kept.0.len(), KEPT);
        let last = KEPT as u64 + 9;
        let of_second: Vec<_> = kept.since(at(last - 4), 1).collect();
        assert_eq!(of_second, [last - 4, last - 2, last].map(u64::to_le_bytes));
        assert_eq!(kept.since(begin, 0).next().unwrap(), 10u64.to_le_bytes(), "the oldest gave way");
        kept.forget(1);
        assert_eq!((kept.since(begin, 1).count(), kept.since(begin, 0).count()), (0, KEPT / 2));
    }

    #[test]
    fn a_call_is_little_and_a_transfer_is_not_until_it_has_paused() {
        let (begin, mut rate) = (Instant::now(), Rate::default());
        assert!((0..1_000).all(|n| rate.is_low(begin + Duration::from_millis(n * 5))));
        let later = begin + Duration::from_secs(10);
        assert_eq!((0..1_000).filter(|_| rate.is_low(later)).count(), FEW as usize);
        assert!(!rate.is_low(later + PAUSE / 2));
        assert!(rate.is_low(later + PAUSE));
    }
}
