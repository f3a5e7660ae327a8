//! What the data path tells control.

use std::{ops::AddAssign, time::Duration};

use super::{PlainStatus, RelayTo, VERSION, payload, relay};
use crate::{
    metadata::Endpoint,
    roster::Floor,
    wire::{Reader, Wire, WireError, Writer},
};

/// At most this many peers in one status.
const MAX_PEERS: usize = 12_000;

const READY: u8 = 129;
const RELAY_SEND: u8 = 130;
const STATUS: u8 = 131;
const PONG: u8 = 132;
const PEER_FLOOR: u8 = 133;
const SEEK: u8 = 134;
const PLAIN_STATUS: u8 = 135;

/// How packets reach a peer right now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PathView {
    /// No data for a while, or no session yet.
    Idle,
    /// Over the relay with this number.
    Relay(u8),
    /// Straight to this endpoint.
    Direct(Endpoint),
    /// Something is sent, and nothing was heard of it for seconds.
    Silent,
}

/// One peer's live state.
pub struct PeerStatus {
    /// Control's number for it.
    pub peer: u32,
    /// How packets reach it.
    pub path: PathView,
    /// Round trip on that path, as last measured.
    pub rtt: Option<Duration>,
    /// The largest inner packet that it takes, in bytes.
    pub mtu: u16,
    /// Inner bytes received from it.
    pub rx_bytes: u64,
    /// Inner bytes sent to it.
    pub tx_bytes: u64,
    /// Since the last completed handshake, if its session lives.
    pub since_handshake: Option<Duration>,
}

/// Packets that were dropped since the start, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// From the interface, to an address that no peer has.
    pub unroutable: u64,
    /// From the interface or from a peer, with an address that only probes may use.
    pub reserved: u64,
    /// From a peer, with a source that is not its own or a destination that is not ours.
    pub spoofed: u64,
    /// A datagram that is no packet of a known session, or was seen before.
    pub unauthenticated: u64,
    /// A handshake over the limit of its source, or seen before.
    pub handshake: u64,
    /// Waited too long for a session or a path.
    pub waiting: u64,
    /// From a guest, and no sync.
    pub guest: u64,
    /// From a peer, met with congestion on the way, and its sender can be told by nothing but a loss (RFC 6040).
    pub congested: u64,
    /// Not an IP packet, or larger than can be carried.
    pub malformed: u64,
    /// Sealed, but a UDP socket was full or had no way to send.
    pub unsent: u64,
    /// Opened, but the interface did not take it.
    pub undelivered: u64,
    /// For a relay, while control did not read its pipe.
    pub unrelayed: u64,
}

impl AddAssign for Drops {
    fn add_assign(&mut self, other: Self) {
        // Taken apart whole: a reason that is added to the struct and not here does not compile.
        let Self {
            unroutable,
            reserved,
            spoofed,
            unauthenticated,
            handshake,
            waiting,
            guest,
            congested,
            malformed,
            unsent,
            undelivered,
            unrelayed,
        } = other;
        self.unroutable += unroutable;
        self.reserved += reserved;
        self.spoofed += spoofed;
        self.unauthenticated += unauthenticated;
        self.handshake += handshake;
        self.waiting += waiting;
        self.guest += guest;
        self.congested += congested;
        self.malformed += malformed;
        self.unsent += unsent;
        self.undelivered += undelivered;
        self.unrelayed += unrelayed;
    }
}

/// The answer to [`super::ToData::StatusRequest`].
pub struct Status {
    /// From the request.
    pub token: u64,
    /// All peers.
    pub peers: Vec<PeerStatus>,
    /// What was dropped.
    pub drops: Drops,
}

/// The answer to [`super::ToData::Ping`].
pub struct Pong {
    /// From the request.
    pub token: u64,
    /// The round trip and the path it took; nothing if no answer came in time.
    pub result: Option<(Duration, PathView)>,
}

/// A frame from the data path to control.
pub enum FromData<'a> {
    /// Locked down, and reading.
    Ready,
    /// A datagram that is to leave over a relay.
    RelaySend {
        /// The relay.
        relay: u8,
        /// Where it is to deliver.
        to: RelayTo,
        /// The datagram.
        payload: &'a [u8],
    },
    /// The live state.
    Status(Status),
    /// A measured round trip.
    Pong(Pong),
    /// A peer says that it has another roster than this machine.
    PeerFloor {
        /// Control's number for it.
        peer: u32,
        /// The roster, as the peer claims.
        floor: Floor,
    },
    /// Something waits for this peer, and it does not answer, or nobody leads there.
    Seek(u32),
    /// The live state of a plain interface.
    PlainStatus(PlainStatus),
}

