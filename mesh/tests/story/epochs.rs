//! From one epoch to the next: in whatever order machines hear of it, no packet is lost, and whoever was removed is out.

use std::time::Duration;

use proto::pipe::{PathView, ToData};

use crate::world::{DATA, World, data, ip4};

const SECOND: Duration = Duration::from_secs(1);
/// 200 packets a second.
const PACE: Duration = Duration::from_millis(5);

#[test]
fn no_packet_is_lost_over_twenty_epochs_that_arrive_in_any_order() {
    for relayed in [false, true] {
        let mut world = talking(relayed);
        let mut traffic = Traffic::of(&world);
        for epoch in 1..=20 {
            // Who hears first, and how much later the other does, differs each time.
            let first = usize::try_from(epoch / 2 % 2).unwrap();
            world.enter(first, epoch);
            traffic.run(&mut world, Duration::from_millis(epoch * epoch * 37 % 4_000));
            world.enter(1 - first, epoch);
            traffic.run(&mut world, Duration::from_millis(8_000 + epoch * 997));
        }
        traffic.run(&mut world, 25 * SECOND);
        assert_eq!(traffic.lost(&mut world), 0, "relayed: {relayed}");
        for n in [0, 1] {
            assert!(world.uses(n, 20), "machine {n} has moved to the last epoch");
        }
    }
}

#[test]
fn no_packet_is_lost_over_epochs_that_follow_one_another_within_a_second() {
    for relayed in [false, true] {
        let mut world = talking(relayed);
        let mut traffic = Traffic::of(&world);
        for epoch in 1..=20 {
            let first = usize::try_from(epoch % 2).unwrap();
            world.enter(first, epoch);
            traffic.run(&mut world, Duration::from_millis(epoch * 53 % 200));
            world.enter(1 - first, epoch);
            traffic.run(&mut world, Duration::from_millis(700));
        }
        traffic.run(&mut world, 5 * SECOND);
        assert_eq!(traffic.lost(&mut world), 0, "relayed: {relayed}");
    }
}

#[test]
fn the_machine_with_the_smaller_key_begins_within_ten_seconds_and_the_other_waits_for_it() {
    let mut world = talking(false);
    let mut traffic = Traffic::of(&world);
    let smaller = usize::from(world.key(1) < world.key(0));
    for n in [0, 1] {
        world.enter(n, 1);
    }
    let before = world.sent.len();
    traffic.run(&mut world, 10 * SECOND + SECOND / 5);
    let began: Vec<usize> = world.sent[before..].iter().filter(|s| s.bytes[0] == 1).map(|s| s.from).collect();
    assert!(!began.is_empty() && began.iter().all(|n| *n == smaller), "{began:?}, {smaller}");
    assert!(world.uses(0, 1) && world.uses(1, 1));
}

#[test]
fn the_other_machine_begins_after_twenty_seconds_if_it_alone_has_the_epoch_first() {
    let mut world = talking(false);
    let mut traffic = Traffic::of(&world);
    let larger = usize::from(world.key(1) > world.key(0));
    world.enter(larger, 1);
    let before = world.sent.len();
    let begun = |w: &World| w.sent[before..].iter().filter(|s| s.bytes[0] == 1).count();
    traffic.run(&mut world, 19 * SECOND);
    assert_eq!(begun(&world), 0);
    traffic.run(&mut world, 2 * SECOND);
    assert!(begun(&world) > 0);
    assert_eq!(traffic.lost(&mut world), 0, "nobody answered, and nothing was lost by it");
}

#[test]
fn a_machine_that_was_removed_is_refused_at_once_by_whoever_has_the_new_epoch() {
    let mut world = World::connected(&[false, false, false]);
    for n in [0, 1] {
        world.send(2, n, 1);
        world.send(n, 2, 1);
    }
    world.run(2 * SECOND);
    let before = [world.received(0), world.received(1)];
    // Machine 2 is removed. Machine 0 hears of it, machine 1 does not yet.
    world.enter_without(0, 1, 2);
    for mark in 0..50 {
        world.send(2, 0, mark);
        world.send(2, 1, mark);
        world.run(SECOND / 5);
    }
    assert_eq!(world.received(0), before[0], "not in its old session, nor in a new one");
    assert_eq!(world.received(1), before[1] + 50);
    world.enter_without(1, 1, 2);
    world.send(2, 1, 1);
    world.send(0, 1, 1);
    world.run(2 * SECOND);
    assert_eq!(world.received(1), before[1] + 51, "from machine 0 alone");
}

#[test]
fn a_machine_that_has_not_heard_of_the_epoch_is_reached_in_the_one_before() {
    for relayed in [false, true] {
        let mut world = World::connected(&[true, true]);
        world.direct = !relayed;
        // There was no session before.
        world.enter(0, 1);
        world.send(0, 1, 1);
        world.until(3 * SECOND, |w| w.received(1) == 1);
        world.send(1, 0, 1);
        world.until(SECOND, |w| w.received(0) == 1);
        // And once it has heard, both move.
        world.enter(1, 1);
        let mut traffic = Traffic::of(&world);
        traffic.run(&mut world, 85 * SECOND);
        assert_eq!(traffic.lost(&mut world), 0, "relayed: {relayed}");
        assert!(world.uses(0, 1) && world.uses(1, 1));
    }
}

