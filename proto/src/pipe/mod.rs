//! Frames between control and the data path, over two pipes.
//!
//! `[length u32][type u8][body]`, big-endian; the length counts type and body. Control tells the data path its keys,
//! peers and what arrived from the relays ([`ToData`]); the data path hands out what is to be sent over a relay and,
//! when asked, the live state ([`FromData`]). The data path faces the network, so control reads its frames as
//! hostile: every length is bounded before anything is allocated, and a frame that cannot be read ends the pipe.
//!
//! Frames that carry keys are wiped from the buffers here once they were read or written. Nothing in this room has
//! `Debug`: almost all of it is metadata.

mod buffer;
mod from_data;
mod plain;
mod to_data;

#[cfg(test)]
mod tests;

pub use buffer::{FrameReader, FrameWriter, MAX_FRAME};
pub use from_data::{Drops, FromData, PathView, PeerStatus, Pong, Status};
pub use plain::{MAX_ALLOWED, MAX_STATES, PlainPeer, PlainState, PlainStatus, ToPlain};
pub use to_data::{Config, EpochTag, Guest, LocalAddr, Peer, ToData};

use crate::wire::{Reader, WireError, Writer};

/// The version of the frames: the first byte of [`ToData::Config`] and of [`FromData::Ready`], which come first.
/// (The child may be a newer file than its parent if it was replaced on disk in between.)
pub const VERSION: u8 = 6;

/// The largest datagram that crosses the pipe, in bytes.
pub const MAX_PAYLOAD: usize = 65_535;

/// Relays are numbered 0 to 7; [`Peer::relays`] has a bit for each.
pub const MAX_RELAYS: u8 = 8;

/// Where a relay is to deliver a payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelayTo {
    /// A peer's mailbox; control knows which one that is today.
    Peer {
        /// The peer's number.
        peer: u32,
        /// The epoch of the session: a machine that has not heard of a newer one listens there alone.
        epoch: EpochTag,
    },
    /// The connection that this handle names, as it came with a received payload.
    Handle(u64),
}

fn relay(r: &mut Reader<'_>) -> Result<u8, WireError> {
    let relay = r.u8()?;
    if relay < MAX_RELAYS { Ok(relay) } else { Err(WireError::Invalid("relay number")) }
}

fn payload<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let bytes = r.rest();
    if bytes.len() > MAX_PAYLOAD {
        return Err(WireError::TooLong);
    }
    r.raw(bytes.len())
}

impl RelayTo {
    fn encode(self, w: &mut Writer) {
        match self {
            Self::Peer { peer, epoch } => {
                w.u8(0);
                w.u32(peer);
                w.u8(epoch.value());
            }
            Self::Handle(handle) => {
                w.u8(1);
                w.u64(handle);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8()? {
            0 => Ok(Self::Peer { peer: r.u32()?, epoch: EpochTag::decode(r)? }),
            1 => Ok(Self::Handle(r.u64()?)),
            _ => Err(WireError::Invalid("relay destination")),
        }
    }
}
