//! Waiting for something to hold: often enough to time it, never for ever.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Result, Trouble};

/// Long enough for anything that should happen at once on a busy machine with two cores.
pub const SOON: Duration = Duration::from_secs(15);

/// Calls `holds` until it is true and returns how long that took.
///
/// # Errors
/// Once `within` is over: `what` did not happen.
pub fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Result<Duration> {
    let began = Instant::now();
    loop {
        if holds() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > within {
            return Err(Trouble::new(format!("not within {} s: {what}", within.as_secs_f32())));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The middle of the samples, the upper one of two.
///
/// # Panics
/// Without samples.
#[must_use]
pub fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_holds_and_fails_when_it_never_does() {
        let mut calls = 0;
        assert!(
            until("counted", SOON, || {
                calls += 1;
                calls == 3
            })
            .is_ok()
        );
        assert_eq!(calls, 3);
        let error = until("pigs fly", Duration::from_millis(30), || false).unwrap_err();
        assert!(error.to_string().contains("pigs fly"));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let samples = [9, 1, 5].map(Duration::from_millis);
        assert_eq!(median(&samples), Duration::from_millis(5));
    }
}
