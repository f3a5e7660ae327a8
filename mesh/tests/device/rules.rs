//! Ranges, keepalives, batches, and an interface that is switched off.

use std::time::Duration;

use proto::pipe::ToPlain;

use super::link::{Link, NONE, net, packet};

/// Length of an empty data message, in bytes.
const KEEPALIVE: usize = 32;

#[test]
fn packets_of_one_size_leave_as_one_batch_in_their_order() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    for n in 0..40 {
        let mut inner = packet("10.0.0.0", "10.0.0.1", 1_420);
        inner[40] = n;
        link.sides[0].device.handle_tun(link.now, &inner);
    }
    let device = &mut link.sides[0].device;
    let out = device.poll_transmit().unwrap();
    assert_eq!((out.segment, out.datagrams().count()), (1_420 + 32, 40));
    let (segment, data) = (out.segment, out.data.to_vec());
    let (now, src) = (link.now, link.sides[0].addr);
    let other = &mut link.sides[1].device;
    other.handle_udp(now, (0, src), 0, segment, &data);
    let numbers: Vec<u8> = other.poll_tun().unwrap().packets().map(|packet| packet[40]).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<u8>>());
}

#[test]
fn the_class_of_service_is_shown_only_where_that_was_chosen() {
    for shown in [false, true] {
        let mut link = Link::pair(NONE);
        assert!(link.crosses(0, 1));
        let mut inner = packet("10.0.0.0", "10.0.0.1", 100);
        inner[1] = 0xb9;
        let mut device = link.sides.swap_remove(0).device;
        if shown {
            device = device.showing_class();
        }
        device.handle_tun(link.now, &inner);
        assert_eq!(device.poll_transmit().unwrap().class, if shown { 0xb9 } else { 1 });
    }
}

#[test]
fn a_packet_is_padded_to_sixteen_bytes_but_not_beyond_the_interface() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    for (len, sealed) in [(20, 32 + 32), (33, 48 + 32), (1_419, 1_420 + 32), (1_420, 1_420 + 32)] {
        link.send(0, 1, len);
        assert_eq!(link.sent.last().unwrap().bytes.len(), sealed);
        assert_eq!(link.sides[1].tun.last().unwrap().len(), len);
    }
}

#[test]
fn a_source_must_be_the_senders_by_the_longest_range() {
    let mut link = Link::new(3);
    link.introduce(0, 1, |peer| peer.allowed = vec![net("0.0.0.0/0"), net("::/0")]);
    link.introduce(0, 2, |_| {});
    link.introduce(1, 0, |peer| peer.allowed = vec![net("0.0.0.0/0"), net("::/0")]);
    link.introduce(2, 0, |_| {});
    let mut arrives = |from: &str| {
        let before = link.sides[0].tun.len();
        let inner = packet(from, "10.0.0.0", 60);
        link.sides[1].device.handle_tun(link.now, &inner);
        link.settle();
        link.sides[0].tun.len() > before
    };
    assert!(arrives("10.0.0.1") && arrives("9.9.9.9"));
    assert!(!arrives("10.0.0.2"), "that is the third's");
}

#[test]
fn a_range_goes_over_to_whoever_claims_it_last() {
    let mut link = Link::new(3);
    link.introduce(0, 1, |peer| peer.allowed.push(net("10.9.0.0/16")));
    link.introduce(0, 2, |_| {});
    for side in [1, 2] {
        link.introduce(side, 0, |peer| peer.allowed = vec![net("0.0.0.0/0")]);
    }
    let goes_to = |link: &mut Link| {
        let before: Vec<usize> = link.sides.iter().map(|side| side.tun.len()).collect();
        let inner = packet("10.0.0.0", "10.9.1.1", 60);
        link.sides[0].device.handle_tun(link.now, &inner);
        link.settle();
        (0..3).find(|side| link.sides[*side].tun.len() > before[*side])
    };
    assert_eq!(goes_to(&mut link), Some(1));
    link.introduce(0, 2, |peer| peer.allowed.push(net("10.9.0.0/16")));
    assert_eq!(goes_to(&mut link), Some(2));
    // The first is told again what it has, and takes nothing from the other that is not named.
    link.introduce(0, 1, |_| {});
    assert_eq!(goes_to(&mut link), Some(2));
    link.introduce(0, 2, |_| {});
    assert_eq!(goes_to(&mut link), None);
}

