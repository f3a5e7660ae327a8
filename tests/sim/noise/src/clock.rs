//! The two clocks that WireGuard reads, set by the simulator before each call.

use std::{cell::Cell, time::Duration};

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WALL: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Sets this thread's clocks: the time since the start, which never goes back, and the machine's wall clock.
pub fn set(now: Duration, wall: Duration) {
    NOW.set(now);
    WALL.set(wall);
}

pub(crate) fn now() -> Duration {
    NOW.get()
}

pub(crate) fn wall() -> Duration {
    WALL.get()
}
