//! What control and the data path say of a plain WireGuard interface, instead of what they say of a machine in a network.

use std::{
    net::{SocketAddr, SocketAddrV6},
    time::Duration,
};

use zeroize::Zeroizing;

use super::from_data::{get_duration, put_duration};
use crate::{
    metadata::{Endpoint, InnerNet},
    wire::{Reader, Wire, WireError, Writer},
};

/// At most this many ranges of one peer: in a frame they take half a megabyte.
pub const MAX_ALLOWED: usize = 32_768;
/// At most this many peers in one answer; there may be several.
pub const MAX_STATES: usize = 10_000;

const KEY: u8 = 1;
const PEER: u8 = 2;
const SOCKETS: u8 = 3;
const LINK: u8 = 4;

/// What control tells of the interface. Peers are removed, and the state asked for, as those of a network.
pub enum ToPlain {
    /// The interface's private key, or none. Where it changes, sessions end.
    Key(Option<Zeroizing<[u8; 32]>>),
    /// A peer is new, or something of it changed.
    Peer(PlainPeer),
    /// The sockets, by their number in the pool, that datagrams come and go by from now on. Those before are closed.
    Sockets {
        /// For IPv4.
        v4: Option<u8>,
        /// For IPv6.
        v6: Option<u8>,
    },
    /// The state of the interface. Where it is switched off, sessions end.
    Link {
        /// Whether it is on.
        up: bool,
        /// The largest inner packet that it sends, in bytes.
        mtu: u16,
    },
}

/// A peer of a plain interface.
pub struct PlainPeer {
    /// Control's number for it.
    pub id: u32,
    /// Its X25519 public key.
    pub wireguard: [u8; 32],
    /// The pre-shared key; zeros where there is none, as in WireGuard itself.
    pub psk: Zeroizing<[u8; 32]>,
    /// Where it is, if that was just said. It stays where it is otherwise, and moves by itself.
    pub endpoint: Option<Endpoint>,
    /// How long nothing may pass before it is sent something, in seconds. Zero: for ever.
    pub keepalive: u16,
    /// What it may send from, and what is sent to it.
    pub allowed: Vec<InnerNet>,
}

/// The live state of a plain interface, or a part of it.
pub struct PlainStatus {
    /// From the request.
    pub token: u64,
    /// Whether more is to come for the same request.
    pub more: bool,
    /// The peers.
    pub peers: Vec<PlainState>,
}

/// One peer's live state.
pub struct PlainState {
    /// Control's number for it.
    pub peer: u32,
    /// Where it is, if that is known.
    pub endpoint: Option<Endpoint>,
    /// Bytes of authentic messages received from it, WireGuard's own included.
    pub rx_bytes: u64,
    /// Bytes of messages sent to it.
    pub tx_bytes: u64,
    /// Since the last completed handshake.
    pub since_handshake: Option<Duration>,
}

/// Kind (1 byte), then what belongs to it.
impl Wire for ToPlain {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Key(key) => {
                w.u8(KEY);
                w.u8(key.is_some().into());
                if let Some(key) = key {
                    w.raw(&**key);
                }
            }
            Self::Peer(peer) => {
                w.u8(PEER);
                peer.encode(w);
            }
            Self::Sockets { v4, v6 } => {
                w.u8(SOCKETS);
                for socket in [v4, v6] {
                    w.u8(socket.is_some().into());
                    w.u8(socket.unwrap_or(0));
                }
            }
            Self::Link { up, mtu } => {
                w.u8(LINK);
                w.u8((*up).into());
                w.u16(*mtu);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8()? {
            KEY => Ok(Self::Key(if flag(r)? { Some(Zeroizing::new(r.array()?)) } else { None })),
            PEER => Ok(Self::Peer(PlainPeer::decode(r)?)),
            SOCKETS => {
                let (v4, v6) = (socket(r)?, socket(r)?);
                Ok(Self::Sockets { v4, v6 })
            }
            LINK => Ok(Self::Link { up: flag(r)?, mtu: r.u16()? }),
            _ => Err(WireError::Invalid("kind")),
        }
    }
}

/// Number (4 bytes), public key (32), pre-shared key (32), seconds between keepalives (2), endpoint, list of ranges.
impl Wire for PlainPeer {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.id);
        w.raw(&self.wireguard);
        w.raw(&*self.psk);
        w.u16(self.keepalive);
        put_endpoint(w, self.endpoint);
        w.list(&self.allowed, |w, net| net.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            id: r.u32()?,
            wireguard: r.array()?,
            psk: Zeroizing::new(r.array()?),
            keepalive: r.u16()?,
            endpoint: get_endpoint(r)?,
            allowed: r.list(MAX_ALLOWED, InnerNet::decode)?,
        })
    }
}

/// Token (8 bytes), whether there is more (1), list of peers.
impl Wire for PlainStatus {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.token);
        w.u8(self.more.into());
        w.list(&self.peers[..self.peers.len().min(MAX_STATES)], |w, peer| {
            w.u32(peer.peer);
            put_endpoint(w, peer.endpoint);
            w.u64(peer.rx_bytes);
            w.u64(peer.tx_bytes);
            put_duration(w, peer.since_handshake);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (token, more) = (r.u64()?, flag(r)?);
        let peers = r.list(MAX_STATES, |r| {
            Ok(PlainState {
                peer: r.u32()?,
                endpoint: get_endpoint(r)?,
                rx_bytes: r.u64()?,
                tx_bytes: r.u64()?,
                since_handshake: get_duration(r)?,
            })
        })?;
        Ok(Self { token, more, peers })
    }
}

fn flag(r: &mut Reader<'_>) -> Result<bool, WireError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Invalid("flag")),
    }
}

fn socket(r: &mut Reader<'_>) -> Result<Option<u8>, WireError> {
    let there = flag(r)?;
    let number = r.u8()?;
    Ok(there.then_some(number))
}

/// A flag, then the endpoint, then the link that a link-local address is of (4 bytes; zero: none).
fn put_endpoint(w: &mut Writer, endpoint: Option<Endpoint>) {
    w.u8(endpoint.is_some().into());
    if let Some(endpoint) = endpoint {
        endpoint.encode(w);
        w.u32(match endpoint.0 {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        });
    }
}

fn get_endpoint(r: &mut Reader<'_>) -> Result<Option<Endpoint>, WireError> {
    if !flag(r)? {
        return Ok(None);
    }
    let endpoint = Endpoint::decode(r)?;
    let link = r.u32()?;
    Ok(Some(match endpoint.0 {
        SocketAddr::V4(_) if link != 0 => return Err(WireError::Invalid("link")),
        SocketAddr::V4(_) => endpoint,
        SocketAddr::V6(v6) => Endpoint(SocketAddrV6::new(*v6.ip(), v6.port(), 0, link).into()),
    }))
}
