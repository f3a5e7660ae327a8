//! What goes to the data path and what comes from it, as control sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::{
    pipe::{FrameWriter, FromData, PlainStatus, Pong, RelayTo, Status, ToData},
    roster::Floor,
};
use tokio::sync::Notify;

/// Bytes that wait for the data path before relayed datagrams are dropped.
const RELAY_BACKLOG: usize = 1 << 20;

/// Bytes that wait for the data path before it counts as stuck: the configuration of a network of 10,000 machines
/// is about 3 MB.
const BACKLOG: usize = 32 << 20;

/// What the data path says.
pub enum Event {
    /// A data path has started and knows nothing yet: send it everything over this link. Comes again whenever another
    /// had to be started.
    Up(Link),
    /// Datagrams that are to leave over relays.
    RelaySend(Box<Relayed>),
    /// The answer to a status request.
    Status(Box<Status>),
    /// The answer to a ping. Boxed: a channel keeps what went through it until something else comes, and a box that is
    /// freed is overwritten.
    Pong(Box<Pong>),
    /// A peer says that it has another roster than this machine.
    PeerFloor {
        /// The peer's number.
        peer: u32,
        /// The roster, as it claims. Boxed as the answer to a ping is.
        floor: Box<Floor>,
    },
    /// Something waits for the peer of this number, which does not answer.
    Seek(u32),
    /// The live state of a plain interface, or a part of it.
    PlainStatus(Box<PlainStatus>),
}

const _: () = assert!(
    size_of::<Event>() == 2 * size_of::<usize>(),
    "a channel keeps what went through it, with whatever was on the stack beside a smaller event: what is large is boxed"
);

/// Datagrams that are to leave over relays, in the order in which the data path sent them; one buffer holds them all.
#[derive(Default)]
pub struct Relayed {
    payloads: Vec<u8>,
    /// By which relay, to whom, and where its payload ends.
    sends: Vec<(u8, RelayTo, usize)>,
}

impl Relayed {
    pub(super) fn push(&mut self, relay: u8, to: RelayTo, payload: &[u8]) {
        self.payloads.extend_from_slice(payload);
        self.sends.push((relay, to, self.payloads.len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Each with its relay and where that is to deliver it.
    pub fn iter(&self) -> impl Iterator<Item = (u8, RelayTo, &[u8])> {
        let mut start = 0;
        self.sends.iter().map(move |(relay, to, end)| {
            let payload = &self.payloads[start..*end];
            start = *end;
            (*relay, *to, payload)
        })
    }
}

impl Event {
    /// The event of a frame that is no datagram; `None` for `Ready`, which is not passed on.
    pub(super) fn from_frame(frame: FromData<'_>) -> Option<Self> {
        match frame {
            FromData::Ready | FromData::RelaySend { .. } => None,
            FromData::Status(status) => Some(Self::Status(Box::new(status))),
            FromData::Pong(pong) => Some(Self::Pong(Box::new(pong))),
            FromData::PeerFloor { peer, floor } => Some(Self::PeerFloor { peer, floor: Box::new(floor) }),
            FromData::Seek(peer) => Some(Self::Seek(peer)),
            FromData::PlainStatus(status) => Some(Self::PlainStatus(Box::new(status))),
        }
    }
}

/// The way to one data path process. It never blocks; after that process has ended it leads nowhere.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Tells the process's writer that there is something to write.
    pub(super) filled: Notify,
}

#[derive(Default)]
pub(super) struct Queue {
    frames: FrameWriter,
    /// Bytes that are being written.
    writing: usize,
    /// The process has ended, or is to be ended.
    dead: bool,
}

impl Queue {
    /// Swaps what waits into `out`, which must be written whole before it comes here again. Says whether it is anything;
    /// `None` if the process has ended.
    pub(super) fn take(&mut self, out: &mut FrameWriter) -> Option<bool> {
        self.alive()?;
        std::mem::swap(&mut self.frames, out);
        self.writing = out.len();
        Some(self.writing > 0)
    }

    /// `None` if the process has ended, or is to be ended.
    pub(super) fn alive(&self) -> Option<()> {
        (!self.dead).then_some(())
    }

    /// Bytes that wait, or are being written.
    fn len(&self) -> usize {
        self.frames.len() + self.writing
    }
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        *self.queue() = Queue { dead: true, ..Queue::default() };
        self.filled.notify_one();
    }
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Queues a frame, and says whether it was taken. A relayed datagram is refused where many bytes wait already;
    /// anything else only once the process is gone.
    pub fn send(&self, frame: &ToData<'_>) -> bool {
        let mut queue = self.shared.queue();
        let relayed = matches!(frame, ToData::RelayRecv { .. });
        if queue.dead || (relayed && queue.len() >= RELAY_BACKLOG) {
            return false;
        }
        queue.frames.to_data(frame);
        if queue.len() > BACKLOG {
            // It does not read: the supervisor ends it and starts another.
            drop(queue);
            self.shared.close();
            return false;
        }
        drop(queue);
        self.shared.filled.notify_one();
        true
    }
}
