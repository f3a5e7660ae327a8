//! Faults that other implementations had, by what their lists of changes say, and that a machine of a network is not to have.

use std::{net::SocketAddr, time::Duration};

use boringtun::noise::{Tunn, TunnResult};
use proto::pipe::{Config, ToData};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{
    plain::{PLAIN, with_plain_peer},
    world::{MTU, World, host, ip4, sized},
};

const SECOND: Duration = Duration::from_secs(1);
/// Lengths of messages, in bytes.
const INITIATION: usize = 148;
const RESPONSE: usize = 92;
const COOKIE: usize = 64;
/// A machine and its only peer, which it knows where to find.
fn asked() -> (World, Tunn) {
    with_plain_peer(|peer| peer.endpoints = vec![proto::metadata::Endpoint(PLAIN.parse().unwrap())])
}

fn initiation(tunn: &mut Tunn) -> Vec<u8> {
    let mut buf = [0; INITIATION];
    let TunnResult::WriteToNetwork(initiation) = tunn.format_handshake_initiation(&mut buf, true) else {
        panic!("nothing keeps it from beginning")
    };
    initiation.to_vec()
}

/// What a machine sends back to `src` at once.
fn answers(world: &mut World, src: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
    world.sent.clear();
    world.inject(0, src, datagram);
    world.sent.iter().filter(|sent| sent.dst == src).map(|sent| sent.bytes.clone()).collect()
}

fn lengths(answers: &[Vec<u8>]) -> Vec<usize> {
    answers.iter().map(Vec::len).collect()
}

#[test]
fn a_cookie_is_good_for_the_port_that_asked_for_it_and_a_flood_is_forgotten_in_a_second() {
    let (mut world, mut tunn) = asked();
    let other = PublicKey::from(&StaticSecret::from([1; 32]));
    let mut stranger = Tunn::new(StaticSecret::from([3; 32]), other, None, None, 0, None);
    for n in 0..250 {
        let src = SocketAddr::from(([198, 18, 0, n], 4_000));
        assert!(answers(&mut world, src, &initiation(&mut stranger)).iter().all(|a| a.len() == COOKIE));
    }

    let [here, there]: [SocketAddr; 2] = [PLAIN.parse().unwrap(), "203.0.113.77:7778".parse().unwrap()];
    let cookie = answers(&mut world, here, &initiation(&mut tunn));
    assert_eq!(lengths(&cookie), [COOKIE]);
    assert!(matches!(tunn.decapsulate(None, &cookie[0], &mut [0; 256]), TunnResult::Done));
    let shown = initiation(&mut tunn);
    assert_eq!(lengths(&answers(&mut world, there, &shown)), [COOKIE], "somebody else behind that router");
    assert_eq!(lengths(&answers(&mut world, here, &shown)), [RESPONSE]);

    world.now += SECOND;
    assert_eq!(lengths(&answers(&mut world, there, &initiation(&mut tunn))), [RESPONSE]);
}

/// Datagrams that begin like handshake messages of all kinds.
fn junk() -> impl Iterator<Item = Vec<u8>> {
    (0..3_000_usize).map(|n| {
        let (kind, len) = [(1, INITIATION), (2, RESPONSE), (3, COOKIE)][n % 3];
        let mut bytes = vec![n as u8; len];
        bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
        bytes
    })
}

#[test]
fn junk_in_a_peers_name_stops_no_handshake() {
    let (mut world, mut tunn) = asked();
    let here: SocketAddr = PLAIN.parse().unwrap();
    world.tun(0, &sized(ip4(0), ip4(5), 1, 100));
    let asks = world.sent.iter().find(|sent| sent.bytes.len() == INITIATION).unwrap().bytes.clone();
    let mut buf = [0; 256];
    let TunnResult::WriteToNetwork(response) = tunn.decapsulate(None, &asks, &mut buf) else { panic!() };
    for junk in junk() {
        assert_eq!(lengths(&answers(&mut world, here, &junk)), [0; 0]);
    }
    assert!(!answers(&mut world, here, response).is_empty(), "what waited leaves");
    for junk in junk() {
        world.inject(0, here, &junk);
    }
    assert_eq!(lengths(&answers(&mut world, here, &initiation(&mut tunn))), [RESPONSE]);
}

#[test]
fn whoever_knows_the_public_key_and_sends_in_a_peers_name_costs_it_a_cookie() {
    let (mut world, mut tunn) = asked();
    let here: SocketAddr = PLAIN.parse().unwrap();
    let other = PublicKey::from(&StaticSecret::from([1; 32]));
    let mut stranger = Tunn::new(StaticSecret::from([3; 32]), other, None, None, 0, None);
    let mut flood =
        |world: &mut World| (0..60).for_each(|_| world.inject(0, here, &initiation(&mut stranger)));
    flood(&mut world);
    let cookie = answers(&mut world, here, &initiation(&mut tunn));
    assert_eq!(lengths(&cookie), [COOKIE]);
    assert!(matches!(tunn.decapsulate(None, &cookie[0], &mut [0; 256]), TunnResult::Done));
    for _ in 0..3 {
        flood(&mut world);
        assert_eq!(lengths(&answers(&mut world, here, &initiation(&mut tunn))), [RESPONSE]);
    }
}

#[test]
fn an_answer_that_takes_seconds_makes_a_session() {
    let (mut world, mut tunn) = asked();
    let src: SocketAddr = PLAIN.parse().unwrap();
    world.tun(0, &sized(ip4(0), ip4(5), 1, 100));
    let first = world.sent.iter().find(|sent| sent.bytes.len() == INITIATION).unwrap().bytes.clone();
    let mut buf = [0; 256];
    let TunnResult::WriteToNetwork(response) = tunn.decapsulate(None, &first, &mut buf) else { panic!() };
    world.run(5 * SECOND / 2);
    let response = response.to_vec();
    let sent = answers(&mut world, src, &response);
    assert!(sent.iter().any(|sent| sent[0] == 4), "it is confirmed at once");
}

#[test]
fn no_mtu_that_an_interface_may_be_given_is_too_small_or_too_large() {
    let mut world = World::connected(&[false, false]);
    let secret = Zeroizing::new([1; 32]);
    let own = vec![host(ip4(0))];
    for mtu in [0, 1, 19, 67, 576, 1_279, 9_000, u16::MAX, MTU] {
        world.apply(0, ToData::Config(Config { secret: secret.clone(), own: own.clone(), mtu }));
        for len in [20, 68, 576, 1_280, 1_420, 1_500, 9_000, 60_000] {
            world.tun(0, &sized(ip4(0), ip4(1), 7, len));
        }
        world.run(30 * SECOND);
    }
    let before = world.received(1);
    world.tun(0, &sized(ip4(0), ip4(1), 7, 1_400));
    world.run(SECOND);
    assert_eq!(world.received(1), before + 1);
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let mut world = World::connected(&[false, true]);
    for n in 0..6 {
        let before = (world.received(0), world.received(1));
        for (from, to) in [(0, 1), (1, 0)] {
            world.tun(from, &sized(ip4(from), ip4(to), n, 700));
        }
        world.run(20 * SECOND);
        assert!(world.received(0) > before.0 && world.received(1) > before.1, "{n}");
        world.now -= Duration::from_millis(1) * 10_u32.pow(n.into());
    }
}
