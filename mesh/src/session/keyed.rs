//! The tunnel of one epoch: sessions that we began and sessions that the peer began, and which of them is sent in.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use boringtun::noise::{Tunn, TunnResult};
use proto::pipe::EpochTag;
use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use super::{
    CONFIRM_AGAIN, Keys, SCRATCH, Source,
    roles::{Initiator, Moment, Responder, made, tunn, update},
};
use crate::peer::{KEEPALIVE, RESPONSE};

/// Where the counter of a data message is.
const COUNTER: std::ops::Range<usize> = 8..16;
/// The first counter that no session has (WireGuard's REJECT_AFTER_MESSAGES). `Tunn` looks at neither this nor REKEY_AFTER_MESSAGES.
/// What we send comes to neither: in its 180 s a session would have to carry 6 million messages each nanosecond. What comes is the
/// peer's to number.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The tunnel of one epoch.
pub(crate) struct Keyed {
    pub(crate) tag: EpochTag,
    psk: Zeroizing<[u8; 32]>,
    index: u32,
    initiator: Option<Box<Initiator>>,
    responder: Option<Box<Responder>>,
    /// In which role's session packets are sealed, and in which one was opened last.
    sends: Role,
    opens: Role,
    /// Where both ends began at once there are two sessions: the machine with the larger key sends in that of the other, which
    /// sends in the one where it heard last. (Others than us stay with the session that they began themselves.)
    yields: bool,
    follows: bool,
    now: Moment,
    /// Whether there is a session to send in.
    live: bool,
    /// The peer says that we are its guest: it takes messages and sync by it, and nothing else.
    pub(crate) narrow: bool,
    /// Our initiation that waits for an answer.
    pub(crate) attempt: Option<Attempt>,
    /// When we answered an initiation whose first packet has not come yet.
    pub(crate) answered: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

/// An initiation under way.
pub(crate) struct Attempt {
    pub(crate) since: Instant,
    pub(crate) retry_at: Instant,
    pub(crate) tries: usize,
}

/// What a handshake message or a timer made `Tunn` do; messages are in the buffer that was given.
pub(crate) enum Made {
    /// Nothing to send.
    Nothing,
    /// An initiation, to wherever the peer may be.
    Initiation(usize),
    /// A message for whoever sent the datagram: a response, a cookie, the first packet of a session.
    Reply(usize),
    /// A handshake is to be begun.
    Due,
    /// Our initiations were not answered for [`super::GIVE_UP`].
    GaveUp,
    /// Not authentic, or seen before.
    Refused,
    /// The timestamp is not newer than one seen: the peer's clock was set back.
    OldTimestamp,
}

/// A data message that was authentic.
pub(crate) struct Opened {
    /// Length of the inner packet; 0 for a keepalive.
    pub(crate) len: usize,
    /// Whether it is the first in a session that the peer began.
    pub(crate) first: bool,
}

impl Keyed {
    pub(crate) fn new(tag: EpochTag, psk: Zeroizing<[u8; 32]>, index: u32) -> Self {
        Self {
            tag,
            psk,
            index,
            initiator: None,
            responder: None,
            sends: Role::Initiator,
            opens: Role::Initiator,
            yields: false,
            follows: false,
            now: 0,
            live: false,
            narrow: false,
            attempt: None,
            answered: None,
        }
    }

    /// Whether this is the tunnel for that epoch and key.
    pub(crate) fn is(&self, tag: EpochTag, psk: &[u8; 32]) -> bool {
        self.tag == tag && self.has(psk)
    }

    /// Whether its pre-shared key is this one.
    pub(crate) fn has(&self, psk: &[u8; 32]) -> bool {
        *self.psk == *psk
    }

    /// Forgets all sessions.
    pub(crate) fn reset(&mut self) {
        (self.initiator, self.responder) = (None, None);
        (self.live, self.narrow) = (false, false);
        (self.attempt, self.answered) = (None, None);
    }

    /// Whether packets can be sealed.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether data can be sealed for a peer that takes it.
    pub(crate) fn is_open(&self) -> bool {
        self.live && !self.narrow
    }

    /// Whether we began the session that packets are sealed in.
    pub(crate) fn is_ours(&self) -> bool {
        self.live && self.sends == Role::Initiator
    }

    /// Whether a `Tunn` may have something to do in time.
    pub(crate) fn has_timers(&self) -> bool {
        self.tunn(Role::Initiator).is_some_and(|tunn| !tunn.is_expired())
            || self.tunn(Role::Responder).is_some_and(|tunn| !tunn.is_expired())
    }

    pub(crate) fn since_handshake(&self) -> Option<Duration> {
        self.tunn(self.sends).and_then(Tunn::time_since_last_handshake)
    }

