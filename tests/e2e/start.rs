//! What a daemon may find when it starts, and how it goes on.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tests::{Coordinator, Lab, Node, wait};

use crate::world::World;

/// What a machine's `status` or `network list` says of a network.
fn told(node: &Node, command: &[&str], name: &str) -> Value {
    let networks = node.ask(command).unwrap()["networks"].as_array().unwrap().clone();
    networks.into_iter().find(|network| network["name"] == name).unwrap_or(Value::Null)
}

/// The folder of the network of this name.
fn folder(node: &Node, name: &str) -> PathBuf {
    let record = node.ask(&["privacy", "inventory"]).unwrap();
    let items = record["items"].as_array().unwrap();
    let values = |item: &Value| item["values"].as_array().unwrap().clone();
    let found = items.iter().flat_map(values).find_map(|value| {
        let id = value.as_str().unwrap().strip_prefix(&format!("{name}: id "))?;
        Some(id[..32].to_owned())
    });
    node.state("networks").join(found.unwrap())
}

#[test]
fn a_damaged_network_is_shown_and_left_alone_and_the_others_run() {
    let lab = Lab::up("cloud=none:v6=1").unwrap();
    let coordinator = Coordinator::start(&lab.host("srv")).unwrap();
    let mut world = World::with(lab, coordinator, &["cloud-1"]);
    let node = world.node_mut("cloud-1");
    node.ask(&["network", "create", "work"]).unwrap();
    let token = node.ask(&["--network", "home", "invite", "create"]).unwrap();
    let roster = folder(node, "home").join("roster");
    node.stop().unwrap();
    let good = fs::read(&roster).unwrap();
    let bad = &good[..good.len() - 1];
    fs::write(&roster, bad).unwrap();

    node.start_again().unwrap();
    let name = roster.parent().unwrap().file_name().unwrap().to_str().unwrap()[..8].to_owned();
    wait::until("the other network is up", wait::SOON, || told(node, &["status"], "work")["state"] == "up")
        .unwrap();
    for command in [&["status"][..], &["network", "list"], &["up"]] {
        let damaged = told(node, command, &name);
        assert_eq!(damaged["state"], "damaged", "{command:?}");
        let why = damaged["damage"]["why"].as_str().unwrap();
        let file = format!(
            "/var/lib/tacet/networks/{}",
            roster.parent().unwrap().file_name().unwrap().to_str().unwrap()
        );
        assert!(why.contains(&format!("{file}/roster")), "{why}");
        assert!(damaged["damage"]["next"].as_str().unwrap().contains("backup"), "{damaged}");
    }
    for arguments in [
        &["--network", &name, "up"][..],
        &["--network", &name, "invite", "create"],
        &["join", token["token"].as_str().unwrap()],
    ] {
        let said = node.vpnctl(arguments).unwrap();
        assert_eq!((said.code, &said.json["error"]["code"]), (1, &Value::from("storage")), "{}", said.text);
        assert!(said.json["error"]["why"].as_str().unwrap().contains("/roster"), "{}", said.text);
    }
    assert_eq!(node.vpnctl(&["invite", "create"]).unwrap().code, 2, "which network is not guessed");
    node.ask(&["--network", "work", "invite", "create"]).unwrap();
    node.stop().unwrap();
    assert!(fs::read(&roster).unwrap() == bad, "left as it is");

    fs::write(&roster, good).unwrap();
    node.start_again().unwrap();
    wait::until("all is as it was", wait::SOON, || told(node, &["status"], "home")["state"] == "up").unwrap();
}
