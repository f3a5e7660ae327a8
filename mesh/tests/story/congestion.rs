//! What routers say of congestion, from one end of the tunnel to the other (RFC 6040).

use std::{net::IpAddr, time::Duration};

use proto::pipe::PathView;

use crate::{
    shared::Workers,
    world::{DATA, World, data, ip4, ip6},
};

const SECOND: Duration = Duration::from_secs(1);

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Two machines on a direct path.
fn two() -> World {
    let mut world = World::connected(&[true, true]);
    world.send(0, 1, 1);
    world.run(10 * SECOND);
    assert!(matches!(world.path(0, 1), PathView::Direct(_)));
    world
}

/// Data whose header has this class.
fn classed((from, to): (IpAddr, IpAddr), class: u8) -> Vec<u8> {
    let mut packet = data(from, to, 1);
    if from.is_ipv4() {
        packet[1] = class;
    } else {
        packet[0] |= class >> 4;
        packet[1] |= class << 4;
    }
    packet
}

fn class_of(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

/// Sends one packet of each kind; what the datagrams said that it left in, and what it says on arrival.
fn carried(world: &mut World, class: u8) -> Vec<(u8, Option<u8>)> {
    [(ip4(0), ip4(1)), (ip6(0), ip6(1))]
        .map(|ends| {
            let (sent, received) = (world.sent.len(), world.received(1));
            world.tun(0, &classed(ends, class));
            let outside =
                world.sent[sent..].iter().find(|s| s.from == 0 && s.bytes.len() >= DATA).unwrap().class;
            world.run(SECOND);
            (outside, world.machines[1].tun.get(received).map(|packet| class_of(packet)))
        })
        .to_vec()
}

#[test]
fn the_outer_header_says_what_the_inner_one_says_of_congestion_and_nothing_else() {
    let mut world = two();
    for ecn in [NOT_ECT, ECT_0, ECT_1, CE] {
        assert_eq!(carried(&mut world, 0xb8 | ecn), [(ecn, Some(0xb8 | ecn)); 2]);
    }
}

#[test]
fn the_class_of_service_is_shown_where_that_was_chosen_and_what_became_of_it_outside_stays_there() {
    let mut world = two();
    let now = world.now;
    let machine = &mut world.machines[0];
    let mesh = std::mem::replace(&mut machine.mesh, Workers::new(now, 0, 1));
    machine.mesh = mesh.showing_class();
    for class in [0, 0xb8, 0xb8 | ECT_0, 0x20 | CE] {
        assert_eq!(carried(&mut world, class), [(class, Some(class)); 2]);
    }
    world.router = |class| class & CE | 0x28;
    assert_eq!(carried(&mut world, 0xb8 | ECT_1), [(0xb8 | ECT_1, Some(0xb8 | ECT_1)); 2]);
    // Messages have none, whatever data has.
    let sent = world.sent.len();
    world.run(60 * SECOND);
    assert!(world.sent.len() > sent && world.sent[sent..].iter().all(|sent| sent.class == 0));
}

#[test]
fn a_router_that_marks_is_heard_inside_and_who_cannot_hear_it_loses_the_packet() {
    let mut world = two();
    world.router = |class| class | CE;
    assert_eq!(carried(&mut world, ECT_0), [(ECT_0, Some(CE)); 2]);
    assert_eq!(carried(&mut world, 0xb8 | ECT_1), [(ECT_1, Some(0xb8 | CE)); 2]);
    assert_eq!(carried(&mut world, NOT_ECT), [(NOT_ECT, None); 2]);
    assert_eq!(world.status(1).drops.congested, 2);
    // That is between the two ends of a connection: paths are judged by what comes back on them.
    assert!(matches!(world.path(0, 1), PathView::Direct(_)));
}

#[test]
fn a_network_that_clears_or_sets_the_field_costs_no_packet() {
    let mut world = two();
    for router in [|_| NOT_ECT, |_| ECT_0] as [fn(u8) -> u8; 2] {
        world.router = router;
        for ecn in [NOT_ECT, ECT_0, ECT_1, CE] {
            assert!(carried(&mut world, ecn).iter().all(|(_, inside)| *inside == Some(ecn)));
        }
    }
}

#[test]
fn over_a_relay_packets_arrive_as_they_were_sent() {
    let mut world = two();
    world.direct = false;
    world.run(10 * SECOND);
    for class in [NOT_ECT, ECT_0, CE] {
        let received = world.received(1);
        world.tun(0, &classed((ip4(0), ip4(1)), class));
        world.run(SECOND);
        assert_eq!(class_of(&world.machines[1].tun[received]), class);
    }
}
