//! What control tells the data path.

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::{MAX_RELAYS, ToPlain, VERSION, payload, relay};
use crate::{
    beacon,
    metadata::{Endpoint, InnerAddr, InnerNet},
    roster::Floor,
    wire::{Reader, Wire, WireError, Writer},
};

/// At most this many ranges in one frame: a machine with all its routes.
const MAX_NETS: usize = 4_096;
/// At most this many static endpoints of one peer.
const MAX_ENDPOINTS: usize = 8;
/// At most this many pre-shared keys of one peer: the present epoch and the one before.
const MAX_PSKS: usize = 2;
/// At most this many interface addresses of this machine.
const MAX_LOCAL_ADDRS: usize = 256;
/// At most this many STUN servers: each relay's name may lead to a few addresses, and each answers on two ports.
const MAX_STUN_SERVERS: usize = 64;
/// At most this many ports of routers that lead to this machine: one per address family.
const MAX_MAPPINGS: usize = 4;

const CONFIG: u8 = 1;
const SET_PEER: u8 = 2;
const REMOVE_PEER: u8 = 3;
const INTRODUCE: u8 = 4;
const RELAY_UP: u8 = 5;
const RELAY_DOWN: u8 = 6;
const RELAY_RECV: u8 = 7;
const RELAY_GONE: u8 = 8;
const LOCAL_ADDRS: u8 = 9;
const STUN_SERVERS: u8 = 10;
const PING: u8 = 11;
const STATUS_REQUEST: u8 = 12;
const BEGIN: u8 = 13;
const FLOOR: u8 = 14;
const GUEST: u8 = 15;
const MAPPINGS: u8 = 16;
const BEACON: u8 = 17;
const SIGHTED: u8 = 18;
const PLAIN: u8 = 19;

/// Which epoch a session belongs to, modulo 4: the hint in a WireGuard index that tells two epochs apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochTag(u8);

/// What this machine is: the first frame, and again when it changes.
pub struct Config {
    /// The X25519 secret that WireGuard authenticates this machine with.
    pub secret: Zeroizing<[u8; 32]>,
    /// What this machine receives packets for: its own addresses first, then any range that it routes.
    pub own: Vec<InnerNet>,
    /// The largest inner packet that the interface sends, in bytes.
    pub mtu: u16,
}

/// One other machine.
pub struct Peer {
    /// Control's number for it.
    pub id: u32,
    /// Its X25519 public key.
    pub wireguard: [u8; 32],
    /// One or two pre-shared keys, the present epoch's first; the second is still accepted and used until both have
    /// moved on.
    pub psks: Vec<(EpochTag, Zeroizing<[u8; 32]>)>,
    /// What it may send from, and what is sent to it; its own addresses first.
    pub allowed: Vec<InnerNet>,
    /// Endpoints that a signer wrote into the roster; exempt from the limits on candidates.
    pub endpoints: Vec<Endpoint>,
    /// The relays where its mailbox is: bit `n` for relay `n`.
    pub relays: u8,
}

/// A handshake initiation of an epoch that has ended: from a peer that slept through its end.
pub struct Guest<'a> {
    /// Control's number for the peer.
    pub peer: u32,
    /// The pre-shared key of that epoch for this peer.
    pub psk: Zeroizing<[u8; 32]>,
    /// The relay that it came over.
    pub relay: u8,
    /// The way back.
    pub handle: u64,
    /// The WireGuard handshake initiation.
    pub initiation: &'a [u8],
}

/// An address of one of this machine's underlay interfaces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LocalAddr {
    /// The address.
    pub addr: IpAddr,
    /// How many of its bits name the link: what shares them is on the same LAN.
    pub prefix_len: u8,
}

