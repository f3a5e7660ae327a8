//! When probes are sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A path that is not validated is probed at these times after there is reason to. Two NATs that filter by address
/// and port open when both sides send: each side starts when it has the other's candidates, half a round trip over
/// the relay apart, so the first probe may meet a closed door and one of the next does not. Sparse later, for loss
/// and for slow relays.
pub(crate) const BURST: [Duration; 9] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(700),
    Duration::from_millis(1_100),
    Duration::from_millis(1_600),
    Duration::from_millis(2_200),
];

/// After that the burst is over, and its last probe was answered if any is.
pub(crate) const BURST_LASTS: Duration = Duration::from_secs(3);

/// After the burst: often enough that both sides' NATs keep the mapping (30 s at least with common routers, RFC 4787
/// asks for 120), so that a probe may still get through when something on the way changes.
pub(crate) const RETRY: Duration = Duration::from_secs(15);

/// A path in use and its spares are probed at least this often, which keeps their NAT mappings and their round-trip
/// times fresh.
pub(crate) const KEEP: Duration = Duration::from_secs(15);

/// While data goes on and nothing is heard on its path, there is a probe this often, after the first two
/// ([`doubt`](super::doubt)).
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(500);

/// A path silent for this long after something was sent on it is no longer trusted: four lost probes, the last at
/// [`PROBE_EVERY`], and time for the slowest answer. On slow paths, [`TRUST_RTTS`] round trips.
pub(crate) const TRUST: Duration = Duration::from_millis(1_500);
/// See [`TRUST`].
pub(crate) const TRUST_RTTS: u32 = 3;

/// A relay that leads nowhere is asked this often while there is data.
pub(crate) const RELAY_RETRY: Duration = Duration::from_secs(5);

/// Without inner data for this long a peer gets no probe and no keepalive. (Probes count as data for WireGuard and
/// would renew its session for ever.)
pub(crate) const IDLE: Duration = Duration::from_secs(180);

/// All probes of this machine in a second.
const PER_SECOND: u32 = 256;
/// And at once: the first bursts to a few peers with all their candidates.
const AT_ONCE: u32 = 512;

/// A machine-wide budget, of probes for instance. Clones are the same budget, for several workers.
#[derive(Clone)]
pub(crate) struct Budget {
    began: Instant,
    /// When it is full again, in nanoseconds since then.
    full_at: Arc<AtomicU64>,
    /// What one takes, in nanoseconds.
    each: u64,
    /// What may be taken at once, in nanoseconds.
    most: u64,
}

impl Budget {
    pub(crate) fn probes(now: Instant) -> Self {
        Self::new(now, PER_SECOND, AT_ONCE)
    }

    pub(crate) fn new(now: Instant, per_second: u32, at_once: u32) -> Self {
        let each = 1_000_000_000 / u64::from(per_second);
        Self { began: now, full_at: Arc::default(), each, most: each * u64::from(at_once) }
    }

    /// Takes one out of the budget; otherwise when one will be in it.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let since = now.saturating_duration_since(self.began).as_nanos() as u64;
        let next = |full_at: u64| full_at.max(since) + self.each;
        let latest = since + self.most;
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            Some(next(full_at)).filter(|full_at| *full_at <= latest)
        });
        taken.map(drop).map_err(|full_at| now + Duration::from_nanos(next(full_at) - latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_bursts_and_rate() {
        let now = Instant::now();
        let mut budget = Budget::probes(now);
        assert_eq!((0..10_000).filter(|_| budget.take(now).is_ok()).count(), AT_ONCE as usize);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..10_000).filter(|_| budget.take(later).is_ok()).count(), PER_SECOND as usize);
        let wait = budget.take(later).unwrap_err();
        assert!(wait > later && budget.take(wait).is_ok());
    }

    #[test]
    fn several_workers_have_one_budget() {
        let now = Instant::now();
        let mut budgets = vec![Budget::probes(now); 4];
        let taken = (0..10_000).filter(|n| budgets[n % 4].take(now).is_ok()).count();
        assert_eq!(taken, AT_ONCE as usize);
    }
}
