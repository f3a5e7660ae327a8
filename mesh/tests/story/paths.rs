//! Which way the data goes.

use std::{net::SocketAddr, time::Duration};

use proto::{
    metadata::Endpoint,
    pipe::{LocalAddr, PathView, Peer, ToData},
};

use crate::world::{DATA, RELAYED, World, ip4, sized};

const SECOND: Duration = Duration::from_secs(1);

fn direct(world: &World, n: usize) -> PathView {
    PathView::Direct(Endpoint(world.public(n)))
}

/// Two homes with data flowing straight between them.
fn two_homes() -> World {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    assert!(world.path(0, 1) == direct(&world, 1) && world.path(1, 0) == direct(&world, 0));
    world
}

#[test]
fn two_homes_speak_over_the_relay_at_once_and_straight_within_two_seconds() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    // Initiation, response, data: three times over the relay.
    let first = world.until(SECOND, |w| w.received(1) == 1);
    assert!(first <= 3 * RELAYED + Duration::from_millis(2), "{first:?}");
    assert!(world.path(0, 1) == PathView::Relay(0));
    world.run(2 * SECOND - first);
    assert!(world.path(0, 1) == direct(&world, 1));
    assert!(world.path(1, 0) == direct(&world, 0));
    let relayed = world.machines[0].relayed;
    world.send(0, 1, 2);
    world.send(1, 0, 3);
    world.run(SECOND);
    assert_eq!((world.received(0), world.received(1)), (1, 2));
    assert_eq!(world.machines[0].relayed, relayed);
}

#[test]
fn the_first_packet_of_a_peer_that_started_anew_on_another_port_is_answered_at_once() {
    let mut world = two_homes();
    world.restart_elsewhere(0);
    let (there, back) = (world.received(1), world.received(0));
    world.send(0, 1, 2);
    world.until(SECOND, |w| w.received(1) > there);
    world.send(1, 0, 3);
    let answered = world.until(SECOND, |w| w.received(0) > back);
    assert!(answered <= RELAYED + Duration::from_millis(2), "{answered:?}");
    world.run(3 * SECOND);
    assert!(world.path(0, 1) == direct(&world, 1) && world.path(1, 0) == direct(&world, 0));
}

#[test]
fn no_packet_is_lost_or_late_while_the_path_becomes_direct() {
    let mut world = World::connected(&[true, true]);
    for n in 0..200u32 {
        world.send(0, 1, n as u8);
        world.run(Duration::from_millis(10));
    }
    world.run(SECOND);
    assert_eq!(world.received(1), 200);
    assert!(world.path(0, 1) == direct(&world, 1));
}

#[test]
fn data_is_never_sent_to_a_candidate_that_has_not_answered() {
    let mut world = World::connected(&[true, true]);
    world.direct = false;
    for n in 0..100u32 {
        world.send(0, 1, n as u8);
        world.send(1, 0, n as u8);
        world.run(Duration::from_millis(50));
    }
    assert_eq!((world.received(0), world.received(1)), (100, 100));
    assert!(world.sent.iter().any(|s| s.dst == world.public(1)), "candidates are probed");
    let data = world.sent.iter().filter(|s| s.bytes.len() >= DATA);
    assert_eq!(data.count(), 0);
}

#[test]
fn a_silent_direct_path_gives_way_to_the_relay() {
    let mut world = two_homes();
    world.direct = false;
    let before = world.received(1);
    for n in 0..300u32 {
        world.send(0, 1, n as u8);
        world.run(Duration::from_millis(10));
    }
    let lost = 300 - (world.received(1) - before);
    assert!(world.path(0, 1) == PathView::Relay(0));
    assert!((1..=30).contains(&lost), "silence noticed within 0.3 s, {lost} lost");
    world.direct = true;
    // Probes of a path that worked go on.
    world.run(4 * SECOND);
    world.send(0, 1, 0);
    world.run(20 * SECOND);
    assert!(world.path(0, 1) == direct(&world, 1));
}

