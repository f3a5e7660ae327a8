//! A machine: the core of its data path, and the double of its control.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    sync::OnceLock,
    time::{Duration, Instant},
};

use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, PathView, Peer, ToData},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{
    clock,
    core::{Event, Mesh, To},
    dice::Dice,
    plan::MAX_HOSTS,
    relay::Link,
};

/// Public keys by machine, for they are the dearest of what there is to compute here.
static KEYS: OnceLock<[[u8; 32]; MAX_HOSTS]> = OnceLock::new();
/// Every machine's port.
pub(crate) const PORT: u16 = 51_820;
/// Where its other sockets are, if it has many.
const POOL: Range<u8> = 2..250;
const POOL_PORTS: u16 = 40_000;
pub(crate) const MTU: u16 = 1_420;
/// What every inner packet of data begins its payload with, and no datagram may hold.
const MARK: [u8; 8] = *b"PLAINTXT";
/// Inner packets of data have this length, in bytes, and no message has; large ones have [`MTU`].
pub(crate) const DATA: usize = 128;
/// The same as a datagram.
pub(crate) const SEALED: usize = DATA + 32;
/// An IPv4 header, in bytes.
const HEADER: usize = 20;
/// What wall clocks showed at the start.
const WALL: Duration = Duration::from_secs(1_700_000_000);

pub(crate) struct Host {
    mesh: Mesh,
    start: Instant,
    secret: [u8; 32],
    pub(crate) key: [u8; 32],
    pool: bool,
    pub(crate) awake: bool,
    pub(crate) offline: bool,
    /// Which machines it takes for members.
    pub(crate) peers: Vec<bool>,
    /// The number of the newest epoch that it knows.
    pub(crate) epoch: u64,
    pub(crate) links: Vec<Link>,
    /// Seconds by which its wall clock is wrong.
    pub(crate) skew: i64,
    /// When it wants to be called.
    pub(crate) next: Option<Duration>,
    /// By peer.
    pub(crate) paths: Vec<(PathView, Option<Duration>)>,
}

/// What came out of a core in one go.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) datagrams: Vec<(To, Vec<u8>)>,
    pub(crate) packets: Vec<Vec<u8>>,
}

/// An inner packet of data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) number: u32,
    pub(crate) sent: Duration,
    /// In bytes.
    pub(crate) len: usize,
}

impl Host {
    pub(crate) fn new(start: Instant, host: usize, pool: bool, hosts: usize, relays: usize) -> Self {
        Self {
            mesh: Mesh::new(start, Box::new(Dice::new(0)), &[]),
            start,
            secret: secret(host),
            key: KEYS.get_or_init(|| std::array::from_fn(key))[host],
            pool,
            awake: true,
            offline: false,
            peers: (0..hosts).map(|peer| peer != host).collect(),
            epoch: 0,
            links: (0..relays).map(|_| Link::default()).collect(),
            skew: 0,
            next: None,
            paths: vec![(PathView::Idle, None); hosts],
        }
    }

    /// The data path starts, with nothing known.
    pub(crate) fn start(&mut self, now: Duration, dice: &mut Dice) {
        let sockets = [
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, PORT)),
        ];
        clock::set(now, self.wall(now));
        let dice = Dice::new(rand_core::RngCore::next_u64(dice));
        let mesh = Mesh::new(self.start + now, Box::new(dice), &sockets);
        self.mesh = if self.pool { mesh.with_pool(POOL) } else { mesh };
        self.paths.fill((PathView::Idle, None));
        self.next = None;
    }

    /// What control says first.
    pub(crate) fn config(&self, host: usize) -> Config {
        Config { secret: Zeroizing::new(self.secret), own: vec![net(host)], mtu: MTU }
    }

    /// Tells the core something.
    pub(crate) fn apply(&mut self, now: Duration, frame: ToData<'_>) -> Said {
        clock::set(now, self.wall(now));
        self.mesh.apply(self.start + now, frame);
        self.drain()
    }

    /// A datagram came to one of its ports.
    pub(crate) fn datagram(&mut self, now: Duration, from: SocketAddr, port: u16, bytes: &[u8]) -> Said {
        clock::set(now, self.wall(now));
        let socket = match port {
            PORT => u8::from(from.is_ipv6()),
            _ => POOL.start + port.saturating_sub(POOL_PORTS) as u8,
        };
        self.mesh.handle_udp(self.start + now, (socket, from), 0, bytes.len(), bytes);
        self.drain()
    }

    pub(crate) fn packet(&mut self, now: Duration, packet: &[u8]) -> Said {
        clock::set(now, self.wall(now));
        self.mesh.handle_tun(self.start + now, packet);
        self.drain()
    }

    pub(crate) fn timeout(&mut self, now: Duration) -> Said {
        clock::set(now, self.wall(now));
        self.mesh.handle_timeout(self.start + now);
        self.drain()
    }

    fn drain(&mut self) -> Said {
        let mut said = Said::default();
        while let Some(batch) = self.mesh.poll_tun() {
            said.packets.extend(batch.packets().map(<[u8]>::to_vec));
        }
        while let Some(event) = self.mesh.poll_event() {
            let Event::Status(status) = event else { continue };
            self.paths.fill((PathView::Idle, None));
            for peer in status.peers {
                self.paths[peer.peer as usize] = (peer.path, peer.since_handshake);
            }
        }
        while let Some(transmit) = self.mesh.poll_transmit() {
            said.datagrams.extend(transmit.datagrams().map(|bytes| (transmit.to, bytes.to_vec())));
        }
        self.next = self.mesh.poll_timeout().map(|at| at.saturating_duration_since(self.start));
        said
    }

    fn wall(&self, now: Duration) -> Duration {
        let wall = WALL + now;
        let skew = Duration::from_secs(self.skew.unsigned_abs());
        if self.skew < 0 { wall - skew } else { wall + skew }
    }
}

