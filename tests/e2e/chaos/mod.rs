//! `kill -9` of everything at random moments, while traffic flows and the network is changed.
//!
//! What is killed comes back as its unit brings it back: vpnd, coordinator and relay are started again, a data path by
//! its control. In the end every change that was acknowledged is in the roster on every machine, at the coordinator, and
//! on the disks.

mod changes;
mod traffic;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{Lab, Node, process::kill_process, wait};

use self::{
    changes::{Expected, of_invites, of_machines},
    traffic::{Transferred, answer, pings, transfer},
};
use crate::{
    dice::Dice,
    life::Life,
    world::{FIRST_ANSWER, fresh},
};

/// A public signer, a second one behind a router, one that reaches nothing but the relay, and one that comes and goes.
const TOPOLOGY: &str = "cloud=none:v6=1,home=easy,office=udpblocked,flat=easy,@servers=2";
const MACHINES: [&str; 3] = ["cloud-1", "home-1", "office-1"];
const GUEST: &str = "flat-1";

/// Kills of each kind.
const KILLS: usize = 5;
const KILLS_LONG: usize = 50;

/// Between two kills, and before what was killed is started again: at most, as the units' `RestartSec`.
const PAUSE: Duration = Duration::from_millis(500);
const RESTART: Duration = Duration::from_secs(1);

/// For a direct and a relayed pair to have answers again, from the restart on.
const BACK: Duration = Duration::from_secs(15);

/// For all machines to agree, once nothing is killed or changed any more: a connection that a kill broke is tried again
/// after 30 s at most.
const AGREED: Duration = Duration::from_secs(60);

/// What may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Control,
    DataPath,
    Coordinator,
    Relay,
}

const VICTIMS: [Victim; 4] = [Victim::Control, Victim::DataPath, Victim::Coordinator, Victim::Relay];

#[test]
fn no_kill_loses_an_acknowledged_change_or_damages_anything_and_all_come_back() {
    let kills = if tests::long() { KILLS_LONG } else { KILLS };
    let mut dice = Dice::thrown();
    let mut life = Life::begin_with(Lab::up(TOPOLOGY).unwrap(), &MACHINES);
    let guest = Node::start(&life.world.lab.host(GUEST)).unwrap();
    let hosts = MACHINES.map(|name| life.world.node(name).host().clone());
    let addresses = MACHINES.map(|name| life.world.node(name).address("ipv4").unwrap());
    let staying = MACHINES.map(|name| life.world.node(name).address("ipv6").unwrap());
    life.world.node("cloud-1").ask(&["signer", "add", "home-1"]).unwrap();
    wait::until("home-1 is a signer", wait::SOON, || {
        life.world.node("home-1").status().is_ok_and(|status| status["machine"]["signer"] == true)
    })
    .unwrap();
    life.world.becomes_direct("home-1", "cloud-1", Duration::from_secs(20));
    life.world.node("home-1").reaches(&addresses[2], FIRST_ANSWER).unwrap();
    assert_eq!(life.world.node("home-1").peer("office-1").unwrap()["path"], "relay");

    let [cloud, home, office] = &hosts;
    let _pings = [pings(home, &addresses[0]), pings(home, &addresses[2])];
    let stop = AtomicBool::new(false);
    let mut all = Vec::from(VICTIMS).repeat(kills);
    dice.shuffle(&mut all);
    let dices = [dice.another(), dice.another()];
    let mut took: Vec<(Victim, Duration)> = Vec::new();
    let began = Instant::now();
    let (expected, transferred) = scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let [one, two] = dices;
        let machines = scope.spawn(|| of_machines(cloud, &staying[2..], &guest, &stop, one));
        let invites = scope.spawn(|| of_invites(home, &stop, two));
        let transfers = [(cloud, &addresses[0]), (office, &addresses[2])]
            .map(|(to, address)| scope.spawn(|| transfer(home, to, address, &stop)));
        for victim in all {
            sleep(dice.moment(PAUSE));
            let whose = kill(&mut life, victim, &mut dice);
            let back = answer(home, &[&addresses[0], &addresses[2]], BACK);
            println!("{:>5.1?} {victim:?} of {whose}: {back:.2?}", began.elapsed());
            took.push((victim, back));
        }
        sleep(RESTART);
        stop.store(true, Ordering::Relaxed);
        let expected = machines.join().unwrap().and(invites.join().unwrap());
        (expected, transfers.map(|transfer| transfer.join().unwrap()))
    });
    tell(&took, &expected, &transferred, began.elapsed());

    assert!(expected.acknowledged > all_kinds(kills), "changes go on: {}", expected.acknowledged);
    let agreed = agree(&life, &expected);
    restart_from_disk(&mut life, &agreed);
    // And the coordinator, which was killed once more, has it all.
    drop(guest);
    let last = fresh(&life.world.lab.host(GUEST));
    wait::until("a signer reaches the coordinator", AGREED, || {
        let made = life.world.node("cloud-1").invite(&["--name", "last"]);
        made.is_ok_and(|token| last.join(&token).is_ok())
    })
    .unwrap();
    let mut machines = machines(&last);
    machines.as_array_mut().unwrap().retain(|machine| machine["name"] != "last");
    assert_eq!(machines, agreed);
}

