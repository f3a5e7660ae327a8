//! Who may say what inside a session, and how sessions come and go.

use std::{net::SocketAddr, time::Duration};

use boringtun::noise::{Tunn, TunnResult};
use proto::{
    metadata::Endpoint,
    pipe::{PathView, ToData},
    probe::Message,
};

use crate::{
    plain::{PLAIN, with_plain_peer},
    world::{DATA, World, data, ip4, ip6, net},
};

const SECOND: Duration = Duration::from_secs(1);

fn pair() -> World {
    let mut world = World::connected(&[false, false]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    assert_eq!(world.received(1), 1);
    world
}

#[test]
fn both_families_pass_and_arrive_as_they_were() {
    let mut world = pair();
    let packet = data(ip6(0), ip6(1), 7);
    world.tun(0, &packet);
    world.run(SECOND);
    assert_eq!(world.machines[1].tun[1], packet);
}

#[test]
fn an_odd_packet_is_padded_on_the_wire_and_not_at_its_end() {
    let mut world = pair();
    let mut packet = data(ip4(0), ip4(1), 7);
    packet.truncate(101);
    packet[2..4].copy_from_slice(&101u16.to_be_bytes());
    world.tun(0, &packet);
    assert_eq!(world.sent.last().unwrap().bytes.len(), 112 + 32);
    world.run(SECOND);
    assert_eq!(world.machines[1].tun[1], packet);
}

#[test]
fn a_packet_with_a_source_that_is_not_its_senders_is_dropped() {
    let mut world = World::connected(&[false, false, false]);
    for n in [1, 2] {
        world.send(0, n, 1);
        world.run(2 * SECOND);
    }
    // The third machine's address, a stranger's, and our own.
    for from in [ip4(2), "192.0.2.1".parse().unwrap(), ip4(1)] {
        world.tun(0, &data(from, ip4(1), 2));
    }
    world.run(SECOND);
    assert_eq!(world.received(1), 1);
    assert_eq!(world.status(1).drops.spoofed, 3);
}

#[test]
fn a_peer_with_a_wide_range_cannot_speak_for_one_inside_it() {
    let mut world = World::connected(&[false, false, false]);
    let mut wide = world.peer(0, 1, 0);
    wide.allowed.push(net("10.0.0.0/8"));
    world.apply(1, ToData::SetPeer(wide));
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    world.tun(0, &data("10.77.0.1".parse().unwrap(), ip4(1), 2));
    world.run(SECOND);
    assert_eq!(world.received(1), 2, "its own range is its own");
    world.tun(0, &data(ip4(2), ip4(1), 3));
    world.run(SECOND);
    assert_eq!(world.received(1), 2);
    assert_eq!(world.status(1).drops.spoofed, 1);
}

#[test]
fn a_packet_for_somebody_else_is_not_taken() {
    let mut world = pair();
    let mut peer = world.peer(1, 0, 0);
    peer.allowed.push(net("192.168.50.0/24"));
    world.apply(0, ToData::SetPeer(peer));
    world.tun(0, &data(ip4(0), "192.168.50.1".parse().unwrap(), 2));
    world.run(SECOND);
    assert_eq!(world.received(1), 1);
    assert_eq!(world.status(1).drops.spoofed, 1);
}

#[test]
fn a_message_from_the_tun_goes_nowhere() {
    let mut world = pair();
    let sent = world.sent.len();
    let mut packet = Vec::new();
    Message::Probe { nonce: 1, padding: 0 }.write(&mut packet);
    world.tun(0, &packet);
    // Nor with one of the addresses only, even if a peer owns all addresses.
    let mut peer = world.peer(1, 0, 0);
    peer.allowed.push(net("::/0"));
    world.apply(0, ToData::SetPeer(peer));
    world.tun(0, &data(ip6(0), "100::2".parse().unwrap(), 1));
    world.tun(0, &data("100::1".parse().unwrap(), ip6(1), 1));
    assert_eq!(world.sent.len(), sent);
    assert_eq!(world.status(0).drops.reserved, 3);
}

#[test]
fn a_message_that_was_forwarded_never_reaches_the_path_engine() {
    // A plain WireGuard peer that routes for machines behind it.
    let (mut world, mut tunn) = with_router();
    connect(&mut world, &mut tunn, PLAIN);
    let mut packet = Vec::new();
    Message::Probe { nonce: 1, padding: 0 }.write(&mut packet);
    // From the router itself it would be answered; one hop on it is not.
    assert!(say(&mut world, &mut tunn, PLAIN, &packet).contains(&Message::Echo { nonce: 1 }));
    packet[7] = 254;
    assert!(say(&mut world, &mut tunn, PLAIN, &packet).is_empty());
    assert_eq!((world.status(0).drops.reserved, world.received(0)), (1, 0));
}

#[test]
fn a_path_is_proven_only_by_the_nonce_that_was_sent_on_it() {
    let (mut world, mut tunn) = with_router();
    connect(&mut world, &mut tunn, PLAIN);
    world.tun(0, &data(ip4(0), ip4(5), 1));
    let other = "203.0.113.78:7777";
    let mut packet = Vec::new();
    Message::Probe { nonce: 1, padding: 0 }.write(&mut packet);
    say(&mut world, &mut tunn, other, &packet);
    say(&mut world, &mut tunn, PLAIN, &packet);
    world.sent.clear();
    world.run(Duration::from_millis(10));
    let nonce = heard(&mut world, &mut tunn, PLAIN).into_iter().find_map(|message| match message {
        Message::Probe { nonce, .. } => Some(nonce),
        _ => None,
    });
    let nonce = nonce.unwrap();
    let is_proven = |world: &mut World, tunn: &mut Tunn, from: &str, nonce: u64| {
        let mut packet = Vec::new();
        Message::Echo { nonce }.write(&mut packet);
        say(world, tunn, from, &packet);
        world.path(0, 5) == PathView::Direct(Endpoint(from.parse().unwrap()))
    };
    assert!(!is_proven(&mut world, &mut tunn, PLAIN, nonce ^ 1));
    assert!(!is_proven(&mut world, &mut tunn, other, nonce));
    assert!(is_proven(&mut world, &mut tunn, PLAIN, nonce));
}

#[test]
fn two_machines_that_start_at_once_end_with_one_working_session() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.send(1, 0, 2);
    world.run(SECOND);
    for n in 0..10 {
        world.send(0, 1, n);
        world.send(1, 0, n);
        world.run(Duration::from_millis(100));
    }
    assert_eq!((world.received(0), world.received(1)), (11, 11));
}

