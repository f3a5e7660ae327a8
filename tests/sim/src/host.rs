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
    /// Once it runs.
    mesh: Option<Mesh>,
    start: Instant,
    secret: [u8; 32],
    pub(crate) key: [u8; 32],
    pool: bool,
    pub(crate) awake: bool,
    pub(crate) offline: bool,
    /// On its way to another network: no healing brings it back sooner.
    pub(crate) away: bool,
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
    /// All of it, back to back.
    bytes: Vec<u8>,
    datagrams: Vec<(To, Range<usize>)>,
    packets: Vec<Range<usize>>,
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
            mesh: None,
            start,
            secret: secret(host),
            key: KEYS.get_or_init(|| std::array::from_fn(key))[host],
            pool,
            awake: true,
            offline: false,
            away: false,
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
        self.mesh = Some(if self.pool { mesh.with_pool(POOL) } else { mesh });
        self.paths.fill((PathView::Idle, None));
        self.next = None;
    }

    /// What control says first.
    pub(crate) fn config(&self, host: usize) -> Config {
        Config { secret: Zeroizing::new(self.secret), own: vec![net(host)], mtu: MTU }
    }

    /// Tells the core something.
    pub(crate) fn apply(&mut self, now: Duration, frame: ToData<'_>, said: &mut Said) {
        self.call(now, said, |mesh, at| mesh.apply(at, frame));
    }

    /// A datagram came to one of its ports.
    pub(crate) fn datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        port: u16,
        bytes: &[u8],
        said: &mut Said,
    ) {
        let socket = match port {
            PORT => u8::from(from.is_ipv6()),
            _ => POOL.start + port.saturating_sub(POOL_PORTS) as u8,
        };
        self.call(now, said, |mesh, at| mesh.handle_udp(at, (socket, from), 0, bytes.len(), bytes));
    }

    pub(crate) fn packet(&mut self, now: Duration, packet: &[u8], said: &mut Said) {
        self.call(now, said, |mesh, at| {
            mesh.handle_tun(at, packet);
        });
    }

    pub(crate) fn timeout(&mut self, now: Duration, said: &mut Said) {
        self.call(now, said, Mesh::handle_timeout);
    }

    fn call(&mut self, now: Duration, said: &mut Said, what: impl FnOnce(&mut Mesh, Instant)) {
        clock::set(now, self.wall(now));
        let Some(mesh) = &mut self.mesh else { return };
        what(mesh, self.start + now);
        while let Some(batch) = mesh.poll_tun() {
            batch.packets().for_each(|packet| said.add_packet(packet));
        }
        while let Some(event) = mesh.poll_event() {
            let Event::Status(status) = event else { continue };
            self.paths.fill((PathView::Idle, None));
            for peer in status.peers {
                self.paths[peer.peer as usize] = (peer.path, peer.since_handshake);
            }
        }
        while let Some(transmit) = mesh.poll_transmit() {
            transmit.datagrams().for_each(|datagram| said.add_datagram(transmit.to, datagram));
        }
        self.next = mesh.poll_timeout().map(|at| at.saturating_duration_since(self.start));
    }

    fn wall(&self, now: Duration) -> Duration {
        let wall = WALL + now;
        let skew = Duration::from_secs(self.skew.unsigned_abs());
        if self.skew < 0 { wall - skew } else { wall + skew }
    }
}

impl Said {
    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|range| &self.bytes[range.clone()])
    }

    pub(crate) fn datagrams(&self) -> impl ExactSizeIterator<Item = (To, &[u8])> {
        self.datagrams.iter().map(|(to, range)| (*to, &self.bytes[range.clone()]))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
        self.packets.clear();
    }

    fn add_packet(&mut self, packet: &[u8]) {
        let range = self.add(packet);
        self.packets.push(range);
    }

    fn add_datagram(&mut self, to: To, datagram: &[u8]) {
        let range = self.add(datagram);
        self.datagrams.push((to, range));
    }

    fn add(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
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
    /// The packet, in `room`.
    pub(crate) fn write(self, room: &mut [u8; MTU as usize]) -> &[u8] {
        let packet = &mut room[..self.len];
        packet.fill(0);
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
        (data.write(&mut [0; MTU as usize]) == packet).then_some(data)
    }
}

/// Whether a datagram shows any of an inner packet.
pub(crate) fn shows_plaintext(datagram: &[u8]) -> bool {
    // Eight bytes at a time: whether one of them is the first of the mark.
    let (firsts, ones) = (u64::from_le_bytes([MARK[0]; 8]), u64::from_le_bytes([1; 8]));
    let may_begin = |chunk: &[u8; 8]| {
        let other = u64::from_le_bytes(*chunk) ^ firsts;
        other.wrapping_sub(ones) & !other & ones << 7 != 0
    };
    let (chunks, _) = datagram.as_chunks::<8>();
    let begins = |at: usize| datagram[at..].starts_with(&MARK);
    chunks.iter().enumerate().any(|(n, chunk)| may_begin(chunk) && (n * 8..n * 8 + 8).any(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_seen_wherever_it_stands_in_a_datagram() {
        for at in 0..40 {
            let mut datagram = [b'P'; 48];
            datagram[at..at + MARK.len()].copy_from_slice(&MARK);
            assert!(shows_plaintext(&datagram), "{at}");
            assert!(!shows_plaintext(&datagram[..at + MARK.len() - 1]), "{at}");
            datagram[at + 3] = 0;
            assert!(!shows_plaintext(&datagram), "{at}");
        }
    }
}
