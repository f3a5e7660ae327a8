//! What waits to go to the relay.
//!
//! Two buffers take turns, so that many frames leave in one write. What does not fit is dropped: the tunnels inside
//! notice and slow down. While there is no connection everything is dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::relay::{Frame, To};
use tokio::sync::Notify;

/// Bytes waiting: 40 ms at 100 Mbit/s. More would only add delay.
const WAITING: usize = 512 << 10;

/// What the client's own frames may use beyond [`WAITING`].
const RESERVE: usize = 16 << 10;

/// Room that an idle buffer keeps: what is sent at once while much is sent, so that it does not grow anew each time.
const KEPT: usize = 128 << 10;

#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    open: bool,
    frames: Vec<u8>,
}

impl Outbox {
    /// Takes frames from now on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Takes no more, and forgets what waits.
    pub(super) fn close(&self) {
        *self.lock() = Waiting::default();
    }

    /// Appends a payload; `false` if it was dropped.
    pub(super) fn send(&self, to: To, payload: &[u8]) -> bool {
        self.append(&Frame::Send { to, payload }, WAITING - Frame::send_len(to, payload.len()))
    }

    /// Appends a frame of the client's own.
    pub(super) fn say(&self, frame: &Frame<'_>) {
        self.append(frame, WAITING + RESERVE);
    }

    /// Waits until there is something and swaps it into `out`, which must be empty.
    pub(super) async fn take(&self, out: &mut Vec<u8>) {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.frames.is_empty() {
                    std::mem::swap(&mut waiting.frames, out);
                    return;
                }
                waiting.frames.shrink_to(KEPT);
            }
            out.shrink_to(KEPT);
            self.wake.notified().await;
        }
    }

    fn append(&self, frame: &Frame<'_>, bound: usize) -> bool {
        let mut waiting = self.lock();
        if !waiting.open || waiting.frames.len() > bound {
            return false;
        }
        let first = waiting.frames.is_empty();
        frame.encode(&mut waiting.frames);
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proto::relay::Handle;

    use super::*;

    const TO: To = To::Handle(Handle(1));

    #[tokio::test]
    async fn frames_leave_together_and_in_order() {
        let outbox = Outbox::default();
        outbox.open();
        assert!(outbox.send(TO, b"one"));
        outbox.say(&Frame::Ping);
        let mut out = Vec::new();
        outbox.take(&mut out).await;
        let one = Frame::Send { to: TO, payload: b"one" }.to_vec();
        assert_eq!(out, [one, Frame::Ping.to_vec()].concat());
    }

    #[test]
    fn a_full_outbox_drops_and_memory_stays_bounded() {
        let outbox = Outbox::default();
        outbox.open();
        let sent = (0..10_000).filter(|_| outbox.send(TO, &[0; 1_400])).count();
        assert!(sent > 300 && sent < 400);
        for _ in 0..1_000_000 {
            outbox.say(&Frame::Ping);
        }
        assert!(outbox.lock().frames.len() <= WAITING + RESERVE + 3);
    }

    #[test]
    fn without_a_connection_nothing_is_kept() {
        let outbox = Outbox::default();
        assert!(!outbox.send(TO, b"lost"));
        outbox.open();
        assert!(outbox.send(TO, b"kept"));
        outbox.close();
        outbox.open();
        assert!(outbox.lock().frames.is_empty());
    }
}