fn secret(host: usize) -> [u8; 32] {
    [host as u8 + 1; 32]
}

fn key(host: usize) -> [u8; 32] {
    *PublicKey::from(&StaticSecret::from(secret(host))).as_bytes()
}

/// The port of one of a machine's sockets.
pub(crate) fn port(socket: u8) -> u16 {
    match socket.checked_sub(POOL.start) {
        Some(number) => POOL_PORTS + u16::from(number),
        None => PORT,
    }
}

/// A machine as its peer `of` is told about it.
pub(crate) fn peer(
    host: usize,
    of: usize,
    key: [u8; 32],
    epoch: u64,
    fixed: Option<SocketAddr>,
    relays: usize,
) -> Peer {
    let psks = [Some(epoch), epoch.checked_sub(1)].into_iter().flatten();
    Peer {
        id: host as u32,
        wireguard: key,
        psks: psks.map(|epoch| (EpochTag::of(epoch), psk(host, of, epoch))).collect(),
        allowed: vec![net(host)],
        endpoints: fixed.map(Endpoint).into_iter().collect(),
        relays: (1 << relays) - 1,
    }
}

/// The newest epoch with this tag that a machine knows.
pub(crate) fn epoch_of(tag: EpochTag, newest: u64) -> Option<u64> {
    (newest.saturating_sub(3)..=newest).rev().find(|epoch| EpochTag::of(*epoch) == tag)
}

fn psk(a: usize, b: usize, epoch: u64) -> Zeroizing<[u8; 32]> {
    let mut key = [epoch as u8; 32];
    (key[0], key[1]) = (a.min(b) as u8, a.max(b) as u8);
    Zeroizing::new(key)
}

fn inner(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 1 + host as u8)
}

fn net(host: usize) -> InnerNet {
    InnerNet::host(InnerAddr(IpAddr::V4(inner(host))))
}

impl Data {
    pub(crate) fn write(self) -> Vec<u8> {
        let mut packet = vec![0; self.len];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(self.len as u16).to_be_bytes());
        packet[12..16].copy_from_slice(&inner(self.from).octets());
        packet[16..20].copy_from_slice(&inner(self.to).octets());
        packet[HEADER..HEADER + 8].copy_from_slice(&MARK);
        packet[HEADER + 8..HEADER + 12].copy_from_slice(&self.number.to_be_bytes());
        packet[HEADER + 12..HEADER + 20].copy_from_slice(&(self.sent.as_nanos() as u64).to_be_bytes());
        packet
    }

    /// The packet that came out of a TUN; none if it is not one that was put in.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let host = |at: usize| usize::from(packet[at + 3]).checked_sub(1);
        if ![DATA, MTU.into()].contains(&packet.len()) || packet[HEADER..HEADER + 8] != MARK {
            return None;
        }
        let number = u32::from_be_bytes(packet[HEADER + 8..HEADER + 12].try_into().ok()?);
        let sent = u64::from_be_bytes(packet[HEADER + 12..HEADER + 20].try_into().ok()?);
        let data = Self {
            from: host(12)?,
            to: host(16)?,
            number,
            sent: Duration::from_nanos(sent),
            len: packet.len(),
        };
        (data.write() == packet).then_some(data)
    }
}

/// Whether a datagram shows any of an inner packet.
pub(crate) fn shows_plaintext(datagram: &[u8]) -> bool {
    datagram.windows(MARK.len()).any(|window| window == MARK)
}
