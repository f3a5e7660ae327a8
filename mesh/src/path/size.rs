//! How large a packet one path carries whole, found by asking it (after RFC 8899).
//!
//! Sizes here are lengths of inner packets. On the wire a datagram adds 32 bytes of WireGuard, 8 of UDP and 20 or 40 of
//! IP. Nothing that a network says is believed, neither ICMP, which anybody can send, nor its absence: a size works
//! when a probe of that size was echoed.
//!
//! A path begins at [`LEAST`], and what is larger goes in pieces ([`crate::pieces`]), so that nothing is lost and no
//! sender is told anything before it is known. The greatest size is asked first, as most paths carry it: one probe and
//! one round trip. Otherwise all of [`RUNGS`] are asked at once, and then the gap that is left is halved. Only when the
//! search is over are senders told ([`Size::told`]).
//!
//! While large packets flow, a probe of the size in use goes beside them every [`CONFIRM_EVERY`]. When one stays
//! unanswered and the peer is heard nevertheless, large packets go in pieces at once, and after [`TRIES`] the search
//! begins anew. So a router that begins to drop what is too large, without a word, stops data for less than a second,
//! and a probe lost by chance costs nothing but some pieces. (A path where nothing is heard is no matter of sizes.)

use std::time::{Duration, Instant};

/// What every path carries: with the headers of WireGuard, UDP and IPv4, the 576 bytes that every host must take
/// (RFC 791, section 3.1).
pub(super) const LEAST: u16 = 516;

/// Sizes at which paths end, because links do: of 576 bytes; of 1,280 over IPv6 and over IPv4 (the least of IPv6); of
/// 1,360 and 1,400 over both; inside another WireGuard; of 1,460 and 1,480 over IPv4 (clouds, tunnels); of 1,492 over
/// IPv6 (PPPoE, which carries 1,420 over IPv4).
const RUNGS: [u16; 9] = [LEAST, 1_200, 1_220, 1_280, 1_320, 1_340, 1_360, 1_400, 1_412];

/// The search ends when the gap is smaller than this, in bytes: half a percent of a packet is not worth a round.
const GAP: u16 = 8;

/// A size is given up after so many probes in vain (MAX_PROBES of RFC 8899): one or two are lost by chance.
const TRIES: u8 = 3;

/// How long an answer may take at least; on slow paths two round trips. Shorter than RFC 8899 asks of those who have
/// nothing else meanwhile: here the data goes on in pieces.
const PATIENCE: Duration = Duration::from_millis(250);

/// While large packets flow, how often the size in use is confirmed: 3 KB a second. The first of a flow brings it at once.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);

/// A search that ended below what the interface takes is tried again after this long, while there is data. RFC 8899 has
/// ten minutes at least; a search that a bad minute misled should not last that long, and costs some 10 KB.
const RAISE_EVERY: Duration = Duration::from_secs(120);

/// Probes whose answers are awaited: two rounds of all sizes.
const OUTSTANDING: usize = 20;

/// What is known of one path.
pub(super) struct Size {
    /// What the interface takes: nothing larger comes.
    top: u16,
    /// What goes whole.
    floor: u16,
    /// What may.
    ceiling: u16,
    /// Whether a search came to its end.
    settled: bool,
    /// A search after the first, with one try for each size.
    again: bool,
    /// 0: the greatest size alone is asked. Otherwise how often the present sizes were asked.
    round: u8,
    /// What this round has still to ask, downwards from here.
    next: Option<u16>,
    /// The largest size that it asked, and whether that was answered.
    largest: u16,
    answered: bool,
    /// When the round ends, or the next search begins.
    at: Instant,
    /// Since when large packets flow without a confirmation.
    large: Option<Instant>,
    /// How often that was asked in vain, and when it may be again.
    unconfirmed: u8,
    confirm_at: Instant,
    /// Whether the peer was heard on the path since it was asked.
    heard: bool,
    sent: Vec<Sent>,
}

struct Sent {
    nonce: u64,
    size: u16,
    at: Instant,
}

impl Size {
    /// Of a path of which nothing is known, under an interface that takes `top` bytes.
    pub(super) fn new(now: Instant, top: u16) -> Self {
        Self {
            top,
            floor: LEAST.min(top),
            ceiling: top,
            settled: false,
            again: false,
            round: 0,
            next: Some(top),
            largest: top,
            answered: false,
            at: now,
            large: None,
            unconfirmed: 0,
            confirm_at: now,
            heard: false,
            sent: Vec::new(),
        }
    }