#[test]
fn data_goes_by_the_relay_too_while_its_path_is_in_doubt_and_arrives_once() {
    let mut world = two_homes();
    let relayed = world.machines[0].relayed;
    // Answered by data, a path is not doubted.
    for n in 0..100u32 {
        world.send(0, 1, n as u8);
        world.send(1, 0, n as u8);
        world.run(Duration::from_millis(10));
    }
    assert_eq!(world.machines[0].relayed, relayed);
    world.direct = false;
    for _ in 0..40 {
        world.send(0, 1, 1);
        world.run(Duration::from_millis(10));
    }
    assert!(world.path(0, 1) == direct(&world, 1), "it is not given up yet");
    assert!(world.machines[0].relayed > relayed, "and the relay carries data too");
    world.direct = true;
    world.run(RELAYED);
    let (before, sent) = (world.received(1), world.sent.len());
    world.send(0, 1, 2);
    world.run(Duration::from_millis(RELAYED.as_millis() as u64 + 5));
    let copies = world.sent[sent..].iter().filter(|s| s.from == 0 && s.bytes.len() >= DATA).count();
    assert_eq!((copies, world.received(1) - before), (1, 1), "one of two copies counts");
    world.send(1, 0, 3);
    world.run(Duration::from_millis(20));
    let relayed = world.machines[0].relayed;
    for n in 0..100u32 {
        world.send(0, 1, n as u8);
        world.send(1, 0, n as u8);
        world.run(Duration::from_millis(10));
    }
    assert_eq!(world.machines[0].relayed, relayed, "an answer ends the doubt");
}

#[test]
fn of_few_small_packets_none_is_lost_with_the_path_that_they_were_sent_on() {
    let mut world = two_homes();
    let (there, back) = (world.received(1), world.received(0));
    let mut answered = 0;
    for n in 0..220 {
        world.direct = n < 50;
        let small = |from, to| sized(ip4(from), ip4(to), n as u8, 84);
        if n < 200 {
            world.tun(0, &small(0, 1));
            // A transfer beside it, which repeats for itself what is lost.
            (0..10).for_each(|_| world.send(0, 1, 0));
        }
        world.run(Duration::from_millis(10));
        let asked = |world: &World| world.machines[1].tun[there..].iter().filter(|p| p.len() == 84).count();
        while answered < asked(&world) {
            world.tun(1, &small(1, 0));
            answered += 1;
        }
    }
    assert_eq!((answered, world.received(0) - back), (200, 200), "each once");
    assert!(world.path(0, 1) == PathView::Relay(0));
}

#[test]
fn who_loses_a_path_and_a_relay_with_it_is_answered_over_the_relay_where_it_is_heard() {
    let mut world = two_homes();
    for n in 0..2 {
        world.apply(n, ToData::RelayUp(1));
        let both = Peer { relays: 0b11, ..world.peer(1 - n, n, 0) };
        world.apply(n, ToData::SetPeer(both));
    }
    // The first relay is nearer, and the other machine does not know that it leads nowhere any more.
    (world.direct, world.lost) = (false, Some((0, 0)));
    world.apply(0, ToData::RelayDown(0));
    let before = world.received(0);
    let mut answered = 0;
    for n in 0..400u32 {
        let there = world.received(1);
        world.send(0, 1, n as u8);
        world.run(Duration::from_millis(10));
        if world.received(1) > there {
            world.send(1, 0, n as u8);
        }
        if answered == 0 && world.received(0) > before {
            answered = n;
        }
    }
    assert!((1..80).contains(&answered), "answered after {answered} packets");
    let lost = 400 - (world.received(0) - before);
    assert!(lost < 70, "{lost} were not answered");
}

