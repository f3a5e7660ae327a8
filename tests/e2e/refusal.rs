//! Bad input, each kind with its own error and exit code, and nothing changed by it.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tests::{Coordinator, Lab, Node, node::Said, wait};

use crate::world::{FIRST_ANSWER, World};

const TWO: &str = "cloud=none:v6=1,home=easy";

/// For which a machine keeps credentials: this one and the next two.
const MONTHS: usize = 3;

/// Every file that a machine stores, with its content.
fn stored(node: &Node) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![node.state("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// An error has a code for programs, three clauses for people, and no trace of itself on disk.
fn refused(node: &Node, arguments: &[&str], stdin: &str, code: &str, exit: i32) -> Said {
    let before = stored(node);
    let said = node.vpnctl_with(arguments, stdin).unwrap();
    let told = format!("vpnctl {}: {}", arguments.join(" "), said.text);
    assert_eq!(said.json["error"]["code"], code, "{told}");
    assert_eq!(said.code, exit, "{told}");
    for clause in ["what", "why", "next"] {
        assert!(said.json["error"][clause].as_str().is_some_and(|text| text.len() > 5), "{clause} in {told}");
    }
    assert!(stored(node) == before, "the state changed: {told}");
    said
}

fn networks(node: &Node) -> usize {
    node.ask(&["status"]).unwrap()["networks"].as_array().map_or(0, Vec::len)
}

/// Waits until a signer took the machine in and its credentials for the coming months have come: until then its state
/// changes by itself.
fn folded(node: &Node) {
    wait::until("a signer took the machine in", wait::SOON, || {
        let record = node.ask(&["privacy", "inventory"]).unwrap();
        let kept = |place: &str| {
            let items = record["items"].as_array().unwrap();
            let item = items.iter().find(|item| item["place"] == format!("networks/*/{place}")).unwrap();
            item["values"].as_array().unwrap().len()
        };
        (kept("membership"), kept("credentials")) == (0, MONTHS)
    })
    .unwrap();
}

/// The token with one character of its middle replaced by another of its alphabet.
fn mistyped(token: &str) -> String {
    let mut letters: Vec<char> = token.chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'a' { 'b' } else { 'a' };
    letters.into_iter().collect()
}

#[test]
fn a_mistyped_a_foreign_and_a_used_up_token_are_told_apart() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let first = world.node("cloud-1");
    let joiner = Node::start(&world.lab.host("home-1")).unwrap();
    let token = first.invite(&[]).unwrap();
    let enrol = world.coordinator.enrol().unwrap();

    let typo = refused(&joiner, &["join", &mistyped(&token)], "", "invalid_token", 2);
    let other = refused(&joiner, &["join", &enrol], "", "invalid_token", 2);
    let none = refused(&joiner, &["join", "hello"], "", "invalid_token", 2);
    // One digit, mistyped or of a time to come: like any other letter.
    refused(&joiner, &["join", &token.replacen("invite1", "invite2", 1)], "", "invalid_token", 2);
    let why = |said: &Said| said.json["error"]["why"].as_str().unwrap().to_owned();
    assert!(why(&typo) != why(&other) && why(&other) != why(&none) && why(&typo) != why(&none));
    assert_eq!(networks(&joiner), 0);

    joiner.join(&token).unwrap();
    folded(&joiner);
    refused(&joiner, &["join", &token], "", "already_joined", 1);
    let second = Node::start(&world.lab.host("srv")).unwrap();
    refused(&second, &["join", &token], "", "token_used_up", 1);
    assert_eq!(networks(&second), 0);
}

#[test]
fn an_expired_invite_is_refused() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let made = world.node("cloud-1").ask(&["invite", "create", "--expires", "1m"]).unwrap();
    let joiner = Node::start(&world.lab.host("home-1")).unwrap();
    // An invite lives for a minute at least, and to the end of one.
    let end = UNIX_EPOCH + Duration::from_secs(made["expires"].as_u64().unwrap() + 1);
    std::thread::sleep(end.duration_since(SystemTime::now()).unwrap());
    refused(&joiner, &["join", made["token"].as_str().unwrap()], "", "token_expired", 1);
    assert_eq!(networks(&joiner), 0);
}

