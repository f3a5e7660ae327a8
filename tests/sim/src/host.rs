//! A machine: the core of its data path, and the double of its control.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    sync::OnceLock,
    time::{Duration, Instant},
};

use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, PathView, Peer, Status},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{clock, core::Mesh, dice::Dice, lan::Lan, plan::MAX_HOSTS, relay::Link};

/// Public keys by machine, for they are the dearest of what there is to compute here.
static KEYS: OnceLock<[[u8; 32]; MAX_HOSTS]> = OnceLock::new();
/// Later than anything happens.
pub(crate) const NEVER: u64 = u64::MAX;
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
/// An IPv4 header, in bytes; and with it all of an inner packet that is not zeros.
const HEADER: usize = 20;
const HEAD: usize = HEADER + 20;
/// What wall clocks showed at the start.
const WALL: Duration = Duration::from_secs(1_700_000_000);

pub(crate) struct Host {
    /// Once it runs; while it is called, with the caller.
    mesh: Option<Box<Mesh>>,
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
    pub(crate) lan: Lan,
    /// Seconds by which its wall clock is wrong.
    pub(crate) skew: i64,
    /// When it wants to be called, in nanoseconds; [`NEVER`], if it does not. And the same as it said it last.
    pub(crate) next: u64,
    said: Option<Instant>,
    /// By peer.
    pub(crate) paths: Vec<(PathView, Option<Duration>)>,
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
            lan: Lan::default(),
            skew: 0,
            next: NEVER,
            said: None,
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
        self.mesh = Some(Box::new(if self.pool { mesh.with_pool(POOL) } else { mesh }));
        self.paths.fill((PathView::Idle, None));
        (self.next, self.said) = (NEVER, None);
    }

    /// What control says first.
    pub(crate) fn config(&self, host: usize) -> Config {
        Config { secret: Zeroizing::new(self.secret), own: vec![net(host)], mtu: MTU }
    }

    /// The core, to be called now and given [back](Self::rests); and what time it is by its clock.
    pub(crate) fn wakes(&mut self, now: Duration) -> Option<(Box<Mesh>, Instant)> {
        clock::set(now, self.wall(now));
        Some((self.mesh.take()?, self.start + now))
    }

    /// The core was called, and what it said is known.
    pub(crate) fn rests(&mut self, mesh: Box<Mesh>) {
        let said = mesh.poll_timeout();
        if said != self.said {
            self.said = said;
            let after = said.map(|at| at.saturating_duration_since(self.start));
            self.next = after.map_or(NEVER, |after| after.as_nanos() as u64);
        }
        self.mesh = Some(mesh);
    }

    /// What the core shows of its paths.
    pub(crate) fn show(&mut self, status: Status) {
        self.paths.fill((PathView::Idle, None));
        for peer in status.peers {
            self.paths[peer.peer as usize] = (peer.path, peer.since_handshake);
        }
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

/// The number of a machine's socket at a port, for what comes from an endpoint.
pub(crate) fn socket(port: u16, from: SocketAddr) -> u8 {
    match port {
        PORT => u8::from(from.is_ipv6()),
        _ => POOL.start + port.saturating_sub(POOL_PORTS) as u8,
    }
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
    pub(crate) fn write(self, room: &mut [u8]) -> &[u8] {
        let packet = &mut room[..self.len];
        packet[..HEAD].copy_from_slice(&self.head());
        packet[HEAD..].fill(0);
        packet
    }

    /// What is not zero in it.
    fn head(self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[0] = 0x45;
        head[2..4].copy_from_slice(&(self.len as u16).to_be_bytes());
        head[12..16].copy_from_slice(&inner(self.from).octets());
        head[16..20].copy_from_slice(&inner(self.to).octets());
        head[HEADER..HEADER + 8].copy_from_slice(&MARK);
        head[HEADER + 8..HEADER + 12].copy_from_slice(&self.number.to_be_bytes());
        head[HEADER + 12..HEADER + 20].copy_from_slice(&(self.sent.as_nanos() as u64).to_be_bytes());
        head
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
        let (head, rest) = packet.split_at(HEAD);
        (head == data.head() && rest.iter().fold(0, |all, byte| all | byte) == 0).then_some(data)
    }
}

/// Whether a datagram shows any of an inner packet.
pub(crate) fn shows_plaintext(datagram: &[u8]) -> bool {
    // Sixteen bytes at a time: whether one of them is the first of the mark.
    let (chunks, rest) = datagram.as_chunks::<16>();
    let begins = |at: usize| datagram[at] == MARK[0] && datagram[at..].starts_with(&MARK);
    for (n, chunk) in chunks.iter().enumerate() {
        let any = chunk.iter().fold(0, |any, byte| any | u8::from(*byte == MARK[0]));
        if any != 0 && (n * 16..n * 16 + 16).any(begins) {
            return true;
        }
    }
    (datagram.len() - rest.len()..datagram.len()).any(begins)
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