#[test]
fn a_path_in_doubt_has_its_spare_probed_for_a_relay_may_lead_here_only_once_it_was_used_from_here() {
    let mut world = two_homes();
    // A router forgot the machine, and the relay's connection with it.
    (world.direct, world.lost) = (false, Some((0, 0)));
    let (before, relayed) = (world.received(0), world.machines[0].relayed);
    // It says one thing, as if it answered, and nothing more.
    world.send(0, 1, 1);
    let mut waited = Duration::ZERO;
    while world.received(0) == before {
        world.send(1, 0, 2);
        world.run(Duration::from_millis(10));
        waited += Duration::from_millis(10);
        if world.machines[0].relayed > relayed {
            world.lost = None;
        }
        assert!(waited < Duration::from_millis(600), "{waited:?}");
    }
}

#[test]
fn a_doubt_lasts_without_a_gap_until_the_path_is_given_up_and_wakes_nobody_for_it() {
    for relay in [true, false] {
        let mut world = two_homes();
        if !relay {
            (0..2).for_each(|n| world.apply(n, ToData::RelayDown(0)));
        }
        world.run(SECOND);
        world.direct = false;
        let woken = world.woken;
        world.send(0, 1, 1);
        world.run(Duration::from_millis(500));
        let (relayed, each) = (world.machines[0].relayed, 800);
        for n in 0..each {
            world.send(0, 1, n as u8);
            world.run(Duration::from_millis(1));
        }
        assert!(world.path(0, 1) == direct(&world, 1), "it is not given up yet");
        assert!(world.machines[0].relayed - relayed == if relay { each } else { 0 });
        assert!(world.woken - woken < 30, "woken {} times in 1.3 s", world.woken - woken);
    }
}

#[test]
fn a_flow_that_nobody_answers_is_probed_rarely_and_not_doubted() {
    let mut world = two_homes();
    let (relayed, sent) = (world.machines[0].relayed, world.sent.len());
    let seconds = 20;
    for n in 0..100 * seconds {
        world.send(0, 1, n as u8);
        world.run(Duration::from_millis(10));
    }
    assert_eq!(world.machines[0].relayed, relayed);
    let probes =
        world.sent[sent..].iter().filter(|s| s.from == 0 && (64..DATA).contains(&s.bytes.len())).count();
    assert!(probes <= 3 * seconds, "{probes} probes in {seconds} s");
}

#[test]
fn a_machine_that_moves_is_followed_without_its_old_path() {
    let mut world = two_homes();
    world.move_nat(1, "198.51.100.99");
    world.apply(
        1,
        ToData::LocalAddrs(vec![LocalAddr { addr: "192.168.77.2".parse().unwrap(), prefix_len: 24 }]),
    );
    let before = world.received(1);
    for n in 0..200u32 {
        world.send(0, 1, n as u8);
        world.run(Duration::from_millis(10));
    }
    let lost = 200 - (world.received(1) - before);
    assert!(world.path(0, 1) == direct(&world, 1));
    assert!(lost <= 30, "{lost} packets lost while moving");
}

#[test]
fn a_machine_whose_router_changes_address_unnoticed_is_direct_again_within_four_seconds() {
    let mut world = two_homes();
    world.move_nat(1, "198.51.100.99");
    for n in 0..400u32 {
        world.send(0, 1, n as u8);
        world.send(1, 0, n as u8);
        world.run(Duration::from_millis(10));
    }
    assert!(world.path(0, 1) == direct(&world, 1) && world.path(1, 0) == direct(&world, 0));
}

#[test]
fn a_router_that_changes_its_address_at_any_moment_of_the_beginning_keeps_nobody_apart() {
    for after in (0..400).step_by(5) {
        let mut world = World::connected(&[true, true]);
        world.send(0, 1, 1);
        world.run(Duration::from_millis(after));
        world.move_nat(1, "198.51.100.99");
        for n in 0..60u32 {
            world.send(0, 1, n as u8);
            world.send(1, 0, n as u8);
            world.run(Duration::from_millis(100));
        }
        let straight = world.path(0, 1) == direct(&world, 1) && world.path(1, 0) == direct(&world, 0);
        assert!(straight, "after {after} ms");
    }
}

