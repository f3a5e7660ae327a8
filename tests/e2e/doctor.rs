//! `vpnctl doctor`: each thing that can be wrong is made wrong, and named, and is no longer named once it is mended.

use std::{fs, process::Stdio, time::Instant};

use serde_json::Value;
use tests::{Coordinator, Host, Lab, Node, RelayProcess, node::Said, process::Process, wait};

use crate::{netcheck::PORTAL, world::FIRST_ANSWER};

/// A signer, and the patient behind a home router, with a second computer beside it.
const TOPOLOGY: &str = "cloud=none,home=easy:2,@servers=2";

/// What is said of a machine: exit code, the words of the faults, those of the notes.
struct Diagnosis {
    code: i32,
    faults: Vec<String>,
    notes: Vec<String>,
    document: Value,
}

fn diagnose(node: &Node, arguments: &[&str]) -> Diagnosis {
    let said = node.vpnctl(&[&["doctor"], arguments].concat()).unwrap();
    read(said)
}

fn read(said: Said) -> Diagnosis {
    let Said { code, json, text } = said;
    let words = |list: &str| -> Vec<String> {
        let list = json[list].as_array().unwrap_or_else(|| panic!("no document: {text}"));
        list.iter().map(|verdict| verdict["fault"].as_str().unwrap().to_owned()).collect()
    };
    let (faults, notes) = (words("faults"), words("notes"));
    assert_eq!(json["ok"], faults.is_empty(), "{json}");
    for verdict in json["faults"].as_array().into_iter().chain(json["notes"].as_array()).flatten() {
        let told = |field: &str| verdict[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(told("what") && told("next"), "{verdict}");
    }
    Diagnosis { code, faults, notes, document: json }
}

/// That the first cause is this one, within the time that it takes vpnd to notice.
fn finds(node: &Node, fault: &str) -> Diagnosis {
    let began = Instant::now();
    loop {
        let found = diagnose(node, &[]);
        if found.faults.first().is_some_and(|first| first == fault) {
            assert_eq!(found.code, 1, "{fault}");
            println!("{fault}: named after {:.1?}", began.elapsed());
            return found;
        }
        assert!(began.elapsed() < FIRST_ANSWER, "not {fault}: {}", found.document);
    }
}

/// That nothing is wrong any more.
fn is_well(node: &Node, after: &str) -> Diagnosis {
    let began = Instant::now();
    loop {
        let found = diagnose(node, &[]);
        if found.code == 0 {
            return found;
        }
        assert!(began.elapsed() < FIRST_ANSWER, "still not well after {after}: {}", found.document);
    }
}

fn nft(host: &Host, rules: &str) {
    host.run("nft", &[rules]).unwrap();
}

/// Breaks something by firewall rules on a host, for as long as `look` lasts.
fn filtered(host: &Host, rules: &str, look: impl FnOnce()) {
    nft(host, &format!("table inet broken {{ {rules}; }}"));
    look();
    nft(host, "delete table inet broken");
}

struct Ward {
    lab: std::sync::Arc<Lab>,
    coordinator: Coordinator,
    relay: RelayProcess,
    signer: Node,
    patient: Node,
}

/// A network of two, whose coordinator and relay are on hosts of their own.
fn ward() -> Ward {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let mut coordinator =
        Coordinator::start_called_with(&lab.host("srv"), "srv.lab", &["--no-relay"]).unwrap();
    let relay = coordinator.start_relay_called(&lab.host("srv2"), "srv2.lab").unwrap();
    let start = |name: &str| {
        let mut node = Node::prepare(&lab.host(name));
        node.options(&["--no-port-mapping"]);
        node.start_again().unwrap();
        node
    };
    let (signer, patient) = (start("cloud-1"), start("home-1"));
    signer.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    signer.create_network("home").unwrap();
    patient.join(&signer.invite(&[]).unwrap()).unwrap();
    patient.reaches(&signer.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    wait::until("both know each other's addresses", wait::SOON, || {
        signer.peer("home-1").is_ok_and(|peer| peer["ipv4"].is_string())
            && patient.peer("cloud-1").is_ok_and(|peer| peer["ipv4"].is_string())
    })
    .unwrap();
    Ward { lab, coordinator, relay, signer, patient }
}

#[test]
fn what_is_broken_is_named_and_what_is_mended_is_not() {
    let Ward { lab, mut coordinator, mut relay, mut signer, mut patient } = ward();
    let host = patient.host().clone();
    let address = signer.address("ipv4").unwrap();

    // Beside the patient: a computer on which nothing runs yet.
    let mut stranger = Node::prepare(&lab.host("home-2"));
    let found = diagnose(&stranger, &[]);
    assert_eq!((found.code, found.faults), (3, words(&["not_running"])));
    let mut somebody = host.command("setpriv").unwrap();
    somebody.args(["--reuid", "65534", "--clear-groups", "vpnctl", "--json", "doctor"]);
    let output = somebody.output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["faults"][0]["fault"]), (Some(5), &"not_permitted".into()));
    stranger.options(&["--no-port-mapping"]);
    stranger.start_again().unwrap();
    finds(&stranger, "no_network");
    stranger.stop().unwrap();

    let well = is_well(&patient, "joining");
    assert!(well.notes.is_empty(), "{}", well.document);
    assert!(host.run("vpnctl", &["doctor"]).unwrap().ends_with("No fault was found."));
    let udp = |which: &str| {
        format!("chain out {{ type filter hook output priority 0; meta l4proto udp {which} drop; }}")
    };
    filtered(&host, &udp("ip daddr 45.255.0.0/16"), || {
        let found = diagnose(&patient, &[]);
        assert_eq!(
            (found.code, found.notes),
            (0, words(&["stun_silent"])),
            "a direct path is up: {}",
            found.document
        );
    });
    filtered(&host, &udp("oifname eth0"), || {
        let found = diagnose(&patient, &[]);
        assert_eq!((found.code, found.notes), (0, words(&["udp_blocked"])), "{}", found.document);
    });
    let forbidden =
        "chain out { type filter hook output priority 0; tcp dport 443 reject with icmpx admin-prohibited; }";
    filtered(&host, forbidden, || drop(finds(&patient, "tcp_blocked")));

    // What other programs on this machine do to the tunnel.
    host.run("ip", &["route", "add", &format!("{address}/32"), "via", &gateway(&host)]).unwrap();
    assert_eq!(finds(&patient, "route_taken").document["faults"][0]["machine"], "cloud-1");
    host.run("ip", &["route", "del", &format!("{address}/32")]).unwrap();
    filtered(&host, "chain out { type filter hook output priority 0; oifname tacet0 drop; }", || {
        finds(&patient, "firewall_out");
    });
    if tests::long() {
        firewalls(&patient, &signer);
    }
    host.run("ip", &["link", "set", "tacet0", "down"]).unwrap();
    finds(&patient, "interface_down");
    host.run("ip", &["link", "set", "tacet0", "up"]).unwrap();
    let restored = is_well(&patient, "the interface was switched on");
    assert!(restored.notes.is_empty(), "{}", restored.document);
    host.run("sysctl", &["-qw", "net.ipv6.conf.tacet0.disable_ipv6=1"]).unwrap();
    finds(&patient, "ipv6_off");
    patient.ask(&["down"]).unwrap();
    let found = diagnose(&patient, &[]);
    assert_eq!((found.code, found.notes), (0, words(&["down"])), "as it was told: {}", found.document);

    // The servers, and the way to them. Each is mended and the next thing broken: what is named is the newer.
    patient.ask(&["up"]).unwrap();
    relay.kill();
    finds(&patient, "relays_silent");
    relay.start_again().unwrap();
    coordinator.kill();
    finds(&patient, "coordinator_down");
    coordinator.start_again().unwrap();
    lab.natlab(&["hole", "home", "1000"]).unwrap();
    finds(&patient, "large_packets_lost");
    lab.natlab(&["hole", "home", "0"]).unwrap();
    if tests::long() {
        is_well(&patient, "the way out was mended");
        the_way_out(&lab, &patient);
    }

    // What vpnd is given, or not, at its start.
    patient.before("mount -t tmpfs tacet /dev/net");
    patient.start_again().unwrap();
    finds(&patient, "no_tun");
    patient.before("mount --bind /dev/null /etc/hosts; mount --bind /dev/null /etc/resolv.conf");
    patient.start_again().unwrap();
    finds(&patient, "resolver_silent");
    patient.before("");
    if tests::long() {
        patient.options(&["--no-port-mapping", "--proxy", &format!("http://{}:3128", gateway(&host))]);
        patient.start_again().unwrap();
        finds(&patient, "proxy_unreachable");
        patient.options(&["--no-port-mapping"]);
    }
    patient.start_again().unwrap();

    // The other machine.
    assert_eq!(patient.vpnctl(&["doctor", "nobody"]).unwrap().code, 2);
    assert_eq!(patient.vpnctl(&["doctor", "home-1"]).unwrap().code, 2, "it is this machine");
    if tests::long() {
        patient.reaches(&address, FIRST_ANSWER).unwrap();
        is_well(&patient, "all of it");
        signer.stop().unwrap();
        let found = diagnose(&patient, &["cloud-1"]);
        assert_eq!((found.code, found.faults), (1, words(&["machine_silent"])), "{}", found.document);
        assert_eq!(diagnose(&patient, &[]).code, 0, "a machine may be off");
        signer.start_again().unwrap();
    }
    signer.ask(&["machines", "remove", "home-1", "--yes"]).unwrap();
    finds(&patient, "removed");

    // Nobody trusts that coordinator again.
    coordinator.kill();
    coordinator.forget().unwrap();
    coordinator.start_again().unwrap();
    finds(&signer, "wrong_pin");
}

