//! Many ports: a direct path to a machine whose NAT gives each destination another port (a hard one).
//!
//! What a STUN server sees of such a machine is not where its peers' packets get in. But its NAT lets in, by the port that it
//! gave for that, whatever comes from where the machine has sent to. So the machine sends to its peer's endpoint from
//! many sockets, which opens as many ports ([`What::Open`]), and the peer, whose own NAT gives all destinations the same
//! port, sends to one port of the machine's address after the other ([`What::Look`]). With 248 of 64,512 open the
//! first is met after 260 on average, as two of few people share a birthday sooner than one thinks. What meets one
//! passes the NATs of both, and is a probe like any other: a path is learned by it, proves itself, and carries data
//! only then. No answer is awaited to those that meet nothing.
//!
//! A round is begun by the machine behind the hard NAT, when the ordinary burst has led nowhere and data goes by
//! a relay. It tells its peer in its list of candidates, by a number. Two hard NATs never try: neither knows where the
//! other's port is.
//!
//! A home router may give one peer alone another port, too: where the port is taken towards that peer, by what the machine
//! had at another address before. Nobody sees that. So where data goes by a relay for longer though neither NAT is hard, one of
//! the two begins a round as if its own were: first the one that moved, for the round leads somewhere only if it is begun
//! behind that router; then the other.
//!
//! The address is the peer's word, and might be a stranger's. So both sides keep count of rounds by themselves: a few, and then
//! one in each [`ROUND_EVERY`], unless they lead somewhere.

use std::{
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use rand_core::CryptoRngCore;

use super::{Budget, Paths, candidate::MIN_PORT};
use crate::out::To;

/// Ports tried in a round. With 248 open, one is met in 99.7 of 100 rounds; and a home router's table of connections,
/// some thousands in the smallest, takes as many.
const LOOKS: u16 = 1_536;
/// Between two of them: a hundred a second, a tenth of what a call with video sends.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Between two ports opened: all are open in little more than a second, while the peer hears of it.
const OPEN_EVERY: Duration = Duration::from_millis(5);
/// So much is sent at once, instead of calling for each.
const STEP: Duration = Duration::from_millis(20);
/// All datagrams of this kind from this machine in a second: it opens for one peer, or looks for two, at full speed.
const PER_SECOND: u32 = 200;
/// And at once: what a step sends.
const AT_ONCE: u32 = 8;
/// A round is over then, whatever is left of it: a port that nothing came by is open for 30 s with common routers.
const LASTS: Duration = Duration::from_secs(25);
/// The ordinary burst goes first: where it leads somewhere, it does so in its first steps.
const SETTLE: Duration = Duration::from_secs(1);
/// And where neither NAT is hard: time for whatever else leads to a direct path.
const SETTLE_EASY: Duration = Duration::from_secs(10);
/// More of it for one that did not move since data went directly…
const SETTLE_UNMOVED: Duration = Duration::from_secs(30);
/// …and for the one of the two with the larger key, so that both do not begin at once.
const SETTLE_SECOND: Duration = Duration::from_secs(2);
/// From one round to the next, while they lead nowhere; the last of them over and over.
const AGAIN: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(900),
    Duration::from_secs(3_600),
];
/// Rounds with one peer at once…
const ROUNDS: u32 = 4;
/// …and one more in each of these.
const ROUND_EVERY: Duration = Duration::from_secs(900);
/// Ports that a NAT may give.
const PORTS: u32 = 65_536 - MIN_PORT as u32;
/// From one port tried to the next: the golden section of all, which visits each once before any twice, and meets a row of
/// neighbours, as some NATs give them, as soon as can be.
const STRIDE: u32 = 39_871;

/// The search for a path to one peer.
#[derive(Default)]
pub(crate) struct Birthday {
    /// Rounds that we began.
    round: u32,
    /// How many of them led nowhere since one did, or since the network changed.
    in_vain: usize,
    /// The next may begin then.
    next: Option<Instant>,
    /// Since when data goes by a relay.
    relayed: Option<Instant>,
    /// We began a round though our NAT is not hard: until then the peer is told that it is.
    acts: Option<Instant>,
    /// The network changed since data went directly.
    moved: bool,
    /// The number that the peer told last, if it is behind a hard NAT.
    theirs: Option<u32>,
    /// Where the peer is seen from outside, by its own word.
    aim: Option<SocketAddr>,
    /// When [`ROUNDS`] may be had at once again.
    full_at: Option<Instant>,
    work: Option<Work>,
}

