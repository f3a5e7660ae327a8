//! Handshakes, keys, and where a peer is.

use std::time::Duration;

use proto::{
    metadata::Endpoint,
    pipe::{ToData, ToPlain},
};
use rand_core::{OsRng, RngCore};
use zeroize::Zeroizing;

use super::link::{Link, NONE, Sent, packet};

#[test]
fn a_packet_crosses_with_a_pre_shared_key_and_without() {
    for psk in [NONE, [7; 32]] {
        let mut link = Link::pair(psk);
        assert!(link.crosses(0, 1) && link.crosses(1, 0));
        let inner = packet("10.0.0.0", "10.0.0.1", 100);
        assert!(link.sides[1].tun[0] == inner, "as it was, without its padding");
    }
}

#[test]
fn both_inner_families_cross() {
    let mut link = Link::pair(NONE);
    let inner = packet("fd00::0", "fd00::1", 777);
    link.sides[0].device.handle_tun(link.now, &inner);
    link.settle();
    assert!(link.sides[1].tun == [inner]);
}

#[test]
fn without_the_same_pre_shared_key_or_with_another_key_nothing_crosses() {
    let mut link = Link::pair([7; 32]);
    link.introduce(1, 0, |peer| peer.psk = Zeroizing::new([8; 32]));
    assert!(!link.crosses(0, 1) && !link.crosses(1, 0));

    let mut link = Link::pair(NONE);
    link.tell(1, ToPlain::Key(Some(Zeroizing::new([9; 32]))));
    assert!(!link.crosses(0, 1) && !link.crosses(1, 0));
    assert!(link.state(0, 1).since_handshake.is_none());
}

#[test]
fn status_counts_what_is_authentic_and_tells_the_last_handshake() {
    let mut link = Link::pair(NONE);
    let before = link.state(0, 1);
    assert!(before.rx_bytes == 0 && before.tx_bytes == 0 && before.since_handshake.is_none());
    assert!(link.crosses(0, 1));
    link.now += Duration::from_secs(3);
    let (ours, theirs) = (link.state(0, 1), link.state(1, 0));
    let bytes =
        |from| link.sent.iter().filter(move |sent| sent.from == from).map(|sent| sent.bytes.len() as u64);
    assert_eq!((ours.tx_bytes, ours.rx_bytes), (bytes(0).sum(), bytes(1).sum()));
    assert_eq!((theirs.tx_bytes, theirs.rx_bytes), (ours.rx_bytes, ours.tx_bytes));
    assert_eq!(ours.since_handshake, Some(Duration::from_secs(3)));
    assert_eq!(theirs.since_handshake, Some(Duration::from_secs(3)));
}

#[test]
fn the_endpoint_follows_authentic_packets_and_nothing_else() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    let moved = "198.51.100.9:4000".parse().unwrap();
    let lies = "203.0.113.5:9".parse().unwrap();

    // Seen before, then changed: neither moves anything.
    let old = link.sent.iter().rfind(|sent| sent.from == 0).unwrap().clone();
    link.inject(lies, &old);
    let mut broken = old.clone();
    *broken.bytes.last_mut().unwrap() ^= 1;
    link.inject(lies, &broken);
    assert!(link.state(1, 0).endpoint == Some(Endpoint(link.sides[0].addr)));

    link.sides[0].addr = moved;
    assert!(link.crosses(0, 1), "it moved and sends");
    assert!(link.state(1, 0).endpoint == Some(Endpoint(moved)));
    assert!(link.crosses(1, 0), "and is answered there");
}

#[test]
fn a_handshake_moves_the_endpoint_too_and_a_replayed_one_does_not() {
    let mut link = Link::new(2);
    link.introduce(0, 1, |_| {});
    link.introduce(1, 0, |peer| peer.endpoint = None);
    assert!(!link.crosses(1, 0), "nobody knows where it is");
    assert!(link.crosses(0, 1) && link.crosses(1, 0));
    let initiation = link.sent.iter().find(|sent| sent.bytes[0] == 1).unwrap().clone();
    let before = link.sent.len();
    link.inject("203.0.113.5:9".parse().unwrap(), &initiation);
    link.settle();
    assert_eq!(link.sent.len(), before, "it is not answered");
    assert!(link.state(1, 0).endpoint == Some(Endpoint(link.sides[0].addr)));
}

