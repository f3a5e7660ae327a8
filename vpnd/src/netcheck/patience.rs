//! How long a measurement waits for what is silent: longer where what did answer took long, for such a way is far, or loses
//! packets that have to be repeated.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Where answers come quickly, or none comes at all: the kernel and we have asked for a connection six times by then.
pub(super) const SHORT: Duration = Duration::from_millis(3_000);

/// At most.
pub(super) const LONG: Duration = Duration::from_millis(6_500);

/// So many times what the slowest answer took: four for a connection and a server's proof on a way that loses nothing, and the rest
/// to begin anew twice and repeat what got lost.
const ROUND_TRIPS: u32 = 12;

/// Of one measurement; all that it asks share what they learn of the way.
pub(super) struct Patience {
    began: Instant,
    least: Duration,
    most: Duration,
    slowest_ms: AtomicU64,
}

impl Patience {
    pub(super) fn begin() -> Self {
        Self::between(SHORT, LONG)
    }

    pub(super) fn between(least: Duration, most: Duration) -> Self {
        Self { began: Instant::now(), least, most, slowest_ms: AtomicU64::new(0) }
    }

    /// Somebody on the way out took this long for one answer.
    pub(super) fn answered(&self, after: Duration) {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.slowest_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// When it ends, by what answered so far.
    pub(super) fn end(&self) -> Instant {
        let slowest = Duration::from_millis(self.slowest_ms.load(Ordering::Relaxed)).min(self.most);
        self.began + (slowest * ROUND_TRIPS).clamp(self.least, self.most)
    }

    /// Returns when it ends.
    pub(super) async fn is_out(&self) {
        loop {
            let end = self.end();
            sleep_until(end).await;
            if self.end() <= end {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_makes_it_longer_and_a_quick_one_does_not() {
        let patience = Patience::begin();
        let lasts = |patience: &Patience| patience.end() - patience.began;
        patience.answered(Duration::from_millis(20));
        assert_eq!(lasts(&patience), SHORT);
        patience.answered(Duration::from_millis(400));
        patience.answered(Duration::from_millis(20));
        assert_eq!(lasts(&patience), Duration::from_millis(4_800));
        patience.answered(Duration::MAX);
        assert_eq!(lasts(&patience), LONG);
    }

    #[tokio::test]
    async fn who_waits_already_waits_longer_when_an_answer_was_slow() {
        let ms = Duration::from_millis;
        let patience = Patience::between(ms(100), ms(5_000));
        let slow = async {
            tokio::time::sleep(ms(50)).await;
            patience.answered(ms(50));
        };
        tokio::join!(patience.is_out(), slow);
        assert!(patience.began.elapsed() >= ms(600), "{:?}", patience.began.elapsed());
    }
}