/// Whose turn it is to begin.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// Ours: our NAT is hard.
    Hard,
    /// Neither is, and we begin.
    First,
    /// Neither is, and the peer begins.
    Second,
}

struct Work {
    aim: SocketAddr,
    what: What,
    due: Instant,
    until: Instant,
}

enum What {
    /// From each of these sockets once.
    Open(Range<u8>),
    /// To so many ports more, and the present place among all.
    Look(u16, u32),
}

impl Birthday {
    /// What all peers share: datagrams of this kind.
    pub(crate) fn budget(now: Instant) -> Budget {
        Budget::new(now, PER_SECOND, AT_ONCE)
    }

    /// The number of the newest round, to be told to the peer.
    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// This machine is in another network, or behind another router.
    pub(crate) fn moved(&mut self) {
        self.start_over();
        (self.moved, self.relayed) = (true, None);
    }

    /// The network is another one: what led nowhere before may lead somewhere now.
    pub(crate) fn start_over(&mut self) {
        (self.in_vain, self.next) = (0, None);
    }

    /// The peer's newest list; whether it asks us to look.
    pub(crate) fn told(&mut self, restarted: bool, hard: Option<u32>, aim: Option<SocketAddr>) -> bool {
        if aim.map(|aim| aim.ip()) != self.aim.map(|aim| aim.ip()) {
            self.start_over();
        }
        let before = if restarted { None } else { self.theirs };
        let opened = hard.is_some_and(|round| round > 0) && hard != before;
        let looking = self.work.as_ref().is_some_and(|work| matches!(work.what, What::Look(..)));
        if opened || looking != hard.is_some() || aim != self.aim {
            self.work = None;
        }
        // Two hard NATs never try, and the peer's may be hard in truth.
        self.acts = self.acts.filter(|_| hard.is_none());
        (self.theirs, self.aim) = (hard, aim);
        opened
    }

    /// Whether the peer is told that our NAT is hard though it is not.
    pub(crate) fn acts(&self) -> bool {
        self.acts.is_some()
    }

    /// Whether that is over, and the peer is to be told.
    pub(crate) fn acted(&mut self, now: Instant) -> bool {
        let over = self.acts.is_some_and(|until| now >= until);
        if over {
            self.acts = None;
        }
        over
    }

    /// Whether [`open`](Self::open) is worth asking about whose turn it is, which takes longer than all that it asks itself.
    pub(crate) fn may_open(&self, now: Instant, sockets: &Range<u8>) -> bool {
        let waits = self.theirs.is_some() || self.next.is_some_and(|next| now < next);
        !sockets.is_empty() && (self.relayed.is_none() || !waits)
    }

    /// Begins a round, if it is time for one; then the peer is to be told. `turn` says that our NAT is hard, or whether we are
    /// the first of the two to act so.
    pub(crate) fn open(&mut self, now: Instant, turn: Turn, sockets: &Range<u8>) -> bool {
        let (hard, settle) = match turn {
            Turn::Hard => (true, SETTLE),
            Turn::First => (false, SETTLE_EASY),
            Turn::Second => (false, SETTLE_EASY + SETTLE_SECOND),
        };
        let unmoved = if hard || self.moved { Duration::ZERO } else { SETTLE_UNMOVED };
        let settled = *self.relayed.get_or_insert(now) + settle + unmoved;
        let early = now < settled || self.next.is_some_and(|next| now < next);
        let (false, None, false) = (early, self.theirs, sockets.is_empty()) else { return false };
        let Some(aim) = self.aim.filter(|_| self.may_begin(now)) else { return false };
        let again = AGAIN[self.in_vain.min(AGAIN.len() - 1)];
        // The other has its turn between.
        self.next = Some(now + if hard { again } else { again * 2 });
        self.in_vain += 1;
        self.acts = (!hard).then_some(now + LASTS);
        self.round = self.round.wrapping_add(1).max(1);
        self.begin(now, aim, What::Open(sockets.clone()));
        true
    }

    /// Begins to look for one of the ports that the peer opens.
    pub(crate) fn look(&mut self, now: Instant, rng: &mut dyn CryptoRngCore) {
        if let Some(aim) = self.aim.filter(|_| self.may_begin(now)) {
            self.begin(now, aim, What::Look(LOOKS, rng.next_u32() % PORTS));
        }
    }

