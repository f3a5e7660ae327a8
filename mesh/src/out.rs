//! What comes out of the core.

use std::net::SocketAddr;

use proto::{
    pipe::{Pong, RelayTo, Status},
    roster::Floor,
};

/// Where datagrams go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Out of a UDP socket.
    Udp {
        /// The socket, by its place in what [`crate::Mesh::new`] was given.
        socket: u8,
        /// The destination.
        dst: SocketAddr,
    },
    /// Over a relay, through control.
    Relay {
        /// The relay.
        relay: u8,
        /// Where the relay delivers.
        to: RelayTo,
    },
}

/// Datagrams to one destination, back to back: all are `segment` bytes long, but the last may be shorter.
///
/// At most 64 segments and 65,507 bytes, so that one `UDP_SEGMENT` send takes it whole.
pub struct Transmit<'a> {
    /// The destination of all of them.
    pub to: To,
    /// The type of service or traffic class that their headers are to have; zero for most. A relay carries none.
    pub class: u8,
    /// The length of each datagram in bytes; never zero.
    pub segment: usize,
    /// The datagrams.
    pub data: &'a [u8],
}

/// Inner packets for the TUN, in the order in which they are to be written.
pub struct TunBatch<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) ends: &'a [usize],
}

/// What control is told.
pub enum Event {
    /// The answer to a status request.
    Status(Status),
    /// The answer to a ping.
    Pong(Pong),
    /// A peer says that it has another roster than this machine.
    PeerFloor {
        /// Control's number for it.
        peer: u32,
        /// The roster.
        floor: Floor,
    },
    /// Something waits for the peer of this number, and it does not answer, or nobody leads there: it may be on the LAN.
    Seek(u32),
}

impl<'a> Transmit<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.data.chunks(self.segment)
    }
}

impl<'a> TunBatch<'a> {
    /// The packets, without padding; never empty ones.
    pub fn packets(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.ends.iter().scan(0, move |start, &end| {
            let packet = &bytes[*start..end];
            *start = end;
            Some(packet)
        })
    }
}
