//! A packet's way allocates nothing once it is warm: frames of the TUN are cut, sealed and sent by real sockets; what those receive
//! is opened, joined and written to a real TUN. Both cores, one machine in the middle of many others.
//!
//! As root, in a network namespace of its own; without root the last step, writing to the TUN, is left out.

#![allow(clippy::disallowed_macros, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../src/frame.rs"]
mod frame;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use mesh::{Device, Mesh, To, Transmit, TunBatch};
use netio::{
    tun::{Coalescer, MAX_BATCH, Split, Tun},
    udp::{Batch, Family, Socket},
};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, Peer, PlainPeer, ToData, ToPlain},
};
use rand_core::OsRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use self::frame::{Frame, Protocol};

/// The machine in the middle, and the others.
const ENDS: usize = 25;
/// Packets of a story, at least.
const PACKETS: usize = 10_000;
/// Bytes that the loop takes before it sends what became of them.
const FLUSH_BYTES: usize = 64 << 10;
const MTU: u16 = 1_420;
/// How long they are left alone before anything is counted: until paths and their sizes are certain.
const SETTLE: Duration = Duration::from_secs(20);
/// What the kernel needs at most to hand a datagram over.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_machine_of_a_network_allocates_nothing_for_a_packet() {
    nothing_is_allocated::<Mesh>();
}

#[test]
fn a_plain_interface_allocates_nothing_for_a_packet() {
    nothing_is_allocated::<Device>();
}

fn nothing_is_allocated<C: Core>() {
    in_namespace(|tun| {
        let mut world = World::<C>::new(tun);
        world.settle();
        for story in stories() {
            let rounds = PACKETS.div_ceil(story.packets);
            let (mut warm, mut arrived) = (0, 0);
            for _ in 0..rounds {
                warm += world.pass(story.from, &story.frames);
            }
            let counted = measure(|| {
                for _ in 0..rounds {
                    arrived += world.pass(story.from, &story.frames);
                }
            });
            assert_eq!((warm, arrived), (rounds * story.packets, rounds * story.packets), "{}", story.name);
            assert_eq!(
                counted.count_total, 0,
                "{}: {arrived} packets, {} bytes allocated",
                story.name, counted.bytes_total
            );
        }
    });
}

/// What one end reads from its TUN, again and again.
struct Story {
    name: &'static str,
    from: usize,
    frames: Vec<Vec<u8>>,
    packets: usize,
}

impl Story {
    fn new(name: &'static str, from: usize, frames: &[Frame]) -> Self {
        let packets = frames.iter().map(Frame::packets).sum();
        Self { name, from, frames: frames.iter().map(Frame::bytes).collect(), packets }
    }
}

fn stories() -> Vec<Story> {
    let tcp = |to: usize, payload| Frame {
        protocol: Protocol::Tcp,
        from: inner(0),
        to: inner(to),
        flow: to as u8,
        payload,
        segment: 1_380,
        sequence: 0,
    };
    let udp = |to, payload| Frame { protocol: Protocol::Udp, segment: 1_200, ..tcp(to, payload) };
    let to_all = |frames: &dyn Fn(usize) -> Vec<Frame>| (1..ENDS).flat_map(frames).collect::<Vec<_>>();
    let mixed = |to| vec![udp(to, 64), tcp(to, 3_000), tcp(to, 0), udp(to, 5_000), tcp(to, 1_380)];
    let back = |frames: Vec<Frame>| {
        let turned = |frame: Frame| Frame { from: frame.to, to: frame.from, ..frame };
        frames.into_iter().map(turned).collect::<Vec<_>>()
    };
    let bulk: Vec<Frame> = (0..4).map(|n| Frame { sequence: n * 60_720, ..tcp(1, 60_720) }).collect();
    vec![
        Story::new("bulk", 0, &bulk),
        Story::new("bulk, the other way", 1, &back(bulk.clone())),
        Story::new("small UDP", 0, &[udp(1, 64); 64]),
        Story::new("acknowledgements", 0, &[tcp(1, 0); 64]),
        Story::new("acknowledgements, the other way", 1, &back(vec![tcp(1, 0); 64])),
        Story::new("large and small in turn", 0, &[tcp(1, 1_380), udp(1, 64)].repeat(32)),
        Story::new("small to many", 0, &to_all(&|to| [40, 80, 120, 160].map(|n| udp(to, n)).to_vec())),
        Story::new("all of it to many", 0, &to_all(&mixed)),
        Story::new("all of it beside bulk", 0, &[to_all(&mixed), bulk.clone()].concat()),
        Story::new("bulk again", 0, &bulk),
        Story::new("all of it from one", 7, &back([mixed(7), mixed(7)].concat())),
    ]
}

