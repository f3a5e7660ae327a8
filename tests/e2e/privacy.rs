//! What is stored and what runs, as a user can see it: the record, and the kernel's word.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;
use tests::{Coordinator, Lab, Node, binaries};

use crate::world::World;

const TWO: &str = "cloud=none:v6=1,home=easy";
const HOSTS: [&str; 2] = ["cloud-1", "home-1"];

fn undeclared(record: &Value) -> &Vec<Value> {
    record["undeclared"].as_array().unwrap()
}

fn values(record: &Value, field: &str) -> String {
    let items = record["items"].as_array().unwrap();
    items.iter().find(|item| item["field"] == field).unwrap()["values"].to_string()
}

fn coordinator_record(coordinator: &Coordinator) -> Value {
    let arguments = ["inventory", "--json", "--data-dir", "/var/lib/tacet-coordinator"];
    serde_json::from_str(&coordinator.host().run("tacet-coordinator", &arguments).unwrap()).unwrap()
}

#[test]
fn all_that_a_used_network_stores_is_declared_and_shown() {
    let world = World::of(Lab::up(TWO).unwrap(), &HOSTS);
    world.node("cloud-1").invite(&["--name", "nas"]).unwrap();
    for node in &world.nodes {
        let record = node.ask(&["privacy", "inventory"]).unwrap();
        assert_eq!(undeclared(&record), &Vec::<Value>::new(), "{}", node.name());
        let machines = values(&record, "roster: machines");
        assert!(HOSTS.iter().all(|host| machines.contains(host)), "{machines}");
        fs::write(node.state("visited"), "cloud-1").unwrap();
        let said = node.vpnctl(&["privacy", "inventory"]).unwrap();
        assert_eq!((said.code, undeclared(&said.json).len()), (1, 1), "a stray file is seen");
        fs::remove_file(node.state("visited")).unwrap();
    }
    let record = coordinator_record(&world.coordinator);
    assert_eq!(undeclared(&record), &Vec::<Value>::new());
    let text = record.to_string();
    assert!(text.contains("[\"ann\"]"), "{text}");
    assert!(!HOSTS.iter().any(|host| text.contains(host)), "{text}");
}

/// What `privacy verify` says of a point.
fn standing(node: &Node, of: &str, point: &str) -> (String, Option<u64>) {
    standing_of(node, of, point, None)
}

/// The same of one process where there may be several of a kind.
fn standing_of(node: &Node, of: &str, point: &str, pid: Option<u32>) -> (String, Option<u64>) {
    let said = node.vpnctl(&["privacy", "verify"]).unwrap();
    let findings = said.json["findings"].as_array().unwrap_or_else(|| panic!("{}", said.text)).clone();
    let broken = findings.iter().any(|finding| finding["standing"] == "broken");
    assert_eq!((said.code, &said.json["ok"]), (i32::from(broken), &Value::Bool(!broken)), "{}", said.text);
    let finding = findings.iter().find(|finding| {
        finding["of"] == of && finding["point"] == point && pid.is_none_or(|pid| finding["pid"] == pid)
    });
    let finding = finding.unwrap_or_else(|| panic!("{of}, {point}: {}", said.text));
    (finding["standing"].as_str().unwrap().to_owned(), finding["pid"].as_u64())
}

/// The lines of a process's status, as the kernel writes them.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn verify_tells_what_the_kernel_tells_of_the_running_processes() {
    let mut world = World::of(Lab::up(TWO).unwrap(), &["cloud-1"]);
    let data_path = world.node_mut("cloud-1").data_path().unwrap();
    let coordinator = world.coordinator.process().unwrap().pid();
    let node = world.node("cloud-1");
    let seen = status(data_path);
    let filtered = if seen["Seccomp"] == "2" { "holds" } else { "broken" };
    let one_way = if seen["NoNewPrivs"] == "1" { "holds" } else { "broken" };
    let powerless = u64::from_str_radix(&seen["CapEff"], 16).unwrap() == 0;
    let pid = Some(u64::from(data_path));
    assert_eq!(standing(node, "data path", "system calls"), (filtered.to_owned(), pid));
    assert_eq!(standing(node, "data path", "new privileges"), (one_way.to_owned(), pid));
    let powers = if powerless { "holds" } else { "broken" };
    assert_eq!(standing(node, "data path", "capabilities"), (powers.to_owned(), pid));
    assert_eq!(standing(node, "data path", "core files"), ("holds".to_owned(), pid));
    assert_eq!(standing(node, "control", "program").0, "holds");
    for point in ["system calls", "new privileges", "capabilities", "files", "core files"] {
        let seen = standing_of(node, "coordinator", point, Some(coordinator)).0;
        // Its output is a file here, as everybody's.
        let expected = if point == "files" { "warns" } else { "holds" };
        assert_eq!(seen, expected, "coordinator: {point}");
    }
}

#[test]
fn verify_sees_a_vpnd_that_is_none() {
    let lab = Lab::up(TWO).unwrap();
    let host = lab.host("cloud-1");
    let mut node = Node::start(&host).unwrap();
    assert_eq!(standing(&node, "control", "program").0, "holds");
    // Somebody else's program on the same socket.
    node.stop().unwrap();
    let listen = "import socket,time; s=socket.socket(socket.AF_UNIX); s.bind('/run/tacet/vpnd.sock'); s.listen(); time.sleep(60)";
    let mut command: Command = host.command("python3").unwrap();
    let mut imposter = command.args(["-c", listen]).spawn().unwrap();
    tests::wait::until("it listens", tests::wait::SOON, || {
        node.vpnctl(&["privacy", "verify"]).is_ok_and(|said| {
            said.json["findings"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["of"] == "control" && one["point"] == "program"))
        })
    })
    .unwrap();
    let seen = standing(&node, "control", "program").0;
    imposter.kill().unwrap();
    imposter.wait().unwrap();
    assert_eq!(seen, "broken");
}

#[test]
fn no_program_leaks_on_purpose() {
    let folder = binaries::folder().unwrap();
    for (name, _) in binaries::PROGRAMS {
        assert!(!binaries::leaks(&folder.join(name)).unwrap(), "{name} was built with the feature `leaks`");
    }
    let marked = tempfile::NamedTempFile::new().unwrap();
    fs::write(marked.path(), format!("\0{}\0", binaries::LEAKS)).unwrap();
    assert!(binaries::leaks(marked.path()).unwrap(), "it does look");
}
