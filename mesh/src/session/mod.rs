//! WireGuard sessions of one peer.
//!
//! The cryptography and the state machine are boringtun's `Tunn`. It has one pre-shared key for its life, so a peer
//! has a [`Keyed`] tunnel for each of at most two epochs: the present one, and the one before until both sides have
//! moved on. Both receive; the present one sends as soon as it has a session, until then the other.
//!
//! `Tunn` reads the clock itself, and what it remembers of time is as old as its last call, so a tunnel that slept is
//! woken ([`Keyed::wake`]) before it is used. A `Tunn` is made when it is first needed, never for a peer that is only
//! configured. Packets that wait for a session wait in [`crate::waiting`], not in `Tunn`, whose queue is larger than
//! we want for each of many peers.
//!
//! Repetitions of an initiation are ours too ([`RETRY`]): `Tunn`'s first comes after 5 seconds, which a user notices.

mod gate;
mod index;
mod limiter;
mod seen;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use boringtun::noise::{
    Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon,
    rate_limiter::RateLimiter,
};
use proto::pipe::EpochTag;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::peer::KEEPALIVE;

pub(crate) use gate::{Gate, Verdict};
pub(crate) use index::{Indexes, MAX_SHARED_SLOTS, MAX_SLOTS, guest_slot, host_slot, tag_of, worker_in};
pub use index::{WORKER_BYTE, WORKER_MASK, WORKER_SHIFT};
pub(crate) use limiter::Source;
pub(crate) use seen::Seen;

/// Bytes that sealing adds to a padded packet.
pub(crate) const OVERHEAD: usize = 32;
/// Room for any message that `Tunn` makes by itself.
pub(crate) const SCRATCH: usize = 256;
/// How a data message begins.
const DATA: u8 = 4;
/// Where its counter is.
const COUNTER: std::ops::Range<usize> = 8..16;
/// The first counter that no session has (WireGuard's REJECT_AFTER_MESSAGES). `Tunn` looks at neither this nor REKEY_AFTER_MESSAGES.
/// What we send comes to neither: in its 180 s a session would have to carry 6 million messages each nanosecond. What comes is the
/// peer's to number.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Length of a handshake initiation, in bytes.
pub(crate) const INITIATION: usize = 148;

/// When an unanswered initiation is repeated: soon at first, as the answer takes one round trip; then as WireGuard
/// does (its REKEY_TIMEOUT).
pub(crate) const RETRY: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// When an unanswered handshake is given up until there is new data (WireGuard's REKEY_ATTEMPT_TIME).
pub(crate) const GIVE_UP: Duration = Duration::from_secs(90);
/// How long we wait for the first packet on a session that the peer initiated before we initiate one ourselves.
pub(crate) const CONFIRM: Duration = Duration::from_secs(1);

/// This machine's WireGuard key and what hangs on it.
pub(crate) struct Keys {
    pub(crate) secret: StaticSecret,
    pub(crate) public: PublicKey,
    /// Looks at the MAC alone.
    pub(crate) macs: Arc<RateLimiter>,
    /// Wants a cookie of everybody.
    pub(crate) cookies: RateLimiter,
}

/// The tunnel of one epoch.
pub(crate) struct Keyed {
    pub(crate) tag: EpochTag,
    psk: Zeroizing<[u8; 32]>,
    index: u32,
    tunn: Option<Box<Tunn>>,
    /// Whether `Tunn` has a session to send on.
    live: bool,
    /// Whether the peer was ever heard in a session of it, or answered an initiation of ours.
    confirmed: bool,
    /// The peer says that we are its guest: it takes messages and sync by it, and nothing else.
    pub(crate) narrow: bool,
    /// Our initiation that waits for an answer.
    pub(crate) attempt: Option<Attempt>,
    /// When we answered an initiation whose first packet has not come yet.
    pub(crate) answered: Option<Instant>,
}

/// An initiation under way.
pub(crate) struct Attempt {
    pub(crate) since: Instant,
    pub(crate) retry_at: Instant,
    pub(crate) tries: usize,
}

/// What a datagram or a timer made `Tunn` do; messages are in the buffer that was given.
pub(crate) enum Made {
    /// Nothing to send.
    Nothing,
    /// An initiation, to wherever the peer may be.
    Initiation(usize),
    /// A message for whoever sent the datagram: a response, a cookie, the first packet of a session.
    Reply(usize),
    /// An inner packet of this length was decrypted.
    Inner(usize),
    /// An authentic keepalive.
    Keepalive,
    /// Not authentic, or seen before.
    Refused,
    /// The timestamp is not newer than one seen: the peer's clock was set back.
    OldTimestamp,
}

/// Who made a handshake initiation for the owner of `secret`, as the initiation claims: whoever knows both machines' public
/// keys can make one that says so, and no session comes of it.
#[must_use]
pub fn initiator(secret: &Zeroizing<[u8; 32]>, initiation: &[u8]) -> Option<[u8; 32]> {
    let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(initiation) else { return None };
    let secret = StaticSecret::from(**secret);
    let half = parse_handshake_anon(&secret, &PublicKey::from(&secret), &initiation).ok()?;
    Some(half.peer_static_public)
}

