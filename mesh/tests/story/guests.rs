//! Machines that slept through epochs: they reach sync, and nothing else, until they have the present one.

use std::{net::IpAddr, time::Duration};

use boringtun::noise::{Tunn, TunnResult};
use proto::{
    metadata::Endpoint,
    pipe::{Guest, PathView, ToData},
    sync,
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::world::{DATA, World, data, floor, host, ip4, ip6};

const SECOND: Duration = Duration::from_secs(1);
/// How far machines sleep in: within four epochs, where tags repeat, and the furthest that keys are kept for.
const BEHIND: [u64; 4] = [2, 3, 4, 8];
/// A port of a client.
const CLIENT: u16 = 50_000;

/// The machine that slept, and the one that did not.
const SLEPT: usize = 1;
const AWAKE: usize = 0;

/// How many workers it has. Of two, the second has the guest.
const WORKERS: [u8; 2] = [1, 2];

#[test]
fn a_machine_that_slept_reaches_sync_and_nothing_else_passes_either_way() {
    for workers in WORKERS {
        for behind in BEHIND {
            let mut world = slept(behind, workers);
            world.tun(SLEPT, &ask());
            world.until(SECOND / 2, |w| w.machines[AWAKE].tun == [ask()]);
            world.tun(AWAKE, &answer());
            world.until(SECOND / 2, |w| w.machines[SLEPT].tun == [answer()]);
            world.run(SECOND);

            let (there, here) = (ip6(SLEPT), ip6(AWAKE));
            for packet in [
                data(ip4(SLEPT), ip4(AWAKE), 1),
                tcp((there, CLIENT), (here, 22)),
                tcp((there, sync::PORT), (here, CLIENT)),
            ] {
                world.tun(SLEPT, &packet);
            }
            for packet in [
                data(ip4(AWAKE), ip4(SLEPT), 1),
                data(here, there, 1),
                tcp((here, CLIENT), (there, sync::PORT)),
                tcp((here, 22), (there, CLIENT)),
                with_protocol(17, answer()),
            ] {
                world.tun(AWAKE, &packet);
            }
            world.run(5 * SECOND);
            assert_eq!((world.received(AWAKE), world.received(SLEPT)), (1, 1), "{behind} epochs");
            assert_eq!(
                world.status(AWAKE).drops.guest,
                0,
                "who is told that it is a guest does not even try"
            );
            for _ in 0..50 {
                world.tun(SLEPT, &ask());
                world.tun(AWAKE, &answer());
                world.run(SECOND / 10);
            }
            assert_eq!((world.received(AWAKE), world.received(SLEPT)), (51, 51), "sync goes on");
            assert!(world.sent.iter().all(|sent| sent.bytes[0] == 0), "nothing goes directly but STUN");
            assert!(world.path(AWAKE, SLEPT) == PathView::Idle && world.path(SLEPT, AWAKE) == PathView::Idle);
        }
    }
}

#[test]
fn who_was_frozen_reaches_sync_though_a_session_of_before_seems_to_live() {
    let mut world = World::connected(&[true, true]);
    for n in [SLEPT, AWAKE] {
        world.machines[n].named = vec![0];
    }
    world.send(SLEPT, AWAKE, 1);
    world.run(5 * SECOND);
    for epoch in 1..=5 {
        world.take(AWAKE, epoch);
    }
    // Of the changes it hears the first, and then nothing more.
    world.take(SLEPT, 1);
    let before = world.received(AWAKE);
    for _ in 0..40 {
        world.tun(SLEPT, &ask());
        world.run(SECOND);
    }
    assert!(world.received(AWAKE) > before + 10, "{} of 40", world.received(AWAKE) - before);
}

#[test]
fn a_guest_that_heeds_no_rule_reaches_no_more_than_another() {
    for workers in WORKERS {
        let (mut world, mut tunn) = with_plain_guest(workers);
        let (there, here) = (ip6(5), ip6(0));
        let sync = tcp((there, CLIENT), (here, sync::PORT));
        let mut cut = sync.clone();
        cut.truncate(59);
        cut[5] = 19;
        let refused = [
            data(ip4(5), ip4(0), 1),
            data(there, here, 1),
            tcp((there, CLIENT), (here, sync::PORT - 1)),
            tcp((there, sync::PORT), (here, CLIENT)),
            tcp((ip6(7), CLIENT), (here, sync::PORT)),
            tcp((there, CLIENT), (ip6(7), sync::PORT)),
            with_protocol(17, sync.clone()),
            // A fragment.
            with_protocol(44, sync.clone()),
            cut,
        ];
        for (n, packet) in refused.iter().enumerate() {
            relayed(&mut world, &mut tunn, 5, packet);
            assert_eq!((world.received(0), world.status(0).drops.guest), (0, n as u64 + 1), "packet {n}");
        }
        relayed(&mut world, &mut tunn, 5, &sync);
        assert_eq!(world.received(0), 1);
        let mut buf = [0; 2_000];
        let TunnResult::WriteToNetwork(direct) = tunn.encapsulate(&sync, &mut buf) else { panic!() };
        world.inject(0, "203.0.113.77:7777".parse().unwrap(), direct);
        assert_eq!(world.received(0), 1, "over a relay alone");
    }
}

#[test]
fn what_is_sent_once_it_has_the_present_epoch_arrives_at_once_and_all_of_it() {
    for workers in WORKERS {
        for behind in BEHIND {
            for relayed in [false, true] {
                let mut world = slept(behind, workers);
                world.direct = !relayed;
                world.tun(SLEPT, &ask());
                world.send(AWAKE, SLEPT, 1);
                world.run(3 * SECOND);
                let before = [world.received(SLEPT), world.received(AWAKE)];
                assert_eq!(before, [0, 1]);
                let mut sent = 0;
                // Some wait for it.
                for time in 0..1_000 {
                    if time == 10 {
                        world.take(SLEPT, behind);
                    }
                    world.send(SLEPT, AWAKE, 1);
                    world.send(AWAKE, SLEPT, 1);
                    sent += 1;
                    world.run(Duration::from_millis(20));
                    if time == 20 {
                        assert!(world.received(AWAKE) > before[1], "{behind} epochs");
                    }
                }
                world.run(SECOND);
                let came = [world.received(SLEPT) - before[0], world.received(AWAKE) - before[1]];
                // The other's first packet waited from the start.
                assert_eq!(came, [sent + 1, sent], "{behind} epochs, relayed: {relayed}");
                assert_eq!(matches!(world.path(SLEPT, AWAKE), PathView::Relay(_)), relayed);
                assert_eq!(matches!(world.path(AWAKE, SLEPT), PathView::Relay(_)), relayed);
            }
        }
    }
}

#[test]
fn a_guest_is_told_which_roster_there_is_and_so_is_its_host() {
    for workers in WORKERS {
        let mut world = slept(3, workers);
        world.has(SLEPT, 1);
        world.has(AWAKE, 9);
        world.tun(SLEPT, &ask());
        world.until(SECOND, |w| w.machines[SLEPT].floors == [(AWAKE as u32, floor(9))]);
        world.until(SECOND, |w| w.machines[AWAKE].floors == [(SLEPT as u32, floor(1))]);
        world.has(AWAKE, 10);
        world.until(SECOND, |w| w.machines[SLEPT].floors.ends_with(&[(AWAKE as u32, floor(10))]));
    }
}

#[test]
fn a_machine_that_sleeps_on_comes_as_a_guest_again() {
    for workers in WORKERS {
        let mut world = slept(3, workers);
        for round in 1..4 {
            world.tun(SLEPT, &ask());
            world.until(SECOND, |w| w.received(AWAKE) == round);
            // Its data path forgot everything, and the other did not.
            world.reboot(SLEPT);
            world.run(SECOND);
        }
        world.run(400 * SECOND);
        let woken = world.woken;
        world.run(60 * SECOND);
        assert!(world.woken - woken < 60, "an idle guest is forgotten: {}", world.woken - woken);
        world.tun(SLEPT, &ask());
        world.until(SECOND, |w| w.received(AWAKE) == 4);
    }
}

#[test]
fn a_copy_that_came_directly_under_the_same_tag_keeps_no_guest_out() {
    for workers in WORKERS {
        // Four epochs apart both have the same tag, and the direct copy of the initiation comes first.
        let mut world = slept(4, workers);
        world.machines[AWAKE].nat = None;
        let mut peer = world.peer(AWAKE, SLEPT, 0);
        peer.endpoints = vec![Endpoint(world.public(AWAKE))];
        world.apply(SLEPT, ToData::SetPeer(peer));
        world.tun(SLEPT, &ask());
        world.until(SECOND / 2, |w| w.received(AWAKE) == 1);
        let direct = world.sent.iter().filter(|sent| sent.from == AWAKE && sent.bytes[0] == 2).count();
        assert_eq!(direct, 1, "the copy was answered");
    }
}

#[test]
fn a_removed_machine_gets_no_answer_and_a_guest_that_is_removed_no_more() {
    for workers in WORKERS {
        let mut world = slept(3, workers);
        world.apply(AWAKE, ToData::RemovePeer(SLEPT as u32));
        world.tun(SLEPT, &ask());
        world.run(10 * SECOND);
        assert_eq!((world.machines[AWAKE].relayed, world.received(AWAKE)), (0, 0));

        let mut world = slept(3, workers);
        world.tun(SLEPT, &ask());
        world.run(SECOND);
        world.apply(AWAKE, ToData::RemovePeer(SLEPT as u32));
        let before = world.machines[AWAKE].relayed;
        for _ in 0..20 {
            world.tun(SLEPT, &ask());
            world.run(SECOND);
        }
        assert_eq!((world.machines[AWAKE].relayed, world.received(AWAKE)), (before, 1));
    }
}

#[test]
fn a_machine_that_lost_the_present_epoch_is_let_in_once_it_is_silent_there() {
    for workers in WORKERS {
        let mut world = slept(3, workers);
        world.take(SLEPT, 3);
        world.send(SLEPT, AWAKE, 1);
        world.send(AWAKE, SLEPT, 1);
        world.run(3 * SECOND);
        assert_eq!((world.received(SLEPT), world.received(AWAKE)), (1, 1));
        // Its state is of long ago.
        (world.machines[SLEPT].named, world.machines[SLEPT].ended) = (vec![0], Vec::new());
        world.reboot(SLEPT);
        let began = world.now;
        while world.received(AWAKE) == 1 {
            world.tun(SLEPT, &ask());
            world.send(AWAKE, SLEPT, 1);
            world.run(SECOND / 5);
            assert!(world.now - began < 15 * SECOND, "not let in");
        }
        world.tun(AWAKE, &answer());
        world.until(SECOND, |w| w.received(SLEPT) == 2);
    }
}

#[test]
fn an_old_initiation_breaks_off_no_session_of_the_present_epoch() {
    for workers in WORKERS {
        let mut world = slept(3, workers);
        world.machines[SLEPT].keep_initiations = Some(Vec::new());
        world.tun(SLEPT, &ask());
        world.run(SECOND / 2);
        let (_, old) = world.machines[SLEPT].keep_initiations.take().unwrap().remove(0);
        world.take(SLEPT, 3);
        world.send(SLEPT, AWAKE, 1);
        world.run(SECOND);
        world.machines[AWAKE].answers = Some(Vec::new());
        for n in 0..300 {
            if n % 50 == 0 {
                world.knock(AWAKE, 66, 0, &old);
            }
            world.send(SLEPT, AWAKE, 1);
            world.send(AWAKE, SLEPT, 1);
            world.run(SECOND / 10);
        }
        assert!(world.machines[AWAKE].answers.take().unwrap().is_empty(), "nor is it answered");
        // It asked for sync before, and that waited.
        assert_eq!((world.received(SLEPT), world.received(AWAKE)), (300, 302));
    }
}

#[test]
fn a_recorded_initiation_is_answered_once_and_ends_no_guest() {
    for workers in WORKERS {
        let mut world = slept(4, workers);
        // Two that somebody took off the wire: of the epoch that it sleeps in, and of an older one.
        let mut older = plain_tunn(&world, SLEPT, AWAKE, 1);
        let recorded = [initiation(&mut plain_tunn(&world, SLEPT, AWAKE, 0)), initiation(&mut older)];
        world.run(SECOND);
        world.tun(SLEPT, &ask());
        world.until(SECOND / 2, |w| w.received(AWAKE) == 1);
        let answers = |world: &mut World, epoch: u64, initiation: &[u8]| {
            let before = world.machines[AWAKE].relayed;
            world.knock(AWAKE, SLEPT as u64, epoch, initiation);
            world.machines[AWAKE].relayed - before
        };
        assert_eq!(answers(&mut world, 0, &recorded[0]), 0, "older than the one that was answered");
        assert_eq!(answers(&mut world, 1, &recorded[1]), 1, "a first copy may be the real one");
        for _ in 0..10 {
            // Not so fast that a source would be asked for a cookie.
            world.run(SECOND / 10);
            assert_eq!(answers(&mut world, 1, &recorded[1]), 0);
            assert_eq!(answers(&mut world, 0, &recorded[0]), 0);
        }
        for count in 2..20 {
            world.tun(SLEPT, &ask());
            world.until(SECOND / 10, |w| w.received(AWAKE) == count);
            world.tun(AWAKE, &answer());
            world.until(SECOND / 10, |w| w.received(SLEPT) == count - 1);
            world.run(SECOND);
        }
    }
}

#[test]
fn what_was_answered_when_its_epoch_was_the_present_one_makes_no_guest() {
    let mut world = World::connected(&[true, true]);
    for n in [SLEPT, AWAKE] {
        world.machines[n].named = vec![0];
    }
    world.machines[SLEPT].keep_initiations = Some(Vec::new());
    world.send(SLEPT, AWAKE, 1);
    world.run(SECOND / 2);
    let (handle, recorded) = world.machines[SLEPT].keep_initiations.take().unwrap().remove(0);
    world.apply(AWAKE, ToData::RelayRecv { relay: 0, handle, payload: &recorded });
    world.until(SECOND, |w| w.received(AWAKE) == 1);
    for epoch in 1..=3 {
        world.take(AWAKE, epoch);
    }
    world.run(400 * SECOND);
    let before = world.machines[AWAKE].relayed;
    world.knock(AWAKE, handle, 0, &recorded);
    assert_eq!(world.machines[AWAKE].relayed, before);
}

#[test]
fn guests_without_end_take_no_more_than_their_share() {
    for workers in WORKERS {
        let mut world = World::new(&[false]);
        world.share(0, workers);
        let mut knocking: Vec<Tunn> = (0..300).map(|id| add_plain(&mut world, 10 + id)).collect();
        let mut answered = |world: &mut World, n: usize, handle: u64| {
            let psk = Zeroizing::new([7; 32]);
            let initiation = initiation(&mut knocking[n]);
            world.machines[0].answers = Some(Vec::new());
            let guest = Guest { peer: 10 + n as u32, psk, relay: 0, handle, initiation: &initiation };
            world.apply(0, ToData::Guest(guest));
            world.machines[0].answers.take().unwrap().iter().filter(|answer| answer[0] == 2).count()
        };
        // One source, again and again.
        let one: usize = (0..60).map(|_| answered(&mut world, 1, 1)).sum();
        assert_eq!(one, 20);
        // Many machines. Those that prove nothing give way soon.
        world.run(60 * SECOND);
        let mut many = 0;
        for n in 0..300 {
            if n % 80 == 0 {
                // More in a second would be asked for cookies.
                world.now += SECOND;
            }
            many += answered(&mut world, n, 1_000 + n as u64);
        }
        assert_eq!(many, 256);
        world.run(15 * SECOND);
        assert_eq!(answered(&mut world, 299, 5), 1);
    }
}

/// Two machines at home: one has heard of all epochs since the other fell asleep.
fn slept(behind: u64, workers: u8) -> World {
    let mut world = World::connected(&[true, true]);
    world.share(AWAKE, workers);
    for n in [SLEPT, AWAKE] {
        world.machines[n].named = vec![0];
    }
    for epoch in 1..=behind {
        world.take(AWAKE, epoch);
    }
    world
}

impl World {
    /// Machine `n` takes a roster of an epoch: what control tells its data path.
    fn take(&mut self, n: usize, epoch: u64) {
        let machine = &mut self.machines[n];
        let former = machine.named[0];
        machine.ended.insert(0, former);
        machine.named = vec![epoch];
        if epoch - former < 4 {
            machine.named.push(former);
        }
        machine.ended.truncate(8);
        self.tell(n);
    }

    /// The data path of machine `n` is started anew.
    fn reboot(&mut self, n: usize) {
        self.restart(n);
        self.tell(n);
    }

    fn tell(&mut self, n: usize) {
        for other in (0..self.machines.len()).filter(|other| *other != n) {
            let named = self.machines[n].named.clone();
            let mut peer = self.peer(other, n, named[0]);
            peer.psks = named.iter().flat_map(|epoch| self.peer(other, n, *epoch).psks).collect();
            self.apply(n, ToData::SetPeer(peer));
        }
    }
}

/// From the machine that slept to the other's sync.
fn ask() -> Vec<u8> {
    tcp((ip6(SLEPT), CLIENT), (ip6(AWAKE), sync::PORT))
}

/// The way back.
fn answer() -> Vec<u8> {
    tcp((ip6(AWAKE), sync::PORT), (ip6(SLEPT), CLIENT))
}

fn tcp((from, from_port): (IpAddr, u16), (to, to_port): (IpAddr, u16)) -> Vec<u8> {
    let mut packet = data(from, to, 1);
    packet.truncate(200);
    packet[4..6].copy_from_slice(&160_u16.to_be_bytes());
    packet[40..42].copy_from_slice(&from_port.to_be_bytes());
    packet[42..44].copy_from_slice(&to_port.to_be_bytes());
    with_protocol(6, packet)
}

fn with_protocol(protocol: u8, mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] = protocol;
    packet
}