#[test]
fn a_replayed_datagram_from_another_address_moves_no_path() {
    let mut world = two_homes();
    let thief = "198.51.100.66:6666".parse().unwrap();
    world.send(0, 1, 5);
    let stolen = world.sent.iter().rfind(|s| s.from == 0 && s.bytes.len() >= DATA).unwrap().bytes.clone();
    // Once before the real one arrives, once after it.
    world.inject(1, thief, &stolen);
    world.run(SECOND);
    world.inject(1, thief, &stolen);
    for n in 0..20 {
        world.send(1, 0, n);
        world.run(Duration::from_millis(100));
    }
    assert!(world.path(1, 0) == direct(&world, 0));
    assert!(world.sent.iter().all(|s| s.dst != thief), "not even a probe");
}

#[test]
fn a_probe_that_is_replayed_from_another_address_moves_no_path() {
    let mut world = two_homes();
    let thief = "198.51.100.66:6666".parse().unwrap();
    world.apply(0, ToData::Ping { token: 1, peer: 1 });
    let stolen = world.sent.iter().rfind(|s| s.from == 0).unwrap().bytes.clone();
    world.inject(1, thief, &stolen);
    for n in 0..20 {
        world.send(1, 0, n);
        world.run(Duration::from_millis(100));
    }
    assert!(world.path(1, 0) == direct(&world, 0));
    assert!(world.sent.iter().all(|s| s.dst != thief || s.bytes.len() < DATA));
}

#[test]
fn an_idle_pair_sends_nothing_and_wakes_over_the_relay() {
    let mut world = two_homes();
    world.run(181 * SECOND);
    let relayed = |w: &World| w.machines[0].relayed + w.machines[1].relayed;
    let quiet = (world.sent.len(), relayed(&world));
    world.run(600 * SECOND);
    assert_eq!((world.sent.len(), relayed(&world)), quiet);
    assert!(world.path(0, 1) == PathView::Idle);
    world.send(0, 1, 9);
    world.until(SECOND, |w| w.received(1) == 2);
    assert!(relayed(&world) > quiet.1);
    world.run(2 * SECOND);
    assert!(world.path(0, 1) == direct(&world, 1));
}

#[test]
fn a_peer_that_nothing_is_heard_of_any_more_is_silent_until_it_is_heard_again_and_idle_once_nothing_is_sent()
{
    let mut world = two_homes();
    let ask = |world: &mut World, seconds| {
        for _ in 0..seconds {
            world.apply(0, ToData::Ping { token: 1, peer: 1 });
            world.run(SECOND);
        }
        world.path(0, 1)
    };
    assert!(ask(&mut world, 3) == direct(&world, 1));
    let (carries, relay) = (world.machines[1].carries, world.relay);
    (world.machines[1].carries, world.relay) = (0, false);
    assert!(ask(&mut world, 7) == PathView::Silent);
    // Also when the session is over, and it is called in vain.
    assert!(ask(&mut world, 200) == PathView::Silent);
    (world.machines[1].carries, world.relay) = (carries, relay);
    assert!(!matches!(ask(&mut world, 10), PathView::Silent | PathView::Idle));
    (world.machines[1].carries, world.relay) = (0, false);
    ask(&mut world, 1);
    world.run(200 * SECOND);
    assert!(world.path(0, 1) == PathView::Idle);
}

#[test]
fn a_direct_path_outlives_the_relay() {
    let mut world = two_homes();
    world.relay = false;
    for n in 0..2 {
        world.apply(n, ToData::RelayDown(0));
    }
    for n in 0..10 {
        world.send(0, 1, n);
        world.run(SECOND);
    }
    assert_eq!(world.received(1), 11);
}