#[test]
fn a_coordinator_with_another_key_is_refused() {
    let mut world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let token = world.node("cloud-1").invite(&[]).unwrap();
    let joiner = Node::start(&world.lab.host("home-1")).unwrap();
    world.coordinator.kill();
    world.coordinator.forget().unwrap();
    world.coordinator.start_again().unwrap();
    refused(&joiner, &["join", &token], "", "wrong_pin", 1);
    assert_eq!(networks(&joiner), 0);
    wait::until("the first machine says so too", FIRST_ANSWER, || {
        world.node("cloud-1").status().is_ok_and(|status| {
            status["warnings"].as_array().is_some_and(|warnings| warnings.contains(&Value::from("wrong_pin")))
        })
    })
    .unwrap();
}

#[test]
fn an_unreachable_coordinator_is_told_within_its_time() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let first = world.node("cloud-1");
    let token = first.invite(&[]).unwrap();
    let joiner = Node::start(&world.lab.host("home-1")).unwrap();
    world.lab.natlab(&["cut", "srv"]).unwrap();
    let began = std::time::Instant::now();
    refused(&joiner, &["join", &token], "", "unreachable", 1);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    refused(first, &["invite", "create"], "", "unreachable", 1);
    world.lab.natlab(&["heal"]).unwrap();
    joiner.join(&token).unwrap();
}

#[test]
fn a_wrong_password_a_taken_and_an_invalid_name_are_refused() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1", "home-1"]);
    let first = world.node("cloud-1");
    let other = world.node("home-1");
    let url = world.coordinator.url().unwrap();
    refused(
        first,
        &["account", "login", "ann", "--coordinator", &url, "--password-stdin"],
        "wrong",
        "wrong_password",
        4,
    );
    // Whether the account exists is not told.
    refused(
        first,
        &["account", "login", "bob", "--coordinator", &url, "--password-stdin"],
        "wrong",
        "wrong_password",
        4,
    );

    let enrol = world.coordinator.enrol().unwrap();
    refused(
        other,
        &["account", "create", "ann", "--enrol", &enrol, "--password-stdin"],
        "pw of ann",
        "name_taken",
        1,
    );
    other.create_account("bob", &enrol).unwrap(); // the token was not used up by the refusal
    refused(
        other,
        &["account", "create", "eve", "--enrol", &enrol, "--password-stdin"],
        "pw of eve",
        "token_used_up",
        1,
    );

    refused(first, &["network", "create", "home"], "", "name_taken", 1);
    for name in ["", "two words", "sla/sh", "-x-", "é", &"n".repeat(100)] {
        refused(first, &["network", "create", "--", name], "", "invalid_name", 2);
    }
    refused(first, &["machines", "rename", "home-1", "cloud-1"], "", "name_taken", 1);
    refused(first, &["machines", "rename", "home-1", "not a name"], "", "invalid_name", 2);
    refused(first, &["machines", "rename", "nobody", "somebody"], "", "not_found", 2);
    for wrong in [
        ["machines", "remove", "nobody", "--yes"].as_slice(),
        &["signer", "add", "nobody"],
        &["signer", "remove", "nobody"],
        &["relay", "add", "https://nowhere.example"],
        &["relay", "remove", "https://nowhere.example"],
        &["invite", "revoke", "00000000"],
        &["ip", "nobody"],
        &["ping", "nobody"],
        &["ping", "203.0.113.1"],
    ] {
        refused(first, wrong, "", "not_found", 2);
    }
    // To the name that it has: done, and nobody is told.
    let before = stored(first);
    first.ask(&["machines", "rename", "home-1", "home-1"]).unwrap();
    assert!(stored(first) == before, "nothing changes");
    refused(first, &["--network", "other", "status"], "", "not_found", 2);
}

#[test]
fn an_invite_for_a_name_that_is_taken_is_refused_and_a_later_clash_is_shown() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let first = world.node("cloud-1");
    refused(first, &["invite", "create", "--name", "cloud-1"], "", "name_taken", 1);
    let token = first.invite(&["--name", "nas"]).unwrap();
    refused(first, &["invite", "create", "--name", "nas"], "", "name_taken", 1);
    let group = refused(first, &["invite", "create", "--groups", "No Group"], "", "invalid_name", 2);
    assert!(group.text.contains("a group has"), "{}", group.text);
    let many = (0..100).map(|n| format!("g{n}")).collect::<Vec<_>>().join(",");
    refused(first, &["invite", "create", "--groups", &many], "", "usage", 2);
    let twice = first.ask(&["invite", "create", "--groups", "guests,family,guests"]).unwrap();
    assert_eq!(twice["groups"], json!(["guests", "family"]));

    first.ask(&["machines", "rename", "cloud-1", "nas"]).unwrap();
    let joiner = Node::start(&world.lab.host("home-1")).unwrap();
    let joined = joiner.join(&token).unwrap();
    assert_eq!((&joined["machine"], &joined["wanted"]), (&Value::from("nas2"), &Value::from("nas")));
    assert_eq!(joiner.status().unwrap()["machine"]["name"], "nas2");
}

