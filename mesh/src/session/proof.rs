//! Whether an initiation is the peer's of now.
//!
//! A `Tunn` refuses an initiation that is not newer than the newest it knows, but one that began its session itself knows none. Whoever
//! recorded initiations could send them to it then: each takes one of `Tunn`'s eight places for sessions, the eighth that of the
//! session in use, and the first makes it forget that it is the one to begin the next session. So while there is a session in use,
//! and until the peer was heard in one that it began itself, its initiations are not answered: it is asked to answer one of ours, which
//! nobody else can. A peer that started anew has its session after half a round trip more.

use std::time::{Duration, Instant};

/// `Tunn`'s places for sessions; an index has the one of its remainder.
const PLACES: usize = 8;

/// How long the peer has to answer. Where it does not, its initiations are taken as they are: a session in which nobody answers is no
/// loss, and two that each wait for the other's answer would have none.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of a peer's initiations to one tunnel.
#[derive(Default)]
pub(crate) struct Proof {
    /// The sessions that the peer began, as far as we know.
    theirs: [Option<u32>; PLACES],
    /// The peer was heard in one of them: `Tunn` knows a timestamp that is newer than all that was recorded before.
    dated: bool,
    /// It began a session in which it was not heard yet.
    awaits: bool,
    /// Since when it is asked.
    asked: Option<Instant>,
}

impl Proof {
    /// An initiation was answered with this index.
    pub(crate) fn offered(&mut self, index: u32) {
        self.theirs[place(index)] = Some(index);
        self.awaits = !self.dated;
    }

    /// Whether [`Proof::heard`] is to be told of packets: not in the ordinary case.
    pub(crate) fn awaits(&self) -> bool {
        self.awaits
    }

    /// The peer answered an initiation of ours that had this index.
    pub(crate) fn answered(&mut self, index: u32) {
        self.theirs[place(index)] = None;
        self.asked = None;
    }

    /// A packet came in the session with this index.
    pub(crate) fn heard(&mut self, index: u32) {
        self.dated |= self.theirs[place(index)] == Some(index);
        self.awaits = !self.dated;
    }

    /// The peer is asked to answer an initiation of ours.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// Whether an initiation is to be answered though a session is in use.
    pub(crate) fn suffices(&self, now: Instant) -> bool {
        self.dated || self.asked.is_some_and(|at| now >= at + PATIENCE)
    }
}

fn place(index: u32) -> usize {
    index as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_in_a_session_of_its_own_is_believed() {
        let (mut proof, now) = (Proof::default(), Instant::now());
        proof.offered(0x1109);
        proof.heard(0x1101);
        assert!(!proof.suffices(now), "another session in the same place");
        proof.answered(0x1111);
        proof.heard(0x1109);
        assert!(!proof.suffices(now), "ours took its place");
        proof.offered(0x1112);
        proof.heard(0x1112);
        assert!(proof.suffices(now));
    }

    #[test]
    fn who_does_not_answer_in_time_is_believed_until_it_does() {
        let (mut proof, now) = (Proof::default(), Instant::now());
        proof.ask(now);
        proof.ask(now + PATIENCE / 2);
        assert!(!proof.suffices(now + PATIENCE / 2) && proof.suffices(now + PATIENCE));
        proof.answered(7);
        assert!(!proof.suffices(now + PATIENCE));
    }
}
