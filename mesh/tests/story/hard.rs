//! A NAT that gives each destination another port, and a home NAT.

use std::{collections::HashSet, time::Duration};

use proto::pipe::{PathView, ToData};

use crate::world::{POOL, STUN, World};

const SECOND: Duration = Duration::from_secs(1);
/// A probe as a datagram: no packet of data of these stories is so short.
const SMALL: usize = 200;

/// The first is behind a hard NAT, the other at home; data from one of them to the other starts it all.
fn hard_and_easy(from: usize) -> World {
    let mut world = World::connected(&[true, true]);
    world.harden(0);
    world.send(from, 1 - from, 1);
    world
}

fn is_direct(world: &mut World, n: usize) -> bool {
    matches!(world.path(n, 1 - n), PathView::Direct(_))
}

/// Sends data both ways twice a second; when both went directly for the first time.
fn talk(world: &mut World, time: Duration) -> Option<Duration> {
    let began = world.now;
    while world.now < began + time {
        world.send(0, 1, 2);
        world.send(1, 0, 3);
        world.run(SECOND / 2);
        if is_direct(world, 0) && is_direct(world, 1) {
            return Some(world.now - began);
        }
    }
    None
}

/// What a machine sent but to STUN, and to where it is not what an ordinary burst sends.
fn sprayed(world: &World, n: usize) -> usize {
    let servers: HashSet<String> = STUN.iter().map(|server| (*server).to_owned()).collect();
    world.sent.iter().filter(|s| s.from == n && !servers.contains(&s.dst.to_string())).count()
}

#[test]
fn a_hard_nat_and_a_home_are_direct_within_two_rounds_whoever_begins() {
    for from in [0, 1] {
        let mut world = hard_and_easy(from);
        // All but six of a million times.
        let direct = talk(&mut world, 60 * SECOND).unwrap();
        assert!(direct > SECOND, "the ordinary burst goes first: {direct:?}");
        // Nothing is lost afterwards, and nothing goes over the relay.
        world.run(2 * SECOND);
        let (relayed, received) = (world.machines[0].relayed + world.machines[1].relayed, world.received(1));
        world.send(0, 1, 4);
        world.run(SECOND);
        assert_eq!(world.machines[0].relayed + world.machines[1].relayed, relayed);
        assert_eq!(world.received(1), received + 1);
    }
}

#[test]
fn success_ends_the_search_at_once_and_keeps_no_other_socket_awake() {
    let mut world = hard_and_easy(0);
    talk(&mut world, 60 * SECOND).unwrap();
    let began = world.now;
    world.sent.clear();
    while world.now < began + 100 * SECOND {
        world.send(0, 1, 2);
        world.send(1, 0, 3);
        world.run(SECOND / 2);
    }
    let sockets: HashSet<u8> = world.sent.iter().filter(|s| s.from == 0).map(|s| s.socket).collect();
    // The one that won, those that were met at the same time, and the one that asks STUN: that one may have won itself.
    let pool = sockets.iter().filter(|socket| POOL.contains(socket)).count();
    assert!(pool <= 4 && is_direct(&mut world, 0), "{pool}");
    let outside = world.public(0).ip();
    let ports: HashSet<u16> =
        world.sent.iter().filter(|s| s.from == 1 && s.dst.ip() == outside).map(|s| s.dst.port()).collect();
    // Those, and what STUN saw.
    assert!(ports.len() <= 4 + STUN.len(), "{}", ports.len());
}

#[test]
fn a_path_through_a_hard_nat_carries_data_only_after_a_nonce_came_back_on_it() {
    let mut world = hard_and_easy(0);
    // What the hard NAT lets in arrives; what it sends does not get back.
    let machine = world.machines[1].nat.as_mut().unwrap();
    machine.deaf = true;
    for _ in 0..400 {
        world.send(0, 1, 2);
        world.send(1, 0, 3);
        world.run(SECOND / 20);
        assert!(!is_direct(&mut world, 0) && !is_direct(&mut world, 1));
    }
    world.run(SECOND);
    assert_eq!((world.received(0), world.received(1)), (400, 401), "the relay carries it all");
}

#[test]
fn two_hard_nats_open_no_ports_and_look_for_none() {
    let mut world = World::connected(&[true, true]);
    world.harden(0);
    world.harden(1);
    assert_eq!(talk(&mut world, 60 * SECOND), None);
    assert!(world.sent.iter().all(|s| s.socket == 0));
    assert!(sprayed(&world, 0) < 200 && sprayed(&world, 1) < 200);
}

#[test]
fn homes_that_reach_each_other_open_no_ports() {
    let mut world = World::connected(&[true, true]);
    talk(&mut world, 10 * SECOND).unwrap();
    talk(&mut world, 100 * SECOND);
    assert!(world.sent.iter().all(|s| s.socket == 0));
}

