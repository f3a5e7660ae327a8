//! Interfaces on one link: packets are values, time is moved by the story. (`Tunn` alone keeps real time.)

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh::{Device, To};
use proto::{
    metadata::{Endpoint, InnerNet},
    pipe::{PlainPeer, PlainState, ToData, ToPlain},
};
use rand_core::{OsRng, RngCore};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// No pre-shared key.
pub const NONE: [u8; 32] = [0; 32];

pub struct Link {
    pub now: Instant,
    pub sides: Vec<Side>,
    /// Every datagram that was sent.
    pub sent: Vec<Sent>,
}

pub struct Side {
    pub device: Device,
    pub secret: [u8; 32],
    pub addr: SocketAddr,
    /// What was written to the TUN.
    pub tun: Vec<Vec<u8>>,
}

#[derive(Clone)]
pub struct Sent {
    pub from: usize,
    pub socket: u8,
    pub dst: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Link {
    /// So many interfaces, switched on, that know nobody.
    pub fn new(sides: usize) -> Self {
        let now = Instant::now();
        Self { now, sides: (0..sides).map(|n| Side::new(now, n)).collect(), sent: Vec::new() }
    }

    /// Two that know each other, and the second where the first is.
    pub fn pair(psk: [u8; 32]) -> Self {
        let mut link = Self::new(2);
        link.introduce(0, 1, |peer| peer.psk = Zeroizing::new(psk));
        link.introduce(1, 0, |peer| peer.psk = Zeroizing::new(psk));
        link
    }

    /// Tells one side of another, whose inner address is its own, and where it is.
    pub fn introduce(&mut self, to: usize, whom: usize, change: impl FnOnce(&mut PlainPeer)) {
        let mut peer = PlainPeer {
            id: whom as u32,
            wireguard: self.sides[whom].public(),
            psk: Zeroizing::new(NONE),
            endpoint: Some(Endpoint(self.sides[whom].addr)),
            keepalive: 0,
            allowed: vec![net(&format!("10.0.0.{whom}/32")), net(&format!("fd00::{whom}/128"))],
        };
        change(&mut peer);
        self.tell(to, ToPlain::Peer(peer));
    }

    pub fn tell(&mut self, to: usize, what: ToPlain) {
        self.sides[to].device.apply(self.now, ToData::Plain(what));
    }

    /// One side starts anew, with the same key and nobody known.
    pub fn restart(&mut self, which: usize) {
        let old = &self.sides[which];
        let (secret, addr) = (old.secret, old.addr);
        self.sides[which] = Side { secret, addr, ..Side::new(self.now, which) };
        self.tell(which, ToPlain::Key(Some(Zeroizing::new(secret))));
    }

    /// A packet of `len` bytes from one side's address to the other's goes into the TUN, and all that comes of it happens.
    pub fn send(&mut self, from: usize, to: usize, len: usize) {
        let packet = packet(&format!("10.0.0.{from}"), &format!("10.0.0.{to}"), len);
        self.sides[from].device.handle_tun(self.now, &packet);
        self.settle();
    }

    /// Whether a packet from one side reaches the other.
    pub fn crosses(&mut self, from: usize, to: usize) -> bool {
        let before = self.sides[to].tun.len();
        self.send(from, to, 100);
        self.sides[to].tun.len() > before
    }

    /// Delivers until nothing is sent any more.
    pub fn settle(&mut self) {
        loop {
            let sent = self.collect();
            if sent.is_empty() {
                return;
            }
            for datagram in sent {
                self.deliver(&datagram);
            }
        }
    }

    /// What was sent since, undelivered.
    pub fn collect(&mut self) -> Vec<Sent> {
        let mut new = Vec::new();
        for (from, side) in self.sides.iter_mut().enumerate() {
            while let Some(out) = side.device.poll_transmit() {
                let To::Udp { socket, dst } = out.to else { panic!("a plain interface has no relays") };
                for bytes in out.datagrams() {
                    new.push(Sent { from, socket, dst, bytes: bytes.to_vec() });
                }
            }
            if let Some(batch) = side.device.poll_tun() {
                side.tun.extend(batch.packets().map(<[u8]>::to_vec));
            }
        }
        self.sent.extend(new.iter().cloned());
        new
    }

    pub fn deliver(&mut self, datagram: &Sent) {
        let src = self.sides[datagram.from].addr;
        self.inject(src, datagram);
    }

    /// The same from another address than its sender's.
    pub fn inject(&mut self, src: SocketAddr, datagram: &Sent) {
        let now = self.now;
        if let Some(side) = self.sides.iter_mut().find(|side| side.addr == datagram.dst) {
            let bytes = &datagram.bytes;
            side.device.handle_udp(now, (datagram.socket, src), 0, bytes.len(), bytes);
        }
    }

    /// Time passes; each side is called when it asked to be.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.sides.iter().filter_map(|side| side.device.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            for side in &mut self.sides {
                side.device.handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
    }

    /// What one side says of another.
    pub fn state(&mut self, side: usize, of: usize) -> PlainState {
        let device = &mut self.sides[side].device;
        device.apply(self.now, ToData::StatusRequest { token: 7 });
        let status = device.poll_status().unwrap();
        assert!(status.token == 7 && !status.more);
        status.peers.into_iter().find(|peer| peer.peer == of as u32).unwrap()
    }
}

impl Side {
    fn new(now: Instant, n: usize) -> Self {
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut secret);
        let mut device = Device::new(now, Box::new(OsRng));
        device.apply(now, ToData::Plain(ToPlain::Key(Some(Zeroizing::new(secret)))));
        device.apply(now, ToData::Plain(ToPlain::Sockets { v4: Some(0), v6: Some(1) }));
        device.apply(now, ToData::Plain(ToPlain::Link { up: true, mtu: 1_420 }));
        let addr = format!("192.0.2.{}:51820", n + 1).parse().unwrap();
        Self { device, secret, addr, tun: Vec::new() }
    }

    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&StaticSecret::from(self.secret)).to_bytes()
    }
}

pub fn net(text: &str) -> InnerNet {
    let (addr, len) = text.split_once('/').unwrap();
    InnerNet::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
}

/// An IP packet of `len` bytes, of nothing that any of us reads beyond its addresses and length.
pub fn packet(from: &str, to: &str, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[12..16].copy_from_slice(&from.octets());
            packet[16..20].copy_from_slice(&to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
            packet[8..24].copy_from_slice(&from.octets());
            packet[24..40].copy_from_slice(&to.octets());
        }
        _ => panic!("two families"),
    }
    packet
}
