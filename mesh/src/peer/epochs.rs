//! From one epoch to the next without a lost packet.
//!
//! A new epoch reaches two machines at different moments. Both keep the tunnel in use and begin one of the new epoch
//! beside it: the machine with the smaller key initiates within [`SPREAD`], so that the other has most likely heard of
//! the epoch and a large network does not begin all at once; the other one does after [`PATIENCE`], should nothing have
//! come. A responder that does not have the epoch drops the initiation, and nothing is lost by that. The initiator
//! sends in the new tunnel from the response on, the responder from the first packet opened in it; both accept in
//! both, and the old sessions end [`OVERLAP`] after.
//!
//! If epochs follow one another faster than that, the tunnel in use may be one that control names no more. It goes on
//! until a newer one can send, makes no handshakes, and hurries the next one. Receivers tell epochs apart modulo 4
//! ([`EpochTag`]), so four tunnels can stand side by side.

use std::time::{Duration, Instant};

use proto::pipe::{EpochTag, RelayTo};
use zeroize::Zeroizing;

use super::Peer;
use crate::{
    machine::Machine,
    out::To,
    session::{GIVE_UP, Keyed, Made, SCRATCH},
};

/// The machine with the smaller key initiates in a new epoch within this, at random.
const SPREAD: Duration = Duration::from_secs(10);
/// The other one, if nothing came until then.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries to move while the peer does not answer in the new epoch.
const AGAIN: Duration = Duration::from_secs(60);
/// How long sessions of the old epoch outlive the move: what was sent in them has long arrived (WireGuard's
/// REJECT_AFTER_TIME).
const OVERLAP: Duration = Duration::from_secs(180);

/// A peer that is heard in an older tunnel alone for this long does not have the present one any more.
const LOST: Duration = Duration::from_secs(10);

/// Where a peer is between two epochs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Shift {
    /// All sessions are of the present epoch, or there are none.
    #[default]
    Settled,
    /// An older tunnel is in use. The present one is tried from then on, while there is data.
    Due(Instant),
    /// The present tunnel is in use; older sessions end then.
    Until(Instant),
}

impl Peer {
    /// Takes over the epochs that control names, the present one first.
    pub(super) fn set_epochs(
        &mut self,
        now: Instant,
        psks: Vec<(EpochTag, Zeroizing<[u8; 32]>)>,
        machine: &mut Machine,
    ) {
        let mut old = std::mem::take(&mut self.keyed);
        let known = old.iter().any(|k| k.is(psks[0].0, &psks[0].1));
        let rekeyed = !old.is_empty() && !known;
        self.named = psks.len();
        for (tag, psk) in psks {
            let kept = old.iter().position(|k| k.is(tag, &psk)).map(|at| old.remove(at));
            let index = machine.indexes.of(self.slot, tag);
            self.keyed.push(kept.unwrap_or_else(|| Keyed::new(tag, psk, index)));
        }
        // What is in use goes on, unless its tag now means another epoch.
        for kept in old.into_iter().filter(Keyed::is_live) {
            if !self.keyed.iter().any(|k| k.tag == kept.tag) {
                self.keyed.push(kept);
            }
        }
        if !rekeyed {
            return;
        }
        match self.sender() {
            Some(_) => self.begin_shift(now, machine),
            None => {
                // A tunnel in which we are a guest ends once the present one is up, which takes no waiting.
                self.shift = self.voice().map_or(Shift::Settled, |_| Shift::Due(now + AGAIN));
                if self.is_active(now) {
                    self.initiate(now, machine);
                }
            }
        }
    }

    /// An older tunnel is in use: says when the present one is tried.
    fn begin_shift(&mut self, now: Instant, machine: &mut Machine) {
        let hurry = self.sender().is_some_and(|at| at >= self.named);
        let first = machine.keys.as_ref().is_some_and(|keys| keys.public.as_bytes() < self.key.as_bytes());
        let wait = match (first, hurry) {
            (true, true) => Duration::ZERO,
            (true, false) => machine.jitter(SPREAD),
            (false, true) => machine.jitter(SPREAD) / 10,
            (false, false) => PATIENCE,
        };
        // A change upon a change does not put off the first.
        let due = match self.shift {
            Shift::Due(due) => due.min(now + wait),
            _ => now + wait,
        };
        self.shift = Shift::Due(due);
    }

    /// Moves on, and ends what is over.
    pub(super) fn tick_epochs(&mut self, now: Instant, machine: &mut Machine) {
        let moved = self.keyed.first().is_some_and(Keyed::is_live);
        match self.shift {
            Shift::Due(_) if moved => {
                self.heard_in_present = Some(now);
                self.shift = Shift::Until(now + OVERLAP);
            }
            Shift::Due(due) if now >= due && self.is_active(now) => {
                self.shift = Shift::Due(now + AGAIN);
                if self.keyed[0].attempt.is_none() {
                    self.initiate(now, machine);
                }
            }
            Shift::Until(end) if now >= end => {
                self.shift = Shift::Settled;
                self.keyed.truncate(self.named);
                self.keyed.iter_mut().skip(1).for_each(Keyed::reset);
            }
            _ => {}
        }
    }

