//! What machines tell each other about the roster that they have: whoever talks, once, and nobody is woken for it.

use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use proto::{
    pipe::{PathView, ToData},
    probe::{ListId, Message},
};

use crate::{
    plain::{PLAIN, with_plain_peer},
    world::{World, floor},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_newer_roster_is_told_once_to_whoever_talks_and_again_when_it_changes() {
    for relayed in [false, true] {
        let mut world = talking(relayed);
        assert!(world.machines.iter().all(|m| m.floors.is_empty()), "both have the same");
        world.has(0, 2);
        talk(&mut world, 5);
        assert!(world.machines[1].floors == [(0, floor(2))], "relayed: {relayed}");
        assert!(world.machines[0].floors.is_empty() || world.machines[0].floors == [(1, floor(1))]);
        world.has(0, 3);
        talk(&mut world, 5);
        assert!(world.machines[1].floors == [(0, floor(2)), (0, floor(3))]);
    }
}

#[test]
fn a_machine_that_is_behind_is_told_when_the_session_comes_up() {
    let mut world = World::connected(&[true, true]);
    world.has(0, 1);
    world.has(1, 2);
    world.send(0, 1, 0);
    world.until(SECOND, |w| w.machines[0].floors == [(1, floor(2))]);
}

#[test]
fn a_peer_that_told_us_of_a_roster_is_not_told_of_it() {
    let mut world = talking(true);
    world.has(0, 2);
    world.run(SECOND);
    let mut says = |version| {
        let before = world.machines[1].relayed;
        world.has(1, version);
        world.run(SECOND / 50);
        world.machines[1].relayed - before
    };
    assert_eq!((says(2), says(3)), (0, 1));
}

#[test]
fn an_idle_peer_gets_no_packet_for_it_and_is_told_when_it_talks_again() {
    for first in [0, 1] {
        let mut world = talking(false);
        world.run(400 * SECOND);
        assert!(world.path(0, 1) == PathView::Idle);
        let count = |w: &World| w.sent.len() + w.machines.iter().map(|m| m.relayed).sum::<usize>();
        let (before, woken) = (count(&world), world.woken);
        world.has(0, 2);
        world.run(60 * SECOND);
        assert_eq!(count(&world), before, "nothing was sent");
        assert!(world.woken - woken < 30, "{}", world.woken - woken);
        assert!(world.machines[1].floors.is_empty());
        world.send(first, 1 - first, 1);
        world.until(2 * SECOND, |w| w.machines[1].floors == [(0, floor(2))]);
    }
}

#[test]
fn news_of_a_time_when_nothing_arrived_come_when_packets_do() {
    let mut world = talking(false);
    world.direct = false;
    world.apply(0, ToData::RelayDown(0));
    world.has(0, 2);
    for _ in 0..60 {
        talk(&mut world, 1);
    }
    assert!(world.machines[1].floors.is_empty());
    world.direct = true;
    world.apply(0, ToData::RelayUp(0));
    talk(&mut world, 10);
    assert!(world.machines[1].floors == [(0, floor(2))]);
}

#[test]
fn a_hostile_peer_cannot_make_more_of_it_than_a_few() {
    let (mut world, mut tunn) = in_session();
    world.has(0, 1);
    for number in 0..1_000 {
        let message = Message::Candidates {
            id: ListId { start: 1, number },
            list: Vec::new(),
            floor: Some(floor(u64::from(number) + 2)),
            guest: false,
            hard: None,
        };
        say(&mut world, &mut tunn, &message);
        world.run(Duration::from_millis(10));
    }
    let told = world.machines[0].floors.len();
    assert!((4..=4 + 5 + 1).contains(&told), "{told} in ten seconds");

    // The same list with another roster is no news, nor is another list with the same roster.
    world.run(60 * SECOND);
    let ours = floor(1);
    let before = world.machines[0].floors.len();
    for (number, version, told) in
        [(2_000, 7, 1), (2_000, 8, 1), (2_001, 7, 1), (2_002, ours.order.version, 1)]
    {
        let id = ListId { start: 1, number };
        let floor = Some(floor(version));
        let message = Message::Candidates { id, list: Vec::new(), floor, guest: false, hard: None };
        say(&mut world, &mut tunn, &message);
        assert_eq!(world.machines[0].floors.len() - before, told);
    }
}

/// Two machines at home with a session, which have the same roster.
fn talking(relayed: bool) -> World {
    let mut world = World::connected(&[true, true]);
    world.direct = !relayed;
    world.has(0, 1);
    world.has(1, 1);
    talk(&mut world, 3);
    assert_eq!(matches!(world.path(0, 1), PathView::Relay(_)), relayed);
    world
}

fn talk(world: &mut World, seconds: u32) {
    for _ in 0..seconds {
        world.send(0, 1, 0);
        world.send(1, 0, 0);
        world.run(SECOND);
    }
}

/// A machine whose only peer says what it likes, in a session that is up.
fn in_session() -> (World, Tunn) {
    let (mut world, mut tunn) = with_plain_peer(|_| ());
    let mut buf = [0; 148];
    let TunnResult::WriteToNetwork(init) = tunn.format_handshake_initiation(&mut buf, false) else {
        panic!()
    };
    world.inject(0, PLAIN.parse().unwrap(), init);
    let response = world.sent.pop().unwrap().bytes;
    let TunnResult::WriteToNetwork(keepalive) = tunn.decapsulate(None, &response, &mut buf) else { panic!() };
    world.inject(0, PLAIN.parse().unwrap(), keepalive);
    (world, tunn)
}

fn say(world: &mut World, tunn: &mut Tunn, message: &Message) {
    let (mut packet, mut buf) = (Vec::new(), [0; 2_000]);
    message.write(&mut packet);
    let TunnResult::WriteToNetwork(sealed) = tunn.encapsulate(&packet, &mut buf) else { panic!() };
    world.inject(0, PLAIN.parse().unwrap(), sealed);
}