    /// We answered an initiation: the first packet of its session is to be expected.
    pub(crate) fn expect(&mut self, now: Instant) {
        if self.answered.is_none_or(|at| now >= at + CONFIRM_AGAIN) {
            self.answered = Some(now);
        }
    }

    /// Seals a packet, padded already; how many bytes of `dst` it took. Only for a live tunnel.
    pub(crate) fn seal(&mut self, packet: &[u8], dst: &mut [u8]) -> usize {
        match self.tunn_mut(self.sends).map(|tunn| tunn.encapsulate(packet, dst)) {
            Some(TunnResult::WriteToNetwork(sealed)) => sealed.len(),
            _ => 0,
        }
    }

    /// Opens a data message into `dst`, which must have room for it and for [`SCRATCH`] bytes; `None` if it is not authentic or was
    /// seen before.
    pub(crate) fn open(&mut self, message: &[u8], dst: &mut [u8]) -> Option<Opened> {
        if counter(message)? >= REJECT_AFTER_MESSAGES {
            return None;
        }
        // Both number their sessions alike, and each is sure of its own.
        let (role, len) = [self.opens, self.opens.other()].into_iter().find_map(|role| {
            let len = match self.tunn_mut(role)?.decapsulate(None, message, dst) {
                TunnResult::WriteToTunnelV4(packet, _) => packet.len(),
                TunnResult::WriteToTunnelV6(packet, _) => packet.len(),
                TunnResult::Done => 0,
                TunnResult::WriteToNetwork(_) | TunnResult::Err(_) => return None,
            };
            Some((role, len))
        })?;
        self.opens = role;
        let first = match &mut self.responder {
            Some(responder) if role == Role::Responder => responder.heard(message),
            _ => false,
        };
        if self.follows {
            self.sends = role;
        }
        if first {
            self.choose();
            if let (Role::Responder, Some(initiator)) = (self.sends, &mut self.initiator) {
                // What we began meanwhile is not needed any more.
                initiator.waits = false;
            }
        }
        Some(Opened { len, first })
    }

    /// Takes an initiation of the peer's.
    pub(crate) fn respond(
        &mut self,
        keys: &Keys,
        peer: &PublicKey,
        source: Source,
        initiation: &[u8],
        dst: &mut [u8],
    ) -> Made {
        self.yields = keys.public.as_bytes() > peer.as_bytes();
        let known = self.responder.is_some();
        let (psk, index) = (&self.psk, self.index);
        let responder =
            self.responder.get_or_insert_with(|| Box::new(Responder::new(tunn(keys, peer, psk, index))));
        let made = made(responder.tunn.decapsulate(Some(source.cookie_address()), initiation, dst));
        if matches!(made, Made::Reply(RESPONSE)) {
            self.now += 1;
            responder.answered(self.now, dst);
            self.choose();
        } else if !known {
            // Whoever knows both public keys has not had us remember anything.
            self.responder = None;
        }
        made
    }

    /// Takes a response or a cookie for what we began.
    pub(crate) fn complete(&mut self, source: Source, answer: &[u8], dst: &mut [u8]) -> Made {
        let Some(initiator) = &mut self.initiator else { return Made::Refused };
        let made = made(initiator.tunn.decapsulate(Some(source.cookie_address()), answer, dst));
        if matches!(made, Made::Reply(KEEPALIVE)) {
            self.now += 1;
            initiator.completed(self.now, answer);
            self.choose();
        }
        made
    }

    /// Brings each `Tunn`'s idea of time up to date, and does what is due.
    pub(crate) fn wake(&mut self, dst: &mut [u8]) -> Made {
        let theirs = self.wake_responder();
        let ours = self.wake_initiator(dst);
        self.choose();
        match (ours, theirs) {
            (Made::Nothing, made @ Made::Due) => made,
            // A sign of life is due: in the session that is sent in, whichever the peer was heard in.
            (Made::Reply(_), _) | (Made::Nothing, Made::Reply(_)) if self.live => {
                Made::Reply(self.seal(&[], dst))
            }
            (made, _) => made,
        }
    }

    fn wake_responder(&mut self) -> Made {
        let Some(responder) = &mut self.responder else { return Made::Nothing };
        let waits = self.initiator.as_ref().is_some_and(|ours| ours.waits);
        match update(&mut responder.tunn, &mut [0; SCRATCH]) {
            Made::Reply(len) => Made::Reply(len),
            // It begins none itself.
            Made::Initiation(_) if self.sends == Role::Responder && !waits => Made::Due,
            _ => Made::Nothing,
        }
    }

