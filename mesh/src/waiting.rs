//! Packets that wait for a session or a path to their peer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Packets that one peer may have waiting: a TCP handshake's worth of each of some connections.
const MAX_PACKETS: usize = 64;
/// Bytes that one peer may have waiting.
const MAX_BYTES: usize = 128 << 10;
/// Packets that waited longer than this are of no use to their senders, which have sent again.
const MAX_AGE: Duration = Duration::from_secs(10);

/// One peer's packets, oldest first. The oldest give way.
#[derive(Default)]
pub(crate) struct Waiting {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Adds a packet; how many were dropped for it.
    pub(crate) fn push(&mut self, now: Instant, packet: &[u8]) -> u64 {
        self.packets.push_back((now, packet.to_vec()));
        self.bytes += packet.len();
        let mut dropped = 0;
        while self.packets.len() > MAX_PACKETS || self.bytes > MAX_BYTES || self.oldest_is_stale(now) {
            let Some((_, packet)) = self.packets.pop_front() else { break };
            self.bytes -= packet.len();
            dropped += 1;
        }
        dropped
    }

    /// The oldest packet that is not stale; stale ones are counted in `dropped`.
    pub(crate) fn pop(&mut self, now: Instant, dropped: &mut u64) -> Option<Vec<u8>> {
        while let Some((since, packet)) = self.packets.pop_front() {
            self.bytes -= packet.len();
            if now.saturating_duration_since(since) <= MAX_AGE {
                return Some(packet);
            }
            *dropped += 1;
        }
        None
    }

    /// Drops all; how many that were.
    pub(crate) fn clear(&mut self) -> u64 {
        self.bytes = 0;
        self.packets.drain(..).count() as u64
    }

    fn oldest_is_stale(&self, now: Instant) -> bool {
        self.packets.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > MAX_AGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way_and_the_stale_are_dropped() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        let dropped: u64 = (0..=MAX_PACKETS).map(|n| waiting.push(now, &[n as u8])).sum();
        assert_eq!(dropped, 1);
        let mut stale = 0;
        assert_eq!(waiting.pop(now, &mut stale), Some(vec![1]));
        assert_eq!(waiting.pop(now + MAX_AGE * 2, &mut stale), None);
        assert_eq!(stale, MAX_PACKETS as u64 - 1);
        assert!(waiting.is_empty());
    }
}
