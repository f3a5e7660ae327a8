//! When which peer wants to be called.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// Peers that are called in one turn: what they send fits the buffers that are kept, and packets wait for no more of them.
pub(crate) const AT_ONCE: usize = 64;

/// One deadline for each peer, by slot. Setting one is cheap; a deadline that was replaced stays in the heap and is
/// thrown away when it comes up.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    at: Vec<Option<Instant>>,
}

impl Timers {
    /// Calls for the slot at `when`, or earlier if that was asked for already.
    pub(crate) fn by(&mut self, slot: u32, when: Instant) {
        let index = slot as usize;
        if self.at.len() <= index {
            self.at.resize(index + 1, None);
        }
        if self.at[index].is_none_or(|at| when < at) {
            self.at[index] = Some(when);
            self.heap.push(Reverse((when, slot)));
        }
    }

    /// Forgets a slot.
    pub(crate) fn clear(&mut self, slot: u32) {
        if let Some(at) = self.at.get_mut(slot as usize) {
            *at = None;
        }
    }

    /// A slot that is due; its deadline is gone then.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<u32> {
        while let Some(&Reverse((when, slot))) = self.heap.peek() {
            let valid = self.at[slot as usize] == Some(when);
            if valid && when > now {
                return None;
            }
            self.heap.pop();
            if valid {
                self.at[slot as usize] = None;
                return Some(slot);
            }
        }
        None
    }

    /// The earliest deadline; maybe one that was replaced since.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((when, _))| *when)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_of_a_slot_counts_and_comes_up_once() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.by(3, at(50));
        timers.by(3, at(20));
        timers.by(3, at(90));
        timers.by(1, at(30));
        assert!(timers.next() == Some(at(20)));
        assert!(timers.pop(at(10)).is_none());
        assert_eq!(timers.pop(at(100)), Some(3));
        assert_eq!(timers.pop(at(100)), Some(1));
        assert_eq!(timers.pop(at(100)), None);
        timers.by(1, at(10));
        timers.clear(1);
        assert_eq!(timers.pop(at(100)), None);
    }
}