/// Two of three packets that ask for a connection get lost, to the servers and through the tunnel.
#[test]
fn packets_that_get_lost_are_no_firewall() {
    let Ward { lab: _lab, coordinator: _coordinator, relay: _relay, signer, patient } = ward();
    let is_well = || {
        let found = diagnose(&patient, &["cloud-1"]);
        assert_eq!((found.code, found.notes.len()), (0, 0), "{}", found.document);
    };
    let lost = |hook: &str, port: u16| {
        let asks = format!("tcp dport {port} tcp flags syn / syn,ack");
        format!("chain lossy {{ type filter hook {hook} priority 0; {asks} numgen inc mod 3 < 2 drop; }}")
    };
    filtered(patient.host(), &lost("output", 443), is_well);
    filtered(signer.host(), &lost("input", 41_112), is_well);
}

/// Rules that drop what comes in by the tunnel, here and there.
fn firewalls(patient: &Node, signer: &Node) {
    let incoming = "chain in { type filter hook input priority 0; iifname tacet0 drop; }";
    filtered(patient.host(), incoming, || drop(finds(patient, "firewall_in")));
    filtered(signer.host(), incoming, || {
        let found = diagnose(patient, &["cloud-1"]);
        assert_eq!((found.code, found.faults), (1, words(&["firewall_there"])), "{}", found.document);
        assert_eq!(diagnose(patient, &[]).code, 0, "elsewhere's firewall is no fault here");
    });
}

