//! How large packets may be, by whichever way they go.

use std::{net::IpAddr, time::Duration};

use proto::{metadata::Endpoint, pipe::PathView};

use crate::world::{MTU, World, ip4, ip6, sized};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(10);

/// The MTU of the path that machine `n` uses to a peer, as status tells.
fn mtu(world: &mut World, n: usize, peer: u32) -> u16 {
    world.status(n).peers.iter().find(|p| p.peer == peer).unwrap().mtu
}

fn is_direct(world: &mut World, n: usize, peer: usize) -> bool {
    let public = world.public(peer);
    world.path(n, peer) == PathView::Direct(Endpoint(public))
}

/// Two homes whose uplinks carry IP packets up to a size, with a direct path whose size is known.
fn two_homes(carries: usize) -> World {
    let mut world = World::connected(&[true, true]);
    world.machines[1].carries = carries;
    world.send(0, 1, 1);
    world.run(10 * SECOND);
    assert!(is_direct(&mut world, 0, 1) && is_direct(&mut world, 1, 0));
    world
}

/// Sends a packet every 10 ms; how many did not arrive.
fn stream(world: &mut World, packets: usize, v6: bool, len: usize) -> usize {
    let before = world.received(1);
    let (from, to) = if v6 { (ip6(0), ip6(1)) } else { (ip4(0), ip4(1)) };
    for n in 0..packets {
        world.tun(0, &sized(from, to, n as u8, len));
        world.run(TICK);
    }
    world.run(SECOND);
    packets - (world.received(1) - before)
}

/// Large datagrams that a machine has sent since then.
fn sent_over(world: &World, n: usize, since: usize, len: usize) -> usize {
    world.sent[since..].iter().filter(|s| s.from == n && s.bytes.len() > len).count()
}

#[test]
fn a_path_is_asked_its_size_and_each_peer_has_its_own() {
    let mut world = World::connected(&[true, true, true]);
    world.machines[1].carries = 1_280;
    world.send(0, 1, 1);
    world.send(0, 2, 1);
    world.run(10 * SECOND);
    assert_eq!((mtu(&mut world, 0, 1), mtu(&mut world, 0, 2)), (1_220, MTU));
    assert_eq!((mtu(&mut world, 1, 0), mtu(&mut world, 2, 0)), (1_220, MTU));
}

#[test]
fn no_packet_of_any_size_is_lost_while_a_narrow_path_becomes_direct() {
    for carries in [576, 1_280, 1_400, 1_500] {
        for v6 in [false, true] {
            let mut world = World::connected(&[true, true]);
            world.machines[1].carries = carries;
            let before = world.received(0);
            let lost = stream(&mut world, 100, v6, MTU.into());
            assert!(is_direct(&mut world, 0, 1));
            assert_eq!((lost, world.received(0)), (0, before), "{carries}");
        }
    }
}

#[test]
fn a_sender_is_told_what_goes_through() {
    let mut world = two_homes(1_280);
    let arrived = world.received(1);
    world.tun(0, &sized(ip4(0), ip4(1), 1, 1_221));
    let told = world.machines[0].tun.last().unwrap().clone();
    assert_eq!((told[9], &told[20..22], &told[26..28]), (1, &[3, 4][..], &1_220u16.to_be_bytes()[..]));
    world.tun(0, &sized(ip6(0), ip6(1), 1, 1_281));
    let told = world.machines[0].tun.last().unwrap().clone();
    assert_eq!((told[6], told[40], &told[44..48]), (58, 2, &1_280u32.to_be_bytes()[..]));
    world.run(SECOND);
    assert_eq!(world.received(1), arrived, "those that were told sent nothing");
    world.tun(0, &sized(ip4(0), ip4(1), 2, 1_220));
    world.run(SECOND);
    assert_eq!(world.received(1), arrived + 1);
}

#[test]
fn every_ipv6_packet_that_a_sender_may_make_arrives_over_a_path_that_is_too_small_for_it() {
    let mut world = two_homes(1_280);
    let (told, since) = (world.received(0), world.sent.len());
    for len in [1_220, 1_221, 1_279, 1_280] {
        let packet = sized(ip6(0), ip6(1), 3, len);
        world.tun(0, &packet);
        world.run(SECOND);
        assert!(world.machines[1].tun.last() == Some(&packet), "{len}");
    }
    assert_eq!((world.received(0), sent_over(&world, 0, since, 1_280 - 28)), (told, 0));
}

#[test]
fn what_may_be_cut_goes_in_pieces() {
    let mut world = two_homes(1_280);
    let told = world.received(0);
    let mut packet = sized(ip4(0), ip4(1), 3, MTU.into());
    packet[6] = 0;
    world.tun(0, &packet);
    world.run(SECOND);
    assert!(world.machines[1].tun.last() == Some(&packet) && world.received(0) == told);
}

#[test]
fn a_burst_of_too_large_packets_is_told_some_times_and_the_rest_arrives() {
    let mut world = two_homes(1_280);
    let (told, arrived) = (world.received(0), world.received(1));
    for n in 0..200 {
        world.tun(0, &sized(ip4(0), ip4(1), n, 1_400));
    }
    world.run(SECOND);
    let (told, arrived) = (world.received(0) - told, world.received(1) - arrived);
    assert_eq!((told, arrived), (20, 180));
}

#[test]
fn a_hole_that_opens_under_data_takes_less_than_a_second_of_it() {
    for v6 in [false, true] {
        let mut world = two_homes(1_500);
        assert_eq!(stream(&mut world, 100, v6, MTU.into()), 0);
        let told = world.received(0);
        world.machines[1].carries = 1_280;
        let lost = stream(&mut world, 150, v6, MTU.into());
        assert!((50..=90).contains(&lost), "{lost} packets, 10 ms each");
        assert_eq!((stream(&mut world, 50, v6, MTU.into()), world.received(0)), (0, told));
        // In the end it is certain.
        assert_eq!(stream(&mut world, 500, v6, 1_220), 0);
        assert_eq!(mtu(&mut world, 0, 1), 1_220);
    }
}

