//! Peers that are seen on the LAN.

use std::{net::SocketAddr, time::Duration};

use proto::{
    metadata::Endpoint,
    pipe::{LocalAddr, PathView, ToData},
};

use crate::world::{STUN, World};

const SECOND: Duration = Duration::from_secs(1);

/// How many workers the first machine has. Of two, the second has its peer.
const WORKERS: [u8; 2] = [1, 2];

/// Two machines on one link, each other's peers, without a relay.
fn link(workers: u8) -> World {
    let mut world = World::new(&[false; 2]);
    world.relay = false;
    world.share(0, workers);
    world.start(1);
    for n in 0..2 {
        for m in (0..2).filter(|m| *m != n) {
            let peer = world.peer(m, n, 0);
            world.apply(n, ToData::SetPeer(peer));
        }
    }
    world
}

/// What control says when machine `n` has heard machine `peer` at an address.
fn sighted(world: &mut World, n: usize, peer: usize, at: SocketAddr) {
    world.apply(n, ToData::Sighted { peer: peer as u32, at: Endpoint(at) });
}

/// What machine `n` sent to a place.
fn sent_to(world: &World, n: usize, place: SocketAddr) -> Vec<&[u8]> {
    world.sent.iter().filter(|s| s.from == n && s.dst == place).map(|s| s.bytes.as_slice()).collect()
}

#[test]
fn a_peer_that_nothing_leads_to_is_looked_for_and_reached_where_it_is_seen() {
    for workers in WORKERS {
        let mut world = link(workers);
        world.send(0, 1, 1);
        assert_eq!(world.machines[0].sought, [1], "at once");
        world.run(SECOND / 10);
        let (here, there) = (world.public(0), world.public(1));
        sighted(&mut world, 1, 0, here);
        sighted(&mut world, 0, 1, there);
        world.until(SECOND, |w| w.received(1) == 1);
        world.send(1, 0, 2);
        world.until(SECOND, |w| w.received(0) == 1);
        assert!(world.path(0, 1) == PathView::Direct(Endpoint(there)));
        assert!(world.path(1, 0) == PathView::Direct(Endpoint(here)));
        world.run(60 * SECOND);
        for n in 0..30 {
            world.send(0, 1, n);
            world.run(10 * SECOND);
        }
        assert_eq!(world.received(1), 31);
        let sought = world.machines[0].sought.len() + world.machines[1].sought.len();
        assert_eq!(sought, 1, "nobody looks for a peer that is there, through renewed sessions too");
    }
}

#[test]
fn one_side_that_is_seen_suffices_and_firewalls_open_to_each_other() {
    for workers in WORKERS {
        for seen in [[true, false], [false, true], [true, true]] {
            let mut world = link(workers);
            let here = [world.public(0), world.public(1)];
            if seen == [true, true] {
                for (n, own) in here.iter().enumerate() {
                    // What a host's firewall lets in: answers.
                    world.move_nat(n, &own.ip().to_string());
                }
            }
            world.send(0, 1, 1);
            for n in (0..2).filter(|n| seen[1 - n]) {
                sighted(&mut world, n, 1 - n, here[1 - n]);
            }
            world.until(3 * SECOND, |w| w.received(1) == 1);
        }
    }
}

#[test]
fn a_peer_behind_a_relay_is_looked_for_once_it_does_not_answer() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(SECOND / 2);
    assert_eq!(world.received(1), 1);
    world.run(10 * SECOND);
    assert!(world.machines.iter().all(|m| m.sought.is_empty()), "answered: never looked for");

    let mut world = World::connected(&[true, true]);
    world.machines[0].keep_initiations = Some(Vec::new());
    world.send(0, 1, 1);
    world.run(SECOND / 2);
    assert!(world.machines[0].sought.is_empty(), "an answer may come yet");
    world.run(SECOND);
    assert_eq!(world.machines[0].sought, [1]);
}

#[test]
fn data_waits_until_the_peer_answers_where_it_was_seen() {
    for workers in WORKERS {
        let mut world = link(workers);
        let stranger: SocketAddr = "203.0.113.99:51820".parse().unwrap();
        world.send(0, 1, 1);
        sighted(&mut world, 0, 1, stranger);
        world.run(30 * SECOND);
        let sent = sent_to(&world, 0, stranger);
        assert!(
            !sent.is_empty() && sent.iter().all(|bytes| bytes[0] == 1 && bytes.len() == 148),
            "handshakes alone"
        );
        assert!(sent.len() < 12, "{} in half a minute", sent.len());
        let there = world.public(1);
        sighted(&mut world, 0, 1, there);
        world.send(0, 1, 2);
        world.until(2 * SECOND, |w| w.received(1) == 1);
        let data =
            sent_to(&world, 0, stranger).iter().filter(|bytes| bytes[0] == 4).all(|bytes| bytes.len() < 200);
        assert!(data, "the stranger is probed at most");
    }
}

#[test]
fn what_is_said_from_beyond_the_link_is_passed_over() {
    for workers in WORKERS {
        let mut world = link(workers);
        world.send(0, 1, 1);
        for place in
            ["198.51.100.7:51820", "203.0.113.255:51820", "203.0.113.50:80", "10.77.0.2:51820", STUN[0]]
        {
            let place = if place == STUN[0] { "203.0.113.10:51820" } else { place };
            sighted(&mut world, 0, 1, place.parse().unwrap());
            world.run(SECOND * 2);
            assert!(sent_to(&world, 0, place.parse().unwrap()).is_empty(), "{place}");
        }
        world.apply(0, ToData::Sighted { peer: 77, at: Endpoint("203.0.113.50:51820".parse().unwrap()) });
    }
}

#[test]
fn however_often_a_peer_is_seen_handshakes_are_bounded_and_places_few() {
    for workers in WORKERS {
        let mut world = link(workers);
        for n in 0..100u8 {
            sighted(&mut world, 0, 1, SocketAddr::from(([203, 0, 113, 100 + n], 51_820)));
            world.run(SECOND / 10);
        }
        let began = world.sent.len();
        assert!(began <= 90, "two a second, to four places: {began} in ten seconds");
        let lately = world.sent.split_off(world.sent.len() - 4);
        let mut places: Vec<SocketAddr> = lately.iter().map(|sent| sent.dst).collect();
        places.sort();
        places.dedup();
        assert!(places.len() <= 4, "{places:?}");
    }
}

#[test]
fn on_another_lan_nothing_is_sent_to_where_a_peer_was_seen() {
    for workers in WORKERS {
        let mut world = link(workers);
        let place: SocketAddr = "203.0.113.50:51820".parse().unwrap();
        world.send(0, 1, 1);
        sighted(&mut world, 0, 1, place);
        world.run(SECOND);
        assert!(!sent_to(&world, 0, place).is_empty());
        let elsewhere = LocalAddr { addr: "192.0.2.5".parse().unwrap(), prefix_len: 24 };
        world.apply(0, ToData::LocalAddrs(vec![elsewhere]));
        let before = world.sent.len();
        world.send(0, 1, 2);
        world.run(60 * SECOND);
        assert!(world.sent[before..].iter().all(|sent| sent.dst != place));
    }
}