#[test]
fn packets_wait_for_the_session_and_come_in_order() {
    let mut world = World::connected(&[true, true]);
    for n in 0..20 {
        world.send(0, 1, n);
    }
    world.run(SECOND);
    let marks: Vec<u8> = world.machines[1].tun.iter().map(|packet| packet[DATA - 1]).collect();
    assert_eq!(marks, (0..20).collect::<Vec<u8>>());
}

#[test]
fn a_lost_initiation_is_repeated_after_a_second() {
    let mut world = World::connected(&[true, true]);
    world.machines[0].keep_initiations = Some(Vec::new());
    world.send(0, 1, 1);
    world.run(SECOND / 2);
    world.machines[0].keep_initiations = None;
    let waited = world.until(2 * SECOND, |w| w.received(1) == 1);
    assert!(waited < SECOND, "{waited:?}");
}

#[test]
fn a_relay_that_comes_up_late_is_used_at_once() {
    let mut world = World::connected(&[true, true]);
    world.apply(0, ToData::RelayDown(0));
    world.send(0, 1, 1);
    world.run(3 * SECOND);
    assert_eq!(world.received(1), 0);
    world.apply(0, ToData::RelayUp(0));
    world.until(Duration::from_millis(200), |w| w.received(1) == 1);
}

#[test]
fn a_machine_that_starts_anew_is_reached_again_by_those_who_send() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    world.restart(1);
    let began = world.now;
    let before = world.received(1);
    while world.received(1) == before {
        world.send(0, 1, 2);
        world.run(Duration::from_millis(50));
        assert!(world.now - began < 4 * SECOND, "not reached after {:?}", world.now - began);
    }
}

#[test]
fn a_machine_that_starts_anew_again_and_again_is_reached_each_time() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    for _ in 0..4 {
        world.restart(1);
        let (began, before) = (world.now, world.received(1));
        while world.received(1) == before {
            world.send(0, 1, 2);
            world.run(Duration::from_millis(50));
            assert!(world.now - began < 2 * SECOND, "not reached after {:?}", world.now - began);
        }
        world.run(SECOND / 2);
    }
}