#[test]
fn a_path_that_grows_carries_more_within_some_minutes() {
    let mut world = two_homes(1_280);
    world.machines[1].carries = 1_500;
    for _ in 0..150 {
        world.send(0, 1, 1);
        world.run(SECOND);
    }
    assert_eq!(mtu(&mut world, 0, 1), MTU);
    assert_eq!(stream(&mut world, 10, false, MTU.into()), 0);
}

#[test]
fn the_relay_carries_all_and_the_direct_path_is_asked_anew_after_it() {
    let mut world = two_homes(1_280);
    assert_eq!(mtu(&mut world, 0, 1), 1_220);
    world.direct = false;
    for n in 0..300u32 {
        world.send(0, 1, n as u8);
        world.run(TICK);
    }
    world.run(SECOND);
    assert!(world.path(0, 1) == PathView::Relay(0));
    assert_eq!(mtu(&mut world, 0, 1), MTU);
    assert_eq!(stream(&mut world, 20, true, MTU.into()), 0);
    (world.direct, world.machines[1].carries) = (true, 1_400);
    let told = world.received(0);
    assert_eq!(stream(&mut world, 2_500, false, 1_300), 0);
    assert!(is_direct(&mut world, 0, 1));
    assert_eq!((mtu(&mut world, 0, 1), world.received(0)), (1_340, told));
}

#[test]
fn a_machine_whose_own_link_is_small_finds_out_at_once() {
    let mut world = World::connected(&[true, true]);
    (world.machines[0].sends, world.machines[0].carries) = (1_280, 1_280);
    world.send(0, 1, 1);
    world.run(3 * SECOND);
    assert_eq!(mtu(&mut world, 0, 1), 1_220);
    world.machines[0].sends = 1_200;
    let lost = stream(&mut world, 100, true, 1_220);
    assert!(lost <= 1, "{lost}");
    assert!((1_132..=1_140).contains(&mtu(&mut world, 0, 1)));
}

/// A packet that opens a TCP connection and takes segments of 1,460 bytes, and where it says so.
fn syn(from: IpAddr, to: IpAddr) -> (Vec<u8>, usize) {
    let at = if from.is_ipv6() { 40 } else { 20 };
    let mut packet = sized(from, to, 0, at + 24);
    packet[if from.is_ipv6() { 6 } else { 9 }] = 6;
    packet[at..].fill(0);
    packet[at + 12] = 0x60;
    packet[at + 13] = 2;
    packet[at + 20..].copy_from_slice(&[2, 4, 5, 180]);
    (packet, at + 22)
}

#[test]
fn tcp_is_told_before_it_begins_whoever_opens_and_whoever_knows() {
    let mut world = World::connected(&[true, true]);
    // Only one direction is narrow, and only machine 0 knows.
    world.machines[0].sends = 1_280;
    world.send(0, 1, 1);
    world.run(10 * SECOND);
    assert_eq!((mtu(&mut world, 0, 1), mtu(&mut world, 1, 0)), (1_220, MTU));
    for (ip, most) in [(ip4 as fn(usize) -> IpAddr, 1_180u16), (ip6, 1_160)] {
        for (from, to) in [(0, 1), (1, 0)] {
            let (packet, at) = syn(ip(from), ip(to));
            world.tun(from, &packet);
            world.run(SECOND);
            let arrived = world.machines[to].tun.last().unwrap();
            assert_eq!((arrived.len(), &arrived[at..at + 2]), (packet.len(), &most.to_be_bytes()[..]));
        }
    }
    // Nobody is told anything on a path that takes all.
    let mut world = two_homes(1_500);
    let (packet, _) = syn(ip4(0), ip4(1));
    world.tun(0, &packet);
    world.run(SECOND);
    assert!(world.machines[1].tun.last() == Some(&packet));
}

#[test]
fn a_path_that_was_given_up_is_asked_anew_before_it_carries_what_is_large() {
    let mut world = two_homes(1_500);
    world.direct = false;
    stream(&mut world, 300, true, 100);
    assert!(world.path(0, 1) == PathView::Relay(0));
    (world.direct, world.machines[1].carries) = (true, 1_280);
    let told = world.received(0);
    let lost = stream(&mut world, 2_500, true, MTU.into());
    assert!(is_direct(&mut world, 0, 1));
    // In the end the sender is told, and does not listen here.
    assert_eq!(lost, world.received(0) - told);
}

#[test]
fn an_idle_peer_is_asked_no_size() {
    let mut world = two_homes(1_280);
    world.run(200 * SECOND);
    let quiet = world.sent.len();
    world.run(3_600 * SECOND);
    assert_eq!(world.sent.len(), quiet);
}

#[test]
fn probes_of_sizes_are_few() {
    for (carries, most) in [(1_500, 1), (1_280, 50), (700, 60)] {
        let mut world = World::connected(&[true, true]);
        world.machines[1].carries = carries;
        world.send(0, 1, 1);
        world.run(100 * SECOND);
        let probes = sent_over(&world, 0, 0, 500);
        assert!(probes <= most + 1, "{carries}: {probes}");
    }
    // While much data flows, two a second.
    let mut world = two_homes(1_500);
    let since = world.sent.len();
    assert_eq!(stream(&mut world, 1_000, false, 1_400), 0);
    let probes = sent_over(&world, 0, since, 500) - 1_000;
    assert!(probes <= 2 * 11, "{probes}");
}
