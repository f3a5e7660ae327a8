//! A machine's connection to a relay, as its control keeps it.
//!
//! It is TCP: nothing is lost while it stands, all comes in order, late if the line loses packets. It falls when the relay
//! does, when the machine moves, and when nothing came back for too long; then it is tried again after pauses that
//! grow. Both ends hear of it when they would.

use std::{collections::BTreeSet, time::Duration};

use proto::pipe::RelayTo;

use crate::dice::Dice;

/// Silence after which control gives a connection up: it asks after 20 s and waits 10 s for the answer.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(30);
/// What a relay that starts anew takes.
pub(crate) const RESTART: Duration = Duration::from_millis(300);
/// How long control tries to connect.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// The pauses between two tries, at first and at last; a connection that lasted this long makes them short again.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
const GOOD: Duration = Duration::from_secs(20);
/// Frames that wait in a connection that is cut: what buffers hold.
const STALLED: usize = 64;

#[derive(Default)]
pub(crate) struct Link {
    /// Of the connection, if there is one: it is the handle by which others know it.
    pub(crate) up: Option<u64>,
    /// A try to connect is under way; which.
    pub(crate) trying: Option<u64>,
    /// The routers between have forgotten it: what is sent next is refused.
    pub(crate) broken: bool,
    /// Nothing comes through since then.
    pub(crate) dark: Option<Duration>,
    /// Sent meanwhile.
    pub(crate) stalled: Vec<(RelayTo, Vec<u8>)>,
    /// Who heard from it.
    pub(crate) told: BTreeSet<usize>,
    /// When the last frame sent arrives.
    pub(crate) last: Duration,
    since: Duration,
    failures: u32,
}

impl Link {
    /// It is there.
    pub(crate) fn open(&mut self, now: Duration, id: u64) {
        let failures = self.failures;
        *self = Self { up: Some(id), since: now, failures, ..Self::default() };
    }

    /// It is gone; whom its handle leads nowhere now.
    pub(crate) fn close(&mut self, now: Duration) -> BTreeSet<usize> {
        if now >= self.since + GOOD {
            self.failures = 0;
        }
        let told = std::mem::take(&mut self.told);
        *self = Self { failures: self.failures, ..Self::default() };
        told
    }

    /// The next try is made at once.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn pause(&mut self, dice: &mut Dice) -> Duration {
        let mean = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        mean / 2 + mean * dice.below(1_000) as u32 / 1_000
    }

    pub(crate) fn stall(&mut self, to: RelayTo, bytes: Vec<u8>) {
        if self.stalled.len() < STALLED {
            self.stalled.push((to, bytes));
        }
    }
}
