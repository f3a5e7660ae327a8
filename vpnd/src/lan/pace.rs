//! How much in a time.

use std::time::Duration;

use tokio::time::Instant;

/// So much at once, and one more in each span.
pub(super) struct Pace {
    full_at: Instant,
    most: u32,
    every: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant, (most, every): (u32, Duration)) -> Self {
        Self { full_at: now, most, every }
    }

    /// When one more is allowed: maybe at a time that is over.
    pub(super) fn ready_at(&self) -> Instant {
        let ahead = self.every * (self.most - 1);
        self.full_at.checked_sub(ahead).unwrap_or(self.full_at)
    }

    /// One is done, allowed or not.
    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.every;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_one_in_each_span() {
        let (now, every) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::new(now, (4, every));
        for _ in 0..4 {
            assert!(pace.ready_at() <= now);
            pace.take(now);
        }
        assert_eq!(pace.ready_at(), now + every);
        pace.take(now + every);
        assert_eq!(pace.ready_at(), now + every * 2);
        let later = now + every * 100;
        assert!(pace.ready_at() <= later);
        for _ in 0..4 {
            pace.take(later);
        }
        assert_eq!(pace.ready_at(), later + every);
    }
}
