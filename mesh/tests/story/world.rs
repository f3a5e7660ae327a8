//! Machines on virtual links: packets are values, time jumps to the next thing that happens.
//!
//! Each machine has one IPv4 socket that it uses, maybe behind a home NAT (endpoint-independent mapping that keeps the port,
//! address and port dependent filtering) or a hard one (a random port for each socket and destination), and a pool. One
//! relay and one STUN server, with two ports, serve all. (`Tunn` alone keeps real time.)

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh::{Event, To};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, Guest, LocalAddr, PathView, Peer, RelayTo, Status, ToData},
    roster::{Floor, Order},
    stun,
};
use rand_core::{OsRng, RngCore};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::shared::Workers;

pub const STUN: [&str; 2] = ["203.0.113.1:3478", "203.0.113.1:3479"];
/// More sockets of each machine.
pub const POOL: std::ops::Range<u8> = 2..250;
pub const MTU: u16 = 1420;
/// One way, straight.
pub const DIRECT: Duration = Duration::from_millis(10);
/// One way, over the relay; over a second one, twice that.
pub const RELAYED: Duration = Duration::from_millis(40);
/// What IPv4 and UDP add to a datagram, in bytes.
const IPV4_UDP: usize = 28;
/// And WireGuard.
const WIREGUARD: usize = 32;
/// Inner packets of this size are data, and so are larger ones but for probes of sizes; other messages are smaller.
pub const DATA: usize = 900;

pub struct World {
    pub now: Instant,
    pub machines: Vec<Machine>,
    flying: BinaryHeap<Reverse<(Instant, u64)>>,
    packets: BTreeMap<u64, Packet>,
    count: u64,
    /// Every UDP datagram that left a machine.
    pub sent: Vec<Sent>,
    /// Whether UDP between machines arrives.
    pub direct: bool,
    pub relay: bool,
    /// A relay that brings nothing more to a machine.
    pub lost: Option<(u8, usize)>,
    /// What the router between machines makes of the class of a UDP datagram.
    pub router: fn(u8) -> u8,
    /// Who sent the last data packet, and the epoch that its index tells.
    pub last_tag: Option<(usize, u8)>,
    /// How often a machine asked to be called, and was.
    pub woken: usize,
}

pub struct Machine {
    pub mesh: Workers,
    secret: [u8; 32],
    pub addr: SocketAddr,
    pub nat: Option<Nat>,
    /// The largest IP packet that its uplink carries, in either direction; larger ones vanish.
    pub carries: usize,
    /// And the largest that its own system sends at all.
    pub sends: usize,
    /// What was written to the TUN.
    pub tun: Vec<Vec<u8>>,
    pub pongs: Vec<(u64, Option<(Duration, PathView)>)>,
    pub statuses: Vec<Status>,
    /// Rosters that peers said they have.
    pub floors: Vec<(u32, Floor)>,
    /// Peers that were looked for on the LAN.
    pub sought: Vec<u32>,
    /// Datagrams that went to a relay.
    pub relayed: usize,
    /// Tags of the epochs in whose mailboxes it listens.
    pub knows: Vec<u8>,
    /// For stories about old epochs: the numbers of those that its data path knows, and of those that ended before.
    pub named: Vec<u64>,
    pub ended: Vec<u64>,
    /// Whether initiations over the relay are taken out, as control does for an introduction.
    pub keep_initiations: Option<Vec<(u64, Vec<u8>)>>,
    /// What was sent to handles that are nobody's here.
    pub answers: Option<Vec<Vec<u8>>>,
}

pub struct Nat {
    pub public: IpAddr,
    /// From which socket, and where to.
    sent_to: HashSet<(u8, SocketAddr)>,
    /// The ports that a hard one gave.
    pub hard: Option<HashMap<(u8, SocketAddr), u16>>,
    /// An endpoint to whose address it gives the first socket another port than to all others.
    pub odd: Option<SocketAddr>,
    /// The ports of further sockets, where it gives each one for all destinations.
    own: HashMap<u8, u16>,
    /// Whether nothing gets in but what STUN answers.
    pub deaf: bool,
}

#[derive(Clone)]
pub struct Sent {
    pub from: usize,
    pub socket: u8,
    pub dst: SocketAddr,
    pub class: u8,
    pub bytes: Vec<u8>,
}

enum Packet {
    Udp { from: SocketAddr, to: SocketAddr, class: u8, bytes: Vec<u8> },
    Relay { relay: u8, from: usize, to: usize, epoch: Option<u64>, bytes: Vec<u8> },
}

