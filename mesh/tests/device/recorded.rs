//! Initiations that somebody recorded and sends to an interface that does not know that they are old, for it began the session itself.

use std::time::Duration;

use proto::metadata::Endpoint;

use super::{
    independent::Independent,
    link::{Link, NONE, Sent, packet},
};

/// How messages begin.
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 4;

/// Two with a session that the first began, and true initiations of the second's, made before.
fn recorded(count: usize) -> (Link, Vec<Sent>) {
    let mut link = Link::pair(NONE);
    let recorded: Vec<Sent> = (0..count)
        .flat_map(|_| {
            link.restart(1);
            link.introduce(1, 0, |_| {});
            link.sides[1].device.handle_tun(link.now, &packet("10.0.0.1", "10.0.0.0", 100));
            link.collect()
        })
        .collect();
    assert!(recorded.len() == count && recorded.iter().all(|sent| sent.bytes[0] == INITIATION));
    link.restart(1);
    link.introduce(1, 0, |_| {});
    assert!(link.crosses(0, 1) && link.crosses(1, 0));
    (link, recorded)
}

#[test]
fn they_cost_a_session_nothing_however_many_they_are() {
    for gap in [Duration::ZERO, Duration::from_millis(900), Duration::from_secs(4)] {
        let (mut link, recorded) = recorded(20);
        let endpoint = link.sides[1].addr;
        for (n, initiation) in recorded.iter().enumerate() {
            link.inject(format!("203.0.113.{n}:9").parse().unwrap(), initiation);
            assert!(link.crosses(0, 1) && link.crosses(1, 0), "{gap:?}, after {n}");
            assert!(link.state(0, 1).endpoint == Some(Endpoint(endpoint)));
            link.pass(gap);
        }
        assert_eq!(count(&link, 0, RESPONSE), recorded.len(), "nothing says that they are old");
        assert_eq!(count(&link, 0, INITIATION), 1, "the session lives on");
    }
}

#[test]
fn who_began_the_session_renews_it_all_the_same() {
    let (mut link, recorded) = recorded(1);
    link.introduce(0, 1, |peer| peer.keepalive = 5);
    link.inject("203.0.113.7:9".parse().unwrap(), &recorded[0]);
    assert!(link.crosses(1, 0), "data after it are no proof of it");
    let before = count(&link, 0, INITIATION);
    link.pass(Duration::from_secs(118));
    assert_eq!(count(&link, 0, INITIATION), before);
    link.pass(Duration::from_secs(7));
    assert_eq!(count(&link, 0, INITIATION), before + 1);
}

#[test]
fn they_are_no_sign_of_life_in_place_of_one_that_is_due() {
    let (mut link, recorded) = recorded(10);
    link.introduce(0, 1, |peer| peer.keepalive = 5);
    link.settle();
    let before = count(&link, 0, DATA);
    for initiation in &recorded {
        link.pass(Duration::from_secs(4));
        link.inject("203.0.113.7:9".parse().unwrap(), initiation);
    }
    assert_eq!(count(&link, 0, DATA), before + 8);
}

#[test]
fn a_handshake_that_is_under_way_is_finished() {
    let (mut link, recorded) = recorded(6);
    link.restart(0);
    link.introduce(0, 1, |_| {});
    link.sides[0].device.handle_tun(link.now, &packet("10.0.0.0", "10.0.0.1", 100));
    let flying = link.collect();
    recorded.iter().for_each(|initiation| link.inject("203.0.113.7:9".parse().unwrap(), initiation));
    link.collect();
    let before = link.sides[1].tun.len();
    flying.iter().for_each(|datagram| link.deliver(datagram));
    link.settle();
    assert_eq!(link.sides[1].tun.len(), before + 1);
}

#[test]
fn they_do_not_keep_anybody_from_beginning() {
    let (mut link, recorded) = recorded(8);
    link.restart(0);
    link.introduce(0, 1, |_| {});
    link.inject("203.0.113.7:9".parse().unwrap(), &recorded[0]);
    link.sides[0].device.handle_tun(link.now, &packet("10.0.0.0", "10.0.0.1", 100));
    let before = link.sides[1].tun.len();
    for initiation in &recorded[1..] {
        link.collect();
        link.pass(Duration::from_millis(500));
        link.inject("203.0.113.7:9".parse().unwrap(), initiation);
    }
    assert!(link.sides[1].tun.len() > before);
}

