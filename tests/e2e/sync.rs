//! The newest roster from machine to machine: while the coordinator is away, and never without need.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tests::{Coordinator, Host, Lab, Node, RelayProcess, wait};

use crate::world::{FIRST_ANSWER, THREE, World, fresh};

/// For a change to go round without the coordinator: a first round of questions begins within six seconds after it went
/// away, a claim in a session is asked for after ten.
const ROUND: Duration = Duration::from_secs(30);

/// The signer, two machines, and one that is to be removed or to join.
const HOSTS: [&str; 4] = ["cloud-1", "home-1", "home-2", "flat-1"];

/// A coordinator on `srv`, a relay on `srv2` that outlives it, and a network of the hosts named.
fn apart(lab: Arc<Lab>, hosts: &[&str]) -> (World, RelayProcess) {
    let mut coordinator = Coordinator::start_with(&lab.host("srv"), &["--no-relay"]).unwrap();
    let relay = coordinator.start_relay(&lab.host("srv2")).unwrap();
    (World::with(lab, coordinator, hosts), relay)
}

fn laboratory() -> Arc<Lab> {
    Lab::up(&format!("{THREE},@servers=2")).unwrap()
}

/// From now on nothing passes between a host and an address, and nobody is told.
fn cut_off(host: &Host, from: Ipv4Addr) {
    let rules = format!(
        "add table inet cut
         add chain inet cut in {{ type filter hook input priority 0; }}
         add chain inet cut out {{ type filter hook output priority 0; }}
         add rule inet cut in ip saddr {from} drop
         add rule inet cut out ip daddr {from} drop"
    );
    host.run("nft", &[&rules]).unwrap();
}

/// Counts the packets of sync that a host sends from now on, those that begin a connection apart.
fn count(host: &Host) {
    let port = proto::sync::PORT;
    let rules = format!(
        "add table inet seen
         add counter inet seen begun
         add counter inet seen sent
         add chain inet seen out {{ type filter hook output priority 0; }}
         add rule inet seen out tcp dport {port} tcp flags & (syn | ack) == syn counter name begun
         add rule inet seen out tcp dport {port} counter name sent
         add rule inet seen out tcp sport {port} counter name sent"
    );
    host.run("nft", &[&rules]).unwrap();
}