#[test]
fn a_machine_that_is_no_signer_and_a_stranger_on_the_machine_are_not_permitted() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1", "home-1"]);
    let member = world.node("home-1");
    refused(member, &["invite", "create"], "", "not_permitted", 5);
    refused(member, &["machines", "rename", "cloud-1", "mine"], "", "not_permitted", 5);
    let before = stored(member);
    let run = member.host().folder().join("run/tacet");
    // The folder keeps him out, or else the socket, or else vpnd, which asks the kernel who called.
    for (folder, socket, whose) in [(0o750, 0o660, ""), (0o755, 0o660, ""), (0o755, 0o666, "vpnd refused")] {
        fs::set_permissions(&run, Permissions::from_mode(folder)).unwrap();
        fs::set_permissions(run.join("vpnd.sock"), Permissions::from_mode(socket)).unwrap();
        let mut stranger = member.host().command("setpriv").unwrap();
        stranger.args("--reuid=65534 --regid=65534 --clear-groups vpnctl --json down".split(' '));
        let output = stranger.output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &said["error"]["code"]), (Some(5), &Value::from("not_permitted")));
        assert!(said["error"]["what"].as_str().unwrap().starts_with(whose), "{said}");
        assert!(stored(member) == before);
    }
}

#[test]
fn without_a_daemon_and_without_a_network_the_next_step_is_told() {
    let lab = Lab::up(TWO).unwrap();
    let mut node = Node::start(&lab.host("cloud-1")).unwrap();
    refused(&node, &["up"], "", "no_network", 1);
    refused(&node, &["invite", "create"], "", "no_network", 1);
    refused(&node, &["network", "create", "home"], "", "login_needed", 4);
    let nonsense = refused(&node, &["levitate"], "", "usage", 2);
    assert!(nonsense.json["error"]["next"].as_str().unwrap().contains("help"));
    node.stop().unwrap();
    let said = refused(&node, &["status"], "", "not_running", 3);
    assert!(said.json["error"]["next"].as_str().unwrap().contains("vpnd"));
}

#[test]
fn without_tun_or_with_its_interface_name_taken_a_machine_joins_nothing() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let token = world.node("cloud-1").invite(&[]).unwrap();
    let mut joiner = Node::prepare(&world.lab.host("home-1"));

    joiner.before("mount -t tmpfs tacet /dev/net");
    joiner.start_again().unwrap();
    let no_tun = refused(&joiner, &["join", &token], "", "interface", 1);
    assert!(no_tun.json["error"]["why"].as_str().unwrap().contains("/dev/net/tun"), "{}", no_tun.text);

    joiner.before("");
    joiner.options(&["--interface", "taken0"]);
    joiner.start_again().unwrap();
    joiner.host().run("ip", &["link", "add", "taken0", "type", "bridge"]).unwrap();
    let taken = refused(&joiner, &["join", &token], "", "interface", 1);
    assert!(taken.json["error"]["why"].as_str().unwrap().contains("exists already"), "{}", taken.text);
    assert_eq!(networks(&joiner), 0);

    joiner.host().run("ip", &["link", "del", "taken0"]).unwrap();
    joiner.join(&token).unwrap(); // the refusals did not use the invite up
}

