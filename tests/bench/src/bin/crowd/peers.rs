//! The peers: as many cores as are active, each with its key, its address and its socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use mesh::{Device, Mesh, To, TunBatch};
use netio::{
    epoll::{Epoll, Interest, Ready},
    udp::{Batch, Family, Socket},
};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, Peer as MeshPeer, PlainPeer, ToData, ToPlain},
};
use rand_core::OsRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::server::{Kind, PORT, PSK};

/// Where peers are outside (RFC 2544 sets it aside for benchmarks) and inside, and where the measured side is inside.
pub(crate) const UNDERLAY: &str = "198.18.0.0/15";
pub(crate) const INSIDE: &str = "10.64.0.0/16";
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const FIRST_OUTER: u32 = Ipv4Addr::new(198, 18, 0, 1).to_bits();
const FIRST_INNER: u32 = Ipv4Addr::new(10, 64, 0, 1).to_bits();

/// The tunnel's MTU, and a packet that fills it.
pub(crate) const MTU: u16 = 1_420;
const HEADERS: usize = 28;
const PAYLOAD: usize = MTU as usize - HEADERS;

/// Where every packet but an answer goes: the port that discards.
const DISCARD: u16 = 9;

/// Where what peers send comes from.
const SOURCE: u16 = 5_201;

/// A packet that says something, and no more.
const SMALL: usize = 100;

/// Packets for one peer before those for the next.
const BURST: usize = 16;

/// Handshakes begun in a second: fewer than the limit over which each must prove its address first.
const PACE: Duration = Duration::from_millis(12);

/// How often a peer answers what it gets: oftener than the kernel forgets by which queue an answer came (3 s).
const ANSWER: Duration = Duration::from_millis(500);

/// How often all peers are asked whether anything is due.
const TICK: Duration = Duration::from_millis(50);

/// How long all handshakes together may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What both sides know of a peer.
pub(crate) struct Known {
    secret: StaticSecret,
    pub(crate) public: PublicKey,
    pub(crate) outer: SocketAddr,
    pub(crate) inner: Ipv4Addr,
}

impl Known {
    /// The peer of this number.
    pub(crate) fn of(number: usize) -> Self {
        let mut secret = [0x11; 32];
        // Not in the first byte, of which a key has not all bits.
        secret[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        let secret = StaticSecret::from(secret);
        let at = |first: u32| Ipv4Addr::from_bits(first + number as u32);
        let outer = SocketAddr::from((at(FIRST_OUTER), 51_820));
        Self { public: PublicKey::from(&secret), secret, outer, inner: at(FIRST_INNER) }
    }
}

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the host of the measured side.
    In,
    /// Out of it, and nothing comes back.
    Out,
    /// Out of it, and each peer says something at times, as whoever receives a stream does.
    Answered,
}

enum Core {
    Plain(Box<Device>),
    Mesh(Box<Mesh>),
}

struct Peer {
    core: Core,
    socket: Socket,
    inner: Ipv4Addr,
    /// Whether it has sent a data message: it has a session then.
    connected: bool,
}

pub(crate) struct Crowd {
    kind: Kind,
    server: PublicKey,
    /// The number of its first peer.
    first: usize,
    peers: Vec<Peer>,
    epoll: Epoll,
    batch: Batch,
    /// Of the host that the measured side is on.
    sender: Socket,
    ticked: Instant,
    answered: Instant,
}

impl Crowd {
    /// Nobody yet; the first will have this number.
    pub(crate) fn new(kind: Kind, server: PublicKey, first: usize) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            kind,
            server,
            first,
            peers: Vec::new(),
            epoll: Epoll::new()?,
            batch: Batch::new(),
            sender: Socket::bind(Family::V4, 0, None)?,
            ticked: now,
            answered: now,
        })
    }

    /// Lets peers join until there are so many, each with a session.
    pub(crate) fn connect(&mut self, count: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.peers.len() < count {
            let peer = Peer::new(self.kind, self.first + self.peers.len(), &self.server)?;
            self.epoll.add(&peer.socket, self.peers.len() as u64, Interest::Read)?;
            self.peers.push(peer);
            let now = Instant::now();
            let last = self.peers.len() - 1;
            self.peers[last].give(now, (SOURCE, DISCARD), SMALL);
            self.serve_for(PACE)?;
        }
        while self.peers.iter().any(|peer| !peer.connected) {
            if Instant::now() > end {
                bail!("not all peers got a session");
            }
            self.serve_for(TICK)?;
        }
        Ok(())
    }

    /// Sends to or from the first so many peers in turn.
    pub(crate) fn flow(&mut self, way: Way, active: usize, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let payload = [0x5a; PAYLOAD * BURST];
        if way == Way::Answered {
            self.answer(Instant::now())?;
        }
        for at in (0..active).cycle() {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            match way {
                Way::In => {
                    for _ in 0..BURST {
                        self.peers[at].give(now, (SOURCE, DISCARD), MTU.into());
                    }
                    self.peers[at].flush();
                }
                // What the interface has no room for is lost: that is what it means to send as fast as one can.
                Way::Out | Way::Answered => {
                    let _ = self.sender.send((self.peers[at].inner, DISCARD).into(), 0, PAYLOAD, &payload);
                }
            }
            if way == Way::Answered && now >= self.answered + ANSWER {
                self.answer(now)?;
            }
            self.serve(Some(Duration::ZERO))?;
        }
        bail!("nobody is active")
    }

    /// Every peer says something to where what it gets comes from. What flows to it then comes to the queue that this was
    /// written to, which is its worker's.
    fn answer(&mut self, now: Instant) -> Result<()> {
        self.answered = now;
        let ports = (DISCARD, self.sender.port()?);
        for peer in &mut self.peers {
            peer.give(now, ports, SMALL);
            peer.flush();
        }
        Ok(())
    }

    /// Answers what comes, for so long.
    pub(crate) fn serve_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.serve(Some(left.min(TICK)))?;
        }
    }

    fn serve(&mut self, wait: Option<Duration>) -> Result<()> {
        for Ready { token, .. } in self.epoll.wait(wait)? {
            let peer = &mut self.peers[token as usize];
            let now = Instant::now();
            peer.socket.recv(&mut self.batch)?;
            for datagram in self.batch.datagrams() {
                peer.take(now, datagram.src, datagram.segment, datagram.data);
            }
            peer.flush();
        }
        let now = Instant::now();
        if now >= self.ticked + TICK {
            self.ticked = now;
            self.peers.iter_mut().for_each(|peer| peer.tick(now));
        }
        Ok(())
    }
}

