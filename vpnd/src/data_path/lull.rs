//! What comes after a pause.
//!
//! A packet that comes after one is most likely alone, and somebody waits for its answer: a key that was pressed, a question to a
//! server, a ping. Two things make that round trip shorter and cost nothing where packets come in numbers.
//!
//! * One packet is read, and what it became is sent before anything else is looked for: the call that would find nothing comes later.
//! * Where the last such packet was followed by something within [`AWAKE`], as between machines of one room, the loop stays awake so
//!   long, for a processor that went to sleep needs longer to wake than the answer takes. Where answers come later, it sleeps at once.
//!   Hypervisors wait for their guests in this way (`Documentation/virt/kvm/halt-polling.rst`, 200 µs). It happens once for a
//!   pause, so at most a sixth of a processor's time goes there, and only while such packets come. A machine of one processor
//!   has none to spare: whoever answers needs it.

use std::{num::NonZero, thread, time::Duration};

/// A wait of so long is a pause.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the loop stays awake for what follows.
const AWAKE: Duration = Duration::from_micros(200);
/// Turns after a pause that read one packet: the packet's own, and its answer's.
const TURNS: u8 = 2;

/// What the loop knows of pauses.
pub(super) struct Lull {
    /// Whether this process may run on more than one processor.
    several: bool,
    /// Turns that read one packet, the current one included.
    turns: u8,
    /// There was a pause, and nothing came since.
    paused: bool,
    /// What came after the last pause was followed by something soon.
    soon: bool,
}

impl Lull {
    /// Nothing is known yet. Asks how many processors there are, which a process behind its walls may not.
    pub(super) fn new() -> Self {
        Self::on(thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn on(processors: usize) -> Self {
        Self { several: processors > 1, turns: 0, paused: false, soon: false }
    }

    /// How long the wait that follows stays awake.
    pub(super) fn awake(&self) -> Duration {
        if self.several && self.turns == TURNS && self.soon { AWAKE } else { Duration::ZERO }
    }

    /// A wait took so long, and ended because something can be read, or because of a timer.
    pub(super) fn waited(&mut self, waited: Duration, woken: bool) {
        if self.turns == TURNS {
            self.soon = woken && waited <= AWAKE;
        }
        self.paused |= waited >= PAUSE;
        if woken && self.paused {
            (self.turns, self.paused) = (TURNS, false);
        } else {
            self.turns = self.turns.saturating_sub(1);
        }
    }

    /// Whether this turn reads one packet.
    pub(super) fn alone(&self) -> bool {
        self.turns > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);
    const SOON: Duration = Duration::from_micros(150);
    const LATER: Duration = Duration::from_micros(900);

    #[test]
    fn after_a_pause_a_packet_and_its_answer_are_alone_and_what_follows_is_not() {
        let mut lull = Lull::on(2);
        assert!(!lull.alone());
        for wait in [LONG, PAUSE] {
            let alone: Vec<bool> = [wait, LATER, LATER, SOON, Duration::ZERO]
                .map(|wait| {
                    lull.waited(wait, true);
                    lull.alone()
                })
                .into();
            assert_eq!(alone, [true, true, false, false, false]);
        }
    }

    #[test]
    fn the_loop_stays_awake_once_a_pause_and_only_where_the_last_answer_was_quick() {
        let mut lull = Lull::on(2);
        let mut round = |answer| {
            lull.waited(LONG, true);
            let awake = lull.awake();
            lull.waited(answer, true);
            assert!(lull.awake().is_zero(), "the answer's own turn");
            lull.waited(SOON, true);
            assert!(lull.awake().is_zero(), "no pause before");
            awake
        };
        assert!(round(SOON).is_zero(), "nothing is known yet");
        assert_eq!(round(SOON), AWAKE);
        assert_eq!(round(LATER), AWAKE);
        assert!(round(SOON).is_zero(), "the last one came later");
        assert_eq!(round(SOON), AWAKE);
    }

    #[test]
    fn the_only_processor_is_left_to_whoever_answers() {
        let mut lull = Lull::on(1);
        for _ in 0..3 {
            lull.waited(LONG, true);
            assert!(lull.alone() && lull.awake().is_zero());
            lull.waited(SOON, true);
        }
    }

    #[test]
    fn a_timer_is_no_packet() {
        let mut lull = Lull::on(2);
        lull.waited(LONG, false);
        assert!(!lull.alone() && lull.awake().is_zero());
        // The pause before it is not forgotten.
        lull.waited(SOON, true);
        assert!(lull.alone());
        // Nor is it an answer.
        lull.waited(SOON, false);
        lull.waited(LONG, true);
        assert!(lull.awake().is_zero());
    }
}