/// One machine that knows all others, the others that know it, and what they send by.
struct World<C> {
    now: Instant,
    ends: Vec<End<C>>,
    /// Where the socket of each is.
    places: Vec<SocketAddr>,
    tun: Option<Tun>,
    coalescer: Coalescer,
    frame: Vec<u8>,
    batch: Batch,
}

struct End<C> {
    core: C,
    socket: Socket,
}

impl<C: Core> World<C> {
    fn new(tun: Option<Tun>) -> Self {
        let now = Instant::now();
        let end = |n| {
            let peers: Vec<usize> = if n == 0 { (1..ENDS).collect() } else { vec![0] };
            End { core: C::new(now, n, &peers), socket: Socket::bind(Family::V4, 0, None).unwrap() }
        };
        let ends: Vec<End<C>> = (0..ENDS).map(end).collect();
        let place = |end: &End<C>| SocketAddr::from((Ipv4Addr::LOCALHOST, end.socket.port().unwrap()));
        let places = ends.iter().map(place).collect();
        let (coalescer, batch) = (Coalescer::new(), Batch::new());
        Self { now, ends, places, tun, coalescer, frame: vec![0; 1 << 16], batch }
    }

    /// Sessions and paths, without a socket and in no time.
    fn settle(&mut self) {
        let until = self.now + SETTLE;
        let hello = |from: usize, to: usize| {
            let frame = Frame {
                protocol: Protocol::Udp,
                from: inner(from),
                to: inner(to),
                flow: 0,
                payload: 600,
                segment: 600,
                sequence: 0,
            };
            frame.bytes().split_off(netio::tun::HEADER_LEN)
        };
        for n in 1..ENDS {
            self.ends[0].core.take(self.now, &hello(0, n));
            self.ends[n].core.take(self.now, &hello(n, 0));
        }
        while self.now < until {
            while self.exchange() {}
            let due = self.ends.iter().filter_map(|end| end.core.due()).min();
            self.now = due.unwrap_or(until).clamp(self.now, until);
            for end in &mut self.ends {
                end.core.wake(self.now);
            }
        }
    }

    fn exchange(&mut self) -> bool {
        let mut sent = Vec::new();
        for (from, end) in self.ends.iter_mut().enumerate() {
            while let Some(out) = end.core.sealed() {
                sent.push((from, number(out.to), out.segment, out.data.to_vec()));
            }
            end.core.opened();
            end.core.hush();
        }
        for (from, to, segment, data) in &mut sent {
            self.ends[*to].core.receive(self.now, outer(*from), 0, *segment, data);
        }
        !sent.is_empty()
    }

    /// A turn: frames from the TUN of one end to those of others. Returns how many packets arrived.
    fn pass(&mut self, from: usize, frames: &[Vec<u8>]) -> usize {
        let (mut taken, mut arrived) = (0, 0);
        for frame in frames {
            let space = &mut self.frame[..frame.len()];
            space.copy_from_slice(frame);
            let mut split = Split::new(space).unwrap();
            while let Some(packet) = split.next_packet() {
                self.ends[from].core.take(self.now, packet);
                taken += packet.len();
            }
            if taken >= FLUSH_BYTES {
                arrived += self.carry(from);
                taken = 0;
            }
        }
        arrived + self.carry(from)
    }

    /// Sends all that one end has, and lets the others have it.
    fn carry(&mut self, from: usize) -> usize {
        let mut bytes = [0; ENDS];
        let End { core, socket } = &mut self.ends[from];
        while let Some(out) = core.sealed() {
            let to = number(out.to);
            socket.send(self.places[to], out.class, out.segment, out.data).unwrap();
            bytes[to] += out.data.len();
        }
        let mut arrived = 0;
        for (to, bytes) in bytes.into_iter().enumerate().filter(|(_, bytes)| *bytes > 0) {
            arrived += self.receive(from, to, bytes);
        }
        arrived
    }

    fn receive(&mut self, from: usize, to: usize, bytes: usize) -> usize {
        let End { core, socket } = &mut self.ends[to];
        let (mut got, mut arrived, end) = (0, 0, Instant::now() + PATIENCE);
        while got < bytes {
            assert!(Instant::now() < end, "a datagram was lost on the way");
            socket.recv(&mut self.batch).unwrap();
            for datagram in self.batch.datagrams() {
                got += datagram.data.len();
                core.receive(self.now, outer(from), datagram.class, datagram.segment, datagram.data);
            }
            if let Some(batch) = core.opened() {
                arrived += batch.packets().count() - deliver(self.tun.as_mut(), &mut self.coalescer, &batch);
            }
            core.hush();
        }
        arrived
    }
}

