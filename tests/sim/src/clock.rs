//! The clocks that Noise reads: the time since the start, and a machine's wall clock.

use std::time::Duration;

/// Sets both for what is called next.
#[cfg(not(feature = "real"))]
pub(crate) fn set(now: Duration, wall: Duration) {
    sim_noise::clock::set(now, wall);
}

/// Sets the time. boringtun reads the real wall clock, once for each tunnel: a machine that starts anew after some virtual
/// time has one that stood still meanwhile, like a small computer without a battery.
#[cfg(feature = "real")]
pub(crate) fn set(now: Duration, _wall: Duration) {
    mock_instant::MockClock::set_time(now);
}
