//! How long to wait before trying again.

use std::time::Duration;

use rand_core::RngCore;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);

/// The longest wait: a coordinator that comes back is noticed within this.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double from [`FIRST`] to [`LONGEST`], each spread over half to one and a half of it, so that machines
/// that lost the same coordinator do not all come back at once.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait, after one more failure.
    pub(crate) fn next(&mut self, rng: &mut impl RngCore) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        whole.mul_f64(0.5 + f64::from(rng.next_u32()) / f64::from(u32::MAX))
    }

    /// It worked: the next failure waits [`FIRST`] again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let mut rng = rand_core::OsRng;
        let mut backoff = Backoff::default();
        for n in 0..40 {
            let whole = FIRST.saturating_mul(1 << n.min(10)).min(LONGEST);
            let wait = backoff.next(&mut rng);
            assert!(wait >= whole / 2 && wait <= whole * 3 / 2, "wait {n}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST * 3 / 2);
    }
}