#[test]
fn an_initiation_that_was_kept_moves_nothing_after_the_pre_shared_key_changed() {
    let mut link = Link::new(2);
    link.introduce(0, 1, |_| {});
    link.introduce(1, 0, |_| {});
    link.sides[0].device.handle_tun(link.now, &packet("10.0.0.0", "10.0.0.1", 100));
    let kept = link.collect();
    assert!(kept.len() == 1 && kept[0].bytes[0] == 1);
    // It was withheld; the next one, with a new key on both sides, is not.
    for (side, other) in [(0, 1), (1, 0)] {
        link.introduce(side, other, |peer| peer.psk = Zeroizing::new([1; 32]));
    }
    link.pass(Duration::from_secs(6));
    assert!(link.crosses(0, 1) && link.crosses(1, 0));
    let psk = Zeroizing::new([2; 32]);
    link.introduce(1, 0, |peer| peer.psk = psk.clone());
    link.inject("203.0.113.5:9".parse().unwrap(), &kept[0]);
    let answer = link.collect();
    assert_eq!(
        answer.first().map(|sent| (sent.bytes[0], sent.dst.port())),
        Some((2, 9)),
        "it looks like any other"
    );
    assert!(link.state(1, 0).endpoint == Some(Endpoint(link.sides[0].addr)));
    link.introduce(0, 1, |peer| peer.psk = psk);
    link.pass(Duration::from_secs(6));
    assert!(link.crosses(1, 0));
}

#[test]
fn an_initiation_is_not_answered_again_after_the_pre_shared_key_changed() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    let initiation = link.sent.iter().find(|sent| sent.bytes[0] == 1).unwrap().clone();
    link.introduce(1, 0, |peer| peer.psk = Zeroizing::new([1; 32]));
    let before = link.sent.len();
    link.deliver(&initiation);
    link.settle();
    assert_eq!(link.sent.len(), before);
}

#[test]
fn either_side_may_start_anew() {
    for restarted in [0, 1] {
        let mut link = Link::pair(NONE);
        assert!(link.crosses(0, 1) && link.crosses(1, 0));
        link.restart(restarted);
        let other = 1 - restarted;
        link.introduce(restarted, other, |_| {});
        assert!(link.crosses(restarted, other), "with the first packet");
        assert!(link.crosses(other, restarted));
    }
}

#[test]
fn a_pre_shared_key_that_both_change_at_different_moments_interrupts_nothing() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    for round in 1..4 {
        link.introduce(0, 1, |peer| peer.psk = Zeroizing::new([round; 32]));
        assert!(link.crosses(0, 1) && link.crosses(1, 0), "one side has the new key");
        link.introduce(1, 0, |peer| peer.psk = Zeroizing::new([round; 32]));
        assert!(link.crosses(1, 0) && link.crosses(0, 1), "both have it");
    }
    let initiations = link.sent.iter().filter(|sent| sent.bytes[0] == 1).count();
    assert_eq!(initiations, 1, "nothing was in need of a handshake");
    // The session of the old key is over after three minutes: the next packet makes one of the new key.
    link.pass(Duration::from_secs(181));
    assert!(link.crosses(0, 1));
    assert_eq!(link.sent.iter().filter(|sent| sent.bytes[0] == 1).count(), 2);
}

#[test]
fn another_private_key_makes_another_machine_of_it() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    link.tell(0, ToPlain::Key(None));
    assert!(!link.crosses(0, 1), "there is none");
    let old = link.sides[0].public();
    link.restart(0);
    assert!(link.sides[0].public() == old);
    link.introduce(0, 1, |_| {});
    assert!(link.crosses(0, 1));
}

#[test]
fn a_removed_peer_is_nobody() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    link.sides[1].device.apply(link.now, ToData::RemovePeer(0));
    assert!(!link.crosses(0, 1) && !link.crosses(1, 0));
    link.introduce(1, 0, |_| {});
    assert!(link.crosses(1, 0) && link.crosses(0, 1));
}

#[test]
fn random_datagrams_are_answered_by_nothing_and_change_nothing() {
    let mut link = Link::pair(NONE);
    assert!(link.crosses(0, 1));
    let before = (link.sent.len(), link.state(1, 0).rx_bytes, link.sides[1].tun.len());
    let dst = link.sides[1].addr;
    for n in 0..5_000u32 {
        let mut bytes = vec![0; (n % 1_500) as usize];
        OsRng.fill_bytes(&mut bytes);
        // Every other one begins as a message does, and has its length.
        if n % 2 == 0 {
            let kind = n as usize / 2 % 4;
            bytes.resize([148, 92, 64, 200][kind], 3);
            bytes[..4].copy_from_slice(&[kind as u8 + 1, 0, 0, 0]);
        }
        let src = format!("203.0.{}.{}:9", n % 200, n / 200).parse().unwrap();
        link.inject(src, &Sent { from: 0, socket: 0, dst, bytes });
        link.settle();
    }
    assert_eq!((link.sent.len(), link.state(1, 0).rx_bytes, link.sides[1].tun.len()), before);
    assert!(link.crosses(0, 1) && link.crosses(1, 0));
}