/// As where the port is taken towards that peer, by what the same machine had at its last address.
#[test]
fn a_home_router_that_gives_one_peer_alone_another_port_is_got_through_too() {
    for entangled in [0, 1] {
        let mut world = World::connected(&[true, true]);
        world.entangle(entangled, 1 - entangled);
        world.send(0, 1, 1);
        // Who begins is not behind that router perhaps; the other is, then.
        let direct = talk(&mut world, 200 * SECOND).unwrap();
        assert!(direct > 10 * SECOND, "the ordinary burst has all its time: {direct:?}");
        let began = world.machines[0].relayed + world.machines[1].relayed;
        world.run(2 * SECOND);
        talk(&mut world, 20 * SECOND);
        assert!(world.machines[0].relayed + world.machines[1].relayed <= began + 8);
    }
}

/// After that, the one that opened ports as if its NAT were hard says no more that it is.
#[test]
fn a_machine_that_opened_ports_for_once_gets_through_a_hard_nat_later() {
    for entangled in [0, 1] {
        let mut world = World::connected(&[true, true]);
        world.entangle(entangled, 1 - entangled);
        world.send(0, 1, 1);
        talk(&mut world, 200 * SECOND).unwrap();
        world.move_nat(1 - entangled, "203.0.113.77");
        world.harden(1 - entangled);
        world.run(SECOND);
        assert!(talk(&mut world, 300 * SECOND).is_some());
    }
}

#[test]
fn homes_between_which_nothing_passes_open_few_ports() {
    let mut world = World::connected(&[true, true]);
    world.direct = false;
    world.send(0, 1, 1);
    assert_eq!(talk(&mut world, 25 * 60 * SECOND), None);
    // Each begins three times at most in that time.
    let (one, other) = (sprayed(&world, 0), sprayed(&world, 1));
    assert!(one.min(other) > 248 && one + other < 6 * (248 + 1_536) + 1_000, "{one} {other}");
}

/// UDP is blocked there, as far as it can know.
#[test]
fn a_machine_that_no_stun_server_answers_opens_no_ports_and_is_looked_for_at_none() {
    let mut world = World::connected(&[true, true]);
    world.direct = false;
    world.apply(0, ToData::StunServers(Vec::new()));
    world.send(0, 1, 1);
    assert_eq!(talk(&mut world, 300 * SECOND), None);
    assert!(world.sent.iter().all(|s| s.socket == 0));
    assert!(sprayed(&world, 0) < 300 && sprayed(&world, 1) < 300);
}

#[test]
fn a_machine_that_moved_behind_such_a_router_begins_first() {
    for moved in [0, 1] {
        let mut world = World::connected(&[true, true]);
        world.send(0, 1, 1);
        talk(&mut world, 10 * SECOND).unwrap();
        world.move_nat(moved, "203.0.113.50");
        world.entangle(moved, 1 - moved);
        // Its kernel tells of another address.
        world.apply(moved, ToData::LocalAddrs(Vec::new()));
        world.run(3 * SECOND);
        let direct = talk(&mut world, 300 * SECOND).unwrap();
        assert!(direct > 5 * SECOND, "{direct:?}");
    }
}

#[test]
fn rounds_that_lead_nowhere_are_few_and_end_with_the_data() {
    let mut world = hard_and_easy(0);
    world.direct = false;
    assert_eq!(talk(&mut world, 25 * 60 * SECOND), None);
    // Rounds at 1 s, 31 s, 151 s, 451 s and 1,351 s; the peer grants itself four, and one more.
    let (opened, looked) = (sprayed(&world, 0), sprayed(&world, 1));
    assert!((5 * 248..5 * 248 + 1_000).contains(&opened), "{opened}");
    assert!((5 * 1_536..5 * 1_536 + 1_000).contains(&looked), "{looked}");
    world.run(200 * SECOND);
    world.sent.clear();
    world.run(2 * 3_600 * SECOND);
    assert!(world.sent.is_empty(), "{}", world.sent.len());
}

#[test]
fn a_round_sends_no_more_than_a_hundred_a_second_at_one_peer_and_nothing_large() {
    let mut world = hard_and_easy(1);
    world.direct = false;
    world.run(4 * SECOND);
    world.sent.clear();
    world.run(10 * SECOND);
    let looked: Vec<_> = world.sent.iter().filter(|s| s.from == 1).collect();
    assert!((950..=1_050).contains(&looked.len()), "{}", looked.len());
    assert!(looked.iter().all(|s| s.bytes.len() <= SMALL));
    let outside = world.public(0).ip();
    assert!(looked.iter().filter(|s| s.dst.ip() == outside).all(|s| s.dst.port() >= 1_024));
}
