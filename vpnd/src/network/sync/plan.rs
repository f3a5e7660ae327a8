//! When to ask, and whom.
//!
//! Two things make this machine ask:
//!
//! * A **claim**: a peer said in its session that it has a newer roster, or another one of the same place. While the
//!   coordinator is well it has [`GRACE`] to bring the same; after that, and at once while it is away, the peer is
//!   asked. One claim after the other: the first one that holds makes the rest of them old. A claim that does not hold
//!   costs its peer a pause that doubles.
//! * A **round**: while the coordinator is away, [`FANOUT`] members are asked, drawn from a shuffled deck of all, so
//!   that everybody's turn comes. The first round is [`FIRST`] after it went away (one that restarts is back by then),
//!   the next ones after pauses that double up to [`LONGEST`]. Whoever takes a newer roster meanwhile begins anew, at
//!   once, and so passes it on: a rumour that doubles its hearers each round.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proto::roster::Floor;
use rand_core::RngCore;

use super::exchange::is_news;
use crate::apply::Key;

/// What a coordinator that is well has to bring a change to us which a peer knows: the way from it takes a moment for
/// one, and another moment for another.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Members asked in one round. Three hearers each: what one knows all of thousands know after a few rounds.
pub(super) const FANOUT: usize = 3;

/// Members asked instead of such that do not answer, in one round.
const INSTEAD: usize = 6;

/// The mean of the pause before the first round.
const FIRST: Duration = Duration::from_secs(4);

/// The mean of the longest pause between two rounds: an idle machine is to stay idle.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Between the questions for two claims: the first one is answered by then.
const STAGGER: Duration = Duration::from_secs(3);

/// After a claim that did not hold, the first time.
const SHUN: Duration = Duration::from_secs(30);

/// How an exchange ended, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The peer answered, and all was in order.
    Fine,
    /// It did not.
    Unreachable,
    /// It answered nonsense.
    Bad,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coordinator {
    /// Not tried yet.
    Unknown,
    Well,
    Away,
}

struct Claim {
    floor: Floor,
    due: Instant,
}

#[derive(Clone, Copy)]
struct Shunned {
    times: u32,
    until: Instant,
}

struct Round {
    /// When the next one begins.
    next: Instant,
    /// The mean of the pause after it.
    mean: Duration,
    /// Members to be asked now.
    wanted: usize,
    /// How many more may be asked for such that did not answer.
    instead: usize,
    /// Who was asked in this one.
    tried: BTreeSet<Key>,
}

/// What made us ask a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Claim(Floor),
    Round,
}

pub(super) struct Plan {
    coordinator: Coordinator,
    members: BTreeSet<Key>,
    claims: BTreeMap<Key, Claim>,
    /// When the next claim may be asked for.
    next_claim: Instant,
    shunned: BTreeMap<Key, Shunned>,
    round: Option<Round>,
    /// Members in the order in which rounds ask them, the next one last.
    deck: Vec<Key>,
    asked: BTreeMap<Key, Why>,
}

impl Plan {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            coordinator: Coordinator::Unknown,
            members: BTreeSet::new(),
            claims: BTreeMap::new(),
            next_claim: now,
            shunned: BTreeMap::new(),
            round: None,
            deck: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Who may be asked.
    pub(super) fn set_members(&mut self, members: BTreeSet<Key>) {
        self.claims.retain(|key, _| members.contains(key));
        self.shunned.retain(|key, _| members.contains(key));
        self.deck.retain(|key| members.contains(key));
        self.members = members;
    }

    /// Whether the coordinator is well, as far as the connection to it tells.
    pub(super) fn coordinator(&mut self, now: Instant, well: bool, rng: &mut dyn RngCore) {
        match (self.coordinator, well) {
            (_, true) => {
                self.coordinator = Coordinator::Well;
                self.round = None;
            }
            (Coordinator::Away, false) => {}
            (_, false) => {
                self.coordinator = Coordinator::Away;
                for claim in self.claims.values_mut() {
                    claim.due = claim.due.min(now);
                }
                self.begin_round(now + spread(FIRST, rng));
            }
        }
    }

    /// A peer said which roster it has. Whatever it is worth: our own is `own`.
    pub(super) fn claim(&mut self, now: Instant, peer: Key, floor: Floor, own: &Floor) {
        if !self.members.contains(&peer) {
            return;
        }
        if !is_news(&floor, own) {
            self.claims.remove(&peer);
            return;
        }
        let grace = if self.coordinator == Coordinator::Away { Duration::ZERO } else { GRACE };
        let known = self.claims.get(&peer).map(|claim| claim.due);
        let due = known.map_or(now + grace, |due| due.min(now + grace));
        self.claims.insert(peer, Claim { floor, due });
    }

