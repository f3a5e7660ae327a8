//! Signers that are added, lost and stolen, and the paper that wins over them.

use std::{io::Write as _, process::Stdio};

use tests::{Lab, Node, wait};

use crate::world::{FIRST_ANSWER, THREE, World, fresh};

/// A network of these machines, and its recovery key.
fn with_paper(hosts: &[&str]) -> (World, String) {
    let lab = Lab::up(THREE).unwrap();
    let mut world = World::of(lab, &[]);
    world.nodes = hosts.iter().map(|host| Node::start(&world.lab.host(host)).unwrap()).collect();
    let first = &world.nodes[0];
    first.create_account("ann", &world.coordinator.enrol().unwrap()).unwrap();
    let paper = first.create_network("home").unwrap();
    for other in &world.nodes[1..] {
        other.join(&first.invite(&[]).unwrap()).unwrap();
    }
    world.settle();
    (world, paper)
}

fn state(node: &Node) -> String {
    node.status().map(|status| status["state"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn becomes(node: &Node, wanted: &str) {
    wait::until(&format!("{} is {wanted}", node.name()), wait::SOON * 4, || state(node) == wanted).unwrap();
}

#[test]
fn a_second_signer_signs_takes_the_first_one_s_right_and_both_may_change_at_once() {
    let (world, _paper) = with_paper(&["cloud-1", "home-1", "flat-1"]);
    let [cloud, home, flat] = ["cloud-1", "home-1", "flat-1"].map(|name| world.node(name));
    assert_eq!(home.vpnctl(&["signer", "add", "home-1"]).unwrap().code, 5, "not by itself");
    assert_eq!(cloud.vpnctl(&["signer", "remove", "cloud-1"]).unwrap().code, 2, "not its own");
    cloud.ask(&["signer", "add", "home-1"]).unwrap();
    wait::until("home-1 is a signer", wait::SOON, || {
        home.status().is_ok_and(|status| status["machine"]["signer"] == true && status["generation"] == 2)
    })
    .unwrap();

    // Both at once: the loser makes its change again on the winner's.
    std::thread::scope(|scope| {
        for (signer, name) in [(cloud, "one"), (home, "two")] {
            scope.spawn(move || {
                for n in 0..5 {
                    signer.ask(&["invite", "create", "--name", &format!("{name}-{n}")]).unwrap();
                }
            });
        }
    });
    wait::until("everybody has all ten invites", wait::SOON, || {
        world.nodes.iter().all(|node| {
            node.ask(&["invite", "list"]).is_ok_and(|list| list["invites"].as_array().unwrap().len() == 10)
        })
    })
    .unwrap();

    home.ask(&["signer", "remove", "cloud-1"]).unwrap();
    wait::until("cloud-1 is no signer", wait::SOON, || {
        cloud.status().is_ok_and(|status| status["machine"]["signer"] == false)
    })
    .unwrap();
    assert_eq!(cloud.vpnctl(&["machines", "rename", "flat-1", "mine"]).unwrap().code, 5);
    home.ask(&["machines", "rename", "flat-1", "attic"]).unwrap();
    wait::until("flat-1 follows the new signer", wait::SOON, || {
        flat.status().is_ok_and(|status| status["machine"]["name"] == "attic" && status["generation"] == 3)
    })
    .unwrap();
}

#[test]
fn a_stolen_signer_that_removed_everybody_loses_against_the_paper() {
    let (world, paper) = with_paper(&["cloud-1", "home-1", "flat-1"]);
    let [thief, home, flat] = ["cloud-1", "home-1", "flat-1"].map(|name| world.node(name));
    thief.ask(&["machines", "remove", "home-1", "--yes"]).unwrap();
    thief.ask(&["machines", "remove", "flat-1", "--yes"]).unwrap();
    for victim in [home, flat] {
        becomes(victim, "removed");
    }

    let arguments = ["recover", "--key-stdin", "--yes", "--keep", "home-1,flat-1"];
    let undecided = home.vpnctl_with(&arguments, &paper).unwrap();
    assert_eq!(undecided.code, 2, "the newest roster is the thief's: {}", undecided.text);
    let mistyped = home.vpnctl_with(&[&arguments[..], &["--from", "own"]].concat(), &paper[1..]).unwrap();
    assert_eq!(mistyped.code, 2, "{}", mistyped.text);
    let said = home.vpnctl_with(&[&arguments[..], &["--from", "own"]].concat(), &paper).unwrap();
    assert_eq!(said.code, 0, "{}", said.text);
    assert_eq!(said.json["removed"], serde_json::json!(["cloud-1"]));

    // The other victim comes back by itself, the thief is out.
    becomes(flat, "up");
    becomes(thief, "removed");
    let status = home.status().unwrap();
    assert_eq!((&status["state"], &status["machine"]["signer"]), (&"up".into(), &true.into()));
    assert_eq!((status["generation"].as_u64(), status["version"].as_u64()), (Some(1), Some(1)));
    home.reaches(&flat.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    assert_eq!(thief.vpnctl(&["invite"]).unwrap().code, 5, "the thief signs nothing any more");
}

#[test]
fn a_machine_that_never_was_in_the_network_recovers_it_with_the_paper_alone() {
    let (mut world, paper) = with_paper(&["cloud-1", "home-1"]);
    // The only signer is lost.
    world.node_mut("cloud-1").kill();
    let rescuer = fresh(&world.lab.host("flat-1"));
    let arguments = ["recover", "--key-stdin", "--yes", "--keep", "home-1"];
    let said = rescuer.vpnctl_with(&arguments, &paper).unwrap();
    assert_eq!(said.code, 0, "{}", said.text);
    assert_eq!((&said.json["network"], &said.json["machine"]), (&"home".into(), &"flat-1".into()));
    let home = world.node("home-1");
    wait::until("home-1 knows its new signer", wait::SOON, || home.peer("flat-1").is_ok()).unwrap();
    rescuer.reaches(&home.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    assert!(home.peer("cloud-1").is_err());
    rescuer.invite(&[]).unwrap();

    // Once more, for a person to read.
    let mut again = world.lab.host("flat-1").command("vpnctl").unwrap();
    again.args(["recover", "--key-stdin", "--yes"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut again = again.spawn().unwrap();
    again.stdin.take().unwrap().write_all(paper.as_bytes()).unwrap();
    let again = again.wait_with_output().unwrap();
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.success() && told.matches("Contacting the coordinator").count() == 1, "{told}");
}

#[test]
fn a_network_whose_name_is_taken_here_is_recovered_under_another_one() {
    let (mut world, paper) = with_paper(&["cloud-1"]);
    world.node_mut("cloud-1").kill();
    let rescuer = fresh(&world.lab.host("flat-1"));
    rescuer.create_account("bert", &world.coordinator.enrol().unwrap()).unwrap();
    rescuer.create_network("home").unwrap();
    let recover = |more: &[&str]| {
        rescuer.vpnctl_with(&[&["recover", "--key-stdin", "--yes"], more].concat(), &paper).unwrap()
    };
    let refused = recover(&[]);
    assert!(refused.code == 1 && refused.text.contains("--as home-2"), "{}", refused.text);
    let said = recover(&["--as", "home-2"]);
    assert_eq!((said.code, &said.json["network"]), (0, &"home-2".into()), "{}", said.text);
    let again = recover(&["--as", "home-3"]);
    assert!(again.code == 2 && again.text.contains("knows it as home-2"), "{}", again.text);
}

#[test]
fn a_network_that_is_damaged_on_a_machine_is_recovered_on_another_one_alone() {
    let (mut world, paper) = with_paper(&["cloud-1"]);
    let cloud = world.node_mut("cloud-1");
    cloud.stop().unwrap();
    let network = std::fs::read_dir(cloud.state("networks")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(network.join("roster"), b"").unwrap();
    cloud.start_again().unwrap();
    let arguments = ["recover", "--key-stdin", "--yes"];
    let refused = cloud.vpnctl_with(&arguments, &paper).unwrap();
    assert!(refused.code == 1 && refused.text.contains("damaged"), "{}", refused.text);
    assert_eq!(std::fs::read(network.join("roster")).unwrap(), b"", "left as it is");

    let rescuer = fresh(&world.lab.host("flat-1"));
    let said = rescuer.vpnctl_with(&arguments, &paper).unwrap();
    assert_eq!(said.code, 0, "{}", said.text);
}
