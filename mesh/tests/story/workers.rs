//! What the first worker of several does for the others.

use std::time::{Duration, Instant};

use mesh::{Mesh, Share, To};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, Peer, ToData},
};
use rand_core::OsRng;
use zeroize::Zeroizing;

use crate::world::{STUN, data, ip4};

/// Two workers; the other machine is the second one's peer.
fn workers(now: Instant) -> [Mesh; 2] {
    let addr = "192.0.2.1:51820".parse().unwrap();
    let mut workers = [0, 1].map(|me| Mesh::new(now, Box::new(OsRng), &[addr]).sharing(Share::new(me, 2)));
    let net = |n| InnerNet::host(InnerAddr(ip4(n)));
    for worker in &mut workers {
        let secret = Zeroizing::new([7; 32]);
        worker.apply(now, ToData::Config(Config { secret, own: vec![net(0)], mtu: 1_420 }));
        worker.apply(now, ToData::StunServers(vec![Endpoint(STUN[0].parse().unwrap())]));
        worker.apply(
            now,
            ToData::SetPeer(Peer {
                id: 1,
                wireguard: [9; 32],
                psks: vec![(EpochTag::of(0), Zeroizing::new([0; 32]))],
                allowed: vec![net(1)],
                endpoints: Vec::new(),
                relays: 1,
            }),
        );
    }
    workers
}

/// Questions to STUN servers that are on their way.
fn asked(worker: &mut Mesh) -> usize {
    let servers = STUN.map(|server| server.parse().unwrap());
    let mut count = 0;
    while let Some(out) = worker.poll_transmit() {
        if matches!(out.to, To::Udp { dst, .. } if servers.contains(&dst)) {
            count += out.datagrams().count();
        }
    }
    count
}

#[test]
fn the_first_worker_asks_stun_servers_when_another_has_data_after_a_silence() {
    let mut now = Instant::now();
    let [mut first, mut second] = workers(now);
    assert!(asked(&mut first) == 1 && asked(&mut second) == 0);
    // Nobody answers, and nobody has data: it is given up.
    while let Some(due) = first.poll_timeout() {
        now = now.max(due);
        first.handle_timeout(now);
    }
    assert!(asked(&mut first) > 1);

    for (later, notes) in [(200, true), (1, false), (30, true)] {
        now += Duration::from_secs(later);
        assert_eq!(second.handle_tun(now, &data(ip4(0), ip4(1), 1)), None);
        let note = second.poll_note();
        assert!(note.is_some() == notes && second.poll_note().is_none(), "after {later} s");
        if let Some(note) = note {
            first.handle_note(now, note);
        }
        assert_eq!(asked(&mut second), 0);
        assert_eq!(asked(&mut first) > 0, notes, "after {later} s");
    }
}
