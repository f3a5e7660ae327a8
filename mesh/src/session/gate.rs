//! Which handshake messages are looked at: a Diffie-Hellman each.
//!
//! First comes what proves most for least (the paper, section 5.3): the MAC, which only somebody makes who knows our public key, so that
//! junk costs a hash and nothing else, whosever address it bears. Then each source has a limit of its own. Beyond that, and
//! where all sources together are many, a cookie shows that a source is where it seems to be; those have limits that nobody
//! else can use up.

use std::time::{Duration, Instant};

use boringtun::noise::{HandshakeInit, Packet, TunnResult};
use rand_core::CryptoRngCore;

use super::{
    Keys,
    limiter::{Limiter, Source},
};

/// Initiations in a second over which sources must prove their address with a cookie.
const COOKIE_OVER: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Gate {
    unproved: Limiter,
    /// Of sources that showed a cookie.
    proved: Limiter,
    /// Of what answers us, which names an index that we chose at random.
    answers: Limiter,
    crowd: Crowd,
}

/// What is to be done with a datagram that says it is an initiation.
pub(crate) enum Verdict<'d> {
    Take(HandshakeInit<'d>),
    /// To be answered by a cookie of this length.
    Ask(usize),
    Refuse,
}

/// Initiations of all sources in the present second.
struct Crowd {
    since: Option<Instant>,
    count: u32,
    most: u32,
}

impl Gate {
    pub(crate) fn new(rng: &mut dyn CryptoRngCore) -> Self {
        let [unproved, proved, answers] = std::array::from_fn(|_| Limiter::new(rng.next_u64()));
        Self { unproved, proved, answers, crowd: Crowd { since: None, count: 0, most: COOKIE_OVER } }
    }

    /// There are so many that together allow what one does, and another one counts the crowd.
    pub(crate) fn is_one_of(&mut self, gates: u8) {
        for limiter in [&mut self.unproved, &mut self.proved, &mut self.answers] {
            limiter.is_one_of(gates);
        }
        self.open();
    }

    /// However many sources there are.
    pub(crate) fn open(&mut self) {
        self.crowd.most = u32::MAX;
    }

    /// Judges an initiation; a cookie is written to `reply`.
    pub(crate) fn initiation<'d>(
        &mut self,
        now: Instant,
        source: Source,
        keys: &Keys,
        datagram: &'d [u8],
        reply: &mut [u8],
    ) -> Verdict<'d> {
        let at = Some(source.cookie_address());
        let Ok(Packet::HandshakeInit(initiation)) = keys.macs.verify_packet(at, datagram, reply) else {
            return Verdict::Refuse;
        };
        if self.crowd.has_room(now) && self.unproved.allows(now, source) {
            return Verdict::Take(initiation);
        }
        match keys.cookies.verify_packet(at, datagram, reply) {
            Ok(_) if self.proved.allows(now, source) => Verdict::Take(initiation),
            Err(TunnResult::WriteToNetwork(cookie)) => Verdict::Ask(cookie.len()),
            _ => Verdict::Refuse,
        }
    }

    /// Whether a response or a cookie, whose index is one of ours, is looked at.
    pub(crate) fn answer(&mut self, now: Instant, source: Source, keys: &Keys, datagram: &[u8]) -> bool {
        let checked = keys.macs.verify_packet(None, datagram, &mut []);
        matches!(checked, Ok(Packet::HandshakeResponse(_) | Packet::PacketCookieReply(_)))
            && self.answers.allows(now, source)
    }
}

impl Crowd {
    /// Counts one more.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + SECOND) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.most
    }
}