impl FromData<'_> {
    /// Appends type and body.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Self::Ready => {
                w.u8(READY);
                w.version(VERSION);
            }
            Self::RelaySend { relay, to, payload } => {
                w.u8(RELAY_SEND);
                w.u8(*relay);
                to.encode(w);
                w.raw(payload);
            }
            Self::Status(status) => {
                w.u8(STATUS);
                status.encode(w);
            }
            Self::Pong(pong) => {
                w.u8(PONG);
                pong.encode(w);
            }
            Self::PeerFloor { peer, floor } => {
                w.u8(PEER_FLOOR);
                w.u32(*peer);
                floor.encode(w);
            }
            Self::Seek(peer) => {
                w.u8(SEEK);
                w.u32(*peer);
            }
            Self::PlainStatus(status) => {
                w.u8(PLAIN_STATUS);
                status.encode(w);
            }
        }
    }
}

impl<'a> FromData<'a> {
    /// Reads a frame: type and body, all of `bytes`.
    ///
    /// # Errors
    /// [`WireError`] if it is not one.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let frame = match r.u8()? {
            READY => {
                // Frames differ between versions, and neither side speaks two.
                if r.version(VERSION)? != VERSION {
                    return Err(WireError::Invalid("version"));
                }
                Self::Ready
            }
            RELAY_SEND => Self::RelaySend {
                relay: relay(&mut r)?,
                to: RelayTo::decode(&mut r)?,
                payload: payload(&mut r)?,
            },
            STATUS => Self::Status(Status::decode(&mut r)?),
            PONG => Self::Pong(Pong::decode(&mut r)?),
            PEER_FLOOR => Self::PeerFloor { peer: r.u32()?, floor: Floor::decode(&mut r)? },
            SEEK => Self::Seek(r.u32()?),
            PLAIN_STATUS => Self::PlainStatus(PlainStatus::decode(&mut r)?),
            _ => return Err(WireError::Invalid("frame type")),
        };
        r.end()?;
        Ok(frame)
    }
}

/// Token, the drops in the order of their fields, list of peers. A list over its limit is cut.
impl Wire for Status {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.token);
        let d = &self.drops;
        let dropped = [d.unroutable, d.reserved, d.spoofed, d.unauthenticated, d.handshake, d.waiting];
        let dropped = dropped.into_iter().chain([d.guest, d.congested, d.malformed]);
        for n in dropped.chain([d.unsent, d.undelivered, d.unrelayed]) {
            w.u64(n);
        }
        w.list(&self.peers[..self.peers.len().min(MAX_PEERS)], |w, peer| peer.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            token: r.u64()?,
            drops: Drops {
                unroutable: r.u64()?,
                reserved: r.u64()?,
                spoofed: r.u64()?,
                unauthenticated: r.u64()?,
                handshake: r.u64()?,
                waiting: r.u64()?,
                guest: r.u64()?,
                congested: r.u64()?,
                malformed: r.u64()?,
                unsent: r.u64()?,
                undelivered: r.u64()?,
                unrelayed: r.u64()?,
            },
            peers: r.list(MAX_PEERS, PeerStatus::decode)?,
        })
    }
}

impl Wire for PeerStatus {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.peer);
        self.path.encode(w);
        put_duration(w, self.rtt);
        w.u16(self.mtu);
        w.u64(self.rx_bytes);
        w.u64(self.tx_bytes);
        put_duration(w, self.since_handshake);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            peer: r.u32()?,
            path: PathView::decode(r)?,
            rtt: get_duration(r)?,
            mtu: r.u16()?,
            rx_bytes: r.u64()?,
            tx_bytes: r.u64()?,
            since_handshake: get_duration(r)?,
        })
    }
}

impl Wire for Pong {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.token);
        put_duration(w, self.result.map(|(rtt, _)| rtt));
        if let Some((_, path)) = self.result {
            path.encode(w);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let token = r.u64()?;
        let result = match get_duration(r)? {
            Some(rtt) => Some((rtt, PathView::decode(r)?)),
            None => None,
        };
        Ok(Self { token, result })
    }
}

impl Wire for PathView {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Idle => w.u8(0),
            Self::Relay(relay) => {
                w.u8(1);
                w.u8(*relay);
            }
            Self::Direct(endpoint) => {
                w.u8(2);
                endpoint.encode(w);
            }
            Self::Silent => w.u8(3),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8()? {
            0 => Ok(Self::Idle),
            1 => Ok(Self::Relay(relay(r)?)),
            2 => Ok(Self::Direct(Endpoint::decode(r)?)),
            3 => Ok(Self::Silent),
            _ => Err(WireError::Invalid("path")),
        }
    }
}

/// A flag, then microseconds.
pub(super) fn put_duration(w: &mut Writer, duration: Option<Duration>) {
    match duration {
        None => w.u8(0),
        Some(d) => {
            w.u8(1);
            w.u64(u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

pub(super) fn get_duration(r: &mut Reader<'_>) -> Result<Option<Duration>, WireError> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Duration::from_micros(r.u64()?))),
        _ => Err(WireError::Invalid("duration")),
    }
}
