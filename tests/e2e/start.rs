//! What a daemon may find when it starts, and how it goes on.

use std::{fs, net::UdpSocket, path::PathBuf, process::Command};

use serde_json::Value;
use tests::{Coordinator, Lab, Node, wait};

use crate::world::{FIRST_ANSWER, World};

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

#[test]
fn a_machine_is_in_two_networks_of_one_name_and_knows_one_of_them_by_another() {
    let mut world = World::of(Lab::up("cloud=none:v6=1,home=easy").unwrap(), &["cloud-1"]);
    let token = world.node("cloud-1").invite(&[]).unwrap();
    let mut other = Node::start(&world.lab.host("home-1")).unwrap();
    other.create_account("bob", &world.coordinator.enrol().unwrap()).unwrap();
    other.create_network("home").unwrap();

    let mut names = Vec::new();
    for again in [vec!["join", &token], vec!["network", "create", "home"]] {
        let said = other.vpnctl(&again).unwrap();
        assert_eq!(
            (said.code, &said.json["error"]["code"]),
            (1, &Value::from("name_taken")),
            "{}",
            said.text
        );
        let next = said.json["error"]["next"].as_str().unwrap();
        let (_, alias) = next.rsplit_once("--as ").unwrap();
        names.push(alias.to_owned());
        let done = other.ask(&[&again[..], &["--as", alias]].concat()).unwrap();
        assert_eq!((&done["network"], &done["roster_name"]), (&Value::from(alias), &Value::from("home")));
    }
    assert_eq!(names, ["home-2", "home-3"]);

    for _ in 0..2 {
        let list = other.ask(&["network", "list"]).unwrap();
        let listed = list["networks"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap());
        assert_eq!(listed.collect::<Vec<_>>(), ["home", "home-2", "home-3"]);
        let machines = other.ask(&["--network", "home-2", "machines", "list"]).unwrap();
        let machines = machines["machines"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap());
        assert_eq!(machines.collect::<Vec<_>>(), ["cloud-1", "home-1"]);
        assert_eq!(told(&other, &["status"], "home-2")["roster_name"], "home");
        assert_eq!(told(&other, &["status"], "home")["roster_name"], Value::Null);
        // Kept over a restart.
        other.stop().unwrap();
        other.start_again().unwrap();
    }
    let address = world.node_mut("cloud-1").address("ipv6").unwrap();
    other.reaches(&address, FIRST_ANSWER).unwrap();
}

#[test]
fn a_start_without_an_interface_says_why_and_comes_up_once_the_reason_is_gone() {
    let mut world = World::of(Lab::up("cloud=none:v6=1,home=easy").unwrap(), &["cloud-1", "home-1"]);
    let node = world.node_mut("home-1");
    node.stop().unwrap();
    node.options(&["--port", "51999", "--interface", "mine0"]);

    let port = node.host().inside(|| UdpSocket::bind("0.0.0.0:51999").unwrap()).unwrap();
    lacks(node, "port_taken", "UDP port is in use");
    drop(port);
    comes_up(node);
    node.stop().unwrap();

    node.host().run("ip", &["link", "add", "mine0", "type", "bridge"]).unwrap();
    lacks(node, "interface_name_taken", "name is taken");
    node.host().run("ip", &["link", "del", "mine0"]).unwrap();
    comes_up(node);
    node.stop().unwrap();

    node.before("mount -t tmpfs tacet /dev/net");
    lacks(node, "no_tun", "/dev/net/tun is missing");
    let pid = node.process().unwrap().pid().to_string();
    // As a module's device appears, or a container is given one.
    let appears = ["-t", &pid, "-m", "mknod", "/dev/net/tun", "c", "10", "200"];
    let done = Command::new("nsenter").args(appears).status().unwrap();
    assert!(done.success());
    comes_up(node);
    let address = world.node("cloud-1").address("ipv4").unwrap();
    world.node("home-1").reaches(&address, FIRST_ANSWER).unwrap();
}

/// Starts the daemon, which has no interface and says why.
fn lacks(node: &mut Node, warning: &str, sentence: &str) {
    let before = node.printed().matches(sentence).count();
    node.start_again().unwrap();
    wait::until(warning, wait::SOON, || {
        let status = node.status().unwrap();
        status["state"] == "pending" && status["warnings"] == Value::from(vec![warning])
    })
    .unwrap();
    assert_eq!(node.printed().matches(sentence).count(), before + 1, "{}", node.printed());
}

/// It comes up by itself.
fn comes_up(node: &mut Node) {
    wait::until("it is up by itself", wait::SOON, || node.status().unwrap()["state"] == "up").unwrap();
    assert_eq!(node.status().unwrap()["warnings"], Value::Null);
}

#[test]
fn a_start_makes_each_connection_once() {
    /// To the relay, to the coordinator for what changes, and once more to it for what is asked.
    const CONNECTIONS: u64 = 3;
    let lab = Lab::up("cloud=none:v6=1,home=easy").unwrap();
    let mut world = World::of(lab, &["cloud-1", "home-1"]);
    let address = world.node("cloud-1").address("ipv4").unwrap();
    // So far away that a data path starts while they are being made.
    world.lab.natlab(&["delay", "home", "100"]).unwrap();
    let node = world.node_mut("home-1");
    node.stop().unwrap();
    let begun = |node: &Node| {
        let told = node.host().run("cat", &["/proc/net/snmp"]).unwrap();
        let mut rows = told.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
        let (mut names, mut values) = (rows.next().unwrap(), rows.next().unwrap());
        let at = names.position(|name| name == "ActiveOpens").unwrap();
        values.nth(at).unwrap().parse::<u64>().unwrap()
    };
    let before = begun(node);
    node.start_again().unwrap();
    node.reaches(&address, FIRST_ANSWER).unwrap();
    wait::until("it is connected", wait::SOON, || {
        node.status().is_ok_and(|status| status["warnings"].is_null()) && begun(node) >= before + CONNECTIONS
    })
    .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(begun(node) - before, CONNECTIONS);
}