#[test]
fn an_unreadable_a_newer_and_a_busy_state_directory_are_told_apart() {
    let lab = Lab::up(TWO).unwrap();
    let mut node = Node::start(&lab.host("cloud-1")).unwrap();

    let mut second = Node::prepare(&lab.host("cloud-1"));
    second.options(&["--socket", "/run/tacet/second.sock"]);
    let busy = second.fails_to_start().unwrap();
    node.stop().unwrap();

    let format = node.state("format");
    let good = fs::read(&format).unwrap();
    fs::write(&format, [200]).unwrap();
    let newer = node.fails_to_start().unwrap();
    assert_eq!(fs::read(&format).unwrap(), [200], "what a newer version wrote is left alone");
    fs::write(&format, &good).unwrap();

    node.before("umount /var/lib/tacet && rmdir /var/lib/tacet && echo > /var/lib/tacet");
    let unreadable = node.fails_to_start().unwrap();

    for (code, told) in [&busy, &newer, &unreadable] {
        assert!(code.is_some_and(|code| code != 0), "{told}");
        assert!(told.contains("state directory"), "{told}");
    }
    assert!(busy.1.contains("another vpnd"), "{}", busy.1);
    assert!(newer.1.contains("newer version"), "{}", newer.1);
    assert!(unreadable.1.contains("cannot be read"), "{}", unreadable.1);

    node.before("");
    node.start_again().unwrap();
}

#[test]
fn a_full_disk_is_told_and_joining_on_it_changes_nothing() {
    let world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let token = world.node("cloud-1").invite(&[]).unwrap();
    let mut joiner = Node::prepare(&world.lab.host("home-1"));
    // Room for the directory itself and for nothing else. A tmpfs counts whole pages.
    joiner.before(
        "umount /var/lib/tacet && mount -t tmpfs -o size=16k,mode=700 tacet /var/lib/tacet && \
         head -c 8192 /dev/zero > /var/lib/tacet/ballast",
    );
    joiner.start_again().unwrap();
    let said = joiner.vpnctl(&["join", &token]).unwrap();
    assert_eq!((said.code, &said.json["error"]["code"]), (1, &Value::from("storage")), "{}", said.text);
    assert!(said.json["error"]["why"].as_str().unwrap().contains("full"), "{}", said.text);
    assert_eq!(networks(&joiner), 0);
    let other = Node::start(&world.lab.host("srv")).unwrap();
    other.join(&token).unwrap(); // the invite was not used up
}

#[test]
fn a_network_is_taken_down_though_it_cannot_be_stored_and_stays_down_once_it_can() {
    let mut world = World::of(Lab::up(TWO).unwrap(), &["cloud-1", "home-1"]);
    let node = world.node_mut("home-1");
    let folders = node.state("networks");
    let folder = fs::read_dir(folders).unwrap().next().unwrap().unwrap().path();
    let write = |may: &str| {
        assert!(std::process::Command::new("chattr").arg(may).arg(&folder).status().unwrap().success());
    };
    write("+i");
    let said = node.vpnctl(&["down"]).unwrap();
    assert_eq!((said.code, &said.json["error"]["code"]), (1, &Value::from("storage")), "{}", said.text);
    assert!(said.json["error"]["what"].as_str().unwrap().contains("is down"), "{}", said.text);
    assert_eq!(node.status().unwrap()["state"], "down");
    let before = stored(node);
    write("-i");
    wait::until("it is stored", wait::SOON, || stored(node) != before).unwrap();
    node.stop().unwrap();
    node.start_again().unwrap();
    assert_eq!(node.status().unwrap()["state"], "down");
}

#[test]
fn a_coordinator_says_why_it_does_not_start() {
    let lab = Lab::up("cloud=none").unwrap();
    let host = lab.host("srv");
    let _first = Coordinator::start(&host).unwrap();
    let arguments =
        ["serve", "--data-dir", "/var/lib/tacet-coordinator", "--public-url", "https://45.255.1.2"];
    for wrong in [
        &arguments[..],
        &["serve"],
        &["serve", "--data-dir", "/proc/x", "--public-url", "https://45.255.1.2"],
    ] {
        let output = host.output("timeout", &[&["10", "tacet-coordinator"], wrong].concat()).unwrap();
        let code = output.status.code().unwrap();
        assert!(code == 1 || code == 2, "{wrong:?} ended with {code}");
        assert!(output.stderr.len() > 20, "{wrong:?} said nothing");
    }
}

#[test]
fn a_login_that_a_restarted_coordinator_forgot_has_to_be_made_again() {
    let lab = Lab::up(TWO).unwrap();
    let mut coordinator = Coordinator::start(&lab.host("srv")).unwrap();
    let node = Node::start(&lab.host("cloud-1")).unwrap();
    node.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    coordinator.start_again().unwrap();
    let said = refused(&node, &["network", "create", "home"], "", "login_needed", 4);
    assert!(said.json["error"]["next"].as_str().unwrap().contains("log in again"), "{}", said.text);
}