#[test]
fn a_machine_that_starts_anew_reaches_others_at_once() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    world.restart(0);
    world.send(0, 1, 2);
    world.until(SECOND / 2, |w| w.received(1) == 2);
}

#[test]
fn a_peer_that_went_is_called_no_longer_than_there_was_data() {
    let mut world = pair();
    world.run(145 * SECOND);
    (world.direct, world.relay) = (false, false);
    world.run(45 * SECOND);
    world.sent.clear();
    let relayed = world.machines[0].relayed + world.machines[1].relayed;
    world.run(200 * SECOND);
    let relayed = world.machines[0].relayed + world.machines[1].relayed - relayed;
    assert_eq!((world.sent.len(), relayed), (0, 0));
}

#[test]
fn a_new_epoch_is_followed_within_seconds() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    for (n, of) in [(1, 0), (0, 1)] {
        let peer = world.peer(n, of, 1);
        world.apply(of, ToData::SetPeer(peer));
        world.run(SECOND);
    }
    let before = world.received(1);
    world.send(0, 1, 2);
    world.until(2 * SECOND, |w| w.received(1) == before + 1);
    world.send(1, 0, 3);
    world.until(2 * SECOND, |w| w.received(0) == 1);
}

#[test]
fn with_both_epochs_given_no_packet_is_lost_over_the_change() {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 0);
    world.send(1, 0, 0);
    world.run(2 * SECOND);
    let mut sent = 1;
    for (n, of) in [(1, 0), (0, 1)] {
        let mut peer = world.peer(n, of, 1);
        let old = world.peer(n, of, 0).psks.remove(0);
        peer.psks.push(old);
        world.apply(of, ToData::SetPeer(peer));
        for n in 0..100 {
            world.send(0, 1, n);
            world.send(1, 0, n);
            sent += 1;
            world.run(Duration::from_millis(20));
        }
    }
    world.run(SECOND);
    assert_eq!((world.received(0), world.received(1)), (sent, sent));
}

#[test]
fn a_removed_peer_is_refused_at_once() {
    let mut world = pair();
    world.apply(1, ToData::RemovePeer(0));
    world.send(0, 1, 2);
    world.run(10 * SECOND);
    assert_eq!(world.received(1), 1);
    assert!(world.status(1).peers.is_empty());
}

#[test]
fn an_introduced_peer_is_answered_on_the_way_it_came() {
    let mut world = World::new(&[true, true]);
    world.start(0);
    world.start(1);
    let known = world.peer(1, 0, 0);
    world.apply(0, ToData::SetPeer(known));
    world.machines[0].keep_initiations = Some(Vec::new());
    world.send(0, 1, 1);
    let (handle, initiation) = world.machines[0].keep_initiations.take().unwrap().remove(0);
    let peer = world.peer(0, 1, 0);
    world.apply(1, ToData::Introduce { peer, relay: 0, handle, initiation: &initiation });
    world.until(SECOND / 2, |w| w.received(1) == 1);
}

#[test]
fn a_recorded_initiation_is_not_answered_by_a_new_tunnel() {
    let mut world = World::connected(&[false, false]);
    world.send(0, 1, 1);
    world.machines[0].keep_initiations = Some(Vec::new());
    world.apply(0, ToData::RelayDown(0));
    world.apply(0, ToData::RelayUp(0));
    world.run(2 * SECOND);
    let recorded = world.machines[0].keep_initiations.take().unwrap();
    let (_, initiation) = recorded.last().unwrap();
    let thief = "198.51.100.66:6666".parse().unwrap();
    world.inject(1, thief, initiation);
    let answers = |w: &World| w.sent.iter().filter(|s| s.dst == thief).count();
    assert_eq!(answers(&world), 1, "a first copy may be the real one");
    // The same epoch under another key: a new tunnel with no memory of its own.
    let mut peer = world.peer(0, 1, 0);
    peer.psks[0].1[31] ^= 1;
    world.apply(1, ToData::SetPeer(peer));
    world.inject(1, thief, initiation);
    assert_eq!(answers(&world), 1);
    assert!(world.status(1).drops.handshake >= 1);
}

