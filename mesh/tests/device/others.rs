//! Faults that other implementations had, by what their lists of changes say, and that a plain interface is not to have.

use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use proto::{metadata::Endpoint, pipe::ToPlain};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{
    independent::Independent,
    link::{Link, NONE, Sent, packet},
};

/// Lengths of messages, in bytes.
const INITIATION: usize = 148;
const COOKIE: usize = 64;

#[test]
fn a_cookie_moves_no_endpoint() {
    let mut link = Link::pair(NONE);
    let (dst, key) = (link.sides[1].addr, PublicKey::from(link.sides[1].public()));
    let mut stranger = Tunn::new(StaticSecret::from([3; 32]), key, None, None, 0, None);
    for n in 0..250 {
        let mut bytes = [0; INITIATION];
        let made = stranger.format_handshake_initiation(&mut bytes, true);
        assert!(matches!(made, TunnResult::WriteToNetwork(_)));
        let sent = Sent { from: 0, socket: 0, dst, bytes: bytes.to_vec() };
        link.inject(format!("198.18.0.{n}:4000").parse().unwrap(), &sent);
        link.collect();
    }
    let inner = packet("10.0.0.0", "10.0.0.1", 100);
    link.sides[0].device.handle_tun(link.now, &inner);
    let asked = link.collect();
    link.deliver(&asked[0]);
    let cookie = link.collect().pop().unwrap();
    assert_eq!((asked[0].bytes.len(), cookie.bytes.len(), cookie.from), (INITIATION, COOKIE, 1));

    link.inject("203.0.113.5:9".parse().unwrap(), &cookie);
    assert!(link.state(0, 1).endpoint == Some(Endpoint(dst)));
    assert!(link.crosses(1, 0) && link.crosses(0, 1), "the other begins");
}

#[test]
fn an_answer_that_takes_seconds_makes_a_session() {
    let mut link = Link::pair(NONE);
    let inner = packet("10.0.0.0", "10.0.0.1", 100);
    link.sides[0].device.handle_tun(link.now, &inner);
    for _ in 0..2 {
        let flying = link.collect();
        link.now += Duration::from_millis(2_500);
        link.sides[0].device.handle_timeout(link.now);
        flying.iter().for_each(|datagram| link.deliver(datagram));
    }
    link.settle();
    assert!(link.sides[1].tun == [inner]);
}

#[test]
fn no_mtu_that_an_interface_may_be_given_is_too_small_or_too_large() {
    let mut link = Link::pair(NONE);
    for mtu in [0, 1, 19, 67, 576, 1_279, 9_000, u16::MAX, 1_420] {
        link.tell(0, ToPlain::Link { up: true, mtu });
        let before = link.sides[1].tun.len();
        let lens = [20, 68, 576, 1_280, 1_420, 1_500, 9_000, 60_000];
        for len in lens {
            link.send(0, 1, len);
        }
        assert_eq!(link.sides[1].tun.len() - before, lens.len(), "what is that large is the kernel's to say");
    }
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let mut link = Link::pair(NONE);
    link.introduce(0, 1, |peer| peer.keepalive = 1);
    for n in 0..6 {
        link.pass(Duration::from_secs(20));
        assert!(link.crosses(0, 1) && link.crosses(1, 0), "{n}");
        link.now -= Duration::from_millis(1) * 10_u32.pow(n);
        link.sides.iter_mut().for_each(|side| side.device.handle_timeout(link.now));
        assert!(link.crosses(0, 1) && link.crosses(1, 0), "{n}");
    }
}

/// Who starts anew has forgotten which timestamps it saw, and answers what somebody recorded before.
#[test]
fn as_many_recorded_handshakes_as_there_are_places_for_sessions_are_none_to_send_on() {
    let mut peer = Independent::meet();
    let endpoint = peer.addr;
    for n in 1..20 {
        peer.addr = format!("203.0.113.{n}:9").parse().unwrap();
        let begun = peer.begin();
        let answer = peer.link.collect().pop().unwrap();
        assert_eq!(answer.dst, peer.addr);
        peer.finish(begun, &answer);
        peer.link.sides[0].device.handle_tun(peer.link.now, &packet("10.0.0.0", "10.0.0.1", 100));
        let sent = peer.link.collect();
        let kinds: Vec<u8> = sent.iter().map(|sent| sent.bytes[0]).collect();
        assert!(!kinds.contains(&4), "{kinds:?} after {n}");
        assert!(sent.iter().all(|sent| sent.dst == endpoint));
    }
    // Until the peer is heard in the last of them.
    peer.send(19, &packet("10.0.0.1", "10.0.0.0", 96));
    assert!(peer.link.collect().iter().any(|sent| sent.bytes[0] == 4 && sent.dst == peer.addr));
}