    /// Where a probe is to be sent now.
    pub(crate) fn next(&mut self, now: Instant, budget: &mut Budget) -> Option<To> {
        let work = self.work.as_mut().filter(|work| work.due <= now)?;
        if now >= work.until {
            self.work = None;
            return None;
        }
        if let Err(later) = budget.take(now) {
            work.due = later;
            return None;
        }
        let (to, every) = match &mut work.what {
            What::Open(sockets) => {
                (sockets.next().map(|socket| To::Udp { socket, dst: work.aim }), OPEN_EVERY)
            }
            What::Look(left, place) => {
                let port = MIN_PORT + *place as u16;
                *place = (*place + STRIDE) % PORTS;
                let to = To::Udp { socket: 0, dst: SocketAddr::new(work.aim.ip(), port) };
                let more = left.checked_sub(1);
                *left = more.unwrap_or(0);
                (more.map(|_| to), LOOK_EVERY)
            }
        };
        // Whoever is called late sends a step more at once, and not all that it missed.
        work.due = work.due.max(now.checked_sub(STEP).unwrap_or(now)) + every;
        if to.is_none() {
            self.work = None;
        }
        to
    }

    /// When a step is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let work = self.work.as_ref().map(|work| work.due + STEP);
        work.into_iter().chain(self.acts).min()
    }

    /// Data goes by no relay: there is none, or no need to look further. Returns whether the peer is to be told that our NAT
    /// is not hard.
    pub(crate) fn stop(&mut self, direct: bool) -> bool {
        (self.work, self.relayed) = (None, None);
        if direct {
            (self.in_vain, self.full_at, self.moved) = (0, None, false);
        }
        self.acts.take().is_some()
    }

    fn begin(&mut self, now: Instant, aim: SocketAddr, what: What) {
        self.work = Some(Work { aim, what, due: now, until: now + LASTS });
    }

    /// Takes a round out of what this peer is granted.
    fn may_begin(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + ROUND_EVERY;
        let may = full_at <= now + ROUND_EVERY * ROUNDS;
        if may {
            self.full_at = Some(full_at);
        }
        may
    }
}

impl Paths {
    /// Whether there is data, and it goes by a relay.
    pub(crate) fn is_relayed(&self) -> bool {
        self.awake && self.chosen.is_some_and(|at| self.table[at].is_relay())
    }

