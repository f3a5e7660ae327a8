//! What waits to be written to one connection.
//!
//! Two buffers take turns: frames are appended to one while the other is on its way to the socket, so many frames
//! leave in one write and none has an allocation of its own. A full queue drops what comes; the bound is in bytes and
//! holds whatever the frames' sizes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use proto::relay::Frame;
use tokio::{sync::Notify, time::timeout};

use crate::limits::{NETWORK_SHARE, QUEUE, QUEUE_RESERVE, QUEUE_WARM, QUEUED};

/// One connection's queue.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    waits: Waits,
}

/// How many bytes wait, in all queues of the relay and in those of one network.
#[derive(Clone, Default)]
pub(crate) struct Waits {
    all: Arc<AtomicUsize>,
    network: Arc<AtomicUsize>,
}

impl Waits {
    /// Of one more network.
    pub(crate) fn of_network(&self) -> Self {
        Self { all: Arc::clone(&self.all), network: Arc::default() }
    }

    /// In all queues.
    pub(crate) fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Whether so many more may wait.
    fn have_room(&self, len: usize) -> bool {
        let free = QUEUED.saturating_sub(self.all());
        len <= free && self.network.load(Ordering::Relaxed) + len <= free / NETWORK_SHARE
    }

    fn add(&self, len: usize) {
        self.all.fetch_add(len, Ordering::Relaxed);
        self.network.fetch_add(len, Ordering::Relaxed);
    }

    fn remove(&self, len: usize) {
        self.all.fetch_sub(len, Ordering::Relaxed);
        self.network.fetch_sub(len, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Waiting {
    frames: Vec<u8>,
    /// Nothing more will come.
    last: bool,
}

impl Queue {
    pub(crate) fn new(waits: Waits) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), waits }
    }

    /// Appends a frame that somebody sent; `false` if it was dropped: the queue is full, or all are, or those of its
    /// network hold a share of what is free.
    pub(crate) fn forward(&self, frame: &Frame<'_>, len: usize) -> bool {
        self.waits.have_room(len) && self.append(frame, len, QUEUE)
    }

    /// Appends a frame of the relay's own, for which a reserve is kept.
    pub(crate) fn say(&self, frame: &Frame<'_>) {
        self.append(frame, 0, QUEUE + QUEUE_RESERVE);
    }

    fn append(&self, frame: &Frame<'_>, len: usize, bound: usize) -> bool {
        let mut waiting = self.lock();
        let before = waiting.frames.len();
        if waiting.last || before + len > bound {
            return false;
        }
        frame.encode(&mut waiting.frames);
        self.waits.add(waiting.frames.len() - before);
        drop(waiting);
        if before == 0 {
            self.wake.notify_one();
        }
        true
    }

    /// Takes no more frames; [`Queue::take`] hands out what waits and then ends.
    pub(crate) fn finish(&self) {
        self.lock().last = true;
        self.wake.notify_one();
    }

    /// Waits until something is queued and swaps it into `out`, which must be empty. `false` at the end.
    pub(crate) async fn take(&self, out: &mut Vec<u8>) -> bool {
        debug_assert!(out.is_empty(), "what was taken before is written");
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.frames.is_empty() {
                    std::mem::swap(&mut waiting.frames, out);
                    self.waits.remove(out.len());
                    return true;
                }
                if waiting.last {
                    return false;
                }
            }
            if timeout(QUEUE_WARM, self.wake.notified()).await.is_err() {
                *out = Vec::new();
                self.cool();
                self.wake.notified().await;
            }
        }
    }

    /// Gives back the room, if it is empty still.
    fn cool(&self) {
        let mut waiting = self.lock();
        if waiting.frames.is_empty() {
            waiting.frames = Vec::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.waits.remove(waiting.frames.len());
    }
}

#[cfg(test)]
mod tests {
    use proto::relay::Handle;

    use super::*;
    use crate::limits::CONNECTIONS_PER_NETWORK;