#[test]
fn a_static_endpoint_needs_no_relay() {
    let mut world = World::new(&[false, true]);
    world.relay = false;
    world.start(0);
    world.start(1);
    let mut server = world.peer(0, 1, 0);
    server.endpoints = vec![Endpoint(world.public(0))];
    let home = world.peer(1, 0, 0);
    world.apply(0, ToData::SetPeer(home));
    world.apply(1, ToData::SetPeer(server));
    world.send(1, 0, 1);
    world.until(SECOND, |w| w.received(0) == 1);
    world.send(0, 1, 2);
    world.until(SECOND, |w| w.received(1) == 1);
    assert!(world.path(0, 1) == direct(&world, 1));
}

#[test]
fn a_peer_on_our_link_is_reached_there() {
    let mut world = World::connected(&[false, false]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    assert!(world.path(0, 1) == direct(&world, 1));
    assert_eq!(world.received(1), 1);
}

#[test]
fn a_ping_tells_round_trip_and_path_and_fails_in_time() {
    let mut world = World::connected(&[true, true, true]);
    world.apply(0, ToData::Ping { token: 7, peer: 1 });
    world.run(SECOND);
    let (token, result) = world.machines[0].pongs[0];
    let (rtt, path) = result.unwrap();
    assert!(token == 7 && path == PathView::Relay(0));
    assert_eq!(rtt, 2 * RELAYED);
    world.run(2 * SECOND);
    world.apply(0, ToData::Ping { token: 8, peer: 1 });
    world.run(SECOND);
    let (rtt, path) = world.machines[0].pongs[1].1.unwrap();
    assert!(path == direct(&world, 1) && rtt == Duration::from_millis(20), "{rtt:?}");

    world.apply(2, ToData::RelayDown(0));
    world.relay = false;
    world.apply(0, ToData::Ping { token: 9, peer: 2 });
    world.apply(0, ToData::Ping { token: 10, peer: 77 });
    world.run(10 * SECOND);
    let failed = &world.machines[0].pongs[2..];
    assert!(failed.len() == 2 && failed.iter().all(|(_, result)| result.is_none()));
}

#[test]
fn a_ping_whose_probe_is_lost_is_lost() {
    let mut world = two_homes();
    world.send(0, 1, 1);
    world.run(3 * SECOND);
    // What is sent now arrives nowhere; the next is answered, and answers for itself alone.
    (world.direct, world.relay) = (false, false);
    world.apply(0, ToData::Ping { token: 7, peer: 1 });
    world.run(SECOND / 10);
    (world.direct, world.relay) = (true, true);
    world.apply(0, ToData::Ping { token: 8, peer: 1 });
    world.run(SECOND);
    assert_eq!(world.machines[0].pongs.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [8]);
    world.run(5 * SECOND);
    assert!(world.machines[0].pongs.len() == 2 && world.machines[0].pongs[1].1.is_none());
}

#[test]
fn probes_of_one_peer_are_bounded() {
    let mut world = World::connected(&[true, true]);
    world.direct = false;
    world.send(0, 1, 1);
    world.run(60 * SECOND);
    // Where the peer is said to be, and two rounds of many ports.
    let peer = world.public(1);
    let sent: Vec<_> = world.sent.iter().filter(|s| s.from == 0 && s.dst.ip() == peer.ip()).collect();
    let probes = sent.iter().filter(|s| s.socket == 0 && s.dst == peer).count();
    assert!(probes < 60, "{probes} probes in a minute");
    assert!(sent.len() < 60 + 2 * 1_536, "{} in all", sent.len());
}

#[test]
fn peers_try_a_port_of_a_router_as_soon_as_it_is_told() {
    let mut world = two_homes();
    let mapped: SocketAddr = "198.51.100.77:40000".parse().unwrap();
    let tried = |world: &World| world.sent.iter().any(|sent| sent.from == 0 && sent.dst == mapped);
    assert!(!tried(&world));
    world.apply(1, ToData::Mappings(vec![Endpoint(mapped)]));
    world.until(SECOND, tried);
    // Told once, not again and again.
    world.run(SECOND);
    let sent = world.sent.len();
    world.apply(1, ToData::Mappings(vec![Endpoint(mapped)]));
    assert_eq!(world.sent.len(), sent);
}
