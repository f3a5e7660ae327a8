//! What goes to the data path and what comes from it, as control sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::{
    pipe::{FrameWriter, FromData, Pong, RelayTo, Status, ToData},
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
    /// A datagram that is to leave over a relay.
    RelaySend {
        /// The relay.
        relay: u8,
        /// Where it is to deliver.
        to: RelayTo,
        /// The datagram.
        payload: Vec<u8>,
    },
    /// The answer to a status request.
    Status(Status),
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
}

impl Event {
    /// The event of a frame; `None` for `Ready`, which is not passed on.
    pub(super) fn from_frame(frame: FromData<'_>) -> Option<Self> {
        match frame {
            FromData::Ready => None,
            FromData::RelaySend { relay, to, payload } => {
                Some(Self::RelaySend { relay, to, payload: payload.to_vec() })
            }
            FromData::Status(status) => Some(Self::Status(status)),
            FromData::Pong(pong) => Some(Self::Pong(Box::new(pong))),
            FromData::PeerFloor { peer, floor } => Some(Self::PeerFloor { peer, floor: Box::new(floor) }),
            FromData::Seek(peer) => Some(Self::Seek(peer)),
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
    pub(super) frames: FrameWriter,
    /// The process has ended, or is to be ended.
    pub(super) dead: bool,
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        *self.queue() = Queue { frames: FrameWriter::new(), dead: true };
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
        if queue.dead || (relayed && queue.frames.len() >= RELAY_BACKLOG) {
            return false;
        }
        queue.frames.to_data(frame);
        if queue.frames.len() > BACKLOG {
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
