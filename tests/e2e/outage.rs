//! What dies and comes back: the data path, the daemon, the coordinator, the relay.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{Coordinator, Lab, Node, RelayProcess, wait};

use crate::world::{FIRST_ANSWER, THREE, THREE_HOSTS, World};

/// What a killed data path may cost.
const BACK: Duration = Duration::from_secs(2);

#[test]
fn a_killed_data_path_is_back_within_two_seconds() {
    ended_by(Signal::SIGKILL, if tests::long() { 50 } else { 5 });
}

/// Rust's own handler of this signal makes a system call that a data path may not make: the kernel ends it by SIGSYS
/// (`vpnd/tests/unsandboxed.rs` sees that), as it would end one that somebody took over.
#[test]
fn a_data_path_that_makes_a_forbidden_call_is_back_within_two_seconds() {
    ended_by(Signal::SIGSEGV, if tests::long() { 50 } else { 3 });
}

fn ended_by(signal: Signal, times: usize) {
    let mut world = World::of(Lab::alone(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let address = world.node("flat-1").address("ipv4").unwrap();
    let mut samples = Vec::new();
    for _ in 0..times {
        let pid = world.node_mut("home-1").data_path().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
        let began = Instant::now();
        world.node("home-1").reaches(&address, FIRST_ANSWER).unwrap();
        samples.push(began.elapsed());
        assert_ne!(world.node_mut("home-1").data_path().unwrap(), pid);
    }
    let worst = samples.iter().max().unwrap();
    println!("data path ended by {signal}: median {:.2?}, worst {worst:.2?}", wait::median(&samples));
    assert!(*worst < BACK, "{worst:.2?}");
}

/// What waits for a session, or for a data path that is being started, is delivered and not dropped.
#[test]
fn no_first_ping_is_lost_over_a_killed_daemon_or_data_path() {
    let kills = if tests::long() { 50 } else { 6 };
    let mut world = World::of(Lab::up(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let addresses = ["cloud-1", "flat-1"].map(|name| world.node(name).address("ipv4").unwrap());
    let mut lost = Vec::new();
    for round in 0..kills {
        let node = world.node_mut("home-1");
        node.kill();
        node.start_again().unwrap();
        for (name, address) in ["cloud-1", "flat-1"].iter().zip(&addresses) {
            if !node.first_ping(address) {
                lost.push(format!("{round}: {name}, the daemon was killed"));
            }
        }
        for (name, address) in ["cloud-1", "flat-1"].iter().zip(&addresses) {
            let pid = world.node_mut("home-1").data_path().unwrap();
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
            if !world.node("home-1").first_ping(address) {
                lost.push(format!("{round}: {name}, the data path was killed"));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn a_killed_daemon_leaves_nothing_behind_and_comes_back_to_what_it_was() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let child = world.node_mut("home-1").data_path().unwrap();
    world.node_mut("home-1").kill();
    wait::until("the data path of a dead daemon ends", wait::SOON, || {
        !std::path::Path::new(&format!("/proc/{child}")).exists()
    })
    .unwrap();
    world.node_mut("home-1").start_again().unwrap();
    world.all_reach_all(FIRST_ANSWER);
}

#[test]
fn down_survives_a_restart_and_up_brings_it_back() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &THREE_HOSTS);
    let address = world.node("cloud-1").address("ipv4").unwrap();
    world.node("home-1").ask(&["down"]).unwrap();
    assert!(!world.node("home-1").pings(&address));
    let home = world.node_mut("home-1");
    home.stop().unwrap();
    home.start_again().unwrap();
    assert_eq!(home.status().unwrap()["state"], "down");
    assert!(!home.pings(&address));
    home.ask(&["up"]).unwrap();
    home.reaches(&address, FIRST_ANSWER).unwrap();
}

/// A coordinator on `srv` without a relay, and a relay on `srv2`.
fn apart(lab: &std::sync::Arc<Lab>) -> (Coordinator, RelayProcess) {
    let mut coordinator = Coordinator::start_with(&lab.host("srv"), &["--no-relay"]).unwrap();
    let relay = coordinator.start_relay(&lab.host("srv2")).unwrap();
    (coordinator, relay)
}

/// Names whom it talks to: a machine behind a router, through the relay if need be.
fn restarted_reaches_all(world: &mut World, name: &str) {
    let node = world.node_mut(name);
    node.kill();
    node.start_again().unwrap();
    let node = world.node(name);
    for other in world.others(node) {
        node.reaches(&other_address(node, other), FIRST_ANSWER).unwrap();
    }
}

/// As the asking machine knows it: the roster it stored.
fn other_address(node: &Node, other: &Node) -> String {
    node.peer(other.name()).unwrap()["ipv4"].as_str().unwrap().to_owned()
}

#[test]
fn without_the_coordinator_tunnels_go_on_and_a_restarted_machine_reaches_all() {
    let lab = Lab::up(&format!("{THREE},@servers=2")).unwrap();
    let (coordinator, _relay) = apart(&lab);
    let mut world = World::with(lab, coordinator, &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    world.coordinator.kill();
    world.all_reach_all(Duration::from_secs(2));
    restarted_reaches_all(&mut world, "home-1");
    restarted_reaches_all(&mut world, "cloud-1");
}

#[test]
fn without_coordinator_and_relay_direct_paths_go_on_and_all_heals_when_they_return() {
    let lab = Lab::up(&format!("{THREE},@servers=2")).unwrap();
    let (coordinator, mut relay) = apart(&lab);
    let mut world = World::with(lab, coordinator, &THREE_HOSTS);
    for (from, to) in
        [("home-1", "flat-1"), ("flat-1", "home-1"), ("home-1", "cloud-1"), ("flat-1", "cloud-1")]
    {
        world.becomes_direct(from, to, Duration::from_secs(20));
    }
    world.coordinator.kill();
    relay.kill();
    // Longer than a machine trusts a silent path.
    let address = world.node("flat-1").address("ipv4").unwrap();
    for _ in 0..20 {
        assert!(world.node("home-1").pings(&address), "a direct path needs no server");
        std::thread::sleep(Duration::from_millis(250));
    }
    world.coordinator.start_again().unwrap();
    relay.start_again().unwrap();
    restarted_reaches_all(&mut world, "flat-1");
    let late = Node::start(&world.lab.host("home-2")).unwrap();
    wait::until("the signer reaches its coordinator again", Duration::from_secs(30), || {
        world.node("cloud-1").invite(&[]).is_ok_and(|token| late.join(&token).is_ok())
    })
    .unwrap();
    late.reaches(&world.node("flat-1").address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
}

/// Its database was lost, or its operator removed the network.
#[test]
fn a_network_that_the_coordinator_does_not_know_any_more_goes_on_and_says_so() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let server = world.coordinator.host();
    let data = ["--data-dir", "/var/lib/tacet-coordinator"];
    let listed = server.run("tacet-coordinator", &["networks", data[0], data[1], "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = listed["networks"][0]["id"].as_str().unwrap();
    server.run("tacet-coordinator", &["networks", data[0], data[1], "remove", id, "--yes"]).unwrap();
    world.coordinator.start_again().unwrap();
    for node in &world.nodes {
        wait::until(&format!("{} says so", node.name()), Duration::from_secs(90), || {
            node.status().is_ok_and(|status| {
                status["state"] == "up" && status["warnings"] == serde_json::json!(["network_unknown"])
            })
        })
        .unwrap();
    }
    world.all_reach_all(FIRST_ANSWER);
}