/// As many changes as kills, and some.
fn all_kinds(kills: usize) -> usize {
    kills * VICTIMS.len()
}

/// Those who change the network and send through it stop, whatever happens to us.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills one and has it come back. Returns whose it was.
fn kill(life: &mut Life, victim: Victim, dice: &mut Dice) -> &'static str {
    let away = dice.moment(RESTART);
    let name = *dice.choose(&MACHINES);
    match victim {
        Victim::Control => {
            let node = life.world.node_mut(name);
            node.kill();
            sleep(away);
            node.start_again().unwrap();
            name
        }
        Victim::DataPath => {
            let node = life.world.node_mut(name);
            let killed = node.data_path().unwrap();
            kill_process(killed).unwrap();
            wait::until("another data path runs", wait::SOON, || {
                node.data_path().is_ok_and(|other| other != killed)
            })
            .unwrap();
            name
        }
        Victim::Coordinator => {
            life.world.coordinator.kill();
            sleep(away);
            life.world.coordinator.start_again().unwrap();
            "srv"
        }
        Victim::Relay => {
            life.relay.kill();
            sleep(away);
            life.relay.start_again().unwrap();
            "srv2"
        }
    }
}

/// The machines as one lists them, whichever it is.
fn machines(node: &Node) -> Value {
    let mut list = node.ask(&["machines", "list"]).unwrap_or_default();
    for machine in list["machines"].as_array_mut().into_iter().flatten() {
        machine.as_object_mut().unwrap().remove("this");
    }
    list["machines"].take()
}

/// Waits until all machines are up, have the same roster, and it is what it must be. Returns its machines.
fn agree(life: &Life, expected: &Expected) -> Value {
    let mut why = String::new();
    let agreed = wait::until("all agree", AGREED, || {
        why = disagreement(life, expected).unwrap_or_default();
        why.is_empty()
    });
    assert!(agreed.is_ok(), "{why}");
    let json = life.world.coordinator.operate(&["check", "--json"]).unwrap();
    let checked: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(checked["ok"], true, "{checked}");
    machines(life.world.node("cloud-1"))
}

fn disagreement(life: &Life, expected: &Expected) -> Option<String> {
    let mut seen = None;
    for node in &life.world.nodes {
        let Ok(status) = node.status() else { return Some(format!("{} does not answer", node.name())) };
        if status["state"] != "up" || !status["warnings"].is_null() {
            return Some(format!("{} is {}, {}", node.name(), status["state"], status["warnings"]));
        }
        let (machines, invites) =
            (machines(node), node.ask(&["invite", "list"]).unwrap_or_default()["invites"].take());
        if let Some(why) = expected.contradicts(&machines, &invites) {
            return Some(format!("{}: {why}", node.name()));
        }
        if machines.as_array().into_iter().flatten().any(|machine| machine["provisional"] == true) {
            return Some(format!("{} knows somebody whom no signer took in", node.name()));
        }
        let all = (
            status["generation"].clone(),
            status["version"].clone(),
            status["epoch"].clone(),
            machines,
            invites,
        );
        if seen.get_or_insert_with(|| all.clone()) != &all {
            return Some(format!("{} has {all:?}, another {seen:?}", node.name()));
        }
    }
    None
}

/// Kills all at once, starts the machines without any server, and sees that each has kept the network.
fn restart_from_disk(life: &mut Life, agreed: &Value) {
    life.world.nodes.iter_mut().for_each(Node::kill);
    life.world.coordinator.kill();
    life.relay.kill();
    for node in &mut life.world.nodes {
        node.start_again().unwrap();
        assert_eq!(node.status().unwrap()["state"], "up");
        assert_eq!(machines(node), *agreed, "{} kept another network", node.name());
    }
    life.world.coordinator.start_again().unwrap();
    life.relay.start_again().unwrap();
}

fn tell(took: &[(Victim, Duration)], expected: &Expected, transferred: &[Transferred], all: Duration) {
    for victim in VICTIMS {
        let samples: Vec<Duration> =
            took.iter().filter(|(one, _)| *one == victim).map(|(_, took)| *took).collect();
        let (median, worst) = (wait::median(&samples), samples.iter().max().unwrap());
        println!(
            "{victim:?}: {} kills, traffic again after {median:.2?}, at most {worst:.2?}",
            samples.len()
        );
    }
    println!("{} changes acknowledged, {} failed, in {all:.0?}", expected.acknowledged, expected.failed);
    for (told, kind) in transferred.iter().zip(["direct", "relayed"]) {
        println!(
            "{kind} TCP connection: {} bytes there and back, stood still for {:.2?} at most",
            told.bytes, told.stood
        );
        assert!(told.bytes > 1 << 20, "it carried something");
    }
}