    fn wake_initiator(&mut self, dst: &mut [u8]) -> Made {
        let Some(initiator) = &mut self.initiator else { return Made::Nothing };
        let made = update(&mut initiator.tunn, dst);
        let is_used = self.sends == Role::Initiator || initiator.waits;
        match made {
            Made::Initiation(_) if is_used => {
                self.now += 1;
                initiator.sent(self.now, dst);
                made
            }
            Made::Reply(_) => made,
            _ if initiator.waits && initiator.tunn.is_expired() => {
                initiator.waits = false;
                if let Some(responder) = &mut self.responder {
                    responder.give_up();
                }
                Made::GaveUp
            }
            _ => {
                if !is_used && (matches!(made, Made::Initiation(_)) || !initiator.is_live()) {
                    // The peer's session came after it and is in use: it is not renewed, and goes.
                    self.initiator = None;
                }
                Made::Nothing
            }
        }
    }

    /// Makes an initiation, even if one is under way.
    pub(crate) fn initiate(&mut self, keys: &Keys, peer: &PublicKey, dst: &mut [u8]) -> Made {
        // What is due now would be an initiation as well, or a keepalive that the initiation makes needless.
        self.wake(dst);
        self.yields = keys.public.as_bytes() > peer.as_bytes();
        let (psk, index) = (&self.psk, self.index);
        let initiator =
            self.initiator.get_or_insert_with(|| Box::new(Initiator::new(tunn(keys, peer, psk, index))));
        match initiator.tunn.format_handshake_initiation(dst, true) {
            TunnResult::WriteToNetwork(message) => {
                self.now += 1;
                initiator.sent(self.now, message);
                Made::Initiation(message.len())
            }
            _ => Made::Nothing,
        }
    }

    /// Makes an initiation, unless one is under way that is not given up yet.
    pub(crate) fn begin(&mut self, keys: &Keys, peer: &PublicKey, dst: &mut [u8]) -> Made {
        match self.wake(dst) {
            made @ (Made::Initiation(_) | Made::Reply(_)) => made,
            _ if self.initiator.as_ref().is_some_and(|ours| ours.waits) => Made::Nothing,
            _ => self.initiate(keys, peer, dst),
        }
    }

    /// Decides in which role's session packets are sealed.
    fn choose(&mut self) {
        let ours = self.initiator.as_ref().filter(|initiator| initiator.is_live());
        let theirs = self.responder.as_ref().filter(|responder| responder.is_live());
        self.live = ours.is_some() || theirs.is_some();
        self.follows = false;
        self.sends = match (ours, theirs) {
            (Some(ours), Some(theirs)) => match ours.age(theirs) {
                Ordering::Greater => Role::Initiator,
                Ordering::Less => Role::Responder,
                Ordering::Equal if self.yields => Role::Responder,
                Ordering::Equal => {
                    self.follows = true;
                    self.opens
                }
            },
            (None, Some(_)) => Role::Responder,
            (Some(_), None) => Role::Initiator,
            (None, None) => self.sends,
        };
    }

    fn tunn(&self, role: Role) -> Option<&Tunn> {
        match role {
            Role::Initiator => self.initiator.as_ref().map(|initiator| &initiator.tunn),
            Role::Responder => self.responder.as_ref().map(|responder| &responder.tunn),
        }
    }

    fn tunn_mut(&mut self, role: Role) -> Option<&mut Tunn> {
        match role {
            Role::Initiator => self.initiator.as_mut().map(|initiator| &mut initiator.tunn),
            Role::Responder => self.responder.as_mut().map(|responder| &mut responder.tunn),
        }
    }
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// The counter of a data message.
fn counter(message: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(message.get(COUNTER)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::INITIATION, *};

    #[test]
    fn an_initiation_that_is_refused_leaves_no_tunnel_behind() {
        let keys = Keys::new(&Zeroizing::new([1; 32]));
        let other = Keys::new(&Zeroizing::new([2; 32]));
        let source = Source::Udp { socket: 0, src: "192.0.2.1:9".parse().unwrap(), class: 0 };
        let (mut begins, mut answers) = (keyed(), keyed());
        let mut initiation = [0; SCRATCH];
        assert!(matches!(
            begins.initiate(&other, &keys.public, &mut initiation),
            Made::Initiation(INITIATION)
        ));
        let initiation = &mut initiation[..INITIATION];
        let mut dst = [0; SCRATCH];

        initiation[100] ^= 1;
        assert!(matches!(answers.respond(&keys, &other.public, source, initiation, &mut dst), Made::Refused));
        assert!(!answers.has_timers());
        initiation[100] ^= 1;
        let made = answers.respond(&keys, &other.public, source, initiation, &mut dst);
        assert!(matches!(made, Made::Reply(RESPONSE)) && answers.has_timers());
        // Nor does it take one away.
        initiation[100] ^= 1;
        assert!(matches!(answers.respond(&keys, &other.public, source, initiation, &mut dst), Made::Refused));
        assert!(answers.has_timers());
    }

    fn keyed() -> Keyed {
        Keyed::new(EpochTag::of(0), Zeroizing::new([7; 32]), 5)
    }
}