#[test]
fn a_peer_that_starts_anew_somewhere_else_is_there_at_once() {
    for elsewhere in [false, true] {
        let (mut link, recorded) = recorded(20);
        recorded.iter().for_each(|initiation| link.inject("203.0.113.9:9".parse().unwrap(), initiation));
        for n in 0..3 {
            link.restart(1);
            if elsewhere {
                link.sides[1].addr = format!("198.51.100.{n}:4000").parse().unwrap();
            }
            link.introduce(1, 0, |_| {});
            assert!(link.crosses(1, 0) && link.crosses(0, 1), "{n}");
            assert!(link.state(0, 1).endpoint == Some(Endpoint(link.sides[1].addr)));
        }
    }
}

#[test]
fn where_both_begin_at_once_both_send_in_the_same_session() {
    for _ in 0..8 {
        let mut link = Link::pair(NONE);
        let inner = [packet("10.0.0.0", "10.0.0.1", 100), packet("10.0.0.1", "10.0.0.0", 100)];
        // An old one for each: from here on neither numbers what it begins as it numbers what the other does.
        let mut old = Vec::new();
        for (n, inner) in inner.iter().enumerate() {
            link.sides[n].device.handle_tun(link.now, inner);
            old.extend(link.collect());
            link.restart(n);
            link.introduce(n, 1 - n, |_| {});
        }
        old.iter().for_each(|initiation| link.inject("203.0.113.7:9".parse().unwrap(), initiation));
        link.collect();
        link.sent.clear();
        link.now += Duration::from_secs(1);
        for _ in 0..3 {
            for (side, inner) in link.sides.iter_mut().zip(&inner) {
                side.device.handle_tun(link.now, inner);
            }
            // What each sent arrives once both have sent.
            for datagram in link.collect() {
                link.deliver(&datagram);
            }
        }
        link.settle();
        assert!(link.sides.iter().all(|side| side.tun.len() == 3));

        let sent = std::mem::take(&mut link.sent);
        let initiations: Vec<_> = sent.iter().filter(|sent| sent.bytes[0] == INITIATION).collect();
        assert_eq!(initiations.len(), 2);
        assert!(link.crosses(0, 1) && link.crosses(1, 0));
        link.sent.clear();
        assert!(link.crosses(0, 1) && link.crosses(1, 0) && link.crosses(0, 1));
        let sessions: Vec<usize> = link.sent.iter().map(|data| begun_by(data, &sent)).collect();
        assert!(sessions.windows(2).all(|pair| pair[0] == pair[1]), "{sessions:?}");
    }
}

#[test]
fn who_stays_with_the_session_that_it_began_itself_is_sent_everything_in_it() {
    for _ in 0..8 {
        let mut peer = Independent::known();
        let inner = [packet("10.0.0.0", "10.0.0.1", 96), packet("10.0.0.1", "10.0.0.0", 96)];
        peer.link.sides[0].device.handle_tun(peer.link.now, &inner[0]);
        let initiation = peer.link.collect().pop().unwrap();
        let begun = peer.begin();
        let response = peer.link.collect().pop().unwrap();
        peer.finish(begun, &response);
        peer.answer(&initiation);
        peer.link.collect();
        for _ in 0..3 {
            peer.send(0, &inner[1]);
            peer.link.sides[0].device.handle_tun(peer.link.now, &inner[0]);
            let sent = peer.link.collect();
            assert_eq!(sent.len(), 1);
            assert_eq!(peer.open(&sent[0]).0, 0);
        }
    }
}

/// Who began the session of a data message, by what was sent before.
fn begun_by(data: &Sent, sent: &[Sent]) -> usize {
    assert_eq!(data.bytes[0], DATA);
    let to = 1 - data.from;
    let named = |kind: u8| {
        let index = &data.bytes[4..8];
        sent.iter().any(|sent| sent.from == to && sent.bytes[0] == kind && &sent.bytes[4..8] == index)
    };
    match (named(INITIATION), named(RESPONSE)) {
        (true, false) => to,
        (false, true) => data.from,
        both => panic!("{both:?}"),
    }
}

fn count(link: &Link, from: usize, kind: u8) -> usize {
    link.sent.iter().filter(|sent| sent.from == from && sent.bytes[0] == kind).count()
}
