//! Whom this machine looks for, and how often it asks.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::apply::Key;

/// Between the first two questions for a machine; it doubles each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A machine that nothing waits for any more is not looked for. The data path repeats its attempts sooner than that.
const WANTED: Duration = Duration::from_secs(10);

/// And after this, it is asked for as if for the first time.
const FORGET: Duration = Duration::from_secs(120);

/// Machines that are looked for at once; more are not until some are forgotten.
const MAX_SOUGHT: usize = 256;

#[derive(Default)]
pub(super) struct Sought {
    all: HashMap<Key, One>,
}

struct One {
    /// When the data path said last that something waits.
    wanted: Instant,
    /// When it may be asked for again.
    next: Instant,
    pause: Duration,
}

impl Sought {
    /// Something waits for a machine: whether it is to be asked for now.
    pub(super) fn ask(&mut self, now: Instant, key: Key) -> bool {
        self.all.retain(|_, one| now.saturating_duration_since(one.wanted) < FORGET);
        if !self.all.contains_key(&key) && self.all.len() >= MAX_SOUGHT {
            return false;
        }
        let one = self.all.entry(key).or_insert(One { wanted: now, next: now, pause: PAUSE.0 });
        one.wanted = now;
        one.asked(now)
    }

    /// Those that are looked for now are to be asked for anew, from the beginning.
    pub(super) fn renew(&mut self, now: Instant) -> Vec<Key> {
        self.all.retain(|_, one| one.is_wanted(now));
        for one in self.all.values_mut() {
            (one.next, one.pause) = (now, PAUSE.0);
            one.asked(now);
        }
        self.all.keys().copied().collect()
    }

    /// Whether something waits for a machine.
    pub(super) fn is_sought(&self, now: Instant, key: &Key) -> bool {
        self.all.get(key).is_some_and(|one| one.is_wanted(now))
    }
}

impl One {
    fn is_wanted(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.wanted) < WANTED
    }

    fn asked(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(500);

    /// How often a machine is asked for within a time, if something waits for it all along.
    fn asked(sought: &mut Sought, from: Instant, time: Duration) -> usize {
        let steps = time.as_millis() / STEP.as_millis();
        (0..steps as u32).filter(|n| sought.ask(from + STEP * *n, [1; 32])).count()
    }

    #[test]
    fn a_machine_that_stays_away_is_asked_for_more_and_more_rarely() {
        let (mut sought, now) = (Sought::default(), Instant::now());
        let minute = Duration::from_secs(60);
        assert_eq!(asked(&mut sought, now, minute), 6);
        let hour = asked(&mut sought, now + minute, minute * 60);
        assert!((119..=120).contains(&hour), "{hour}");
        assert!(sought.ask(now + minute * 61, [2; 32]), "another is asked for at once");
        assert!(sought.ask(now + minute * 61 + FORGET, [1; 32]));
        assert_eq!(asked(&mut sought, now + minute * 70, minute), 6, "after a silence it begins anew");
    }

    #[test]
    fn after_a_move_those_that_something_waits_for_are_asked_for_at_once() {
        let (mut sought, now) = (Sought::default(), Instant::now());
        asked(&mut sought, now, Duration::from_secs(60));
        let later = now + Duration::from_secs(60);
        sought.ask(later - WANTED, [2; 32]);
        assert!(sought.is_sought(later, &[1; 32]) && !sought.is_sought(later, &[2; 32]));
        assert_eq!(sought.renew(later), [[1; 32]]);
        assert!(!sought.ask(later, [1; 32]) && sought.ask(later + PAUSE.0, [1; 32]));
    }

    #[test]
    fn no_more_are_looked_for_than_are_remembered() {
        let (mut sought, now) = (Sought::default(), Instant::now());
        let key = |n: u16| std::array::from_fn(|i| n.to_be_bytes()[i % 2]);
        assert_eq!((0..1_000).filter(|n| sought.ask(now, key(*n))).count(), MAX_SOUGHT);
        assert!(sought.ask(now + FORGET, key(999)));
        assert_eq!(sought.all.len(), 1);
    }
}