    /// Nothing is known any more.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self::new(now, self.top);
    }

    /// The largest packet that goes whole.
    pub(super) fn whole(&self) -> u16 {
        if self.is_suspect() { LEAST.min(self.floor) } else { self.floor }
    }

    /// The same, once it is known that larger ones do not.
    pub(super) fn told(&self) -> Option<u16> {
        (self.settled && self.floor < self.top && !self.is_suspect()).then_some(self.floor)
    }

    /// The interface takes another size.
    pub(super) fn set_top(&mut self, now: Instant, top: u16) {
        if self.top != top {
            *self = Self::new(now, top);
        }
    }

    /// A packet of data goes by the path; whether there is something due for it.
    pub(super) fn passes(&mut self, now: Instant, len: usize) -> bool {
        let first = len > usize::from(LEAST) && self.large.is_none();
        if first {
            self.large = Some(now);
        }
        first
    }

    /// The peer was heard on the path.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// When the next probe is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let search = (self.floor < self.top).then_some(self.at);
        search.into_iter().chain(self.confirm_due()).min()
    }

    /// The size of the probe that is due.
    pub(super) fn probe(&mut self, now: Instant, nonce: u64, rtt: Duration) -> Option<u16> {
        let patience = PATIENCE.max(rtt * 2);
        let size = self.confirm(now, patience).or_else(|| self.search(now, patience))?;
        if self.sent.len() == OUTSTANDING {
            self.sent.remove(0);
        }
        self.sent.push(Sent { nonce, size, at: now });
        Some(size)
    }

    /// An echo came; the round trip, if it answers a probe of these.
    pub(super) fn echoed(&mut self, now: Instant, nonce: u64) -> Option<Duration> {
        let at = self.sent.iter().position(|sent| sent.nonce == nonce)?;
        let sent = self.sent.remove(at);
        let was_done = self.is_done();
        if sent.size >= self.floor {
            (self.floor, self.unconfirmed) = (sent.size, 0);
            self.confirm_at = now + CONFIRM_EVERY;
        }
        // It may be an answer that was given up.
        self.ceiling = self.ceiling.max(self.floor);
        if self.is_done() {
            if !was_done {
                self.settle(now);
            }
        } else if sent.size >= self.largest {
            (self.answered, self.next, self.at) = (true, None, now);
        }
        Some(now.saturating_duration_since(sent.at))
    }

    /// The system refuses to send so large a packet there: its own link does not take it.
    pub(super) fn refused(&mut self, now: Instant, size: u16) {
        if size <= LEAST || size > self.ceiling {
            return;
        }
        self.ceiling = size - 1;
        if self.floor > self.ceiling {
            (self.floor, self.settled, self.unconfirmed) = (LEAST, false, 0);
        }
        if self.is_done() {
            self.settle(now);
        } else {
            (self.answered, self.next, self.at) = (true, None, now);
        }
    }

    /// Whether the size in use may not be what the path carries any more.
    fn is_suspect(&self) -> bool {
        self.unconfirmed > 1 && self.heard
    }

    fn confirm_due(&self) -> Option<Instant> {
        match self.unconfirmed {
            _ if self.floor <= LEAST => None,
            0 => self.large.map(|since| since.max(self.confirm_at)),
            TRIES.. if !self.heard => self.large.map(|since| since.max(self.confirm_at)),
            _ => Some(self.confirm_at),
        }
    }

    fn confirm(&mut self, now: Instant, patience: Duration) -> Option<u16> {
        if self.confirm_due().is_none_or(|due| now < due) {
            return None;
        }
        if self.unconfirmed >= TRIES && self.heard {
            // The path takes it no more. All sizes are asked at once: the greatest is not likely now.
            let sent = std::mem::take(&mut self.sent);
            *self = Self { sent, round: 1, answered: true, next: None, ..Self::new(now, self.top) };
            return None;
        }
        if self.unconfirmed == 0 {
            self.heard = false;
        }
        self.large = None;
        self.unconfirmed = TRIES.min(self.unconfirmed + 1);
        self.confirm_at = now + patience;
        Some(self.floor)
    }

    fn search(&mut self, now: Instant, patience: Duration) -> Option<u16> {
        if self.floor >= self.top || now < self.at {
            return None;
        }
        let size = match self.next.take() {
            Some(size) => size,
            None => {
                self.end_round();
                if self.is_done() {
                    self.settle(now);
                    return None;
                }
                self.largest = self.below(u16::MAX)?;
                self.largest
            }
        };
        self.next = self.below(size).filter(|_| self.round > 0);
        if self.next.is_none() {
            self.at = now + patience;
        }
        Some(size)
    }

    fn end_round(&mut self) {
        if std::mem::take(&mut self.answered) {
            self.round = 1;
        } else if self.is_done() {
            // It is time for another search.
            (self.ceiling, self.again, self.round) = (self.top, true, 1);
        } else if self.round > 0 && (self.again || self.round >= TRIES) {
            let least = self.sizes().min().unwrap_or(self.ceiling);
            (self.ceiling, self.round) = (least - 1, 1);
        } else {
            self.round += 1;
        }
    }

    fn settle(&mut self, now: Instant) {
        self.settled = true;
        (self.next, self.answered) = (None, false);
        self.at = now + RAISE_EVERY;
    }

    fn is_done(&self) -> bool {
        self.floor >= self.ceiling || (self.ceiling < self.top && self.ceiling - self.floor < GAP)
    }

    /// The largest of the sizes to ask that is smaller than this.
    fn below(&self, size: u16) -> Option<u16> {
        self.sizes().filter(|s| *s < size).max()
    }

    /// The sizes worth asking now: the rungs in the gap, and what the interface takes; or the middle.
    fn sizes(&self) -> impl Iterator<Item = u16> {
        let (floor, ceiling) = (self.floor, self.ceiling);
        let top = (ceiling == self.top).then_some(ceiling);
        let rungs = RUNGS.into_iter().filter(move |rung| floor < *rung && *rung <= ceiling).chain(top);
        let middle = rungs.clone().next().is_none().then(|| floor + (ceiling - floor).div_ceil(2));
        rungs.chain(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u16 = 1_420;
    const RTT: Duration = Duration::from_millis(20);

    /// A path that carries packets up to a size, with data flowing.
    struct Link {
        now: Instant,
        size: Size,
        carries: u16,
        /// One probe of so many is lost; 0: none.
        loses: u64,
        asked: Vec<(Instant, u16)>,
        under_way: Vec<(Instant, u64)>,
        large: bool,
        dead: bool,
    }

    impl Link {
        fn new(carries: u16) -> Self {
            let now = Instant::now();
            let size = Size::new(now, TOP);
            Self {
                now,
                size,
                carries,
                loses: 0,
                asked: Vec::new(),
                under_way: Vec::new(),
                large: false,
                dead: false,
            }
        }

        fn run(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                let now = self.now;
                if self.large {
                    self.size.passes(now, 1_400);
                }
                while self.size.due().is_some_and(|due| due <= now) {
                    let nonce = self.asked.len() as u64;
                    let Some(size) = self.size.probe(now, nonce, RTT) else { continue };
                    self.asked.push((now, size));
                    let lost = self.loses > 0 && nonce.is_multiple_of(self.loses);
                    if size <= self.carries && !lost {
                        self.under_way.push((now + RTT, nonce));
                    }
                }
                self.now += Duration::from_millis(5);
                let now = self.now;
                if !self.dead {
                    self.size.heard();
                }
                let (here, rest): (Vec<_>, Vec<_>) = self.under_way.drain(..).partition(|(at, _)| *at <= now);
                self.under_way = rest;
                for (_, nonce) in here {
                    self.size.echoed(now, nonce).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_usual_path_is_known_after_one_probe_and_nobody_is_told_anything() {
        let mut link = Link::new(9_000);
        link.run(Duration::from_secs(600));
        assert_eq!(link.asked.len(), 1);
        assert_eq!((link.size.whole(), link.size.told()), (TOP, None));
    }

    #[test]
    fn every_size_is_found_within_seconds_and_few_probes() {
        for carries in LEAST..TOP {
            let mut link = Link::new(carries);
            link.run(Duration::from_secs(10));
            let told = link.size.told().unwrap();
            assert!(told <= carries && carries - told < GAP, "{carries}: {told}");
            assert_eq!(told, link.size.whole());
            assert!(link.asked.len() <= 60, "{carries}: {} probes", link.asked.len());
        }
    }

    #[test]
    fn the_links_that_there_are_are_found_exactly() {
        for carries in RUNGS {
            let mut link = Link::new(carries);
            link.run(Duration::from_secs(10));
            assert_eq!(link.size.told(), Some(carries));
        }
    }

    #[test]
    fn probes_lost_by_chance_mislead_nobody() {
        for loses in 2..6 {
            let mut link = Link::new(9_000);
            (link.loses, link.large) = (loses, true);
            link.run(Duration::from_secs(60));
            assert_eq!(link.size.told(), None, "one of {loses}");
            link.loses = 0;
            link.run(Duration::from_secs(3));
            assert_eq!(link.size.whole(), TOP);
        }
    }

    #[test]
    fn a_hole_that_opens_under_data_is_noticed_in_less_than_a_second() {
        let mut link = Link::new(9_000);
        link.large = true;
        link.run(Duration::from_secs(5));
        link.carries = 1_220;
        link.run(CONFIRM_EVERY + PATIENCE + Duration::from_millis(10));
        assert_eq!((link.size.whole(), link.size.told()), (LEAST, None), "pieces");
        link.run(Duration::from_secs(2));
        assert_eq!((link.size.whole(), link.size.told()), (1_220, None), "the search goes on");
        link.run(Duration::from_secs(5));
        assert_eq!(link.size.told(), Some(1_220));
    }

    #[test]
    fn where_nothing_is_heard_sizes_are_not_blamed() {
        let mut link = Link::new(9_000);
        link.large = true;
        link.run(Duration::from_secs(5));
        (link.carries, link.dead) = (0, true);
        let before = link.asked.len();
        link.run(Duration::from_secs(5));
        assert_eq!(link.size.whole(), TOP);
        assert!(link.asked.len() - before <= 21, "four a second");
        link.large = false;
        link.run(Duration::from_secs(60));
        assert!(link.asked.len() - before <= 22);
        (link.carries, link.dead, link.large) = (9_000, false, true);
        link.run(Duration::from_secs(1));
        assert_eq!((link.size.whole(), link.size.told()), (TOP, None));
    }

    #[test]
    fn a_hole_without_large_packets_costs_no_probe() {
        let mut link = Link::new(9_000);
        link.run(Duration::from_secs(5));
        link.carries = 1_220;
        link.run(Duration::from_secs(300));
        assert_eq!(link.asked.len(), 1);
    }

    #[test]
    fn a_path_that_grows_is_found_grown_and_is_used_as_it_was_meanwhile() {
        let mut link = Link::new(1_220);
        link.large = true;
        link.run(Duration::from_secs(10));
        link.carries = 9_000;
        let until = link.now + RAISE_EVERY;
        while link.now < until {
            assert!(link.size.told().is_none_or(|told| told >= 1_220));
            link.run(Duration::from_millis(100));
        }
        link.run(Duration::from_secs(1));
        assert_eq!((link.size.whole(), link.size.told()), (TOP, None));
    }

    #[test]
    fn a_search_in_vain_is_short_and_changes_nothing() {
        let mut link = Link::new(1_220);
        link.run(Duration::from_secs(10));
        let before = link.asked.len();
        let until = link.now + RAISE_EVERY + Duration::from_secs(10);
        while link.now < until {
            assert_eq!((link.size.whole(), link.size.told()), (1_220, Some(1_220)));
            link.run(Duration::from_millis(100));
        }
        assert!((1..=16).contains(&(link.asked.len() - before)), "{}", link.asked.len() - before);
    }

    #[test]
    fn what_our_own_link_refuses_is_not_asked_again_before_the_next_search() {
        let mut link = Link::new(9_000);
        link.run(Duration::from_secs(1));
        link.carries = 1_220;
        link.size.refused(link.now, TOP);
        assert_eq!((link.size.whole(), link.size.told()), (LEAST, None));
        let before = link.asked.len();
        link.run(Duration::from_secs(10));
        assert_eq!(link.size.told(), Some(1_220));
        assert!(link.asked[before..].iter().all(|(_, size)| *size < TOP));
        // What was under way is refused late.
        link.size.refused(link.now, TOP);
        assert_eq!(link.size.told(), Some(1_220));
    }
}