/// A frame from control to the data path.
pub enum ToData<'a> {
    /// What this machine is.
    Config(Config),
    /// A peer is new, or any of its fields changed.
    SetPeer(Peer),
    /// A peer is gone; its sessions end at once.
    RemovePeer(u32),
    /// A peer that introduced itself: like `SetPeer`, and the first handshake initiation that came with it.
    Introduce {
        /// The peer.
        peer: Peer,
        /// The relay that it came over.
        relay: u8,
        /// The way back.
        handle: u64,
        /// The WireGuard handshake initiation.
        initiation: &'a [u8],
    },
    /// A relay can be sent to.
    RelayUp(u8),
    /// A relay cannot be sent to; all its handles are void.
    RelayDown(u8),
    /// A datagram arrived over a relay.
    RelayRecv {
        /// The relay.
        relay: u8,
        /// The way back.
        handle: u64,
        /// The datagram.
        payload: &'a [u8],
    },
    /// A handle leads nowhere any more.
    RelayGone {
        /// The relay.
        relay: u8,
        /// The handle.
        handle: u64,
    },
    /// All addresses of the underlay interfaces, whenever they change.
    LocalAddrs(Vec<LocalAddr>),
    /// Where to ask for the address that the outside sees.
    StunServers(Vec<Endpoint>),
    /// Outer addresses and ports of routers that lead to this machine, whenever they change.
    Mappings(Vec<Endpoint>),
    /// Measure the round trip to a peer; answered by [`super::Pong`].
    Ping {
        /// Comes back in the answer.
        token: u64,
        /// The peer.
        peer: u32,
    },
    /// Asks for [`super::Status`].
    StatusRequest {
        /// Comes back in the answer.
        token: u64,
    },
    /// The roster that this machine has: told to peers, and compared with theirs.
    Floor(Floor),
    /// A peer that missed the present epoch and the one before asks for a session: it reaches nothing but sync.
    Guest(Guest<'a>),
    /// To be sent to every host of a link, at the port of beacons.
    Beacon {
        /// The link's index.
        link: u32,
        /// This machine's address there, which it is sent from.
        from: IpAddr,
        /// The beacon.
        datagram: &'a [u8; beacon::LEN],
    },
    /// A peer said on the LAN that it is there.
    Sighted {
        /// The peer.
        peer: u32,
        /// Where.
        at: Endpoint,
    },
    /// About a plain WireGuard interface.
    Plain(ToPlain),
    /// All that was known when the data path started has been told: packets are taken from now on.
    Begin,
}

impl EpochTag {
    /// How many there are.
    pub const COUNT: u64 = 4;

    /// The tag of the epoch with this number.
    #[must_use]
    pub fn of(epoch: u64) -> Self {
        Self((epoch % Self::COUNT) as u8)
    }

    /// 0 to 3.
    #[must_use]
    pub fn value(self) -> u8 {
        self.0
    }
}

impl ToData<'_> {
    /// The type byte.
    fn kind(&self) -> u8 {
        match self {
            Self::Config(_) => CONFIG,
            Self::SetPeer(_) => SET_PEER,
            Self::RemovePeer(_) => REMOVE_PEER,
            Self::Introduce { .. } => INTRODUCE,
            Self::RelayUp(_) => RELAY_UP,
            Self::RelayDown(_) => RELAY_DOWN,
            Self::RelayRecv { .. } => RELAY_RECV,
            Self::RelayGone { .. } => RELAY_GONE,
            Self::LocalAddrs(_) => LOCAL_ADDRS,
            Self::StunServers(_) => STUN_SERVERS,
            Self::Mappings(_) => MAPPINGS,
            Self::Ping { .. } => PING,
            Self::StatusRequest { .. } => STATUS_REQUEST,
            Self::Begin => BEGIN,
            Self::Floor(_) => FLOOR,
            Self::Guest(_) => GUEST,
            Self::Beacon { .. } => BEACON,
            Self::Sighted { .. } => SIGHTED,
            Self::Plain(_) => PLAIN,
        }
    }

    /// Appends type and body.
    pub fn encode(&self, w: &mut Writer) {
        w.u8(self.kind());
        match self {
            Self::Config(config) => config.encode(w),
            Self::SetPeer(peer) => peer.encode(w),
            Self::RemovePeer(peer) => w.u32(*peer),
            Self::Introduce { peer, relay, handle, initiation } => {
                peer.encode(w);
                w.u8(*relay);
                w.u64(*handle);
                w.raw(initiation);
            }
            Self::RelayUp(relay) | Self::RelayDown(relay) => w.u8(*relay),
            Self::RelayRecv { relay, handle, payload } => {
                w.u8(*relay);
                w.u64(*handle);
                w.raw(payload);
            }
            Self::RelayGone { relay, handle } => {
                w.u8(*relay);
                w.u64(*handle);
            }
            Self::LocalAddrs(addrs) => w.list(addrs, |w, local| local.encode(w)),
            Self::StunServers(list) | Self::Mappings(list) => w.list(list, |w, endpoint| endpoint.encode(w)),
            Self::Ping { token, peer } => {
                w.u64(*token);
                w.u32(*peer);
            }
            Self::StatusRequest { token } => w.u64(*token),
            Self::Floor(floor) => floor.encode(w),
            Self::Guest(guest) => guest.encode(w),
            Self::Beacon { link, from, datagram } => {
                w.u32(*link);
                InnerAddr(*from).encode(w);
                w.raw(&datagram[..]);
            }
            Self::Sighted { peer, at } => {
                w.u32(*peer);
                at.encode(w);
            }
            Self::Plain(plain) => plain.encode(w),
            Self::Begin => {}
        }
    }
}