/// Writes packets as large ones. Returns how many the TUN did not take.
fn deliver(tun: Option<&mut Tun>, coalescer: &mut Coalescer, batch: &TunBatch<'_>) -> usize {
    if let Some(tun) = tun {
        return tun.write(batch.packets(), coalescer).dropped;
    }
    let mut packets = batch.packets();
    let mut some: [&[u8]; MAX_BATCH] = [&[]; MAX_BATCH];
    loop {
        let mut count = 0;
        for (place, packet) in some.iter_mut().zip(packets.by_ref()) {
            *place = packet;
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        coalescer.writes(&some[..count], (true, true), |parts| assert!(!parts.is_empty()));
    }
}

/// What both cores do, under one name.
trait Core {
    fn new(now: Instant, end: usize, peers: &[usize]) -> Self;
    fn take(&mut self, now: Instant, packet: &[u8]);
    fn receive(&mut self, now: Instant, src: SocketAddr, class: u8, segment: usize, data: &mut [u8]);
    fn wake(&mut self, now: Instant);
    fn due(&self) -> Option<Instant>;
    fn sealed(&mut self) -> Option<Transmit<'_>>;
    fn opened(&mut self) -> Option<TunBatch<'_>>;
    /// Passes over what control would be told.
    fn hush(&mut self);
}

macro_rules! calls_of {
    ($core:ty) => {
        fn take(&mut self, now: Instant, packet: &[u8]) {
            self.handle_tun(now, packet);
        }

        fn receive(&mut self, now: Instant, src: SocketAddr, class: u8, segment: usize, data: &mut [u8]) {
            self.handle_udp(now, (0, src), class, segment, data);
        }

        fn wake(&mut self, now: Instant) {
            self.handle_timeout(now);
        }

        fn due(&self) -> Option<Instant> {
            self.poll_timeout()
        }

        fn sealed(&mut self) -> Option<Transmit<'_>> {
            self.poll_transmit()
        }

        fn opened(&mut self) -> Option<TunBatch<'_>> {
            self.poll_tun()
        }
    };
}

impl Core for Mesh {
    fn new(now: Instant, end: usize, peers: &[usize]) -> Self {
        let mut mesh = Mesh::new(now, Box::new(OsRng), &[outer(end)]);
        let own = vec![host(end)];
        mesh.apply(now, ToData::Config(Config { secret: Zeroizing::new(secret(end)), own, mtu: MTU }));
        for &peer in peers {
            mesh.apply(
                now,
                ToData::SetPeer(Peer {
                    id: peer as u32,
                    wireguard: public(peer),
                    psks: vec![(EpochTag::of(0), Zeroizing::new([7; 32]))],
                    allowed: vec![host(peer)],
                    endpoints: vec![Endpoint(outer(peer))],
                    relays: 0,
                }),
            );
        }
        mesh
    }

    calls_of!(Mesh);

    fn hush(&mut self) {
        while self.poll_event().is_some() {}
    }
}

impl Core for Device {
    fn new(now: Instant, end: usize, peers: &[usize]) -> Self {
        let mut device = Device::new(now, Box::new(OsRng));
        let mut tell = |what| device.apply(now, ToData::Plain(what));
        tell(ToPlain::Key(Some(Zeroizing::new(secret(end)))));
        tell(ToPlain::Sockets { v4: Some(0), v6: None });
        tell(ToPlain::Link { up: true, mtu: MTU });
        for &peer in peers {
            tell(ToPlain::Peer(PlainPeer {
                id: peer as u32,
                wireguard: public(peer),
                psk: Zeroizing::new([7; 32]),
                endpoint: Some(Endpoint(outer(peer))),
                keepalive: 0,
                allowed: vec![host(peer)],
            }));
        }
        device
    }

    calls_of!(Device);

    fn hush(&mut self) {}
}

fn secret(end: usize) -> [u8; 32] {
    [end as u8 + 1; 32]
}

fn public(end: usize) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(secret(end))).to_bytes()
}

fn inner(end: usize) -> [u8; 4] {
    [10, 9, 0, end as u8 + 1]
}

fn host(end: usize) -> InnerNet {
    InnerNet::host(InnerAddr(IpAddr::from(inner(end))))
}

/// Where the cores believe an end to be.
fn outer(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, end as u8 + 1], 51_820))
}

fn number(to: To) -> usize {
    let To::Udp { dst, .. } = to else { panic!("there is no relay") };
    let IpAddr::V4(ip) = dst.ip() else { panic!("there is no IPv6") };
    usize::from(ip.octets()[3]) - 1
}

/// Runs a test in a thread that has its network to itself, with a TUN there that takes packets.
fn in_namespace(test: impl FnOnce(Option<Tun>) + Send + 'static) {
    let body = || {
        let tun = geteuid().is_root().then(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let tun = Tun::create("tun").unwrap();
            for link in ["lo", "tun"] {
                assert!(Command::new("ip").args(["link", "set", link, "up"]).status().unwrap().success());
            }
            tun
        });
        test(tun);
    };
    thread::spawn(body).join().unwrap();
}