    /// This machine took another roster.
    pub(super) fn adopted(&mut self, now: Instant, own: &Floor) {
        self.claims.retain(|_, claim| is_news(&claim.floor, own));
        if self.coordinator == Coordinator::Away {
            self.begin_round(now);
        }
    }

    /// The network around this machine is another one: whoever was out of reach may be within.
    pub(super) fn moved(&mut self, now: Instant, rng: &mut dyn RngCore) {
        if self.coordinator == Coordinator::Away {
            self.begin_round(now + spread(FIRST, rng));
        }
    }

    /// An exchange that [`Plan::due`] asked for has ended.
    pub(super) fn ended(&mut self, now: Instant, peer: &Key, end: End, own: &Floor) {
        let Some(why) = self.asked.remove(peer) else { return };
        let held = match why {
            // It has been kept, or what it would bring is here, or was never there.
            Why::Claim(floor) => !is_news(&floor, own),
            Why::Round => end != End::Bad,
        };
        if let Why::Claim(floor) = why {
            self.next_claim = now;
            if self.claims.get(peer).is_some_and(|claim| claim.floor == floor) {
                self.claims.remove(peer);
            }
        }
        if held {
            if end == End::Fine {
                self.shunned.remove(peer);
            }
        } else {
            let times = self.shunned.get(peer).map_or(0, |shunned| shunned.times);
            let until = now + SHUN.saturating_mul(1 << times.min(16)).min(LONGEST);
            self.shunned.insert(*peer, Shunned { times: times.saturating_add(1), until });
        }
        if let (Why::Round, Some(round)) = (why, &mut self.round)
            && end != End::Fine
            && round.instead > 0
        {
            round.instead -= 1;
            round.wanted += 1;
        }
    }

    /// Whom to ask now.
    pub(super) fn due(&mut self, now: Instant, rng: &mut dyn RngCore) -> Vec<Key> {
        let mut due: Vec<Key> = self.claimant(now).into_iter().collect();
        if let Some(round) = &mut self.round {
            if now >= round.next {
                round.next = now + spread(round.mean, rng);
                round.mean = (round.mean * 2).min(LONGEST);
                (round.wanted, round.instead) = (FANOUT, INSTEAD);
                round.tried.clear();
            }
            let (wanted, mut tried) = (std::mem::take(&mut round.wanted), std::mem::take(&mut round.tried));
            due.extend(self.draw(wanted, &mut tried, now, rng));
            self.round = self.round.take().map(|round| Round { tried, ..round });
        }
        due
    }

    /// When [`Plan::due`] is to be called next, if nothing else happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        let claims = self.unasked().map(|(peer, claim)| self.claim_due(peer, claim));
        let round = self.round.as_ref().map(|round| round.next);
        claims.chain(round).min()
    }

    fn begin_round(&mut self, next: Instant) {
        let tried = BTreeSet::new();
        self.round = Some(Round { next, mean: FIRST, wanted: 0, instead: 0, tried });
    }

    fn unasked(&self) -> impl Iterator<Item = (&Key, &Claim)> {
        self.claims.iter().filter(|(peer, _)| !self.asked.contains_key(*peer))
    }

    fn claim_due(&self, peer: &Key, claim: &Claim) -> Instant {
        let shunned = self.shunned.get(peer).map_or(claim.due, |shunned| shunned.until);
        claim.due.max(self.next_claim).max(shunned)
    }

    /// The peer whose claim is due first, if one is due.
    fn claimant(&mut self, now: Instant) -> Option<Key> {
        let due = self.unasked().map(|(peer, claim)| (self.claim_due(peer, claim), *peer, claim.floor));
        let (at, peer, floor) = due.min_by_key(|claim| claim.0)?;
        if at > now {
            return None;
        }
        self.next_claim = now + STAGGER;
        self.asked.insert(peer, Why::Claim(floor));
        Some(peer)
    }

    /// The next members of the deck that were not tried.
    fn draw(
        &mut self,
        count: usize,
        tried: &mut BTreeSet<Key>,
        now: Instant,
        rng: &mut dyn RngCore,
    ) -> Vec<Key> {
        let mut drawn = Vec::new();
        for _ in 0..self.members.len() + self.deck.len() {
            if drawn.len() >= count {
                break;
            }
            if self.deck.is_empty() {
                self.deck = shuffled(self.members.iter().copied().collect(), rng);
            }
            let Some(peer) = self.deck.pop() else { break };
            let shunned = self.shunned.get(&peer).is_some_and(|shunned| shunned.until > now);
            if !shunned && !self.asked.contains_key(&peer) && tried.insert(peer) {
                self.asked.insert(peer, Why::Round);
                drawn.push(peer);
            }
        }
        drawn
    }
}