fn counted(host: &Host, counter: &str) -> u64 {
    let listed = host.run("nft", &["list", "counter", "inet", "seen", counter]).unwrap();
    let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

fn version(node: &Node) -> (u64, u64) {
    let status = node.status().unwrap();
    (status["version"].as_u64().unwrap(), status["epoch"].as_u64().unwrap())
}

/// Cuts all but the first off from the coordinator, has the first change the network, and takes the coordinator away as
/// soon as it has said that it is done.
fn change_for_the_signer_alone(world: &mut World, change: impl FnOnce(&World)) -> Instant {
    let coordinator = world.coordinator.host().ipv4().unwrap();
    for node in &world.nodes[1..] {
        cut_off(node.host(), coordinator);
    }
    let before = version(&world.nodes[1]);
    change(world);
    world.coordinator.kill();
    let began = Instant::now();
    for node in &world.nodes[1..] {
        assert_eq!(version(node), before, "{} was to hear nothing", node.name());
    }
    began
}

/// How long it took until all but the first have the first one's roster.
fn spread(world: &World, to: &[&str], began: Instant) -> Vec<Duration> {
    let newest = version(&world.nodes[0]);
    let reached = |name: &&str| {
        wait::until(&format!("{name} has the newest roster"), ROUND, || {
            world.node(name).status().is_ok_and(|_| version(world.node(name)) == newest)
        })
        .unwrap();
        began.elapsed()
    };
    to.iter().map(reached).collect()
}

#[test]
fn a_removal_that_the_signer_alone_was_told_reaches_everybody_while_the_coordinator_is_away() {
    let (mut world, _relay) = apart(laboratory(), &HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let addresses = HOSTS.map(|name| world.node(name).address("ipv4").unwrap());
    let began = change_for_the_signer_alone(&mut world, |world| {
        world.node("cloud-1").ask(&["machines", "remove", "flat-1", "--yes"]).unwrap();
    });
    let took = spread(&world, &["home-1", "home-2"], began);
    println!("a removal without the coordinator: {took:.1?} after it went away");

    for name in ["home-1", "home-2"] {
        assert!(world.node(name).peer("flat-1").is_err(), "{name} knows flat-1 still");
        assert_eq!(world.node(name).status().unwrap()["state"], "up");
        assert!(!world.node(name).pings(&addresses[3]), "{name} sends to it still");
    }
    for address in &addresses[..3] {
        assert!(!world.node("flat-1").pings(address), "flat-1 reaches {address}");
    }
    // Those who stay reach each other in the new epoch, the two behind one router as well.
    for (from, to) in [("home-1", 0), ("home-2", 0), ("home-1", 2), ("home-2", 1)] {
        world.node(from).reaches(&addresses[to], FIRST_ANSWER).unwrap();
    }
    // What was removed is asked by nobody, and asks in vain.
    thread::sleep(Duration::from_secs(10));
    assert!(version(world.node("flat-1")) < version(world.node("home-1")));
}

#[test]
fn an_addition_that_the_signer_alone_was_told_reaches_everybody_while_the_coordinator_is_away() {
    let (mut world, _relay) = apart(laboratory(), &HOSTS[..3]);
    let late = fresh(&world.lab.host("flat-1"));
    let began = change_for_the_signer_alone(&mut world, |world| {
        late.join(&world.node("cloud-1").invite(&[]).unwrap()).unwrap();
        wait::until("the signer took it in", wait::SOON, || {
            world.node("cloud-1").peer("flat-1").is_ok_and(|peer| peer["ipv4"].is_string())
                && late.status().is_ok_and(|status| status["machine"]["ipv4"].is_string())
        })
        .unwrap();
    });
    let took = spread(&world, &["home-1", "home-2"], began);
    println!("an addition without the coordinator: {took:.1?} after it went away");
    let address = late.address("ipv4").unwrap();
    for name in ["home-1", "home-2"] {
        assert_eq!(world.node(name).peer("flat-1").unwrap()["ipv4"], address.as_str());
        world.node(name).reaches(&address, FIRST_ANSWER).unwrap();
    }
}

#[test]
fn a_removal_reaches_whom_a_direct_path_is_left_to_when_all_servers_are_gone() {
    let (mut world, mut relay) = apart(laboratory(), &["cloud-1", "home-1", "flat-1"]);
    world.becomes_direct("home-1", "cloud-1", Duration::from_secs(20));
    let [cloud, home] = ["cloud-1", "home-1"].map(|name| world.node(name).address("ipv4").unwrap());
    let began = change_for_the_signer_alone(&mut world, |world| {
        assert!(world.node("home-1").pings(&cloud));
        world.node("cloud-1").ask(&["machines", "remove", "flat-1", "--yes"]).unwrap();
        relay.kill();
    });
    let took = spread(&world, &["home-1"], began);
    println!("a removal over a direct path alone: {took:.1?} after all servers went away");
    assert!(world.node("home-1").peer("flat-1").is_err());
    world.node("home-1").reaches(&cloud, FIRST_ANSWER).unwrap();
    assert!(!world.node("flat-1").pings(&home) && !world.node("flat-1").pings(&cloud));
}

/// Rounds in a minute without coordinator: the first after 2 to 6 s, then after means of 4, 8, 16 and 32 s, each between
/// a half and one and a half of it.
const ROUNDS: u64 = 6;

#[test]
fn nobody_is_asked_while_the_coordinator_is_well_and_few_are_while_it_is_away() {
    let (mut world, _relay) = apart(laboratory(), &["cloud-1", "home-1", "flat-1"]);
    for node in &world.nodes {
        count(node.host());
    }
    let minute = |world: &World, traffic: bool| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if traffic {
                world.all_reach_all(FIRST_ANSWER);
                // A change that everybody is told, and an epoch.
                let made = world.node("cloud-1").ask(&["invite", "create"]).unwrap();
                world.node("cloud-1").ask(&["invite", "revoke", made["id"].as_str().unwrap()]).unwrap();
            }
            thread::sleep(Duration::from_secs(5));
        }
    };
    minute(&world, true);
    for node in &world.nodes {
        assert_eq!(counted(node.host(), "sent"), 0, "{} asked, or answered", node.name());
    }
    world.coordinator.kill();
    minute(&world, false);
    for node in &world.nodes {
        let (begun, all) = (counted(node.host(), "begun"), counted(node.host(), "sent"));
        println!("{}: {begun} connections, {all} packets in a minute without coordinator", node.name());
        assert!((2..=ROUNDS * 2).contains(&begun), "{}: {begun} connections", node.name());
    }
    world.coordinator.start_again().unwrap();
    wait::until("the coordinator is back", ROUND * 2, || {
        world.nodes.iter().all(|node| node.status().is_ok_and(|status| status["warnings"].is_null()))
    })
    .unwrap();
    let before = world.nodes.iter().map(|node| counted(node.host(), "sent")).sum::<u64>();
    thread::sleep(Duration::from_secs(20));
    let after = world.nodes.iter().map(|node| counted(node.host(), "sent")).sum::<u64>();
    assert_eq!(before, after, "all is as before");
}

