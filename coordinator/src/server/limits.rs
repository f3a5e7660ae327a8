//! How often one source may try a password or a code.
//!
//! A source is a number that stands for a network address in this process alone
//! ([`relay::listener::Source`]); it is kept until its attempts are forgiven, in RAM.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use proto::coordinator::Reason;
use relay::listener::Source;

/// Attempts that a source may make at once: a person who mistypes, and a household behind one address.
const BURST: u32 = 10;

/// One attempt is forgiven in this time: 14,400 guesses a day, against passwords that cost a machine a good part
/// of a second each anyway.
const FORGIVEN: Duration = Duration::from_secs(6);

/// Sources remembered at most, some megabytes.
const SOURCES: usize = 65_536;

/// Attempts of all sources.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<Source, Instant>>);

impl Limits {
    /// Counts an attempt.
    ///
    /// # Errors
    /// [`Reason::TooMany`] if the source has made too many.
    pub(super) fn attempt(&self, source: Source, now: Instant) -> Result<(), Reason> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES {
            sources.retain(|_, clear_at| *clear_at > now);
            // Rather forget a stranger's attempts than refuse everybody else's.
            if sources.len() >= SOURCES {
                sources.clear();
            }
        }
        // When all attempts of this source will be forgiven (the "virtual scheduling" form of a token bucket).
        let clear_at = sources.entry(source).or_insert(now);
        let next = (*clear_at).max(now) + FORGIVEN;
        if next > now + FORGIVEN * BURST {
            return Err(Reason::TooMany);
        }
        *clear_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_try_ten_times_and_then_once_in_six_seconds() {
        let (limits, now) = (Limits::default(), Instant::now());
        let source = Source::of("192.0.2.1".parse().unwrap());
        for _ in 0..BURST {
            assert!(limits.attempt(source, now).is_ok());
        }
        assert_eq!(limits.attempt(source, now), Err(Reason::TooMany));
        assert!(limits.attempt(source, now + FORGIVEN).is_ok());
        assert_eq!(limits.attempt(source, now + FORGIVEN), Err(Reason::TooMany));
    }

    #[test]
    fn one_source_does_not_use_up_anothers_attempts() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..2 * BURST {
            let _ = limits.attempt(Source::of("192.0.2.1".parse().unwrap()), now);
        }
        assert!(limits.attempt(Source::of("192.0.2.2".parse().unwrap()), now).is_ok());
    }
}
