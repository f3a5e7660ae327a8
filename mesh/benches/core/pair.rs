//! Two cores with a session and a direct path between them: where every measurement of packets starts.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh::{Mesh, To};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, Peer, ToData},
};
use rand_core::{CryptoRng, RngCore};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The interface's MTU: what WireGuard leaves of 1,500 bytes.
pub(crate) const MTU: u16 = 1_420;

/// Inner addresses of the two.
pub(crate) const INNER: [[u8; 4]; 2] = [[10, 9, 0, 1], [10, 9, 0, 2]];

/// How long they are left alone with each other before anything is measured: until the path's size is certain.
const SETTLE: Duration = Duration::from_secs(20);

/// Both ends, in a time that stands still once they are connected.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) near: Mesh,
    pub(crate) far: Mesh,
}

/// Datagrams of one receive: all of `segment` bytes, but the last.
pub(crate) struct Received {
    pub(crate) segment: usize,
    pub(crate) data: Vec<u8>,
}

impl Pair {
    /// Two that exchanged data in both directions.
    pub(crate) fn connected() -> Self {
        let now = Instant::now();
        let mut pair = Self { now, near: machine(now, 0), far: machine(now, 1) };
        let until = now + SETTLE;
        for end in [0, 1] {
            let packet = udp(INNER[end], INNER[1 - end], 600);
            let mesh = if end == 0 { &mut pair.near } else { &mut pair.far };
            mesh.handle_tun(now, &packet);
        }
        while pair.now < until {
            while pair.exchange() {}
            let due = [pair.near.poll_timeout(), pair.far.poll_timeout()];
            pair.now = due.into_iter().flatten().min().unwrap_or(until).clamp(pair.now, until);
            pair.near.handle_timeout(pair.now);
            pair.far.handle_timeout(pair.now);
        }
        let sealed = pair.sealed(&[udp(INNER[0], INNER[1], MTU.into())]);
        assert_eq!(sealed.iter().map(|received| received.data.len()).collect::<Vec<_>>(), [1_452]);
        pair
    }

    /// What the near one makes of packets of its TUN, as the far one receives it.
    pub(crate) fn sealed(&mut self, packets: &[Vec<u8>]) -> Vec<Received> {
        for packet in packets {
            self.near.handle_tun(self.now, packet);
        }
        drain(&mut self.near)
    }

    /// Carries what each has for the other; whether there was anything.
    fn exchange(&mut self) -> bool {
        let (there, back) = (drain(&mut self.near), drain(&mut self.far));
        for received in &there {
            self.far.handle_udp(self.now, (0, outer(0)), 0, received.segment, &received.data);
        }
        for received in &back {
            self.near.handle_udp(self.now, (0, outer(1)), 0, received.segment, &received.data);
        }
        for mesh in [&mut self.near, &mut self.far] {
            mesh.poll_tun();
            while mesh.poll_event().is_some() {}
        }
        !(there.is_empty() && back.is_empty())
    }
}

/// A core whose peer is the other one.
fn machine(now: Instant, end: usize) -> Mesh {
    let secret = |end: usize| [end as u8 + 1; 32];
    let mut mesh = Mesh::new(now, Box::new(Counting(end as u64)), &[outer(end)]);
    let (secret_key, peer) = (Zeroizing::new(secret(end)), StaticSecret::from(secret(1 - end)));
    mesh.apply(now, ToData::Config(Config { secret: secret_key, own: vec![host(INNER[end])], mtu: MTU }));
    mesh.apply(
        now,
        ToData::SetPeer(Peer {
            id: 1,
            wireguard: *PublicKey::from(&peer).as_bytes(),
            psks: vec![(EpochTag::of(0), Zeroizing::new([7; 32]))],
            allowed: vec![host(INNER[1 - end])],
            endpoints: vec![Endpoint(outer(1 - end))],
            relays: 0,
        }),
    );
    mesh
}

/// Everything that one has to send; it all goes to the other.
fn drain(mesh: &mut Mesh) -> Vec<Received> {
    let mut all = Vec::new();
    while let Some(out) = mesh.poll_transmit() {
        assert!(matches!(out.to, To::Udp { .. }), "there is no relay");
        all.push(Received { segment: out.segment, data: out.data.to_vec() });
    }
    all
}

/// Where one is.
pub(crate) fn outer(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + end as u8], 51_820))
}

pub(crate) fn host(addr: [u8; 4]) -> InnerNet {
    InnerNet::host(InnerAddr(IpAddr::from(addr)))
}

/// An inner packet of `len` bytes: IPv4 and UDP, whose checksums nobody here looks at.
pub(crate) fn udp(from: [u8; 4], to: [u8; 4], len: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[6..10].copy_from_slice(&[0x40, 0, 64, 17]);
    packet[12..16].copy_from_slice(&from);
    packet[16..20].copy_from_slice(&to);
    packet
}

/// The same numbers in every run, and no secret.
struct Counting(u64);

impl RngCore for Counting {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0 ^ self.0 >> 31
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for chunk in dest.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Counting {}
