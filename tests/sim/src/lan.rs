//! What a machine's control does to find others on a LAN (decision 023): whom it looks for, and when it says so.

use std::{collections::BTreeSet, time::Duration};

use crate::dice::Dice;

/// Between the first two questions for a machine; it doubles each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A machine that nothing waits for any more is not looked for.
const WANTED: Duration = Duration::from_secs(10);
/// And after this, it is asked for as if for the first time.
const FORGET: Duration = Duration::from_secs(120);
/// A beacon waits for more to say, at least and at most so many milliseconds.
const GATHER: (u64, u64) = (10, 50);
/// Beacons at once, and one more in each of these.
const SAY: (u32, Duration) = (4, Duration::from_secs(1));
/// Machines whose clocks are further apart do not believe each other.
pub(crate) const CLOCKS: u64 = 600;

#[derive(Default)]
pub(crate) struct Lan {
    sought: Vec<One>,
    /// Whom the next beacon looks for, and whether there is one to be said.
    wanted: BTreeSet<usize>,
    due: bool,
    /// When [`SAY`] may be said at once again.
    full_at: Duration,
}

struct One {
    peer: usize,
    /// When the core said last that something waits.
    wanted: Duration,
    /// When it may be asked for again.
    next: Duration,
    pause: Duration,
}

impl Lan {
    /// Something waits for a machine; whether it is to be asked for now.
    pub(crate) fn seek(&mut self, now: Duration, peer: usize) -> bool {
        self.sought.retain(|one| now < one.wanted + FORGET);
        let at = self.sought.iter().position(|one| one.peer == peer).unwrap_or_else(|| {
            self.sought.push(One { peer, wanted: now, next: now, pause: PAUSE.0 });
            self.sought.len() - 1
        });
        let one = &mut self.sought[at];
        one.wanted = now;
        let asked = one.ask(now);
        if asked {
            self.wanted.insert(peer);
        }
        asked
    }

    /// This machine has other addresses; whether anybody is to be asked for there.
    pub(crate) fn moved(&mut self, now: Duration) -> bool {
        self.sought.retain(|one| one.is_wanted(now));
        for one in &mut self.sought {
            (one.next, one.pause) = (now, PAUSE.0);
            one.ask(now);
            self.wanted.insert(one.peer);
        }
        !self.wanted.is_empty()
    }

    /// Whether something waits for a machine.
    pub(crate) fn is_sought(&self, now: Duration, peer: usize) -> bool {
        self.sought.iter().any(|one| one.peer == peer && one.is_wanted(now))
    }

    /// There is something to be said: after which time, unless that is known already.
    pub(crate) fn soon(&mut self, now: Duration, dice: &mut Dice) -> Option<Duration> {
        if std::mem::replace(&mut self.due, true) {
            return None;
        }
        let gathered = now + Duration::from_millis(GATHER.0 + dice.below(GATHER.1 - GATHER.0));
        Some(gathered.max((self.full_at + SAY.1).saturating_sub(SAY.1 * SAY.0)) - now)
    }

    /// A beacon is said; whom it looks for.
    pub(crate) fn speak(&mut self, now: Duration) -> BTreeSet<usize> {
        self.full_at = self.full_at.max(now) + SAY.1;
        self.due = false;
        std::mem::take(&mut self.wanted)
    }
}

impl One {
    fn is_wanted(&self, now: Duration) -> bool {
        now < self.wanted + WANTED
    }

    fn ask(&mut self, now: Duration) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        due
    }
}