/// What takes a while to be noticed, or to be mended.
fn the_way_out(lab: &Lab, patient: &Node) {
    let host = patient.host();
    // A login page that everything is led to.
    let script = host.folder().join("portal.py");
    fs::write(&script, PORTAL).unwrap();
    let mut serving = host.command("python3").unwrap();
    serving.arg(&script).stdin(Stdio::null());
    let portal = Process::start("portal", &mut serving, host.folder().join("portal.log")).unwrap();
    let led = "type nat hook output priority -100; tcp dport { 80, 443 } redirect to :8080;";
    nft(host, &format!("table ip portal {{ chain out {{ {led} }}; }}"));
    finds(patient, "captive_portal");
    nft(host, "delete table ip portal");
    drop(portal);

    let router = gateway(host);
    host.run("ip", &["link", "set", "eth0", "down"]).unwrap();
    finds(patient, "offline");
    host.run("ip", &["link", "set", "eth0", "up"]).unwrap();
    host.run("ip", &["route", "replace", "default", "via", &router]).unwrap();

    lab.natlab(&["cut", "srv"]).unwrap();
    finds(patient, "coordinator_silent");
    lab.natlab(&["cut", "srv2"]).unwrap();
    finds(patient, "nothing_answers");
    lab.natlab(&["heal"]).unwrap();
    is_well(patient, "the servers were back");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The router of the host's site.
fn gateway(host: &Host) -> String {
    let lan = host.run("ip", &["-4", "-o", "addr", "show", "dev", "eth0"]).unwrap();
    let own = lan.split_whitespace().find_map(|word| word.split_once('/')).unwrap().0.to_owned();
    let (net, _) = own.rsplit_once('.').unwrap();
    format!("{net}.1")
}