impl World {
    /// Machines that know nothing of each other yet; `nat` says which are at home.
    pub fn new(nat: &[bool]) -> Self {
        let now = Instant::now();
        let machines = (0..nat.len()).map(|n| Machine::new(now, n, nat[n])).collect();
        Self {
            now,
            machines,
            flying: BinaryHeap::new(),
            packets: BTreeMap::new(),
            count: 0,
            sent: Vec::new(),
            direct: true,
            relay: true,
            lost: None,
            router: |class| class,
            last_tag: None,
            woken: 0,
        }
    }

    /// Machines that are all peers of each other, over a relay, with STUN.
    pub fn connected(nat: &[bool]) -> Self {
        let mut world = Self::new(nat);
        for n in 0..nat.len() {
            world.start(n);
            for m in (0..nat.len()).filter(|m| *m != n) {
                let peer = world.peer(m, n, 0);
                world.apply(n, ToData::SetPeer(peer));
            }
        }
        world
    }

    /// What control says first.
    pub fn start(&mut self, n: usize) {
        let addr = self.machines[n].addr;
        let own = vec![host(ip4(n)), host(ip6(n))];
        let secret = Zeroizing::new(self.machines[n].secret);
        self.apply(n, ToData::Config(Config { secret, own, mtu: MTU }));
        self.apply(n, ToData::LocalAddrs(vec![LocalAddr { addr: addr.ip(), prefix_len: 24 }]));
        let servers = STUN.iter().map(|server| Endpoint(server.parse().unwrap())).collect();
        self.apply(n, ToData::StunServers(servers));
        if self.relay {
            self.apply(n, ToData::RelayUp(0));
        }
    }

    /// Machine `n` as its peer `of` is told about it, in an epoch.
    pub fn peer(&self, n: usize, of: usize, epoch: u64) -> Peer {
        Peer {
            id: n as u32,
            wireguard: self.key(n),
            psks: vec![(EpochTag::of(epoch), psk(n, of, epoch))],
            allowed: vec![host(ip4(n)), host(ip6(n))],
            endpoints: Vec::new(),
            relays: if self.relay { 1 } else { 0 },
        }
    }

    /// A machine's WireGuard key.
    pub fn key(&self, n: usize) -> [u8; 32] {
        *PublicKey::from(&StaticSecret::from(self.machines[n].secret)).as_bytes()
    }

    pub fn apply(&mut self, n: usize, frame: ToData<'_>) {
        self.machines[n].mesh.apply(self.now, frame);
        self.drain(n);
    }

    /// The data path of a machine dies and is started anew.
    pub fn restart(&mut self, n: usize) {
        let (port, workers) = (self.machines[n].addr.port(), self.machines[n].mesh.count());
        self.machines[n].mesh = Workers::new(self.now, port, workers);
        self.start(n);
        for m in (0..self.machines.len()).filter(|m| *m != n) {
            let peer = self.peer(m, n, 0);
            self.apply(n, ToData::SetPeer(peer));
        }
    }

    /// The same with so many workers.
    pub fn share(&mut self, n: usize, workers: u8) {
        self.machines[n].mesh = Workers::new(self.now, 0, workers);
        self.restart(n);
    }

    /// The same on another port.
    pub fn restart_elsewhere(&mut self, n: usize) {
        let port = self.machines[n].addr.port();
        self.machines[n].addr.set_port(port + 100);
        self.restart(n);
    }

    /// Machine `n` has this version of the roster.
    pub fn has(&mut self, n: usize, version: u64) {
        self.apply(n, ToData::Floor(floor(version)));
    }

    /// Machine `from` sends a packet of data to machine `to`.
    pub fn send(&mut self, from: usize, to: usize, mark: u8) {
        self.tun(from, &data(ip4(from), ip4(to), mark));
    }

    /// A packet comes out of a machine's TUN.
    pub fn tun(&mut self, n: usize, packet: &[u8]) {
        self.machines[n].mesh.handle_tun(self.now, packet);
        self.drain(n);
    }

    /// A datagram arrives, whoever sent it.
    pub fn inject(&mut self, n: usize, src: SocketAddr, bytes: &[u8]) {
        self.inject_at(n, (0, src), 0, bytes);
    }

    fn inject_at(&mut self, n: usize, from: (u8, SocketAddr), class: u8, bytes: &[u8]) {
        self.machines[n].mesh.handle_udp(self.now, from, class, bytes);
        self.drain(n);
    }

