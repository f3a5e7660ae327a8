//! How long to wait before connecting again.

use std::time::Duration;

use rand_core::{OsRng, RngCore};

/// The mean of the first pause: a server that was restarted is back about then.
const FIRST: Duration = Duration::from_millis(500);

/// The mean of the longest pause: what a person who waits for the network to come back will bear.
const LONGEST: Duration = Duration::from_secs(8);

/// A connection that lasted so long was a good one; the next pause is short again.
const GOOD: Duration = Duration::from_secs(20);

/// Pauses that double from [`FIRST`] to [`LONGEST`], each at random between a half and one and a half of its mean, so
/// that a server's machines do not all come back at once.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The last connection lasted so long.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time >= GOOD {
            self.failures = 0;
        }
    }

    /// The next connection is tried anew, as if none had failed.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let mean = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let spread = f64::from(OsRng.next_u32()) / f64::from(u32::MAX);
        mean.mul_f64(0.5 + spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_good_connection() {
        let mut backoff = Backoff::default();
        assert!(backoff.pause() <= FIRST * 3 / 2);
        for _ in 0..100 {
            assert!(backoff.pause() <= LONGEST * 3 / 2);
        }
        assert!(backoff.pause() >= LONGEST / 2);
        backoff.lasted(GOOD / 2);
        assert!(backoff.pause() >= LONGEST / 2);
        backoff.lasted(GOOD);
        assert!(backoff.pause() <= FIRST * 3 / 2);
        assert!(backoff.pause() >= FIRST);
        backoff.reset();
        assert!(backoff.pause() <= FIRST * 3 / 2);
    }

    #[test]
    fn pauses_are_random() {
        let first: Vec<Duration> = (0..8).map(|_| Backoff::default().pause()).collect();
        assert!(first.iter().any(|pause| *pause != first[0]));
    }
}
