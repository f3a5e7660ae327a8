//! An interface whose peers several workers share, and peers that see one machine.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use boringtun::noise::{Tunn, TunnResult};
use mesh::{Device, Handed, Share, To, addressee};
use proto::{
    metadata::Endpoint,
    pipe::{PlainPeer, ToData, ToPlain},
};
use rand_core::OsRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::link::{Link, NONE, Sent, net, packet};

const SECRET: [u8; 32] = [0x51; 32];

/// The interface that is shared, and peers on its link: the peer of place `n` is number `n` to control and has the address 10.0.0.n.
struct Story {
    link: Link,
    workers: Vec<Device>,
    addr: SocketAddr,
    /// What each worker wrote to the TUN.
    tun: Vec<Vec<Vec<u8>>>,
    /// How many initiations went from one worker to another.
    handed: usize,
}

impl Story {
    fn new(workers: u8, peers: usize) -> Self {
        let link = Link::new(peers);
        let workers = (0..workers)
            .map(|me| Device::new(link.now, Box::new(OsRng)).sharing(Share::new(me, workers)))
            .collect::<Vec<_>>();
        let tun = vec![Vec::new(); workers.len()];
        let addr = "192.0.2.200:51820".parse().unwrap();
        let mut story = Self { link, workers, addr, tun, handed: 0 };
        story.tell(|| ToPlain::Key(Some(Zeroizing::new(SECRET))));
        story.tell(|| ToPlain::Sockets { v4: Some(0), v6: Some(1) });
        story.tell(|| ToPlain::Link { up: true, mtu: 1_420 });
        for n in 0..peers {
            story.introduce(n, &[&format!("10.0.0.{n}/32")]);
        }
        story
    }

    /// As control does: every worker is told everything.
    fn tell(&mut self, what: impl Fn() -> ToPlain) {
        for worker in &mut self.workers {
            worker.apply(self.link.now, ToData::Plain(what()));
        }
    }

    fn introduce(&mut self, n: usize, allowed: &[&str]) {
        let side = &self.link.sides[n];
        let (key, at) = (side.public(), side.addr);
        let peer = |id, wireguard, at, allowed: &[&str]| PlainPeer {
            id,
            wireguard,
            psk: Zeroizing::new(NONE),
            endpoint: Some(Endpoint(at)),
            keepalive: 0,
            allowed: allowed.iter().map(|range| net(range)).collect(),
        };
        self.tell(|| ToPlain::Peer(peer(n as u32, key, at, allowed)));
        let public = PublicKey::from(&StaticSecret::from(SECRET)).to_bytes();
        self.link.tell(n, ToPlain::Peer(peer(99, public, self.addr, &["10.0.0.200/32"])));
    }

    /// A packet to a peer was read from the queue of a worker.
    fn send(&mut self, queue: usize, to: usize) {
        let packet = packet("10.0.0.200", &format!("10.0.0.{to}"), 100);
        if let Some(worker) = self.workers[queue].handle_tun(self.link.now, &packet) {
            assert_eq!(self.workers[usize::from(worker)].handle_tun(self.link.now, &packet), None);
        }
        self.settle();
    }

    /// A packet of a peer to the interface, as from this address.
    fn hear(&mut self, from: usize, source: &str) {
        let packet = packet(source, "10.0.0.200", 100);
        self.link.sides[from].device.handle_tun(self.link.now, &packet);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let sent = self.link.collect();
            let mut back = Vec::new();
            for (worker, tun) in self.workers.iter_mut().zip(&mut self.tun) {
                while let Some(out) = worker.poll_transmit() {
                    let To::Udp { socket, dst } = out.to else { panic!("a plain interface has no relays") };
                    back.extend(out.datagrams().map(|bytes| Sent {
                        from: 0,
                        socket,
                        dst,
                        bytes: bytes.to_vec(),
                    }));
                }
                if let Some(batch) = worker.poll_tun() {
                    tun.extend(batch.packets().map(<[u8]>::to_vec));
                }
            }
            if sent.is_empty() && back.is_empty() {
                return;
            }
            let here = self.addr;
            for datagram in sent.iter().filter(|datagram| datagram.dst == here) {
                self.take(self.link.sides[datagram.from].addr, &datagram.bytes);
            }
            for datagram in back {
                self.link.inject(self.addr, &datagram);
            }
        }
    }

    /// A datagram arrives where it says that it belongs.
    fn take(&mut self, src: SocketAddr, bytes: &[u8]) {
        let now = self.link.now;
        let worker = &mut self.workers[usize::from(addressee(bytes))];
        worker.handle_udp(now, (0, src), 0, bytes.len(), bytes);
        let handed: VecDeque<Handed> = std::iter::from_fn(|| worker.poll_handed()).collect();
        self.handed += handed.len();
        for handed in handed {
            self.workers[usize::from(handed.worker)].handle_handed(now, &handed);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.link.now + time;
        while self.link.now < end {
            self.link.now += Duration::from_millis(250);
            for worker in &mut self.workers {
                worker.handle_timeout(self.link.now);
            }
            for side in &mut self.link.sides {
                side.device.handle_timeout(self.link.now);
            }
            self.settle();
        }
    }
}

