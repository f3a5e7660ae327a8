//! Pings that control asked for.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::pipe::{PathView, Pong};

use crate::out::Event;

/// A ping fails after this long; enough for a handshake over the relay with two repetitions.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A probe that is not answered is sent again after this.
const REPEAT: Duration = Duration::from_secs(1);

/// Without a session or a path, we look again after this; a session that comes up says so at once.
const WAIT: Duration = Duration::from_millis(250);

/// Pings of one peer that wait for an answer. One echo answers them all.
#[derive(Default)]
pub(crate) struct Pings {
    waiting: Vec<(u64, Instant)>,
    next: Option<Instant>,
}

impl Pings {
    pub(crate) fn add(&mut self, now: Instant, token: u64) {
        self.waiting.push((token, now + TIMEOUT));
        self.next = Some(now);
    }

    /// Whether to send a probe now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.waiting.is_empty() && self.next.is_some_and(|next| next <= now)
    }

    /// A probe was sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.next = Some(now + REPEAT);
    }

    /// A probe can't be sent yet.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.next = Some(now + WAIT);
    }

    /// A probe can be sent now.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// An echo came.
    pub(crate) fn answered(&mut self, rtt: Duration, path: PathView, events: &mut VecDeque<Event>) {
        for (token, _) in self.waiting.drain(..) {
            events.push_back(Event::Pong(Pong { token, result: Some((rtt, path)) }));
        }
    }

    /// Gives up those that waited too long.
    pub(crate) fn expire(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        self.waiting.retain(|&(token, until)| {
            if now >= until {
                events.push_back(Event::Pong(Pong { token, result: None }));
            }
            now < until
        });
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let give_up = self.waiting.iter().map(|(_, until)| *until).min()?;
        Some(self.next.map_or(give_up, |next| next.min(give_up)))
    }
}