impl Peer {
    fn new(kind: Kind, number: usize, server: &PublicKey) -> Result<Self> {
        let (now, known) = (Instant::now(), Known::of(number));
        let bound = UdpSocket::bind(known.outer).context("a peer has no socket")?;
        bound.set_nonblocking(true)?;
        // Every address is this host's, and what it sends to one seems to come from there.
        let endpoint = Endpoint(SocketAddr::new(known.outer.ip(), PORT));
        let secret = Zeroizing::new(known.secret.to_bytes());
        let core = match kind {
            Kind::Device => {
                let mut core = Device::new(now, Box::new(OsRng));
                let peer = PlainPeer {
                    id: 0,
                    wireguard: server.to_bytes(),
                    psk: Zeroizing::new(PSK),
                    endpoint: Some(endpoint),
                    keepalive: 0,
                    allowed: vec![host(SERVER)],
                };
                for frame in [
                    ToPlain::Key(Some(secret)),
                    ToPlain::Sockets { v4: Some(0), v6: None },
                    ToPlain::Link { up: true, mtu: MTU },
                    ToPlain::Peer(peer),
                ] {
                    core.apply(now, ToData::Plain(frame));
                }
                Core::Plain(Box::new(core))
            }
            Kind::Mesh => {
                let mut core = Mesh::new(now, Box::new(OsRng), &[known.outer]);
                core.apply(now, ToData::Config(Config { secret, own: vec![host(known.inner)], mtu: MTU }));
                core.apply(
                    now,
                    ToData::SetPeer(MeshPeer {
                        id: 0,
                        wireguard: server.to_bytes(),
                        psks: vec![(EpochTag::of(0), Zeroizing::new(PSK))],
                        allowed: vec![host(SERVER)],
                        endpoints: vec![endpoint],
                        relays: 0,
                    }),
                );
                Core::Mesh(Box::new(core))
            }
        };
        Ok(Self { core, socket: Socket::from_fd(bound.into())?, inner: known.inner, connected: false })
    }

    /// A packet for the measured side, from and to these ports, of so many bytes.
    fn give(&mut self, now: Instant, ports: (u16, u16), len: usize) {
        let packet = udp((self.inner, ports.0), (SERVER, ports.1), len);
        match &mut self.core {
            Core::Plain(core) => core.handle_tun(now, &packet),
            Core::Mesh(core) => core.handle_tun(now, &packet),
        };
    }

    fn take(&mut self, now: Instant, from: SocketAddr, segment: usize, data: &[u8]) {
        match &mut self.core {
            Core::Plain(core) => core.handle_udp(now, (0, from), 0, segment, data),
            Core::Mesh(core) => core.handle_udp(now, (0, from), 0, segment, data),
        }
    }

    fn tick(&mut self, now: Instant) {
        match &mut self.core {
            Core::Plain(core) => core.handle_timeout(now),
            Core::Mesh(core) => core.handle_timeout(now),
        }
        self.flush();
    }

    fn arrived(&mut self) -> Option<TunBatch<'_>> {
        match &mut self.core {
            Core::Plain(core) => core.poll_tun(),
            Core::Mesh(core) => {
                while core.poll_event().is_some() {}
                core.poll_tun()
            }
        }
    }

    /// Sends what there is. What arrived is of no use to anybody.
    fn flush(&mut self) {
        loop {
            let Self { core, socket, connected, .. } = self;
            let out = match core {
                Core::Plain(core) => core.poll_transmit(),
                Core::Mesh(core) => core.poll_transmit(),
            };
            let Some(out) = out else { break };
            *connected |= out.data.first() == Some(&4);
            if let To::Udp { dst, .. } = out.to {
                let _ = socket.send(dst, out.class, out.segment, out.data);
            }
        }
        self.arrived();
    }
}

/// Where packets end. Nobody reads it: what it has no room for is dropped, and nothing is answered.
pub(crate) fn sink() -> Result<UdpSocket> {
    UdpSocket::bind((SERVER, DISCARD)).context("there is no sink")
}

pub(crate) fn host(addr: Ipv4Addr) -> InnerNet {
    InnerNet::host(InnerAddr(IpAddr::V4(addr)))
}

/// An inner packet of `len` bytes: IPv4 and UDP without a checksum.
fn udp((from, source): (Ipv4Addr, u16), (to, destination): (Ipv4Addr, u16), len: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; len];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let mut sum: u32 =
        packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    packet[20..22].copy_from_slice(&source.to_be_bytes());
    packet[22..24].copy_from_slice(&destination.to_be_bytes());
    packet[26..28].fill(0);
    packet[24..26].copy_from_slice(&(len as u16 - 20).to_be_bytes());
    packet
}