    /// Lets everything happen that happens within a time.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..200_000 {
            let timer = self.machines.iter().filter_map(|m| m.mesh.poll_timeout()).min();
            let packet = self.flying.peek().map(|Reverse((at, _))| *at);
            let Some(next) = timer.into_iter().chain(packet).min().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            while let Some(&Reverse((at, id))) = self.flying.peek() {
                if at > self.now {
                    break;
                }
                self.flying.pop();
                let packet = self.packets.remove(&id).unwrap();
                self.arrive(packet);
            }
            for n in 0..self.machines.len() {
                if self.machines[n].mesh.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.woken += 1;
                    self.machines[n].mesh.handle_timeout(self.now);
                    self.drain(n);
                }
            }
        }
        panic!("the machines do not come to rest");
    }

    /// Runs until something is so; how long that took.
    pub fn until(&mut self, most: Duration, so: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !so(self) {
            assert!(self.now < start + most, "not so within {most:?}");
            self.run(Duration::from_millis(1));
        }
        self.now - start
    }

    /// Where a machine sends data to a peer.
    pub fn path(&mut self, n: usize, peer: usize) -> PathView {
        self.status(n).peers.iter().find(|p| p.peer == peer as u32).map_or(PathView::Idle, |p| p.path)
    }

    pub fn status(&mut self, n: usize) -> Status {
        self.apply(n, ToData::StatusRequest { token: 0 });
        self.machines[n].statuses.pop().unwrap()
    }

    /// How a machine is seen from outside.
    pub fn public(&self, n: usize) -> SocketAddr {
        let machine = &self.machines[n];
        SocketAddr::new(machine.nat.as_ref().map_or(machine.addr.ip(), |nat| nat.public), machine.addr.port())
    }

    /// The machine's NAT forgets everything and gets another address.
    pub fn move_nat(&mut self, n: usize, public: &str) {
        self.machines[n].nat = Some(Nat::new(public.parse().unwrap()));
    }

    /// The machine's NAT gives each socket and destination a port of its own from now on.
    pub fn entangle(&mut self, n: usize, peer: usize) {
        self.harden(n);
        let odd = Some(self.public(peer));
        self.machines[n].nat.as_mut().unwrap().odd = odd;
    }

    /// A NAT that gives each destination another port.
    pub fn harden(&mut self, n: usize) {
        self.machines[n].nat.as_mut().unwrap().hard = Some(HashMap::new());
    }

    pub fn received(&self, n: usize) -> usize {
        self.machines[n].tun.len()
    }

    /// Takes all that a machine has to say.
    fn drain(&mut self, n: usize) {
        while let Some(batch) = self.machines[n].mesh.poll_tun() {
            let packets: Vec<Vec<u8>> = batch.packets().map(<[u8]>::to_vec).collect();
            self.machines[n].tun.extend(packets);
        }
        while let Some(event) = self.machines[n].mesh.poll_event() {
            match event {
                Event::Status(status) => self.machines[n].statuses.push(status),
                Event::Pong(pong) => self.machines[n].pongs.push((pong.token, pong.result)),
                Event::PeerFloor { peer, floor } => self.machines[n].floors.push((peer, floor)),
                Event::Seek(peer) => self.machines[n].sought.push(peer),
            }
        }
        let mut out: Vec<(To, u8, Vec<u8>)> = Vec::new();
        while let Some(transmit) = self.machines[n].mesh.poll_transmit() {
            out.extend(transmit.datagrams().map(|bytes| (transmit.to, transmit.class, bytes.to_vec())));
        }
        for (to, class, bytes) in out {
            if bytes[0] == 4 && bytes.len() == DATA.next_multiple_of(16) + WIREGUARD {
                self.last_tag = Some((n, bytes[5] & 3));
            }
            match to {
                To::Udp { socket, dst } => self.udp(n, (socket, dst), class, bytes),
                To::Relay { relay, to } => self.relay(n, (relay, to), bytes),
            }
        }
    }

    /// An initiation in the mailbox of an epoch that has ended: what control does with it.
    pub fn knock(&mut self, n: usize, handle: u64, epoch: u64, initiation: &[u8]) {
        let who = mesh::initiator(&Zeroizing::new(self.machines[n].secret), initiation).unwrap();
        let Some(peer) = (0..self.machines.len()).find(|m| self.key(*m) == who) else { return };
        let psk = psk(peer, n, epoch);
        let guest = Guest { peer: peer as u32, psk, relay: 0, handle, initiation };
        self.apply(n, ToData::Guest(guest));
    }

    fn udp(&mut self, n: usize, (socket, dst): (u8, SocketAddr), class: u8, bytes: Vec<u8>) {
        let len = bytes.len() + IPV4_UDP;
        if len > self.machines[n].sends {
            self.machines[n].mesh.handle_too_large(self.now, To::Udp { socket, dst }, bytes.len());
            return self.drain(n);
        }
        self.sent.push(Sent { from: n, socket, dst, class, bytes: bytes.clone() });
        let mut from = self.public(n);
        if let Some(nat) = &mut self.machines[n].nat {
            nat.sent_to.insert((socket, dst));
            from.set_port(nat.port(socket, dst).unwrap_or(from.port()));
        }
        if len > self.machines[n].carries {
            return;
        }
        let class = (self.router)(class);
        self.fly(DIRECT, Packet::Udp { from, to: dst, class, bytes });
    }

    /// The socket of a machine that a datagram to this endpoint reaches.
    fn socket(&self, n: usize, from: SocketAddr, to: SocketAddr) -> Option<u8> {
        let nat = self.machines[n].nat.as_ref();
        let odd = |ip| nat.and_then(|nat| nat.odd).filter(|odd| odd.ip() == ip);
        let is = |((socket, dst), port): &(&(u8, SocketAddr), &u16)| {
            **port == to.port() && (*dst == from || (*socket == 0 && odd(from.ip()) == Some(*dst)))
        };
        let given = nat.and_then(|nat| nat.hard.as_ref()).into_iter().flatten().find(is);
        let own = nat.and_then(|nat| nat.own.iter().find(|(_, port)| **port == to.port()));
        let given = given.map(|((socket, _), _)| *socket).or(own.map(|(socket, _)| *socket));
        match given.filter(|_| self.public(n).ip() == to.ip()) {
            Some(socket) => Some(socket),
            None if nat.is_some_and(|nat| nat.hard.is_some() && nat.odd.is_none()) => None,
            None => (self.public(n) == to).then_some(0),
        }
    }

    fn relay(&mut self, n: usize, (relay, to): (u8, RelayTo), bytes: Vec<u8>) {
        self.machines[n].relayed += 1;
        let mut number = None;
        let to = match to {
            RelayTo::Peer { peer, epoch } if !self.machines[n].named.is_empty() => {
                number = self.machines[n].epoch_of(epoch);
                if number.is_none_or(|number| !self.machines[peer as usize].listens(number)) {
                    return;
                }
                peer as usize
            }
            // A machine listens in the mailboxes of the epochs that it knows.
            RelayTo::Peer { peer, epoch } if self.machines[peer as usize].knows.contains(&epoch.value()) => {
                peer as usize
            }
            RelayTo::Peer { .. } => return,
            RelayTo::Handle(handle) if handle as usize >= self.machines.len() => {
                self.machines[n].answers.iter_mut().for_each(|answers| answers.push(bytes.clone()));
                return;
            }
            RelayTo::Handle(handle) => handle as usize,
        };
        if let Some(kept) = self.machines[n].keep_initiations.as_mut().filter(|_| bytes[0] == 1) {
            kept.push((n as u64, bytes));
            return;
        }
        if self.relay && self.lost != Some((relay, to)) {
            let far = RELAYED * (u32::from(relay) + 1);
            self.fly(far, Packet::Relay { relay, from: n, to, epoch: number, bytes });
        }
    }

    fn fly(&mut self, time: Duration, packet: Packet) {
        self.count += 1;
        self.flying.push(Reverse((self.now + time, self.count)));
        self.packets.insert(self.count, packet);
    }

    fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Udp { from, to, class, bytes } if is_stun(to) => {
                if let Some(answer) = stun::answer(&bytes, Endpoint(from)) {
                    self.fly(DIRECT, Packet::Udp { from: to, to: from, class, bytes: answer });
                }
            }
            Packet::Udp { from, to, class, bytes } => {
                let from_stun = is_stun(from);
                let Some((n, socket)) =
                    (0..self.machines.len()).find_map(|n| Some((n, self.socket(n, from, to)?)))
                else {
                    return;
                };
                let open = self.machines[n]
                    .nat
                    .as_ref()
                    .is_none_or(|nat| (from_stun || !nat.deaf) && nat.sent_to.contains(&(socket, from)));
                let fits = bytes.len() + IPV4_UDP <= self.machines[n].carries;
                if open && fits && (self.direct || from_stun) {
                    self.inject_at(n, (socket, from), class, &bytes);
                }
            }
            Packet::Relay { from, to, epoch: Some(epoch), bytes, .. }
                if bytes[0] == 1 && !self.machines[to].named.contains(&epoch) =>
            {
                self.knock(to, from as u64, epoch, &bytes);
            }
            Packet::Relay { relay, from, to, bytes, .. } => {
                let handle = from as u64;
                self.apply(to, ToData::RelayRecv { relay, handle, payload: &bytes });
            }
        }
    }
}

