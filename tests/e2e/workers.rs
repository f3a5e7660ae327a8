//! A machine whose peers several workers share: to its peers it is one, whichever way leads to it.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use tests::{Lab, Node, process::kill_process, wait};

use crate::world::{FIRST_ANSWER, World};

/// One for each peer that a direct path leads to, and for the one that is reached over the relay alone.
const WORKERS: usize = 4;

/// Public, behind routers that map every destination alike, behind one that does not, without UDP.
const TOPOLOGY: &str = "cloud=none:v6=1,home=easy,flat=easy,cafe=hard,office=udpblocked";

/// Pings with each peer, in a row.
const PINGS: u64 = 40;

/// A session is renewed within this (WireGuard's REKEY_AFTER_TIME, and time for what begins it).
const REKEY: Duration = Duration::from_secs(150);

#[test]
fn peers_that_four_workers_share_are_reached_directly_and_over_the_relay_whatever_happens() {
    let mut world = sharing(TOPOLOGY, &["home-1", "cloud-1", "flat-1", "cafe-1", "office-1"], "home-1");
    world.all_reach_all(FIRST_ANSWER);
    for peer in ["cloud-1", "flat-1"] {
        world.becomes_direct("home-1", peer, wait::SOON);
        world.becomes_direct(peer, "home-1", wait::SOON);
    }
    assert_eq!(world.node("home-1").peer("office-1").unwrap()["path"], "relay");
    each_worker_has_peers(&mut world);

    // All end with one of them, and others take their place.
    let before = world.node_mut("home-1").data_path().unwrap();
    kill_process(before).unwrap();
    world.all_reach_all(FIRST_ANSWER);
    assert_ne!(world.node_mut("home-1").data_path().unwrap(), before);
    world.becomes_direct("home-1", "cloud-1", wait::SOON);

    // It goes elsewhere, where it is seen at another address; a peer does.
    world.lab.natlab(&["roam", "home-1", "flat"]).unwrap();
    world.all_reach_all(FIRST_ANSWER);
    world.lab.natlab(&["roam", "cloud-1", "home"]).unwrap();
    world.all_reach_all(FIRST_ANSWER);
    for peer in ["cloud-1", "flat-1"] {
        world.becomes_direct("home-1", peer, wait::SOON);
    }
    each_worker_has_peers(&mut world);

    if std::env::var_os(tests::LONG).is_some() {
        let end = Instant::now() + REKEY;
        while Instant::now() < end {
            world.all_reach_all(Duration::from_secs(2));
        }
    }
}

#[test]
fn a_peer_of_a_later_worker_is_met_by_the_ports_that_the_first_alone_has() {
    let world = sharing("home=easy,cafe=hard", &["home-1", "cafe-1"], "cafe-1");
    world.becomes_direct("home-1", "cafe-1", Duration::from_secs(60));
    world.becomes_direct("cafe-1", "home-1", Duration::from_secs(60));
    for _ in 0..5 {
        world.becomes_direct("cafe-1", "home-1", Duration::from_millis(300));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A network of these hosts, one of which has several workers.
fn sharing(topology: &str, hosts: &[&str], one: &str) -> World {
    let mut world = World::of(Lab::up(topology).unwrap(), hosts);
    let node = world.node_mut(one);
    node.stop().unwrap();
    node.options(&[&format!("--workers={WORKERS}")]);
    node.start_again().unwrap();
    world
}

/// Every thread has something to do when all peers are spoken with, and each is behind the walls.
fn each_worker_has_peers(world: &mut World) {
    let before = turns(world.node_mut("home-1"));
    assert_eq!(before.len(), WORKERS);
    let home = world.node("home-1");
    for other in world.others(home) {
        let (address, count) = (other.address("ipv4").unwrap(), PINGS.to_string());
        home.host().run("ping", &["-n", "-q", "-c", &count, "-i", "0.02", "-W", "2", &address]).unwrap();
    }
    let after = turns(world.node_mut("home-1"));
    for (worker, before) in before {
        let turns = after[&worker] - before;
        assert!(turns >= PINGS, "a worker had {turns} turns");
    }
}

/// How often each thread of the data path has waited.
fn turns(node: &mut Node) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.data_path().unwrap())).unwrap();
    let turns = tasks.map(|task| {
        let status = fs::read_to_string(task.as_ref().unwrap().path().join("status")).unwrap();
        for wall in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
            assert!(status.contains(wall), "{status}");
        }
        let turns = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")).unwrap();
        (task.unwrap().file_name().into_string().unwrap(), turns.parse().unwrap())
    });
    turns.collect()
}
