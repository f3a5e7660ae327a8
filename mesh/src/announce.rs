//! Telling a peer our candidates and our roster until it has them, and taking its.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use proto::{
    probe::{Candidate, ListId, Origin},
    roster::Floor,
};

/// When an unacknowledged list is sent again, each after the one before. The relay may drop, and until the list
/// arrives there is no direct path to win; after the last the peer is taken to be away, until it is heard again.
const RETRY: [Duration; 6] = [
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_millis(800),
    Duration::from_millis(1_500),
    Duration::from_millis(3_000),
    Duration::from_millis(6_000),
];

/// Lists that a peer may send at once, each with its candidates to be probed: one when the session comes up, one when
/// STUN answers, and the same again after a move.
const LISTS: u32 = 4;
/// After that, one more in each of these.
const LIST_REFILL: Duration = Duration::from_secs(2);

/// The exchange of lists with one peer.
#[derive(Default)]
pub(crate) struct Announce {
    number: u32,
    /// When to send our list next.
    due: Option<Instant>,
    tries: usize,
    /// The peer does not have the newest list, as far as we know.
    owed: bool,
    /// The peer's newest list.
    theirs: Option<ListId>,
    list: Vec<Candidate>,
    /// The roster that the peer said last that it has.
    floor: Option<Floor>,
    /// When the peer may send [`LISTS`] again.
    full_at: Option<Instant>,
    /// Where the peer is seen from outside.
    seen_at: Vec<IpAddr>,
}

/// What a received list is to us.
pub(crate) struct Received {
    /// Not seen before; its candidates count.
    pub(crate) new: bool,
    /// From a peer that started anew and does not know ours.
    pub(crate) restarted: bool,
    /// The peer has another roster than it said last.
    pub(crate) news: bool,
    /// Its candidates are those that it had, and it told them for its roster's sake.
    pub(crate) stays: bool,
}

impl Announce {
    /// Our list is to be sent anew.
    pub(crate) fn renew(&mut self, now: Instant) {
        self.number = self.number.wrapping_add(1);
        (self.due, self.tries, self.owed) = (Some(now), 0, true);
    }

    /// The peer is there. If it did not take our list while it was not, it is sent again.
    pub(crate) fn heard(&mut self, now: Instant) {
        if self.owed && self.due.is_none() {
            (self.due, self.tries) = (Some(now), 0);
        }
    }

    /// Whether our list is to be sent now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The number of the list, if it is to be sent now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<u32> {
        if !self.is_due(now) {
            return None;
        }
        self.due = RETRY.get(self.tries).map(|wait| now + *wait);
        self.tries += 1;
        Some(self.number)
    }

    /// The peer has our list.
    pub(crate) fn taken(&mut self, number: u32) {
        if number == self.number {
            (self.due, self.owed) = (None, false);
        }
    }

    /// Whether the peer may send this list now; one that is known already costs nothing.
    pub(crate) fn may_receive(&mut self, now: Instant, id: ListId) -> bool {
        if self.theirs == Some(id) {
            return true;
        }
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + LIST_REFILL;
        if full_at > now + LIST_REFILL * LISTS {
            return false;
        }
        self.full_at = Some(full_at);
        true
    }

    /// The peer's list. A list older than the newest is late and says nothing.
    pub(crate) fn received(&mut self, id: ListId, list: &[Candidate], floor: Option<Floor>) -> Received {
        let restarted = self.theirs.is_none_or(|theirs| theirs.start != id.start);
        let new = restarted || self.theirs.is_some_and(|theirs| theirs.number < id.number);
        let news = new && floor.is_some() && self.floor != floor;
        let stays = news && !restarted && self.list == list;
        if new {
            self.theirs = Some(id);
            self.list = list.to_vec();
            self.floor = floor.or(self.floor);
            self.seen_at =
                list.iter().filter(|c| c.origin == Origin::Reflexive).map(|c| c.endpoint.0.ip()).collect();
        }
        Received { new, restarted, news, stays }
    }

    /// The roster that the peer said last that it has.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// Where the peer says that it is seen.
    pub(crate) fn seen_at(&self) -> &[IpAddr] {
        &self.seen_at
    }

    pub(crate) fn stop(&mut self) {
        (self.due, self.owed) = (None, false);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sent_until_it_is_taken() {
        let now = Instant::now();
        let mut announce = Announce::default();
        announce.renew(now);
        assert_eq!(announce.next(now), Some(1));
        assert_eq!(announce.next(now), None);
        assert_eq!(announce.next(now + RETRY[0]), Some(1));
        announce.taken(0);
        assert!(announce.deadline().is_some());
        announce.taken(1);
        assert!(announce.deadline().is_none());
    }

    #[test]
    fn a_peer_cannot_send_new_lists_without_end() {
        let now = Instant::now();
        let mut announce = Announce::default();
        let taken =
            (0..100).filter(|number| announce.may_receive(now, ListId { start: 1, number: *number })).count();
        assert_eq!(taken, LISTS as usize);
        assert!(announce.may_receive(now + LIST_REFILL, ListId { start: 1, number: 101 }));
    }

    #[test]
    fn a_late_list_says_nothing_and_a_restarted_peer_is_noticed() {
        let mut announce = Announce::default();
        let mut got = |start, number| {
            let received = announce.received(ListId { start, number }, &[], None);
            (received.new, received.restarted)
        };
        assert_eq!(got(1, 5), (true, true));
        assert_eq!(got(1, 5), (false, false));
        assert_eq!(got(1, 4), (false, false));
        assert_eq!(got(1, 6), (true, false));
        assert_eq!(got(2, 1), (true, true));
    }
}