impl Nat {
    fn new(public: IpAddr) -> Self {
        Self { public, sent_to: HashSet::new(), hard: None, odd: None, own: HashMap::new(), deaf: false }
    }

    /// The port that it gives, if that is not the one inside.
    fn port(&mut self, socket: u8, dst: SocketAddr) -> Option<u16> {
        let mut port = || loop {
            let port = (OsRng.next_u32() >> 16) as u16;
            // Not one that a machine has itself.
            if port >= 1_024 && !(51_820..51_840).contains(&port) {
                break port;
            }
        };
        match &mut self.hard {
            Some(given) if socket > 0 || self.odd.is_none_or(|odd| odd.ip() == dst.ip()) => {
                let dst = self.odd.filter(|_| socket == 0).unwrap_or(dst);
                Some(*given.entry((socket, dst)).or_insert_with(&mut port))
            }
            _ => (socket > 0).then(|| *self.own.entry(socket).or_insert_with(&mut port)),
        }
    }
}

fn is_stun(endpoint: SocketAddr) -> bool {
    STUN.iter().any(|server| endpoint == server.parse().unwrap())
}

impl Machine {
    /// The newest epoch with a tag.
    fn epoch_of(&self, tag: EpochTag) -> Option<u64> {
        self.named.iter().chain(&self.ended).copied().find(|number| EpochTag::of(*number) == tag)
    }