#[test]
fn each_worker_has_its_peers_whoever_begins_and_whatever_queue_a_packet_comes_to() {
    let mut story = Story::new(3, 6);
    for peer in 0..6 {
        if peer % 2 == 0 {
            story.send(peer % 3, peer);
        } else {
            story.hear(peer, &format!("10.0.0.{peer}"));
        }
        for queue in 0..3 {
            story.send(queue, peer);
        }
        story.hear(peer, &format!("10.0.0.{peer}"));
    }
    for (peer, side) in story.link.sides.iter().enumerate() {
        assert_eq!(side.tun.len(), if peer % 2 == 0 { 4 } else { 3 }, "of {peer}");
    }
    // By number: 0 and 3 are the first worker's; 1, 3 and 5 began themselves, and sent one packet more.
    assert_eq!(story.tun.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(story.handed, 2, "initiations of 1 and 5");
}

#[test]
fn a_range_inside_another_is_its_owner_s_whichever_workers_have_the_two() {
    let mut story = Story::new(2, 2);
    story.introduce(0, &["10.0.0.0/24"]);
    story.introduce(1, &["10.0.0.1/32"]);
    story.hear(0, "10.0.0.77");
    assert_eq!(story.tun[0].len(), 1);
    story.hear(0, "10.0.0.1");
    assert_eq!(story.tun[0].len(), 1, "the address is another worker's peer's");
    story.send(0, 1);
    assert_eq!((story.link.sides[0].tun.len(), story.link.sides[1].tun.len()), (0, 1));
    for worker in &mut story.workers {
        worker.apply(story.link.now, ToData::RemovePeer(1));
    }
    story.hear(0, "10.0.0.1");
    assert_eq!(story.tun[0].len(), 2, "it is nobody else's any more");
}

#[test]
fn sessions_are_renewed_and_begun_anew_with_another_key_at_every_worker() {
    let mut story = Story::new(2, 2);
    for round in 1..=3 {
        for peer in 0..2 {
            story.send(0, peer);
            story.hear(peer, &format!("10.0.0.{peer}"));
            assert_eq!((story.link.sides[peer].tun.len(), story.tun[peer].len()), (round, round));
        }
        match round {
            1 => story.pass(Duration::from_secs(130)),
            _ => {
                for peer in 0..2 {
                    story.link.restart(peer);
                    story.introduce(peer, &[&format!("10.0.0.{peer}/32")]);
                    let tun = vec![vec![0]; round];
                    story.link.sides[peer].tun = tun;
                }
                story.tell(|| ToPlain::Key(Some(Zeroizing::new(SECRET))));
            }
        }
    }
}

/// What a worker keeps of the initiations that others are to be handed.
const WAIT: usize = 512;

#[test]
fn initiations_for_another_worker_wait_up_to_a_bound_whatever_a_source_sends() {
    let mut story = Story::new(2, 2);
    let side = &story.link.sides[1];
    let (src, secret) = (side.addr, StaticSecret::from(side.secret));
    let mut tunn = Tunn::new(secret, PublicKey::from(&StaticSecret::from(SECRET)), None, None, 0, None);
    let mut room = [0; 148];
    // Again and again, until the interface wants proof that the source gets what is sent to it.
    let cookie = loop {
        let initiation = initiation(&mut tunn, &mut room);
        story.workers[0].handle_udp(story.link.now, (0, src), 0, initiation.len(), initiation);
        while story.workers[0].poll_handed().is_some() {}
        let reply = story.workers[0].poll_transmit().map(|out| out.data.to_vec());
        if let Some(reply) = reply {
            break reply;
        }
    };
    assert_eq!(cookie.first(), Some(&3));
    assert!(matches!(tunn.decapsulate(None, &cookie, &mut [0; 148]), TunnResult::Done));
    // By ones that prove it, no faster than a source may: each is another worker's.
    let mut flood = |story: &mut Story, count: usize| {
        let initiation = initiation(&mut tunn, &mut room);
        for _ in 0..count {
            story.workers[0].handle_udp(story.link.now, (0, src), 0, initiation.len(), initiation);
            story.link.now += Duration::from_millis(50);
        }
        assert!(story.workers[0].poll_transmit().is_none(), "no cookie was wanted");
        std::iter::from_fn(|| story.workers[0].poll_handed()).filter(|handed| handed.worker == 1).count()
    };
    assert_eq!(flood(&mut story, WAIT - 1), WAIT - 1);
    assert_eq!(flood(&mut story, WAIT + 100), WAIT);
    // Those that were fetched leave room.
    assert_eq!(flood(&mut story, 7), 7);
}

fn initiation<'a>(tunn: &mut Tunn, room: &'a mut [u8]) -> &'a [u8] {
    match tunn.format_handshake_initiation(room, true) {
        TunnResult::WriteToNetwork(initiation) => initiation,
        _ => panic!("there is always one"),
    }
}