#[test]
fn addresses_that_the_mesh_keeps_for_itself_are_ordinary_here() {
    let mut link = Link::new(2);
    for (side, other) in [(0, 1), (1, 0)] {
        link.introduce(side, other, |peer| peer.allowed = vec![net("100::/64")]);
    }
    let inner = packet("100::1", "100::2", 80);
    link.sides[0].device.handle_tun(link.now, &inner);
    link.settle();
    assert!(link.sides[1].tun == [inner]);
}

#[test]
fn a_persistent_keepalive_comes_at_once_and_after_every_silence() {
    let mut link = Link::pair(NONE);
    link.introduce(0, 1, |peer| peer.keepalive = 25);
    link.pass(Duration::from_secs(1));
    assert!(link.state(1, 0).since_handshake.is_some(), "a session is made for it");
    link.sent.clear();
    let keepalives =
        |link: &Link| link.sent.iter().filter(|sent| sent.from == 0 && sent.bytes.len() == KEEPALIVE).count();
    link.pass(Duration::from_secs(24));
    assert_eq!(keepalives(&link), 0);
    link.pass(Duration::from_secs(2));
    assert_eq!(keepalives(&link), 1);
    link.pass(Duration::from_secs(50));
    assert_eq!(keepalives(&link), 3);
    // Whatever passes puts it off.
    for _ in 0..5 {
        link.pass(Duration::from_secs(20));
        assert!(link.crosses(1, 0));
    }
    assert_eq!(keepalives(&link), 3);
    link.introduce(0, 1, |_| {});
    link.sent.clear();
    link.pass(Duration::from_secs(100));
    assert_eq!(keepalives(&link), 0, "it was switched off");
}

#[test]
fn keepalives_alone_renew_a_session_before_it_ends() {
    let mut link = Link::pair(NONE);
    link.introduce(0, 1, |peer| peer.keepalive = 25);
    link.pass(Duration::from_secs(119));
    let initiations = |link: &Link| link.sent.iter().filter(|sent| sent.bytes[0] == 1).count();
    assert_eq!(initiations(&link), 1);
    link.pass(Duration::from_secs(30));
    assert_eq!(initiations(&link), 2);
}

#[test]
fn without_a_keepalive_and_without_data_nothing_is_sent() {
    let mut link = Link::pair(NONE);
    link.pass(Duration::from_secs(600));
    assert!(link.sent.is_empty());
}

#[test]
fn an_interface_that_is_off_says_nothing_and_hears_nothing() {
    let mut link = Link::pair(NONE);
    link.introduce(1, 0, |peer| peer.keepalive = 5);
    assert!(link.crosses(0, 1));
    link.tell(1, ToPlain::Link { up: false, mtu: 1_420 });
    link.sent.clear();
    assert!(!link.crosses(1, 0) && !link.crosses(0, 1));
    link.pass(Duration::from_secs(60));
    assert!(link.sent.iter().all(|sent| sent.from == 0));
    link.tell(1, ToPlain::Link { up: true, mtu: 1_420 });
    assert!(link.crosses(1, 0) && link.crosses(0, 1));
}

#[test]
fn datagrams_leave_by_the_socket_of_their_family_and_without_one_not_at_all() {
    let mut link = Link::pair(NONE);
    link.tell(0, ToPlain::Sockets { v4: Some(4), v6: Some(5) });
    assert!(link.crosses(0, 1));
    assert!(link.sent.iter().filter(|sent| sent.from == 0).all(|sent| sent.socket == 4));
    link.tell(0, ToPlain::Sockets { v4: Some(6), v6: None });
    assert!(link.crosses(0, 1), "the session is the same");
    assert_eq!(link.sent.last().unwrap().socket, 6);
    link.sides[1].addr = "[2001:db8::1]:51820".parse().unwrap();
    link.introduce(0, 1, |_| {});
    assert!(!link.crosses(0, 1));
    link.tell(0, ToPlain::Sockets { v4: Some(6), v6: Some(7) });
    assert!(link.crosses(0, 1));
    assert_eq!(link.sent.last().unwrap().socket, 7);
}

#[test]
fn what_waits_for_a_handshake_leaves_with_it_in_order() {
    let mut link = Link::pair(NONE);
    for len in [100, 200, 300] {
        let inner = packet("10.0.0.0", "10.0.0.1", len);
        link.sides[0].device.handle_tun(link.now, &inner);
    }
    link.settle();
    assert_eq!(link.sides[1].tun.iter().map(Vec::len).collect::<Vec<_>>(), [100, 200, 300]);
    assert_eq!(link.sent.iter().filter(|sent| sent.bytes[0] == 1).count(), 1);
}