    fn listens(&self, epoch: u64) -> bool {
        self.named.contains(&epoch) || self.ended.contains(&epoch)
    }

    fn new(now: Instant, n: usize, nat: bool) -> Self {
        let port = 51_820 + n as u16;
        let (addr, nat) = if nat {
            let public = IpAddr::from([198, 51, 100, 10 + n as u8]);
            (IpAddr::from([192, 168, n as u8, 2]), Some(Nat::new(public)))
        } else {
            (IpAddr::from([203, 0, 113, 10 + n as u8]), None)
        };
        Self {
            mesh: Workers::new(now, port, 1),
            secret: [n as u8 + 1; 32],
            addr: SocketAddr::new(addr, port),
            nat,
            carries: 1_500,
            sends: 1_500,
            tun: Vec::new(),
            pongs: Vec::new(),
            statuses: Vec::new(),
            floors: Vec::new(),
            sought: Vec::new(),
            relayed: 0,
            knows: vec![0],
            named: Vec::new(),
            ended: Vec::new(),
            keep_initiations: None,
            answers: None,
        }
    }
}

fn psk(a: usize, b: usize, epoch: u64) -> Zeroizing<[u8; 32]> {
    let mut key = [epoch as u8; 32];
    (key[0], key[1]) = (a.min(b) as u8, a.max(b) as u8);
    Zeroizing::new(key)
}

/// A version of the roster.
pub fn floor(version: u64) -> Floor {
    Floor { order: Order { recovery: 0, generation: 1, version }, header: [version as u8; 32] }
}

pub fn ip4(n: usize) -> IpAddr {
    IpAddr::from([10, 9, 0, 1 + n as u8])
}

pub fn ip6(n: usize) -> IpAddr {
    IpAddr::from([0xfd00, 9, 0, 0, 0, 0, 0, 1 + n as u16])
}

pub fn host(addr: IpAddr) -> InnerNet {
    InnerNet::host(InnerAddr(addr))
}

pub fn net(text: &str) -> InnerNet {
    let (addr, len) = text.split_once('/').unwrap();
    InnerNet::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
}

/// An inner packet of [`DATA`] bytes.
pub fn data(from: IpAddr, to: IpAddr, mark: u8) -> Vec<u8> {
    sized(from, to, mark, DATA)
}

/// An inner packet of UDP that must not be cut.
pub fn sized(from: IpAddr, to: IpAddr, mark: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![mark; len];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[6..10].copy_from_slice(&[0x40, 0, 64, 17]);
            packet[12..16].copy_from_slice(&from.octets());
            packet[16..20].copy_from_slice(&to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet[0] = 0x60;
            packet[4..8].copy_from_slice(&[(len - 40).to_be_bytes()[6], (len - 40).to_be_bytes()[7], 17, 64]);
            packet[8..24].copy_from_slice(&from.octets());
            packet[24..40].copy_from_slice(&to.octets());
        }
        _ => panic!("two families"),
    }
    packet
}