impl Keys {
    pub(crate) fn new(secret: &Zeroizing<[u8; 32]>) -> Self {
        let secret = StaticSecret::from(**secret);
        let public = PublicKey::from(&secret);
        // `Tunn` has it too, and judges nothing by it that [`Gate`] has let through.
        let macs = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self { secret, public, macs, cookies: RateLimiter::new(&public, 0) }
    }
}

impl Keyed {
    pub(crate) fn new(tag: EpochTag, psk: Zeroizing<[u8; 32]>, index: u32) -> Self {
        Self {
            tag,
            psk,
            index,
            tunn: None,
            live: false,
            confirmed: false,
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
        (self.tunn, self.live, self.confirmed, self.narrow) = (None, false, false, false);
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

    /// Whether `Tunn` may have something to do in time.
    pub(crate) fn has_timers(&self) -> bool {
        self.tunn.as_ref().is_some_and(|tunn| !tunn.is_expired())
    }

    pub(crate) fn since_handshake(&self) -> Option<Duration> {
        self.tunn.as_ref().and_then(|tunn| tunn.time_since_last_handshake())
    }

    /// Seals a packet, padded already; how many bytes of `dst` it took. Only for a live tunnel.
    pub(crate) fn seal(&mut self, packet: &[u8], dst: &mut [u8]) -> usize {
        match self.tunn.as_mut().map(|tunn| tunn.encapsulate(packet, dst)) {
            Some(TunnResult::WriteToNetwork(sealed)) => sealed.len(),
            _ => 0,
        }
    }

    /// Opens a datagram into `dst`, which must have room for it and for [`SCRATCH`] bytes.
    pub(crate) fn open(&mut self, source: Source, datagram: &[u8], dst: &mut [u8]) -> Made {
        let Some(tunn) = self.tunn.as_mut() else { return Made::Refused };
        let is_data = datagram.first() == Some(&DATA);
        if is_data && counter(datagram).is_none_or(|counter| counter >= REJECT_AFTER_MESSAGES) {
            return Made::Refused;
        }
        // Data needs no cookie.
        let asker = (!is_data).then(|| source.cookie_address());
        let made = match tunn.decapsulate(asker, datagram, dst) {
            TunnResult::WriteToTunnelV4(packet, _) => Made::Inner(packet.len()),
            TunnResult::WriteToTunnelV6(packet, _) => Made::Inner(packet.len()),
            TunnResult::WriteToNetwork(message) => Made::Reply(message.len()),
            TunnResult::Done => Made::Keepalive,
            TunnResult::Err(WireGuardError::WrongTai64nTimestamp) => Made::OldTimestamp,
            TunnResult::Err(_) => Made::Refused,
        };
        if !self.live && !matches!(made, Made::Refused | Made::OldTimestamp) {
            self.confirmed |= is_data || matches!(made, Made::Reply(KEEPALIVE));
            self.look();
        }
        made
    }

    /// Brings `Tunn`'s idea of time up to date, and does what is due.
    pub(crate) fn wake(&mut self, dst: &mut [u8]) -> Made {
        let Some(tunn) = self.tunn.as_mut() else { return Made::Nothing };
        let made = match tunn.update_timers(dst) {
            TunnResult::WriteToNetwork(message) if message.len() == INITIATION => {
                Made::Initiation(INITIATION)
            }
            TunnResult::WriteToNetwork(message) => Made::Reply(message.len()),
            _ => Made::Nothing,
        };
        self.look();
        made
    }

    /// Makes an initiation, even if one is under way.
    pub(crate) fn initiate(&mut self, keys: &Keys, peer: &PublicKey, dst: &mut [u8]) -> Made {
        self.ready(keys, peer);
        // What is due now would be an initiation as well, or a keepalive that the initiation makes needless.
        self.wake(dst);
        match self.tunn.as_mut().map(|tunn| tunn.format_handshake_initiation(dst, true)) {
            Some(TunnResult::WriteToNetwork(message)) => Made::Initiation(message.len()),
            _ => Made::Nothing,
        }
    }

    /// Makes an initiation, unless one is under way that is not given up yet.
    pub(crate) fn begin(&mut self, keys: &Keys, peer: &PublicKey, dst: &mut [u8]) -> Made {
        self.ready(keys, peer);
        match self.wake(dst) {
            Made::Nothing => {}
            made => return made,
        }
        match self.tunn.as_mut().map(|tunn| tunn.format_handshake_initiation(dst, false)) {
            Some(TunnResult::WriteToNetwork(message)) => Made::Initiation(message.len()),
            _ => Made::Nothing,
        }
    }

    /// Makes the `Tunn` if there is none yet.
    pub(crate) fn ready(&mut self, keys: &Keys, peer: &PublicKey) {
        self.tunn.get_or_insert_with(|| {
            Box::new(Tunn::new(
                keys.secret.clone(),
                *peer,
                Some(*self.psk),
                None,
                self.index,
                Some(Arc::clone(&keys.macs)),
            ))
        });
    }

    /// `Tunn` has eight places for sessions. Who sends as many recorded initiations to one that is new and does not know that they
    /// are old has it take one of those sessions, whose other end is gone, for the one in use.
    fn look(&mut self) {
        self.live = self.confirmed
            && self.tunn.as_ref().is_some_and(|tunn| tunn.time_since_last_handshake().is_some());
    }
}

/// The counter of a data message.
fn counter(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(datagram.get(COUNTER)?.try_into().ok()?))
}
