//! A coordinator that is restored from an old backup, with what it had taken since gone.

use std::{fs, process::Command};

use serde_json::Value;
use tests::{Lab, Node, wait};

use crate::world::{FIRST_ANSWER, THREE, World, fresh};

/// Where the operator keeps the backup: in the folder that commands run in.
const BACKUP: &str = "old.backup";

/// For all to have heard from a coordinator that was away for some seconds.
const HEARD: std::time::Duration = std::time::Duration::from_secs(30);

fn backup(world: &World) {
    world.coordinator.operate(&["backup", BACKUP]).unwrap();
}

/// The operator puts the old backup back, and starts the coordinator.
fn restore(world: &mut World) {
    world.coordinator.kill();
    world.coordinator.operate(&["restore", BACKUP, "--replace"]).unwrap();
    world.coordinator.start_again().unwrap();
}

fn order(node: &Node) -> (Value, Value) {
    let status = node.status().unwrap_or_default();
    (status["generation"].clone(), status["version"].clone())
}

fn names(node: &Node) -> Vec<String> {
    let list = node.ask(&["machines", "list"]).unwrap_or_default();
    let machines = list["machines"].as_array().cloned().unwrap_or_default();
    machines.iter().map(|machine| machine["name"].as_str().unwrap().to_owned()).collect()
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn an_old_backup_of_the_coordinator_is_healed_by_the_machines_and_brings_nobody_back() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &["cloud-1", "home-1", "flat-1"]);
    world.all_reach_all(FIRST_ANSWER);
    let [cloud, home] = ["cloud-1", "home-1"].map(|name| world.node(name).address("ipv4").unwrap());
    backup(&world);
    // The signer is going to be as old as the backup: what it has in the end is from the coordinator.
    let signer = world.node_mut("cloud-1");
    let (state, old) = (signer.state(""), signer.host().folder().join("old-state"));
    signer.stop().unwrap();
    copy(&state, &old);
    signer.start_again().unwrap();

    let newcomer = fresh(&world.lab.host("home-2"));
    newcomer.join(&world.node("cloud-1").invite(&["--name", "attic"]).unwrap()).unwrap();
    wait::until("home-1 knows the newcomer", wait::SOON, || {
        world.node("home-1").peer("attic").is_ok_and(|peer| peer["ipv4"].is_string())
    })
    .unwrap();
    world.node("cloud-1").ask(&["machines", "remove", "flat-1", "--yes"]).unwrap();
    let last = order(world.node("cloud-1"));
    let members = ["attic", "cloud-1", "home-1"];
    wait::until("all know the last change", wait::SOON, || {
        [world.node("home-1"), &newcomer].iter().all(|node| order(node) == last && names(node) == members)
            && world.node("flat-1").status().is_ok_and(|status| status["state"] == "removed")
    })
    .unwrap();

    // The removed machine starts anew while the coordinator has forgotten that it was removed.
    world.node_mut("flat-1").stop().unwrap();
    world.node_mut("cloud-1").kill();
    copy(&old, &state);
    restore(&mut world);
    world.node_mut("flat-1").start_again().unwrap();
    world.node_mut("cloud-1").start_again().unwrap();
    let stays_out = |world: &World| {
        for address in [&cloud, &home] {
            assert!(!world.node("flat-1").pings(address), "the removed machine has an answer");
        }
    };
    wait::until("the signer has it all from the coordinator again", HEARD, || {
        assert!(!world.node("flat-1").pings(&home), "the removed machine has an answer");
        order(world.node("cloud-1")) == last && names(world.node("cloud-1")) == members
    })
    .unwrap();
    wait::until("the removed machine is told once more", HEARD, || {
        stays_out(&world);
        world.node("flat-1").status().is_ok_and(|status| status["state"] == "removed")
    })
    .unwrap();
    wait::until("nobody is warned any more", HEARD, || {
        let all = [world.node("cloud-1"), world.node("home-1"), &newcomer];
        all.iter().all(|node| {
            node.status().is_ok_and(|status| status["state"] == "up" && status["warnings"].is_null())
        })
    })
    .unwrap();
    let told = world.node("home-1").printed() + &newcomer.printed();
    assert_eq!(told.matches("the coordinator had an older roster").count(), 1, "one healed it: {told}");

    // Whatever comes now is on top of what was lost.
    world.node("cloud-1").ask(&["machines", "rename", "attic", "cellar"]).unwrap();
    wait::until("it goes on", wait::SOON, || names(world.node("home-1")) == ["cellar", "cloud-1", "home-1"])
        .unwrap();
    stays_out(&world);
    world.node("home-1").reaches(&newcomer.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
}

