//! A machine that starts in a world that is not ready for it: it comes up by itself when it can, and says why meanwhile.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{Clock, Coordinator, Lab, Node, wait};

use crate::world::{FIRST_ANSWER, World};

const DAY: i64 = 86_400;

/// For a machine to be back once the reason is gone: the clock is looked at every five seconds, then all is tried.
const BACK: Duration = Duration::from_secs(20);

fn warnings(node: &Node) -> Vec<Value> {
    node.status().unwrap_or_default()["warnings"].as_array().cloned().unwrap_or_default()
}

/// Waits until it says all of this, and nothing else.
fn says(node: &Node, wanted: &[&str]) {
    let mut wanted: Vec<Value> = wanted.iter().map(|warning| Value::from(*warning)).collect();
    wanted.sort_by_key(Value::to_string);
    let mut said = Vec::new();
    let agreed = wait::until("it says what is wrong", BACK, || {
        said = warnings(node);
        said.sort_by_key(Value::to_string);
        said == wanted
    });
    assert!(agreed.is_ok(), "{said:?} and not {wanted:?}");
}

#[test]
fn a_machine_that_starts_before_its_network_comes_up_with_it() {
    let lab = Lab::up("cloud=none:v6=1,home=easy,flat=easy").unwrap();
    // By name, which resolves only once there is a network.
    let coordinator = Coordinator::start_called(&lab.host("srv"), "srv.lab").unwrap();
    let mut world = World::with(lab, coordinator, &["cloud-1", "home-1", "flat-1"]);
    world.all_reach_all(FIRST_ANSWER);
    let [cloud, flat] = ["cloud-1", "flat-1"].map(|name| world.node(name).address("ipv4").unwrap());
    let lab = Arc::clone(&world.lab);
    let node = world.node_mut("home-1");
    node.stop().unwrap();
    let host = node.host().clone();
    let ip = |arguments: &str| host.run("ip", &arguments.split(' ').collect::<Vec<_>>()).unwrap();
    let (own, route) = (ip("-4 -o address show dev eth0"), ip("-4 route show default"));
    let own = own.split_whitespace().find(|word| word.contains('/')).unwrap().to_owned();
    let hosts = format!("/etc/netns/{}/hosts", host.namespace());
    let known = fs::read_to_string(&hosts).unwrap();
    // As after a power cut the router gets another address, which the other one does not let through yet.
    lab.natlab(&["wan-ip", "home"]).unwrap();
    ip("address flush dev eth0");
    ip("link set eth0 down");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();

    node.start_again().unwrap();
    says(node, &["coordinator_unreachable", "relay_unreachable"]);
    assert_eq!(node.status().unwrap()["state"], "up");
    assert!(!node.pings(&cloud));

    ip("link set eth0 up");
    ip(&format!("address add {own} dev eth0"));
    ip(&format!("route add {route}"));
    // A resolver that answers only once all that was told by addresses has been acted on.
    std::thread::sleep(Duration::from_secs(4));
    let began = Instant::now();
    fs::write(&hosts, known).unwrap();
    node.reaches(&cloud, BACK).unwrap();
    println!("from the resolver's first answer to the first ping's: {:.2?}", began.elapsed());
    says(node, &[]);
    // And finds its way through two routers, for which it has to learn its new address.
    world.node("flat-1").reaches(&world.node("home-1").address("ipv4").unwrap(), BACK).unwrap();
    world.node("home-1").reaches(&flat, BACK).unwrap();
    world.becomes_direct("home-1", "flat-1", BACK);
}

#[test]
fn a_clock_that_is_wrong_is_told_and_the_machine_is_back_once_it_is_set() {
    let lab = Lab::up("cloud=none:v6=1,home=easy").unwrap();
    lab.keep_changes_apart();
    let mut world = World::of(lab, &["cloud-1", "home-1"]);
    world.all_reach_all(FIRST_ANSWER);
    let [cloud, home] = ["cloud-1", "home-1"].map(|name| world.node(name).address("ipv4").unwrap());
    let node = world.node_mut("home-1");
    let clock = Clock::of(node).unwrap();
    // Before the network was made, and by so little that relays do not mind, but peers do, who remember a later time.
    for (days, told) in [(-10, true), (-70, true), (0, false)] {
        let node = world.node_mut("home-1");
        node.stop().unwrap();
        clock.set(days * DAY - if told { 0 } else { 600 }).unwrap();
        node.start_again().unwrap();
        if told {
            wait::until("it says that its clock is wrong", BACK, || {
                warnings(node).contains(&Value::from("clock_wrong"))
            })
            .unwrap();
            assert_eq!(node.status().unwrap()["state"], "up");
            assert!(!node.pings(&cloud), "nobody is found by a clock that is {days} days wrong");
            clock.set(0).unwrap();
        }
        let took = node.reaches(&cloud, BACK).unwrap();
        world.node("cloud-1").reaches(&home, BACK).unwrap();
        println!("a clock {days} days wrong: reached {took:.2?} after it was set");
        says(world.node("home-1"), &[]);
    }
}

#[test]
fn a_roster_that_nobody_renewed_is_called_stale_with_what_to_do() {
    let lab = Lab::up("cloud=none:v6=1,home=easy").unwrap();
    lab.keep_changes_apart();
    let mut world = World::of(lab, &["cloud-1", "home-1"]);
    // No signer is there while two months go by.
    world.node_mut("cloud-1").stop().unwrap();
    let node = world.node_mut("home-1");
    let clock = Clock::of(node).unwrap();
    node.stop().unwrap();
    clock.set(70 * DAY).unwrap();
    node.start_again().unwrap();
    wait::until("it is stale", BACK, || node.status().is_ok_and(|status| status["state"] == "stale"))
        .unwrap();
    let plain = node.host().run("vpnctl", &["status"]).unwrap();
    assert!(plain.starts_with("home  stale") && plain.contains("vpnctl signer list"), "{plain}");
    let said = node.vpnctl(&["status"]).unwrap();
    assert_eq!((said.code, &said.json["networks"][0]["state"]), (0, &Value::from("stale")));
    // That it is not two months later is known only to those who ask the others.
    clock.set(0).unwrap();
    wait::until("it is up", BACK, || node.status().is_ok_and(|status| status["state"] == "up")).unwrap();
}

#[test]
fn from_the_start_to_the_first_answer_takes_no_longer_than_a_person_notices() {
    const BOOTS: usize = 8;
    let lab = Lab::alone("cloud=none:v6=1,home=easy,office=udpblocked").unwrap();
    let mut world = World::of(lab, &["cloud-1", "home-1", "office-1"]);
    world.all_reach_all(FIRST_ANSWER);
    for (name, way) in [("cloud-1", "to a public machine"), ("office-1", "over the relay alone")] {
        let address = world.node(name).address("ipv4").unwrap();
        let mut samples = Vec::new();
        for _ in 0..BOOTS {
            let node = world.node_mut("home-1");
            node.stop().unwrap();
            let began = Instant::now();
            node.start_again().unwrap();
            node.reaches(&address, FIRST_ANSWER).unwrap();
            samples.push(began.elapsed());
        }
        let (median, worst) = (wait::median(&samples), samples.iter().max().unwrap());
        println!(
            "from the start of vpnd to the first answered ping, {way}: median {median:.2?}, worst of {BOOTS} {worst:.2?}"
        );
        assert!(median < Duration::from_secs(2), "{samples:?}");
    }
}
