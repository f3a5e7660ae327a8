//! Doubt: a path that carries data answers no more, and it is too early to give it up.
//!
//! A path that dies without a word is given up only after [`TRUST`](super::schedule::TRUST), because a moment without an
//! answer is common. Until then data that goes on it alone may be lost. So when the path that carries data has left two
//! probes unanswered, data goes by a spare too, as the very same datagrams: the receiver takes whichever comes first, and
//! its replay window drops the other. Whatever is heard on the path ends the doubt. The spare is where the peer was heard last: what
//! took away the path may have taken a relay too, and neither end knows.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::{Path, Paths};
use crate::out::To;

/// Data without anything heard on its path for this long brings the first probe. A packet that is answered by the other
/// side's software is answered sooner.
pub(super) const ASK: Duration = Duration::from_millis(100);
/// The round trip of a path where none was measured yet: half around the world.
const UNKNOWN: Duration = Duration::from_millis(100);
/// Nobody waits by a longer round trip than this: a relay's connection that stood still hands over echoes that are as old as
/// its stop, and the next silence must not be borne for as long. (Three of it, the trust, are a path's that is slower.)
pub(super) const SLOWEST: Duration = Duration::from_secs(1);

/// A round trip that is longer than so many of the usual ones…
const UNLIKELY: u32 = 4;
/// …and than as many of these was held up on the way, or the way is another.
const USUAL: Duration = Duration::from_millis(25);

impl Path {
    /// Takes a round trip that was measured. Echoes that waited while the way was cut tell how long that was, not how far it
    /// is, and come many at once: a round trip that is far longer than usual counts once another is that was begun after the
    /// first had ended.
    pub(super) fn took(&mut self, now: Instant, sample: Duration) {
        let held_up = self.held_up.take();
        self.rtt = Some(match self.rtt {
            None => sample,
            Some(usual) if sample > usual.max(USUAL) * UNLIKELY => {
                if held_up.is_none_or(|ended| now < ended + sample) {
                    self.held_up = Some(held_up.unwrap_or(now));
                    return;
                }
                sample
            }
            // Nothing is faster than the way is long.
            Some(usual) if sample * UNLIKELY < usual => sample,
            Some(usual) if self.trusted => (usual * 7 + sample) / 8,
            Some(_) => sample,
        });
    }

    fn round_trip(&self) -> Duration {
        self.rtt.unwrap_or(UNKNOWN).min(SLOWEST)
    }

    /// How long the first probe waits for an answer to come by itself.
    fn ask_after(&self) -> Duration {
        self.patience.max(self.round_trip() * 2)
    }

    /// How long an answer to a probe is waited for before the next, and before the doubt.
    fn answer_within(&self) -> Duration {
        (self.patience / 2).max(self.round_trip() * 3 / 2)
    }

    /// Nothing was heard since then: what was answered last was sent a round trip earlier.
    fn lost_since(&self, unanswered: Instant) -> Instant {
        unanswered.checked_sub(self.round_trip()).unwrap_or(unanswered)
    }

    /// When a probe is due because nothing was heard.
    pub(super) fn ask_at(&self, probed: Instant) -> Option<Instant> {
        let since = self.unanswered?;
        Some(match self.tries {
            0 => since + self.ask_after(),
            1 => since.max(probed) + self.answer_within(),
            _ => since.max(probed) + super::PROBE_EVERY,
        })
    }

    /// When the path is in doubt if nothing is heard until then.
    fn doubted_at(&self) -> Option<Instant> {
        self.unanswered
            .filter(|_| self.tries >= 2)
            .map(|since| since + self.ask_after() + self.answer_within() * 2)
    }

    /// Something was heard. A flow that is answered by echoes alone (sound, a film) is asked more and more rarely.
    pub(super) fn answered(&mut self) {
        if self.unanswered.take().is_some() {
            self.patience = match self.tries {
                // It may be the echo of a probe of a size.
                0 if std::mem::take(&mut self.asked_size) => self.patience,
                0 => ASK,
                _ => (self.patience * 2).min(super::PROBE_EVERY),
            };
        }
        self.tries = 0;
        self.size.heard();
    }
}

impl Paths {
    /// Where data goes besides, while the path that carries it is in doubt.
    pub(crate) fn spare(&self) -> Option<To> {
        self.spare
    }

    /// Once when the doubt begins: since when what was sent may have been lost, and where to send it again. The same when a path
    /// is given up before it was in doubt, for it is that long.
    pub(crate) fn may_have_lost(&mut self) -> Option<(Instant, To)> {
        let other = self.spare.or_else(|| self.route().filter(|_| self.is_well()));
        self.lost_since.take().zip(other)
    }

    /// The path at this place, which carried data, is given up, silent since then.
    pub(super) fn lost_with(&mut self, at: usize, since: Instant) {
        if !self.doubted {
            self.lost_since = Some(self.table[at].lost_since(since));
        }
        self.doubt_relays(since);
    }

    /// After data was sent that nothing answered yet: when to look again.
    pub(crate) fn look_again(&self, now: Instant) -> Option<Instant> {
        self.chosen.map(|at| now + self.table[at].ask_after())
    }

