//! The two clocks that WireGuard reads, set by the simulator before each call; in nanoseconds, for they are read far more often.

use std::{cell::Cell, time::Duration};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static WALL: Cell<u64> = const { Cell::new(0) };
}

/// Sets this thread's clocks: the time since the start, which never goes back, and the machine's wall clock.
pub fn set(now: Duration, wall: Duration) {
    NOW.set(now.as_nanos() as u64);
    WALL.set(wall.as_nanos() as u64);
}

pub(crate) fn now() -> u64 {
    NOW.get()
}

pub(crate) fn wall() -> u64 {
    WALL.get()
}