/// A machine, and a WireGuard peer of it, number 5, that is its guest and sends what it likes.
fn with_plain_guest(workers: u8) -> (World, Tunn) {
    let mut world = World::new(&[false]);
    world.share(0, workers);
    let mut tunn = add_plain(&mut world, 5);
    let initiation = initiation(&mut tunn);
    world.machines[0].answers = Some(Vec::new());
    let psk = Zeroizing::new([7; 32]);
    world.apply(0, ToData::Guest(Guest { peer: 5, psk, relay: 0, handle: 5, initiation: &initiation }));
    let response = world.machines[0].answers.take().unwrap().remove(0);
    let mut buf = [0; 148];
    let TunnResult::WriteToNetwork(keepalive) = tunn.decapsulate(None, &response, &mut buf) else { panic!() };
    world.machines[0].answers = Some(Vec::new());
    world.apply(0, ToData::RelayRecv { relay: 0, handle: 5, payload: keepalive });
    (world, tunn)
}

fn relayed(world: &mut World, tunn: &mut Tunn, handle: u64, packet: &[u8]) {
    let mut buf = [0; 2_000];
    let TunnResult::WriteToNetwork(sealed) = tunn.encapsulate(packet, &mut buf) else { panic!() };
    world.apply(0, ToData::RelayRecv { relay: 0, handle, payload: sealed });
}

/// A peer with this number, of which the machine knows another epoch's key.
fn add_plain(world: &mut World, id: u32) -> Tunn {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&id.to_be_bytes());
    let secret = StaticSecret::from(seed);
    let mut peer = world.peer(0, 0, 0);
    (peer.id, peer.wireguard) = (id, *PublicKey::from(&secret).as_bytes());
    peer.allowed = vec![host(ip4(id as usize % 200)), host(ip6(id as usize))];
    world.apply(0, ToData::SetPeer(peer));
    Tunn::new(secret, PublicKey::from(world.key(0)), Some([7; 32]), None, 0, None)
}

/// Machine `n` as a peer of machine `of` could have been recorded in an epoch.
fn plain_tunn(world: &World, n: usize, of: usize, epoch: u64) -> Tunn {
    let secret = StaticSecret::from([n as u8 + 1; 32]);
    let psk = *world.peer(n, of, epoch).psks[0].1;
    Tunn::new(secret, PublicKey::from(world.key(of)), Some(psk), None, 0, None)
}

fn initiation(tunn: &mut Tunn) -> Vec<u8> {
    let mut buf = [0; 148];
    let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(&mut buf, true) else {
        panic!()
    };
    message.to_vec()
}

const _: () = assert!(DATA > 200);