    /// Begins or ends the doubt.
    pub(super) fn doubt(&mut self, now: Instant) {
        let is_doubted = |path: &Path| path.trusted && path.doubted_at().is_some_and(|due| due <= now);
        let doubted = self.chosen.filter(|at| is_doubted(&self.table[*at]));
        let begins = doubted.is_some() && !self.doubted;
        if let Some(path) = doubted.filter(|_| begins).map(|at| &self.table[at]) {
            self.lost_since = path.unanswered.map(|since| path.lost_since(since));
        }
        self.doubted = doubted.is_some();
        self.spare = doubted.and_then(|at| self.other_than(at));
        if begins && let Some(path) = self.table.iter_mut().find(|path| Some(path.to) == self.spare) {
            // Due at once: it tells whether the spare leads anywhere, and the peer where to answer, also where there is no more data.
            path.probed = None;
        }
    }

    /// The path that carries data is another one, or something was heard on it.
    pub(super) fn end_doubt(&mut self) {
        (self.doubted, self.spare) = (false, None);
    }

    /// The path that carries data is given up, silent since then: a relay where the peer was not heard since may have been lost
    /// with it, and is no better than one where it never was.
    pub(super) fn doubt_relays(&mut self, since: Instant) {
        for path in self.table.iter_mut().filter(|path| path.is_relay()) {
            path.heard = path.heard.filter(|heard| *heard >= since);
        }
    }

    /// When the path that carries data is in doubt, unless it is already. (There may be no spare, and so nothing more to do.)
    pub(super) fn doubted_at(&self) -> Option<Instant> {
        let path = &self.table[self.chosen?];
        if path.trusted && !self.doubted { path.doubted_at() } else { None }
    }

    /// The path that has the least in common with this one: a relay before a direct path, and the one where the peer was heard last.
    fn other_than(&self, at: usize) -> Option<To> {
        let others = self.table.iter().enumerate().filter(|(place, path)| *place != at && path.trusted);
        others
            .map(|(_, path)| path)
            .min_by_key(|path| (!path.is_relay(), Reverse(path.heard), path.rtt))
            .map(|path| path.to)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proto::pipe::RelayTo;

    use super::*;
    use crate::path::{Kind, Origin, Silence, Via};

    #[test]
    fn what_was_sent_on_a_long_path_goes_elsewhere_though_it_is_given_up_before_it_is_in_doubt() {
        let remote = SocketAddr::from(([192, 0, 2, 1], 1_024));
        let begin = Instant::now();
        let ms = |n| begin + Duration::from_millis(n);
        let mut paths = Paths::default();
        paths.add_relay(begin, 0, RelayTo::Handle(1));
        let relay = paths.route();
        let via = Via::Udp { socket: 0, remote };
        paths.probed(begin, via, &[], false);
        for (sent, answered, nonce) in [(0, 400, 1), (400, 800, 2)] {
            let at = paths.place(via).unwrap();
            paths.probe(ms(sent), at, nonce, false);
            assert!(paths.echoed(ms(answered), via, nonce).is_some());
        }
        assert!(paths.is_valid(via) && paths.route() != relay);
        paths.sent(ms(1_000), 84);
        let at = paths.place(via).unwrap();
        for nonce in [3, 4] {
            paths.probe(ms(1_800), at, nonce, false);
        }
        assert!(paths.lapse(ms(2_400)) == Silence::None && paths.may_have_lost().is_none());
        assert!(paths.lapse(ms(2_600)) == Silence::Direct && !paths.doubted);
        assert!(paths.may_have_lost() == Some((ms(600), relay.unwrap())) && paths.may_have_lost().is_none());
    }

    #[test]
    fn echoes_that_waited_for_a_cut_way_do_not_pass_for_a_long_one_and_a_longer_way_is_found() {
        let remote = SocketAddr::from(([192, 0, 2, 1], 1_024));
        let (via, to) = (Via::Udp { socket: 0, remote }, To::Udp { socket: 0, dst: remote });
        let begin = Instant::now();
        let mut path = Path::new(begin, via, to, Kind::V4, Origin::Learned, 1_420);
        // Probes that were sent and answered at these milliseconds, and what the round trip is then.
        let mut take = |sent, answered, trusted| {
            path.trusted = trusted;
            let (sent, answered) = (Duration::from_millis(sent), Duration::from_millis(answered));
            path.took(begin + answered, answered - sent);
            path.rtt.unwrap_or_default().as_millis()
        };
        assert_eq!(take(0, 20, false), 20);
        let waited: Vec<u64> = (1_000..20_000).step_by(1_000).collect();
        assert!(
            waited.iter().all(|sent| take(*sent, 20_000, false) == 20),
            "all came when the way was whole again"
        );
        assert_eq!(take(20_100, 20_130, false), 30, "after a silence the newest counts");
        assert!(waited.iter().all(|sent| take(20_200 + sent, 41_000, true) == 30), "and once more");
        assert_eq!(take(41_500, 41_530, true), 30);
        assert_eq!([take(42_000, 42_700, true), take(43_000, 43_700, true)], [30, 700], "the way is another");
        assert_eq!(take(44_000, 44_020, true), 20, "and as it was");
        let drift: Vec<u128> = (0..40).map(|n| take(50_000 + n * 100, 50_070 + n * 100, true)).collect();
        assert!(drift[0] < 30 && drift[39] > 60, "{drift:?}");
    }
}
