//! Which days' mailboxes a machine listens to.

use std::time::Duration;

/// Seconds in a day.
const DAY: u64 = 86_400;

/// How near midnight the neighbouring day's mailboxes are open too: how far two machines' clocks may be apart.
pub const NEAR_MIDNIGHT: u64 = 3_600;

/// How often the clock is looked at again: well within [`NEAR_MIDNIGHT`], also after a suspend.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Tells the unix time in seconds.
pub type Clock = fn() -> u64;

/// The system's clock.
#[must_use]
#[expect(
    clippy::disallowed_types,
    reason = "mailboxes and credentials are of a day; packets never come here"
)]
pub fn system() -> u64 {
    use std::time::SystemTime;
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The unix day of a unix time.
#[must_use]
pub fn day(now: u64) -> u32 {
    u32::try_from(now / DAY).unwrap_or(u32::MAX)
}

/// The days to listen on: today and, near midnight, the neighbouring one.
#[must_use]
pub fn days(now: u64) -> Vec<u32> {
    let mut days =
        vec![day(now), day(now.saturating_sub(NEAR_MIDNIGHT)), day(now.saturating_add(NEAR_MIDNIGHT))];
    days.sort_unstable();
    days.dedup();
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbouring_day_is_listened_to_near_midnight_alone() {
        let midnight = 20_000 * DAY;
        assert_eq!(days(midnight + DAY / 2), [20_000]);
        assert_eq!(days(midnight), [19_999, 20_000]);
        assert_eq!(days(midnight + NEAR_MIDNIGHT - 1), [19_999, 20_000]);
        assert_eq!(days(midnight + NEAR_MIDNIGHT), [20_000]);
        assert_eq!(days(midnight - NEAR_MIDNIGHT - 1), [19_999]);
        assert_eq!(days(midnight - NEAR_MIDNIGHT), [19_999, 20_000]);
        assert_eq!(days(0), [0]);
    }

    #[test]
    fn two_clocks_an_hour_apart_always_meet() {
        let start = 20_000 * DAY;
        for minute in 0..2 * DAY / 60 {
            let (slow, fast) = (start + minute * 60, start + minute * 60 + NEAR_MIDNIGHT - 1);
            assert!(days(slow).contains(&day(fast)) && days(fast).contains(&day(slow)), "minute {minute}");
        }
    }
}