#[test]
fn a_signer_that_changed_a_rolled_back_network_forks_it_which_status_says_until_the_paper_decides() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &[]);
    world.nodes =
        ["cloud-1", "home-1", "flat-1"].map(|name| Node::start(&world.lab.host(name)).unwrap()).into();
    let [cloud, home, flat] = [0, 1, 2].map(|at: usize| &world.nodes[at]);
    cloud.create_account("ann", &world.coordinator.enrol().unwrap()).unwrap();
    let paper = cloud.create_network("home").unwrap();
    for other in [home, flat] {
        other.join(&cloud.invite(&[]).unwrap()).unwrap();
    }
    world.settle();
    cloud.ask(&["signer", "add", "home-1"]).unwrap();
    wait::until("home-1 is a signer", wait::SOON, || {
        home.status().is_ok_and(|status| status["machine"]["signer"] == true)
    })
    .unwrap();
    backup(&world);

    // One signer's change is taken, reaches a third machine and is lost with the backup; then the other signer, which
    // slept, makes another one in its place.
    world.node_mut("home-1").stop().unwrap();
    world.node("cloud-1").ask(&["machines", "rename", "flat-1", "attic"]).unwrap();
    wait::until("flat-1 knows its name", wait::SOON, || {
        names(world.node("flat-1")).contains(&"attic".to_owned())
    })
    .unwrap();
    for name in ["cloud-1", "flat-1"] {
        world.node_mut(name).stop().unwrap();
    }
    restore(&mut world);
    world.node_mut("home-1").start_again().unwrap();
    wait::until("the other signer changes it", HEARD, || {
        let said = world.node("home-1").vpnctl(&["machines", "rename", "flat-1", "cellar"]).unwrap();
        said.code == 0
    })
    .unwrap();
    // By its number this is the newer one, and still it leaves out what the other signer did.
    world.node("home-1").ask(&["machines", "rename", "cellar", "vault"]).unwrap();
    world.node_mut("flat-1").start_again().unwrap();
    let flat = world.node("flat-1");
    let is = |state: &str| {
        wait::until(&format!("flat-1 is {state}"), HEARD, || {
            flat.status().is_ok_and(|status| status["state"] == state)
        })
        .unwrap();
    };
    is("forked");
    assert!(names(flat).contains(&"attic".to_owned()), "what was seen first is kept");
    let plain = flat.host().run("vpnctl", &["status"]).unwrap();
    assert!(plain.starts_with("home  forked") && plain.contains("vpnctl recover"), "{plain}");
    let home = world.node("home-1");
    flat.reaches(&home.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    wait::until("home-1 has heard of it", HEARD, || {
        home.status().is_ok_and(|status| status["state"] == "forked")
    })
    .unwrap();
    let refused = home.vpnctl(&["machines", "rename", "vault", "garage"]).unwrap();
    assert!(refused.code == 1 && refused.text.contains("recover"), "{}", refused.text);
    assert!(names(flat).contains(&"attic".to_owned()) && names(home).contains(&"vault".to_owned()));

    let arguments = ["recover", "--key-stdin", "--yes", "--keep", "home-1,attic", "--from", "own"];
    let said = flat.vpnctl_with(&arguments, &paper).unwrap();
    assert_eq!(said.code, 0, "{}", said.text);
    is("up");
    wait::until("the other one follows the paper", HEARD, || {
        names(world.node("home-1")) == names(flat)
            && world.node("home-1").status().is_ok_and(|status| status["state"] == "up")
    })
    .unwrap();
}