    fn frame(payload: &[u8]) -> Frame<'_> {
        Frame::Recv { mailbox: None, handle: Handle(1), payload }
    }

    fn queue() -> Queue {
        Queue::new(Waits::default())
    }

    fn fill(queue: &Queue) -> usize {
        let payload = [7; 1_400];
        let len = frame(&payload).to_vec().len();
        let mut accepted = 0;
        while queue.forward(&frame(&payload), len) {
            accepted += len;
        }
        accepted
    }

    #[tokio::test]
    async fn frames_leave_together_and_in_order() {
        let queue = queue();
        assert!(queue.forward(&frame(b"one"), 14));
        assert!(queue.forward(&frame(b"two"), 14));
        let mut out = Vec::new();
        assert!(queue.take(&mut out).await);
        assert_eq!(out, [frame(b"one").to_vec(), frame(b"two").to_vec()].concat());
    }

    #[tokio::test]
    async fn an_empty_queue_keeps_its_room_for_a_moment_and_no_longer() {
        let queue = queue();
        fill(&queue);
        let mut out = Vec::new();
        assert!(queue.take(&mut out).await);
        fill(&queue);
        out.clear();
        assert!(queue.take(&mut out).await);
        out.clear();
        assert!(timeout(QUEUE_WARM / 2, queue.take(&mut out)).await.is_err());
        assert!(queue.lock().frames.capacity() + out.capacity() > QUEUE);
        assert!(timeout(QUEUE_WARM * 2, queue.take(&mut out)).await.is_err());
        assert_eq!(queue.lock().frames.capacity() + out.capacity(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_takes_again_once_it_was_written() {
        let queue = queue();
        let accepted = fill(&queue);
        assert!(accepted <= QUEUE && accepted > QUEUE - 2_000);
        let mut out = Vec::new();
        assert!(queue.take(&mut out).await);
        assert_eq!(out.len(), accepted);
        assert_eq!(fill(&queue), accepted);
    }

    #[tokio::test]
    async fn a_finished_queue_hands_out_the_rest_and_ends() {
        let queue = queue();
        queue.say(&Frame::Pong);
        queue.finish();
        assert!(!queue.forward(&frame(b"late"), 15));
        let mut out = Vec::new();
        assert!(queue.take(&mut out).await);
        assert_eq!(out, Frame::Pong.to_vec());
        out.clear();
        assert!(!queue.take(&mut out).await);
    }

    #[test]
    fn a_full_queue_still_says_goodbye_but_not_for_ever() {
        let queue = queue();
        fill(&queue);
        for _ in 0..1_000_000 {
            queue.say(&Frame::Gone(Handle(9)));
        }
        let waiting = queue.lock().frames.len();
        assert!(waiting > QUEUE && waiting <= QUEUE + QUEUE_RESERVE + 16);
    }

    #[test]
    fn queues_that_nobody_reads_leave_room_for_other_networks() {
        let waits = Waits::default();
        let network = || {
            let waits = waits.of_network();
            let queues: Vec<Queue> =
                (0..CONNECTIONS_PER_NETWORK).map(|_| Queue::new(waits.clone())).collect();
            let accepted: usize = queues.iter().map(fill).sum();
            (queues, accepted)
        };
        // Each has as many queues as it may, and fills them.
        let unread: Vec<_> = (0..8).map(|_| network()).collect();
        assert!(unread[0].1 <= QUEUED / 4 && unread[0].1 > QUEUED / 4 - 2_000);
        let read = Queue::new(waits.of_network());
        assert!(fill(&read) > QUEUE - 2_000, "there is room for one more");
        assert!(waits.all() <= QUEUED);
    }

    #[test]
    fn all_queues_together_are_bounded_and_a_dropped_queue_gives_its_share_back() {
        let waits = Waits::default();
        let queues: Vec<Queue> = (0..300).map(|_| Queue::new(waits.of_network())).collect();
        let accepted: usize = queues.iter().map(fill).sum();
        assert!(accepted <= QUEUED && accepted > QUEUED - 300 * 2_000);
        assert_eq!(waits.all(), accepted);
        drop(queues);
        assert_eq!(waits.all(), 0);
    }
}