impl<'a> ToData<'a> {
    /// Reads a frame: type and body, all of `bytes`.
    ///
    /// # Errors
    /// [`WireError`] if it is not one.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let frame = match r.u8()? {
            CONFIG => Self::Config(Config::decode(&mut r)?),
            SET_PEER => Self::SetPeer(Peer::decode(&mut r)?),
            REMOVE_PEER => Self::RemovePeer(r.u32()?),
            INTRODUCE => Self::Introduce {
                peer: Peer::decode(&mut r)?,
                relay: relay(&mut r)?,
                handle: r.u64()?,
                initiation: payload(&mut r)?,
            },
            RELAY_UP => Self::RelayUp(relay(&mut r)?),
            RELAY_DOWN => Self::RelayDown(relay(&mut r)?),
            RELAY_RECV => {
                Self::RelayRecv { relay: relay(&mut r)?, handle: r.u64()?, payload: payload(&mut r)? }
            }
            RELAY_GONE => Self::RelayGone { relay: relay(&mut r)?, handle: r.u64()? },
            LOCAL_ADDRS => Self::LocalAddrs(r.list(MAX_LOCAL_ADDRS, LocalAddr::decode)?),
            STUN_SERVERS => Self::StunServers(r.list(MAX_STUN_SERVERS, Endpoint::decode)?),
            MAPPINGS => Self::Mappings(r.list(MAX_MAPPINGS, Endpoint::decode)?),
            PING => Self::Ping { token: r.u64()?, peer: r.u32()? },
            STATUS_REQUEST => Self::StatusRequest { token: r.u64()? },
            BEGIN => Self::Begin,
            FLOOR => Self::Floor(Floor::decode(&mut r)?),
            GUEST => Self::Guest(Guest::decode(&mut r)?),
            BEACON => Self::Beacon {
                link: r.u32()?,
                from: InnerAddr::decode(&mut r)?.0,
                datagram: r.raw(beacon::LEN)?.first_chunk().ok_or(WireError::Truncated)?,
            },
            SIGHTED => Self::Sighted { peer: r.u32()?, at: Endpoint::decode(&mut r)? },
            PLAIN => Self::Plain(ToPlain::decode(&mut r)?),
            _ => return Err(WireError::Invalid("frame type")),
        };
        r.end()?;
        Ok(frame)
    }
}

/// Number (4 bytes), key (32), relay (1), handle (8), the initiation.
impl<'a> Guest<'a> {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.peer);
        w.raw(&*self.psk);
        w.u8(self.relay);
        w.u64(self.handle);
        w.raw(self.initiation);
    }

    fn decode(r: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            peer: r.u32()?,
            psk: Zeroizing::new(r.array()?),
            relay: relay(r)?,
            handle: r.u64()?,
            initiation: payload(r)?,
        })
    }
}

/// Version, secret (32 bytes), MTU (2), list of ranges.
impl Wire for Config {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        w.raw(&*self.secret);
        w.u16(self.mtu);
        w.list(&self.own, |w, net| net.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        Ok(Self {
            secret: Zeroizing::new(r.array()?),
            mtu: r.u16()?,
            own: r.list(MAX_NETS, InnerNet::decode)?,
        })
    }
}

/// Number (4 bytes), public key (32), relays (1), then lists: keys (tag, 32 bytes), ranges, endpoints.
impl Wire for Peer {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.id);
        w.raw(&self.wireguard);
        w.u8(self.relays);
        w.list(&self.psks, |w, (tag, psk)| {
            w.u8(tag.0);
            w.raw(&**psk);
        });
        w.list(&self.allowed, |w, net| net.encode(w));
        w.list(&self.endpoints, |w, endpoint| endpoint.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let peer = Self {
            id: r.u32()?,
            wireguard: r.array()?,
            relays: r.u8()?,
            psks: r.list(MAX_PSKS, |r| Ok((EpochTag::decode(r)?, Zeroizing::new(r.array()?))))?,
            allowed: r.list(MAX_NETS, InnerNet::decode)?,
            endpoints: r.list(MAX_ENDPOINTS, Endpoint::decode)?,
        };
        match peer.psks.as_slice() {
            [_] => Ok(peer),
            [(new, _), (old, _)] if new != old => Ok(peer),
            _ => Err(WireError::Invalid("pre-shared keys")),
        }
    }
}

impl EpochTag {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8()? {
            tag @ 0..4 => Ok(Self(tag)),
            _ => Err(WireError::Invalid("epoch tag")),
        }
    }
}

/// Family, address, prefix length.
impl Wire for LocalAddr {
    fn encode(&self, w: &mut Writer) {
        InnerAddr(self.addr).encode(w);
        w.u8(self.prefix_len);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let addr = InnerAddr::decode(r)?.0;
        let prefix_len = r.u8()?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        if prefix_len > longest {
            return Err(WireError::Invalid("prefix length"));
        }
        Ok(Self { addr, prefix_len })
    }
}

const _: () = assert!(MAX_RELAYS as u32 <= u8::BITS, "one bit for each relay");