#[test]
fn a_machine_that_lost_the_new_epoch_is_reached_in_the_old_one_again() {
    let mut world = talking(false);
    let mut traffic = Traffic::of(&world);
    for n in [0, 1] {
        world.enter(n, 1);
    }
    traffic.run(&mut world, 25 * SECOND);
    assert!(world.uses(0, 1) && world.uses(1, 1));
    // Its state is of the day before.
    world.machines[1].knows = vec![0];
    world.restart(1);
    let began = world.now;
    let before = world.received(1);
    while world.received(1) == before {
        world.send(0, 1, 2);
        world.send(1, 0, 2);
        world.run(Duration::from_millis(100));
        assert!(world.now - began < 15 * SECOND, "not reached");
    }
}

#[test]
fn an_idle_pair_moves_with_its_next_packet_and_not_before() {
    let mut world = talking(false);
    world.run(400 * SECOND);
    let (before, woken) = (world.sent.len(), world.woken);
    for n in [0, 1] {
        world.enter(n, 1);
    }
    world.run(60 * SECOND);
    assert!(!world.sent[before..].iter().any(|s| s.bytes[0] == 1), "no handshake for nobody");
    assert!(
        world.woken - woken < 100,
        "nor does a machine wait for the packet awake: {}",
        world.woken - woken
    );
    let received = world.received(1);
    world.send(0, 1, 1);
    world.until(2 * SECOND, |w| w.received(1) == received + 1);
}

#[test]
fn the_old_session_ends_three_minutes_after_the_move_and_not_before() {
    let mut world = talking(false);
    for n in [0, 1] {
        world.enter(n, 1);
    }
    // Two of its packets are held up on their way.
    let [late, later] = [5, 6].map(|mark| {
        world.direct = false;
        world.send(0, 1, mark);
        world.run(SECOND / 20);
        world.direct = true;
        world.sent.iter().rfind(|s| s.from == 0 && s.bytes.len() >= DATA).unwrap().bytes.clone()
    });
    let talk = |world: &mut World, seconds: u64| {
        for mark in 0..5 * seconds {
            world.send(0, 1, mark as u8 % 5);
            world.send(1, 0, mark as u8 % 5);
            world.run(SECOND / 5);
        }
    };
    talk(&mut world, 25);
    assert!(world.uses(0, 1) && world.uses(1, 1));
    let from = world.public(0);
    let comes = |world: &mut World, datagram: &[u8]| {
        let before = world.received(1);
        world.inject(1, from, datagram);
        world.received(1) - before
    };
    talk(&mut world, 120);
    assert_eq!(comes(&mut world, &late), 1, "what was sent in it still arrives");
    talk(&mut world, 65);
    assert_eq!(comes(&mut world, &later), 0, "it has ended");
}

/// Two machines at home with a session, direct or over the relay.
fn talking(relayed: bool) -> World {
    let mut world = World::connected(&[true, true]);
    world.direct = !relayed;
    world.send(0, 1, 0);
    world.send(1, 0, 0);
    world.run(3 * SECOND);
    assert_eq!(matches!(world.path(0, 1), PathView::Relay(_)), relayed);
    world
}

/// Packets in both directions at [`PACE`].
struct Traffic {
    sent: usize,
    received: [usize; 2],
}

impl Traffic {
    fn of(world: &World) -> Self {
        Self { sent: 0, received: [world.received(0), world.received(1)] }
    }

    fn run(&mut self, world: &mut World, time: Duration) {
        let until = world.now + time;
        while world.now < until {
            world.tun(0, &data(ip4(0), ip4(1), 1));
            world.tun(1, &data(ip4(1), ip4(0), 1));
            self.sent += 1;
            world.run(PACE);
        }
    }

    fn lost(&self, world: &mut World) -> usize {
        world.run(SECOND);
        let came: usize = (0..2).map(|n| world.received(n) - self.received[n]).sum();
        2 * self.sent - came
    }
}

impl World {
    /// Machine `n` hears of an epoch.
    fn enter(&mut self, n: usize, epoch: u64) {
        self.enter_without(n, epoch, usize::MAX);
    }

    /// Machine `n` hears of an epoch that began with a machine's removal.
    fn enter_without(&mut self, n: usize, epoch: u64, removed: usize) {
        let tag = (epoch % 4) as u8;
        if !self.machines[n].knows.contains(&tag) {
            self.machines[n].knows.push(tag);
        }
        for other in (0..self.machines.len()).filter(|other| *other != n) {
            if other == removed {
                self.apply(n, ToData::RemovePeer(other as u32));
                continue;
            }
            let mut peer = self.peer(other, n, epoch);
            peer.psks.extend(self.peer(other, n, epoch - 1).psks);
            self.apply(n, ToData::SetPeer(peer));
        }
    }

    /// Whether what machine `n` sends is in a session of an epoch, as the index of its datagrams says.
    fn uses(&mut self, n: usize, epoch: u64) -> bool {
        self.last_tag = None;
        let from = [ip4(n), ip4(1 - n)];
        self.tun(n, &data(from[0], from[1], 3));
        self.run(SECOND);
        self.last_tag == Some((n, (epoch % 4) as u8))
    }
}