    /// When [`Peer::tick_epochs`] has something to do.
    pub(super) fn shift_due(&self, now: Instant) -> Option<Instant> {
        match self.shift {
            Shift::Due(due) => self.is_active(now).then_some(due),
            Shift::Until(end) => Some(end),
            Shift::Settled => None,
        }
    }

    /// A tunnel can send now, or its handshake confirmed that the peer is there.
    pub(super) fn epoch_up(&mut self, now: Instant, at: usize, machine: &mut Machine) {
        if at == 0 {
            self.keyed.iter_mut().for_each(|k| k.attempt = None);
            if matches!(self.shift, Shift::Due(_)) {
                self.heard_in_present = Some(now);
                self.shift = Shift::Until(now + OVERLAP);
            }
            return;
        }
        self.keyed[at].attempt = None;
        if !self.keyed[0].is_live() && self.shift == Shift::Settled {
            self.keyed[0].attempt = None;
            self.begin_shift(now, machine);
        }
    }

    /// An authentic packet came in a tunnel. A peer that goes on in an older one, and is not heard in the present one,
    /// has lost the present epoch: what is sent in that would not be read.
    pub(super) fn heard_in(&mut self, now: Instant, at: usize, machine: &mut Machine) {
        if at == 0 {
            self.heard_in_present = Some(now);
            return;
        }
        self.heard_in_former = Some(now);
        if self.keyed[0].is_live()
            && self.heard_in_present.is_none_or(|heard| now.saturating_duration_since(heard) > LOST)
        {
            self.keyed[0].reset();
            self.begin_shift(now, machine);
        }
    }

    /// Whether the peer was heard lately in a tunnel of an epoch that both sides know.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        let heard = self.heard_in_present.max(self.heard_in_former);
        self.voice().is_some() && heard.is_some_and(|at| now.saturating_duration_since(at) <= LOST)
    }

    /// The place of the tunnel that sends: the newest that can.
    pub(super) fn sender(&self) -> Option<usize> {
        self.keyed.iter().position(Keyed::is_open)
    }

    /// The place of the tunnel for messages: the one that sends, or one in which we are a guest.
    pub(super) fn voice(&self) -> Option<usize> {
        self.sender().or_else(|| self.keyed.iter().position(Keyed::is_live))
    }

    /// `to` for what is sent in a tunnel: at a relay, the mailbox of its epoch.
    pub(super) fn addressed(&self, to: To, at: usize) -> To {
        match to {
            To::Relay { relay, to: RelayTo::Peer { peer, .. } } => {
                To::Relay { relay, to: RelayTo::Peer { peer, epoch: self.keyed[at].tag } }
            }
            other => other,
        }
    }

    /// Lets every `Tunn` do what is due, and repeats unanswered initiations: while nothing can send, also in the epoch
    /// before, for the peer may not have heard of the present one. Without data none is repeated: a peer that went while there
    /// was any would be called for a minute and a half more.
    pub(super) fn tick_sessions(&mut self, now: Instant, machine: &mut Machine) {
        let active = self.is_active(now);
        let mut scratch = [0; SCRATCH];
        for at in 0..self.keyed.len() {
            let made = self.keyed[at].wake(&mut scratch);
            self.sent_by_timer(now, at, &made, &scratch, machine);
            let Some(attempt) = &self.keyed[at].attempt else { continue };
            if now >= attempt.since + GIVE_UP || !active {
                self.keyed[at].attempt = None;
                if self.sender().is_none() {
                    machine.drops.waiting += self.waiting.clear();
                }
            } else if now >= attempt.retry_at {
                self.initiate_on(now, at, machine);
                if at == 0 && self.voice().is_none() && self.named > 1 && self.keyed[1].attempt.is_none() {
                    self.initiate_on(now, 1, machine);
                }
            }
        }
    }

    pub(super) fn sent_by_timer(
        &mut self,
        now: Instant,
        at: usize,
        made: &Made,
        message: &[u8],
        machine: &mut Machine,
    ) {
        // A tunnel that a newer one has replaced is not renewed, nor one that has no data.
        let renewed =
            at < self.named && self.sender().is_none_or(|sender| sender >= at) && self.is_active(now);
        match *made {
            Made::Initiation(len) if renewed => self.send_initiation(now, at, &message[..len], machine),
            Made::Due if renewed => self.initiate_on(now, at, machine),
            Made::Reply(len) => {
                if let Some(to) = self.paths.route() {
                    machine.out.push(self.addressed(to, at), &message[..len]);
                }
            }
            _ => {}
        }
    }
}
