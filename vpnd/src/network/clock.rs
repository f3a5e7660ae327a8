//! The wall clock, for those parts that are not given the time.

use std::time::{Duration, Instant};

use crate::relay::calendar;

/// A clock that differs by more than this from what it was to show has been set, or this machine slept: what waits for a
/// time, or is of a day, is looked at again. Less is the drift that time servers mend.
const JUMP: Duration = Duration::from_secs(60);

/// Tells when the clock jumps.
pub(super) struct Jumps {
    at: Instant,
    shown: u64,
}

impl Jumps {
    /// Watches from now on, by a clock that shows `shown`.
    pub(super) fn from(at: Instant, shown: u64) -> Self {
        Self { at, shown }
    }

    /// Whether the clock, which shows `shown` at `at`, has jumped since this was last asked.
    pub(super) fn since(&mut self, at: Instant, shown: u64) -> bool {
        let passed = at.duration_since(self.at).as_secs();
        let jumped = shown.abs_diff(self.shown.saturating_add(passed)) > JUMP.as_secs();
        *self = Self { at, shown };
        jumped
    }
}

/// Unix seconds; 0 for a clock set before 1970.
pub(crate) fn now() -> u64 {
    calendar::system()
}

/// The unix day.
pub(crate) fn day() -> u32 {
    calendar::day(now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_or_slept_jumps_and_one_that_runs_does_not() {
        let begun = Instant::now();
        let mut jumps = Jumps::from(begun, 1_000_000);
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(!jumps.since(at(5), 1_000_005) && !jumps.since(at(3_605), 1_003_600));
        assert!(jumps.since(at(3_610), 1_090_000), "set ahead");
        assert!(!jumps.since(at(3_615), 1_090_005));
        assert!(jumps.since(at(3_620), 10), "set back");
        assert!(!jumps.since(at(3_625), 15));
    }
}