#[test]
fn one_source_cannot_start_handshakes_without_end() {
    let (mut world, mut tunn) = with_router();
    let sources: [SocketAddr; 2] =
        ["203.0.113.77:7777".parse().unwrap(), "203.0.113.78:7777".parse().unwrap()];
    let mut answers = |source: SocketAddr, count: usize| {
        world.sent.clear();
        for _ in 0..count {
            let mut buf = [0; 148];
            let TunnResult::WriteToNetwork(init) = tunn.format_handshake_initiation(&mut buf, true) else {
                panic!()
            };
            world.inject(0, source, init);
        }
        let to_it = world.sent.iter().filter(|sent| sent.dst == source);
        let (responses, cookies) = to_it.partition::<Vec<_>, _>(|sent| sent.bytes[0] == 2);
        (responses.len(), cookies.iter().filter(|sent| sent.bytes[0] == 3).count())
    };
    assert_eq!(answers(sources[0], 60), (20, 40), "beyond its limit it is asked whether it is there");
    assert_eq!(answers(sources[1], 1), (1, 0), "another source is not held up");
}

/// A machine whose only peer is a plain WireGuard one, with a range that is reserved beside its address.
fn with_router() -> (World, Tunn) {
    with_plain_peer(|peer| peer.allowed.push(net("100::/32")))
}

/// The plain peer's handshake.
fn connect(world: &mut World, tunn: &mut Tunn, src: &str) {
    let src = src.parse().unwrap();
    let mut buf = [0; 148];
    let TunnResult::WriteToNetwork(init) = tunn.format_handshake_initiation(&mut buf, false) else {
        panic!()
    };
    world.inject(0, src, init);
    let response = world.sent.pop().unwrap().bytes;
    let TunnResult::WriteToNetwork(keepalive) = tunn.decapsulate(None, &response, &mut buf) else { panic!() };
    world.inject(0, src, keepalive);
    world.sent.clear();
}

/// The plain peer sends an inner packet from an address; the messages that are sent there at once.
fn say(world: &mut World, tunn: &mut Tunn, src: &str, packet: &[u8]) -> Vec<Message> {
    let mut buf = [0; 2_000];
    let TunnResult::WriteToNetwork(sealed) = tunn.encapsulate(packet, &mut buf) else { panic!() };
    world.sent.clear();
    world.inject(0, src.parse().unwrap(), sealed);
    heard(world, tunn, src)
}

/// The messages that were sent to an address of the plain peer.
fn heard(world: &mut World, tunn: &mut Tunn, at: &str) -> Vec<Message> {
    let at: SocketAddr = at.parse().unwrap();
    let sent: Vec<_> = world.sent.iter().filter(|s| s.dst == at).map(|s| s.bytes.clone()).collect();
    let mut buf = [0; 2_000];
    let mut open = |bytes: &Vec<u8>| match tunn.decapsulate(None, bytes, &mut buf) {
        TunnResult::WriteToTunnelV6(packet, _) => Message::read(packet).ok(),
        _ => None,
    };
    sent.iter().filter_map(&mut open).collect()
}

mod hostile {
    use proptest::prelude::*;

    use super::{DATA, SECOND, pair};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn hostile_bytes_never_panic_and_never_reach_the_tun(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..60),
            kinds in proptest::collection::vec((1u8..5, any::<bool>(), 0usize..200), 1..60),
        ) {
            let mut world = pair();
            let real: Vec<Vec<u8>> = world.sent.iter().filter(|s| s.from == 0).map(|s| s.bytes.clone()).collect();
            let src = world.public(0);
            for (n, mut bytes) in datagrams.into_iter().enumerate() {
                let (kind, mutate, at) = kinds[n % kinds.len()];
                if mutate {
                    let mut datagram = real[at % real.len()].clone();
                    let len = datagram.len();
                    datagram[at % len] ^= kind;
                    bytes = datagram;
                } else if bytes.len() >= 4 {
                    bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
                }
                world.inject(1, src, &bytes);
                world.tun(1, &bytes);
                let payload = bytes.clone();
                world.apply(1, proto::pipe::ToData::RelayRecv { relay: 0, handle: 3, payload: &payload });
            }
            world.run(SECOND);
            prop_assert_eq!(world.received(1), 1);
            world.send(0, 1, 9);
            world.run(SECOND);
            prop_assert_eq!(world.machines[1].tun[1].len(), DATA);
        }
    }
}