    /// Whether data goes directly.
    pub(crate) fn is_direct(&self) -> bool {
        self.chosen.is_some_and(|at| !self.table[at].is_relay() && self.table[at].trusted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_core::OsRng;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn aim(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    /// All that is sent until a time, called when it asks to be.
    fn sent(
        birthday: &mut Birthday,
        budget: &mut Budget,
        from: Instant,
        until: Instant,
    ) -> Vec<(Duration, To)> {
        let (mut now, mut all) = (from, Vec::new());
        while now < until {
            while let Some(to) = birthday.next(now, budget) {
                all.push((now - from, to));
            }
            let Some(due) = birthday.deadline() else { break };
            now = now.max(due);
        }
        all
    }

    #[test]
    fn a_search_visits_no_port_twice_and_none_that_belongs_to_a_service_at_a_hundred_a_second() {
        let now = Instant::now();
        let mut birthday = Birthday::default();
        assert!(!birthday.told(true, Some(0), aim("198.51.100.7:40000")), "no round has begun");
        assert!(birthday.told(false, Some(1), aim("198.51.100.7:40000")));
        birthday.look(now, &mut OsRng);
        let all = sent(&mut birthday, &mut Birthday::budget(now), now, now + 60 * SECOND);
        assert_eq!(all.len(), usize::from(LOOKS));
        let ports: HashSet<u16> = all
            .iter()
            .map(|(_, to)| match to {
                To::Udp { socket: 0, dst } if dst.ip() == aim("198.51.100.7:1").unwrap().ip() => dst.port(),
                _ => panic!("to somebody else"),
            })
            .collect();
        assert!(ports.len() == usize::from(LOOKS) && ports.iter().all(|port| *port >= MIN_PORT));
        let in_a_second = all.iter().filter(|(at, _)| *at < SECOND).count();
        assert!((90..=110).contains(&in_a_second), "{in_a_second}");
    }

    #[test]
    fn a_row_of_neighbours_is_met_as_soon_as_can_be() {
        let now = Instant::now();
        for first in [1_024, 30_000, 65_536 - 248] {
            let mut birthday = Birthday::default();
            birthday.told(true, Some(1), aim("198.51.100.7:40000"));
            birthday.look(now, &mut OsRng);
            let all = sent(&mut birthday, &mut Birthday::budget(now), now, now + 60 * SECOND);
            let met = all.iter().position(|(_, to)| {
                matches!(to, To::Udp { dst, .. } if (first..first + 248).contains(&u32::from(dst.port())))
            });
            assert!(met.is_some_and(|met| met < 700), "{met:?}");
        }
    }

    #[test]
    fn every_port_is_visited_before_any_is_twice() {
        let places = std::iter::successors(Some(0), |place| Some((place + STRIDE) % PORTS));
        let all: HashSet<u32> = places.take(PORTS as usize).collect();
        assert_eq!(all.len(), PORTS as usize);
    }

    #[test]
    fn ports_are_opened_once_from_each_socket_after_the_ordinary_burst_had_its_time() {
        let now = Instant::now();
        let mut birthday = Birthday::default();
        birthday.told(true, None, aim("198.51.100.7:51820"));
        assert!(!birthday.open(now, Turn::Hard, &(2..250)));
        let then = now + SETTLE;
        assert!(birthday.open(then, Turn::Hard, &(2..250)) && birthday.round() == 1);
        let all = sent(&mut birthday, &mut Birthday::budget(then), then, then + 60 * SECOND);
        let sockets: Vec<u8> = all
            .iter()
            .map(|(_, to)| match to {
                To::Udp { socket, dst } if Some(*dst) == aim("198.51.100.7:51820") => *socket,
                _ => panic!("to somebody else"),
            })
            .collect();
        assert!(sockets == (2..250).collect::<Vec<u8>>());
        assert!(all.last().unwrap().0 < 2 * SECOND);
    }

    #[test]
    fn rounds_that_lead_nowhere_become_rare_and_success_makes_the_next_one_prompt() {
        let now = Instant::now();
        let mut birthday = Birthday::default();
        birthday.told(true, None, aim("198.51.100.7:51820"));
        let day = (0..24 * 3_600).map(|second| now + SECOND * second);
        let rounds: Vec<u64> = day
            .filter(|at| birthday.open(*at, Turn::Hard, &(2..250)))
            .map(|at| (at - now).as_secs())
            .collect();
        assert_eq!(rounds[..6], [1, 31, 151, 451, 1_351, 4_951]);
        assert!(rounds.len() < 32, "{}", rounds.len());
        birthday.stop(true);
        let later = now + 25 * 3_600 * SECOND;
        birthday.open(later, Turn::Hard, &(2..250));
        assert!(birthday.open(later + SETTLE, Turn::Hard, &(2..250)));
        assert!(!birthday.open(later + 29 * SECOND, Turn::Hard, &(2..250)), "never at once");
        assert!(birthday.open(later + 31 * SECOND, Turn::Hard, &(2..250)));
    }

    #[test]
    fn a_peer_that_asks_again_and_again_with_ever_new_addresses_is_granted_a_few_rounds() {
        let now = Instant::now();
        let mut birthday = Birthday::default();
        let mut budget = Birthday::budget(now);
        let mut all = 0;
        for round in 1..=3_600_u32 {
            let at = now + SECOND * round;
            let address = format!("198.51.{}.{}:40000", round / 250 % 250, 1 + round % 250);
            if birthday.told(false, Some(round), aim(&address)) {
                birthday.look(at, &mut OsRng);
            }
            all += sent(&mut birthday, &mut budget, at, at + SECOND).len();
        }
        assert!(all <= usize::from(LOOKS) * (ROUNDS as usize + 4), "{all} in an hour");
    }

    #[test]
    fn two_hard_nats_never_try() {
        let now = Instant::now();
        let mut birthday = Birthday::default();
        birthday.told(true, Some(0), aim("198.51.100.7:51820"));
        assert!((0..600).all(|second| !birthday.open(now + SECOND * second, Turn::Hard, &(2..250))));
        birthday.told(false, None, aim("198.51.100.7:51820"));
        assert!(birthday.open(now + 600 * SECOND, Turn::Hard, &(2..250)));
        birthday.told(false, Some(0), aim("198.51.100.7:51820"));
        assert!(birthday.next(now + 601 * SECOND, &mut Birthday::budget(now)).is_none());
    }
}