/// Epochs that a sleeper misses: more than the two that sessions may be of, and than the tags that tell them apart.
const MISSED: u64 = 5;

/// So many epochs pass, and all but `sleeper` follow; then the coordinator goes away.
fn epochs_pass_without(world: &mut World, sleeper: &str) -> u64 {
    let signer = world.node("cloud-1");
    let before = version(signer).1;
    for _ in 0..MISSED {
        let made = signer.ask(&["invite", "create"]).unwrap();
        signer.ask(&["invite", "revoke", made["id"].as_str().unwrap()]).unwrap();
    }
    let epoch = before + MISSED;
    for node in world.nodes.iter().filter(|node| node.name() != sleeper) {
        wait::until(&format!("{} follows", node.name()), wait::SOON, || version(node).1 == epoch).unwrap();
    }
    world.coordinator.kill();
    epoch
}

fn comes_back(world: &World, sleeper: &str, epoch: u64, began: Instant) {
    let node = world.node(sleeper);
    wait::until(&format!("{sleeper} is in the present epoch"), Duration::from_secs(60), || {
        node.status().is_ok_and(|status| status["epoch"] == epoch && status["state"] == "up")
    })
    .unwrap();
    println!(
        "{sleeper} slept through {MISSED} epochs: back after {:.1?}, without coordinator",
        began.elapsed()
    );
    for other in world.others(node) {
        let address = other.address("ipv4").unwrap();
        node.reaches(&address, FIRST_ANSWER).unwrap();
        other.reaches(&node.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    }
}

#[test]
fn a_machine_that_was_off_through_five_epochs_comes_back_without_the_coordinator() {
    let (mut world, _relay) = apart(laboratory(), &["cloud-1", "home-1", "flat-1"]);
    world.all_reach_all(FIRST_ANSWER);
    world.node_mut("flat-1").stop().unwrap();
    let epoch = epochs_pass_without(&mut world, "flat-1");
    let began = Instant::now();
    world.node_mut("flat-1").start_again().unwrap();
    comes_back(&world, "flat-1", epoch, began);
}

#[test]
fn a_machine_that_was_frozen_through_five_epochs_comes_back_without_the_coordinator() {
    let (mut world, _relay) = apart(laboratory(), &["cloud-1", "home-1", "flat-1"]);
    world.all_reach_all(FIRST_ANSWER);
    world.lab.natlab(&["freeze", "flat-1"]).unwrap();
    let epoch = epochs_pass_without(&mut world, "flat-1");
    let began = Instant::now();
    world.lab.natlab(&["thaw", "flat-1"]).unwrap();
    comes_back(&world, "flat-1", epoch, began);
}