/// Between a half and one and a half of `mean`.
fn spread(mean: Duration, rng: &mut dyn RngCore) -> Duration {
    mean.mul_f64(0.5 + f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

fn shuffled(mut keys: Vec<Key>, rng: &mut dyn RngCore) -> Vec<Key> {
    for last in (1..keys.len()).rev() {
        keys.swap(last, rng.next_u32() as usize % (last + 1));
    }
    keys
}

#[cfg(test)]
mod tests {
    use proto::roster::Order;
    use rand_core::OsRng;

    use super::*;

    fn floor(version: u64, header: u8) -> Floor {
        Floor { order: Order { recovery: 0, generation: 1, version }, header: [header; 32] }
    }

    fn key(n: u8) -> Key {
        [n; 32]
    }

    const OWN: u64 = 5;

    fn own() -> Floor {
        floor(OWN, 1)
    }

    /// A machine among so many others, since `start`.
    struct Machine {
        plan: Plan,
        start: Instant,
        now: Instant,
    }

    impl Machine {
        fn among(others: u8) -> Self {
            let start = Instant::now();
            let mut plan = Plan::new(start);
            plan.set_members((1..=others).map(key).collect());
            Self { plan, start, now: start }
        }

        fn coordinator(&mut self, well: bool) {
            self.plan.coordinator(self.now, well, &mut OsRng);
        }

        fn claims(&mut self, peer: u8, floor: Floor) {
            self.plan.claim(self.now, key(peer), floor, &own());
        }

        /// Who is asked until so long after the start, and when; each exchange ends at once, as `end` says.
        fn until(&mut self, until: Duration, end: impl Fn(&Key) -> End) -> Vec<(Duration, Key)> {
            let mut asked = Vec::new();
            loop {
                let due = self.plan.due(self.now, &mut OsRng);
                for peer in &due {
                    asked.push((self.now - self.start, *peer));
                    self.plan.ended(self.now, peer, end(peer), &own());
                }
                if due.is_empty() {
                    match self.plan.wake() {
                        Some(wake) if wake <= self.start + until => {
                            assert!(wake > self.now, "it would be woken for nothing");
                            self.now = wake;
                        }
                        _ => {
                            self.now = self.start + until;
                            return asked;
                        }
                    }
                }
            }
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn nobody_is_asked_while_the_coordinator_is_well() {
        let mut machine = Machine::among(64);
        assert!(machine.until(SECOND, |_| End::Fine).is_empty());
        machine.coordinator(true);
        machine.claims(3, own());
        machine.claims(4, floor(OWN - 1, 9));
        assert!(machine.until(24 * HOUR, |_| End::Fine).is_empty());
        assert_eq!(machine.plan.wake(), None);
    }

    #[test]
    fn a_well_coordinator_has_its_time_to_bring_what_a_peer_has() {
        let mut machine = Machine::among(4);
        machine.coordinator(true);
        machine.claims(2, floor(OWN + 1, 2));
        assert!(machine.until(GRACE - SECOND, |_| End::Fine).is_empty());
        // It did.
        machine.plan.adopted(machine.now, &floor(OWN + 1, 2));
        assert!(machine.until(HOUR, |_| End::Fine).is_empty());
        // It did not; another peer's word is not needed for it, and delays nothing.
        let before = HOUR;
        machine.claims(2, floor(OWN + 2, 3));
        assert!(machine.until(before + GRACE - SECOND, |_| End::Fine).is_empty());
        machine.claims(3, floor(OWN + 2, 3));
        let asked = machine.until(before + GRACE, |_| End::Fine);
        assert_eq!(asked, [(before + GRACE, key(2))]);
    }

    #[test]
    fn what_contradicts_is_asked_for_as_what_is_newer() {
        let mut machine = Machine::among(4);
        machine.coordinator(true);
        machine.claims(2, floor(OWN, 2));
        assert_eq!(machine.until(GRACE, |_| End::Fine), [(GRACE, key(2))]);
    }

    #[test]
    fn a_claim_is_asked_for_at_once_while_the_coordinator_is_away() {
        let mut machine = Machine::among(4);
        machine.claims(2, floor(OWN + 1, 2));
        machine.coordinator(false);
        assert_eq!(machine.until(Duration::ZERO, |_| End::Fine), [(Duration::ZERO, key(2))]);
    }

    #[test]
    fn claims_are_asked_for_one_after_the_other() {
        let mut machine = Machine::among(64);
        machine.coordinator(true);
        (1..=64).for_each(|peer| machine.claims(peer, floor(OWN + 1, 2)));
        machine.now += GRACE;
        let mut first = Vec::new();
        for _ in 0..3 {
            // None of them has answered yet.
            first.push(machine.plan.due(machine.now, &mut OsRng));
            assert!(machine.plan.due(machine.now, &mut OsRng).is_empty());
            assert_eq!(machine.plan.wake(), Some(machine.now + STAGGER));
            machine.now += STAGGER;
        }
        assert!(first.iter().all(|due| due.len() == 1), "{first:?}");
        // The first one brings it: the others' word is old.
        machine.plan.adopted(machine.now, &floor(OWN + 1, 2));
        for peer in first.concat() {
            machine.plan.ended(machine.now, &peer, End::Fine, &floor(OWN + 1, 2));
        }
        assert!(machine.until(HOUR, |_| End::Fine).is_empty());
        assert!(machine.plan.shunned.is_empty(), "they had what they said");
    }

    #[test]
    fn who_claims_what_it_does_not_have_is_asked_ever_more_rarely() {
        let mut machine = Machine::among(2);
        machine.coordinator(true);
        let mut asked = Vec::new();
        for second in 0..3_600 {
            // Ever another lie, ten a second.
            for n in 0..10 {
                machine.claims(1, floor(OWN + 1 + second * 10 + n, 2));
            }
            asked.extend(machine.until(SECOND * (second as u32 + 1), |_| End::Fine));
        }
        assert!((5..=10).contains(&asked.len()), "{}", asked.len());
        assert_eq!(machine.plan.claims.len(), 1);
        // An honest one is not delayed by it.
        machine.claims(2, floor(OWN + 1, 2));
        let now = HOUR + GRACE;
        assert!(machine.until(now, |_| End::Fine).contains(&(now, key(2))));
    }

    #[test]
    fn three_members_are_asked_in_a_round_ever_more_rarely_while_the_coordinator_is_away() {
        for _ in 0..20 {
            let mut machine = Machine::among(64);
            machine.coordinator(false);
            let asked = machine.until(HOUR, |_| End::Fine);
            let mut rounds: Vec<Duration> = asked.iter().map(|(at, _)| *at).collect();
            rounds.dedup();
            assert!(rounds[0] >= FIRST / 2 && rounds[0] <= FIRST * 3 / 2, "{rounds:?}");
            assert!((9..=16).contains(&rounds.len()), "{rounds:?}");
            assert_eq!(asked.len(), rounds.len() * FANOUT);
            // Nobody twice before everybody.
            let first: BTreeSet<Key> = asked.iter().take(64).map(|(_, peer)| *peer).collect();
            assert_eq!(first.len(), asked.len().min(64));
            let day = machine.until(24 * HOUR, |_| End::Fine);
            assert!(day.len() <= 23 * 8 * FANOUT, "{}", day.len());
            machine.coordinator(true);
            assert!(machine.until(48 * HOUR, |_| End::Fine).is_empty());
        }
    }

    #[test]
    fn members_that_do_not_answer_give_way_to_others_but_not_without_end() {
        let mut machine = Machine::among(64);
        machine.coordinator(false);
        let asked = machine.until(FIRST * 3 / 2, |_| End::Unreachable);
        assert!(asked.len() >= FANOUT + INSTEAD);
        let first: Vec<_> = asked.iter().filter(|(at, _)| *at == asked[0].0).collect();
        assert_eq!(first.len(), FANOUT + INSTEAD);
        // In a network of two the other one is asked once in a round.
        let mut machine = Machine::among(1);
        machine.coordinator(false);
        let asked = machine.until(HOUR, |_| End::Unreachable);
        let times: BTreeSet<Duration> = asked.iter().map(|(at, _)| *at).collect();
        assert_eq!(times.len(), asked.len());
        assert!((9..=16).contains(&asked.len()), "{asked:?}");
    }

    #[test]
    fn whoever_takes_a_roster_without_the_coordinator_passes_it_on_at_once() {
        let mut machine = Machine::among(64);
        machine.coordinator(false);
        machine.until(HOUR, |_| End::Fine);
        machine.plan.adopted(machine.now, &own());
        let asked = machine.until(HOUR + SECOND, |_| End::Fine);
        assert_eq!(asked.iter().filter(|(at, _)| *at == HOUR).count(), FANOUT);
        // So does one that came home.
        machine.until(2 * HOUR, |_| End::Fine);
        machine.plan.moved(machine.now, &mut OsRng);
        assert!(machine.until(2 * HOUR + FIRST * 3 / 2, |_| End::Fine).len() >= FANOUT);
    }

    #[test]
    fn what_no_member_says_and_who_left_leave_no_trace() {
        let mut machine = Machine::among(3);
        machine.coordinator(true);
        machine.claims(9, floor(OWN + 1, 2));
        assert!(machine.plan.claims.is_empty());
        machine.claims(3, floor(OWN + 1, 2));
        machine.plan.set_members([key(1)].into());
        assert!(machine.plan.claims.is_empty());
        assert!(machine.until(HOUR, |_| End::Bad).is_empty());
    }
}
