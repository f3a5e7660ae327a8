//! Pings that control asked for.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::pipe::{PathView, Pong};

use crate::out::Event;

/// A ping fails after this long; enough for a handshake over the relay with two repetitions.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A probe that is not answered is sent again after this, while no answer has come by that path yet. By one that is known to
/// lead to the peer there is one for each ping: what is lost is to be seen.
const REPEAT: Duration = Duration::from_secs(1);

/// Without a session or a path, we look again after this; a session that comes up says so at once.
const WAIT: Duration = Duration::from_millis(250);

/// Pings of one peer that wait for an answer.
#[derive(Default)]
pub(crate) struct Pings {
    waiting: Vec<Ping>,
    next: Option<Instant>,
}

struct Ping {
    token: u64,
    until: Instant,
    /// The probe that alone answers it; until there is one, any does.
    probe: Option<u64>,
}

impl Pings {
    pub(crate) fn add(&mut self, now: Instant, token: u64) {
        self.waiting.push(Ping { token, until: now + TIMEOUT, probe: None });
        self.next = Some(now);
    }

    /// Whether to send a probe now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.waiting.is_empty() && self.next.is_some_and(|next| next <= now)
    }

    /// A probe was sent; `proven` says whether the path is known to lead to the peer.
    pub(crate) fn sent(&mut self, now: Instant, nonce: u64, proven: bool) {
        self.next = (!proven).then_some(now + REPEAT);
        if proven {
            for ping in &mut self.waiting {
                ping.probe.get_or_insert(nonce);
            }
        }
    }

    /// A probe can't be sent yet.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.next = Some(now + WAIT);
    }

    /// A probe can be sent now.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if self.waiting.iter().any(|ping| ping.probe.is_none()) {
            self.next = Some(now);
        }
    }

    /// The echo of a probe came.
    pub(crate) fn answered(
        &mut self,
        nonce: u64,
        rtt: Duration,
        path: PathView,
        events: &mut VecDeque<Event>,
    ) {
        self.waiting.retain(|ping| {
            let answered = ping.probe.is_none_or(|probe| probe == nonce);
            if answered {
                events.push_back(Event::Pong(Pong { token: ping.token, result: Some((rtt, path)) }));
            }
            !answered
        });
    }

    /// Gives up those that waited too long.
    pub(crate) fn expire(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        self.waiting.retain(|ping| {
            if now >= ping.until {
                events.push_back(Event::Pong(Pong { token: ping.token, result: None }));
            }
            now < ping.until
        });
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let give_up = self.waiting.iter().map(|ping| ping.until).min()?;
        Some(self.next.map_or(give_up, |next| next.min(give_up)))
    }
}
