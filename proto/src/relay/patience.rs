//! When a connection is given up.

use std::time::Duration;

/// On most links. Until it is over the kernel repeats what was lost after ever longer pauses, and to a machine that comes back (it
/// slept, its router forgot it, it had no network) nothing passes before the next repetition. That a connection is gone the
/// machine notices with its first packet, and connects anew.
const LEAST: Duration = Duration::from_secs(3);

/// On the slowest, where a new connection takes as long.
const MOST: Duration = Duration::from_secs(12);

/// Round trips in between: where a fifth of all packets is lost each way, more than one in three of them fails. Of the three that
/// 3 s have room for at 600 ms all fail once in twenty times, and of twelve never.
const ROUND_TRIPS: u32 = 12;

/// How long the patience with a link is used before the link is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How long what was sent on a relay's connection may stay unacknowledged before the connection is given up, for both sides.
/// The kernel measures the `round_trip` and by how much it varies.
#[must_use]
pub fn patience(round_trip: Duration, variation: Duration) -> Duration {
    // What the kernel waits, at least, before it repeats something (RFC 6298).
    let repeated = variation.saturating_mul(4).saturating_add(round_trip);
    repeated.saturating_mul(ROUND_TRIPS).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_links_have_three_seconds_and_slow_ones_many_round_trips() {
        let of = |round_trip, variation| {
            patience(Duration::from_millis(round_trip), Duration::from_millis(variation))
        };
        for (round_trip, variation) in [(0, 0), (1, 1), (40, 20), (100, 30), (200, 5)] {
            assert_eq!(of(round_trip, variation), LEAST, "{round_trip} {variation}");
        }
        assert!((7..MOST.as_secs()).contains(&of(600, 10).as_secs()));
        assert!(of(300, 0) > LEAST && of(300, 0) < of(300, 20));
        assert_eq!(of(600, 200), MOST);
        assert_eq!(patience(Duration::MAX, Duration::MAX), MOST);
    }
}
