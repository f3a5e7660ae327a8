//! The wall clock, for those parts that are not given the time.

use crate::relay::calendar;

/// Unix seconds; 0 for a clock set before 1970.
pub(crate) fn now() -> u64 {
    calendar::system()
}

/// The unix day.
pub(crate) fn day() -> u32 {
    calendar::day(now())
}
