//! How fast something may be used: a token bucket.

use std::time::{Duration, Instant};

/// Picoseconds in a second.
const SECOND: u64 = 1_000_000_000_000;

/// At most `capacity` tokens, refilled evenly.
pub(crate) struct Bucket {
    tokens: u64,
    capacity: u64,
    /// How long one token takes, in picoseconds: a byte at one gigabit takes 8,000.
    pico_per_token: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket that earns `per_second` tokens a second.
    pub(crate) fn per_second(capacity: u64, per_second: u64, now: Instant) -> Self {
        Self { tokens: capacity, capacity, pico_per_token: SECOND / per_second, filled: now }
    }

    /// A full bucket that earns a token in `every` (of some seconds at most).
    pub(crate) fn one_in(capacity: u64, every: Duration, now: Instant) -> Self {
        let pico_per_token = u64::try_from(every.as_nanos() * 1_000).unwrap_or(u64::MAX);
        Self { tokens: capacity, capacity, pico_per_token, filled: now }
    }

    /// Takes `n` tokens if there are as many.
    pub(crate) fn take(&mut self, n: u64, now: Instant) -> bool {
        if self.tokens < n {
            self.fill(now);
        }
        let enough = self.tokens >= n;
        if enough {
            self.tokens -= n;
        }
        enough
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos().saturating_mul(1_000);
        let pico_per_token = u128::from(self.pico_per_token);
        let earned = passed / pico_per_token;
        if earned >= u128::from(self.capacity - self.tokens) {
            self.tokens = self.capacity;
            self.filled = now;
            return;
        }
        // Fits: it is less than the capacity. What is left over stays in `filled`.
        self.tokens += earned as u64;
        self.filled += Duration::from_nanos((earned * pico_per_token / 1_000) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::one_in(10, Duration::from_millis(100), start);
        assert!((0..10).all(|_| bucket.take(1, start)));
        assert!(!bucket.take(1, start + Duration::from_millis(99)));
        assert!(bucket.take(1, start + Duration::from_millis(100)));
        assert!(!bucket.take(3, start + Duration::from_millis(399)));
        assert!(bucket.take(3, start + Duration::from_millis(400)));
        assert!(
            !bucket.take(11, start + Duration::from_secs(3_600)),
            "an hour's rest earns no more than the burst"
        );
        assert!(bucket.take(10, start + Duration::from_secs(3_600)));
    }

    #[test]
    fn asking_often_earns_no_less() {
        let start = Instant::now();
        let mut bucket = Bucket::per_second(1_000, 125_000_000, start);
        assert!(bucket.take(1_000, start));
        let taken = (1..=100_000_u64).filter(|i| bucket.take(1, start + Duration::from_nanos(i * 3))).count();
        assert!((37_400..=37_500).contains(&taken), "300,000 ns at 8 ns each, not {taken}");
    }
}
