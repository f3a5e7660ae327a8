//! Notices that this machine slept.
//!
//! A relay gives up a connection on which nothing is acknowledged, and does so within seconds while it has something for a
//! machine that sleeps. The machine knows nothing of that when it wakes: its first packet would find out, but one that only
//! answers says nothing. So while a relay carries something, one look a second says whether time has passed that was not seen
//! to pass, and then the relay is asked whether it is there.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// What comes so much later than that was slept through. (In a sleep of less no connection is given up.)
const LATE: Duration = Duration::from_secs(1);

/// The last look.
pub(super) struct Look {
    at: Instant,
    /// Unix seconds: the clock of timers stands still while a machine is suspended, this one does not.
    shown: u64,
}

impl Look {
    pub(super) fn new(at: Instant, shown: u64) -> Self {
        Self { at, shown }
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Instant {
        self.at + EVERY
    }

    /// Looks again; whether the machine slept since.
    pub(super) fn slept(&mut self, at: Instant, shown: u64) -> bool {
        let by_clock = Duration::from_secs(shown.saturating_sub(self.shown));
        let passed = at.saturating_duration_since(self.at).max(by_clock);
        *self = Self { at, shown };
        passed > EVERY + LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_by_either_clock_is_sleep_and_a_second_is_not() {
        let (begin, mut look) = (Instant::now(), Look::new(Instant::now(), 1_000));
        let at = |ms| begin + Duration::from_millis(ms);
        assert!(!look.slept(at(1_000), 1_001) && !look.slept(at(2_100), 1_003));
        assert!(look.slept(at(4_200), 1_005), "stopped");
        assert!(look.slept(at(5_200), 1_020), "suspended");
        assert!(!look.slept(at(6_200), 900), "a clock that is set back says nothing");
        assert!(!look.slept(at(7_200), 901));
    }
}
