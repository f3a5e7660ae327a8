//! The two roles in a handshake, each with a `Tunn` of its own.
//!
//! A `Tunn` refuses an initiation that is not newer than the newest that it took. One that only ever began sessions itself took none,
//! so whoever recorded the peer's initiations can send them to it: the first makes it forget that the next session is its own to begin,
//! two that it waits for an answer, and eight take all its places for sessions, the one in use among them. So what the peer begins has a
//! `Tunn` beside that of what we begin, and is sent in once the peer was heard in it. By then that took an initiation which is
//! newer than everything recorded.
//!
//! Which of two sessions is the newer is told by the order in which initiations were sent, answered and completed ([`Moment`]), so that
//! both ends choose the same.

use std::{cmp::Ordering, sync::Arc};

use boringtun::noise::{Tunn, TunnResult, errors::WireGuardError};
use x25519_dalek::PublicKey;

use super::{INITIATION, Keys, Made};

/// `Tunn`'s places for sessions; an index has the one of its remainder.
const PLACES: usize = 8;
/// Where a handshake message names its sender's index.
const SENDER: usize = 4;
/// Where a data message names the index of whom it is for, and where a response does.
const FOR_DATA: usize = 4;
const FOR_RESPONSE: usize = 8;

/// Counts a tunnel's initiations and responses, of both ends.
pub(super) type Moment = u32;

/// Sessions that we begin.
pub(super) struct Initiator {
    pub(super) tunn: Tunn,
    /// When the initiation of each place was sent.
    sent: [Moment; PLACES],
    /// Whether one waits for an answer.
    pub(super) waits: bool,
    /// When that of the newest session was sent, and when its answer came.
    session: (Moment, Moment),
}

/// Sessions that the peer begins.
pub(super) struct Responder {
    pub(super) tunn: Tunn,
    /// When the initiation of each place was answered, until the peer is heard in that session.
    offered: [Option<Moment>; PLACES],
    /// The place of the newest in which it was heard, and when that was answered.
    session: Option<(usize, Moment)>,
}

impl Initiator {
    pub(super) fn new(tunn: Tunn) -> Self {
        Self { tunn, sent: [0; PLACES], waits: false, session: (0, 0) }
    }

    /// This initiation is sent now.
    pub(super) fn sent(&mut self, now: Moment, initiation: &[u8]) {
        self.sent[place(initiation, SENDER)] = now;
        self.waits = true;
    }

    /// This response was taken now.
    pub(super) fn completed(&mut self, now: Moment, response: &[u8]) {
        self.session = (self.sent[place(response, FOR_RESPONSE)], now);
        self.waits = false;
    }

    /// Whether there is a session to send in.
    pub(super) fn is_live(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    /// Whether its session is newer than the responder's, older, or neither: both ends began at once.
    pub(super) fn age(&self, responder: &Responder) -> Ordering {
        let (sent, completed) = self.session;
        match responder.session {
            Some((_, answered)) if completed < answered => Ordering::Less,
            Some((_, answered)) if sent < answered => Ordering::Equal,
            _ => Ordering::Greater,
        }
    }
}

impl Responder {
    pub(super) fn new(tunn: Tunn) -> Self {
        Self { tunn, offered: [None; PLACES], session: None }
    }

    /// This response is sent now.
    pub(super) fn answered(&mut self, now: Moment, response: &[u8]) {
        self.offered[place(response, SENDER)] = Some(now);
    }

    /// This data message was opened; whether it is the first of its session.
    pub(super) fn heard(&mut self, message: &[u8]) -> bool {
        let place = place(message, FOR_DATA);
        let Some(answered) = self.offered[place].take() else { return false };
        if self.session.is_none_or(|(_, newest)| newest <= answered) {
            self.session = Some((place, answered));
        }
        true
    }

    /// The peer answers none of our initiations. A `Tunn` whose initiations are not answered ends its sessions: the peer's, cut off as
    /// we are, may not have those any more that it began.
    pub(super) fn give_up(&mut self) {
        self.session = None;
    }

    /// Whether there is a session to send in: one that the peer has too, and that no other has taken the place of.
    pub(super) fn is_live(&self) -> bool {
        self.session.is_some_and(|(place, _)| self.offered[place].is_none())
            && self.tunn.time_since_last_handshake().is_some()
    }
}

/// A `Tunn` without a session, for that pre-shared key.
pub(super) fn tunn(keys: &Keys, peer: &PublicKey, psk: &[u8; 32], index: u32) -> Tunn {
    let mut tunn =
        Tunn::new(keys.secret.clone(), *peer, Some(*psk), None, index, Some(Arc::clone(&keys.macs)));
    // It does not know the time yet.
    update(&mut tunn, &mut []);
    tunn
}

/// Brings `Tunn`'s idea of time up to date, and does what is due.
pub(super) fn update(tunn: &mut Tunn, dst: &mut [u8]) -> Made {
    made(tunn.update_timers(dst))
}

/// What came of a handshake message or of a timer.
pub(super) fn made(result: TunnResult<'_>) -> Made {
    match result {
        TunnResult::WriteToNetwork(message) if message.len() == INITIATION => Made::Initiation(INITIATION),
        TunnResult::WriteToNetwork(message) => Made::Reply(message.len()),
        TunnResult::Err(WireGuardError::WrongTai64nTimestamp) => Made::OldTimestamp,
        TunnResult::Err(_) => Made::Refused,
        _ => Made::Nothing,
    }
}

/// The place of the session whose index a message names.
fn place(message: &[u8], at: usize) -> usize {
    message.get(at).map_or(0, |low| usize::from(*low) % PLACES)
}
