//! WireGuard sessions of one peer.
//!
//! The cryptography and the state machine are boringtun's `Tunn`. It has one pre-shared key for its life, so a peer
//! has a [`Keyed`] tunnel for each of at most two epochs: the present one, and the one before until both sides have
//! moved on. Both receive; the present one sends as soon as it has a session, until then the other. In each, what the peer
//! begins is kept apart from what we begin ([`roles`]).
//!
//! `Tunn` reads the clock itself, and what it remembers of time is as old as its last call, so a tunnel that slept is
//! woken ([`Keyed::wake`]) before it is used. A `Tunn` is made when it is first needed, never for a peer that is only
//! configured. Packets that wait for a session wait in [`crate::waiting`], not in `Tunn`, whose queue is larger than
//! we want for each of many peers.
//!
//! Repetitions of an initiation are ours too ([`RETRY`]): `Tunn`'s first comes after 5 seconds, which a user notices.

mod gate;
mod index;
mod keyed;
mod limiter;
mod roles;
mod seen;

use std::{sync::Arc, time::Duration};

use boringtun::noise::{Packet, Tunn, handshake::parse_handshake_anon, rate_limiter::RateLimiter};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

pub(crate) use gate::{Gate, Verdict};
pub(crate) use index::{Indexes, MAX_SHARED_SLOTS, MAX_SLOTS, guest_slot, host_slot, tag_of, worker_in};
pub use index::{WORKER_BYTE, WORKER_MASK, WORKER_SHIFT};
pub(crate) use keyed::{Attempt, Keyed, Made, Opened};
pub(crate) use limiter::Source;
pub(crate) use seen::Seen;

/// Bytes that sealing adds to a padded packet.
pub(crate) const OVERHEAD: usize = 32;
/// Room for any message that `Tunn` makes by itself.
pub(crate) const SCRATCH: usize = 256;
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
/// No sooner do we wait for one again because of another initiation: whoever has recorded many would keep us waiting with them.
const CONFIRM_AGAIN: Duration = Duration::from_secs(5);

/// This machine's WireGuard key and what hangs on it.
pub(crate) struct Keys {
    pub(crate) secret: StaticSecret,
    pub(crate) public: PublicKey,
    /// Looks at the MAC alone.
    pub(crate) macs: Arc<RateLimiter>,
    /// Wants a cookie of everybody.
    pub(crate) cookies: RateLimiter,
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
