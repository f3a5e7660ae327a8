//! `status`.

use proto::api::{Answer, Damage, NetworkState, NetworkStatus, Own, Path, Peer, Status, Warning};
use serde_json::json;

use crate::{documents::WARNINGS, stage::Vpnd};

pub(crate) fn peer(name: &str, path: Path, rtt_ms: Option<f64>) -> Peer {
    Peer {
        name: name.to_owned(),
        ipv4: Some("10.188.214.109".parse().unwrap()),
        ipv6: "fd12:3456:789a::2".parse().unwrap(),
        path,
        silent: false,
        endpoint: (path == Path::Direct).then(|| "203.0.113.5:51820".parse().unwrap()),
        rtt_ms,
        mtu: 1420,
        rx_bytes: 1_300_000_000,
        tx_bytes: 0,
    }
}

pub(crate) fn home() -> NetworkStatus {
    NetworkStatus {
        name: "home".to_owned(),
        roster_name: None,
        state: NetworkState::Up,
        generation: 1,
        version: 7,
        epoch: 2,
        machine: Own {
            name: "server".to_owned(),
            ipv4: Some("10.88.14.2".parse().unwrap()),
            ipv6: "fd12:3456:789a::1".parse().unwrap(),
            signer: true,
        },
        peers: vec![
            peer("laptop", Path::Direct, Some(12.44)),
            peer("phone", Path::Relay, Some(148.0)),
            Peer { ipv4: None, rx_bytes: 12, ..peer("tablet", Path::Idle, None) },
        ],
        warnings: Vec::new(),
        damage: None,
    }
}

pub(crate) fn vpnd(networks: Vec<NetworkStatus>) -> Vpnd {
    Vpnd::answering(Answer::Status(Status { networks }))
}

#[test]
fn a_person_sees_networks_machines_paths_and_traffic() {
    assert_eq!(
        vpnd(vec![home()]).run(&["status"]).done(),
        "home  up  generation 1, version 7, epoch 2\n\
         \x20 server (this machine, signer)\n\
         \x20 10.88.14.2, fd12:3456:789a::1\n\
         \n\
         \x20 MACHINE  ADDRESS         PATH        RTT  RECEIVED  SENT\n\
         \x20 laptop   10.188.214.109  direct  12.4 ms   1.2 GiB   0 B\n\
         \x20 phone    10.188.214.109  relay    148 ms   1.2 GiB   0 B\n\
         \x20 tablet   IPv6 only       idle          -      12 B   0 B\n"
    );
}

#[test]
fn a_machine_that_answers_nothing_is_not_called_idle() {
    let mut home = home();
    home.peers = vec![Peer { silent: true, ..peer("tablet", Path::Idle, None) }];
    assert!(vpnd(vec![home]).run(&["status"]).done().contains("no answer  "));
}

#[test]
fn wide_values_fit_80_columns() {
    let mut home = home();
    home.peers = vec![Peer {
        tx_bytes: u64::MAX,
        rx_bytes: 1023 << 30,
        ..peer(&"n".repeat(20), Path::Direct, Some(12345.0))
    }];
    home.machine.ipv6 = "fd12:3456:789a:1111:2222:3333:4444:5555".parse().unwrap();
    home.warnings = WARNINGS.to_vec();
    let run = vpnd(vec![home]).run(&["status"]);
    assert_eq!(run.done().matches("warning: ").count(), WARNINGS.len());
    for line in run.out.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_document_is_the_one_that_is_promised() {
    let mut home = home();
    home.peers.truncate(2);
    assert_eq!(
        vpnd(vec![home]).run(&["--json", "status"]).json(),
        json!({"networks": [{
            "name": "home", "state": "up", "generation": 1, "version": 7, "epoch": 2,
            "machine": {"name": "server", "ipv4": "10.88.14.2", "ipv6": "fd12:3456:789a::1", "signer": true},
            "peers": [
                {"name": "laptop", "ipv4": "10.188.214.109", "ipv6": "fd12:3456:789a::2", "path": "direct", "silent": false,
                 "endpoint": "203.0.113.5:51820", "rtt_ms": 12.44, "mtu": 1420, "rx_bytes": 1_300_000_000, "tx_bytes": 0},
                {"name": "phone", "ipv4": "10.188.214.109", "ipv6": "fd12:3456:789a::2", "path": "relay", "silent": false,
                 "endpoint": null, "rtt_ms": 148.0, "mtu": 1420, "rx_bytes": 1_300_000_000, "tx_bytes": 0},
            ],
        }]})
    );
}

#[test]
fn a_damaged_network_says_which_file_and_what_to_do_beside_the_others() {
    let damage = Damage { why: "the file /x/roster is damaged".to_owned(), next: "restore it".to_owned() };
    let damaged = NetworkStatus {
        name: "work".to_owned(),
        roster_name: None,
        state: NetworkState::Damaged,
        damage: Some(damage),
        peers: Vec::new(),
        ..home()
    };
    let vpnd = vpnd(vec![home(), damaged]);
    let run = vpnd.run(&["status"]);
    assert!(
        run.done().contains("\nwork  damaged\n  why:  the file /x/roster is damaged\n  next: restore it\n")
    );
    assert!(!run.out.contains("No other machine yet"));
    let json = vpnd.run(&["--json", "status"]).json();
    assert_eq!(json["networks"][1]["state"], "damaged");
    assert_eq!(
        json["networks"][1]["damage"],
        json!({"why": "the file /x/roster is damaged", "next": "restore it"})
    );
    assert!(json["networks"][0].get("damage").is_none());
}

#[test]
fn a_state_that_nobody_chose_is_explained_with_what_to_do() {
    for (state, word, next) in [
        (NetworkState::Stale, "stale", "vpnctl signer list"),
        (NetworkState::Forked, "forked", "vpnctl recover"),
        (NetworkState::Removed, "removed", "vpnctl join TOKEN"),
    ] {
        let vpnd = vpnd(vec![NetworkStatus { state, ..home() }]);
        let run = vpnd.run(&["status"]);
        assert!(run.done().starts_with(&format!("home  {word}  ")) && run.out.contains(next), "{}", run.out);
        assert!(run.out.lines().all(|line| line.chars().count() <= 80), "{}", run.out);
        assert_eq!(vpnd.run(&["--json", "status"]).json()["networks"][0]["state"], word);
    }
}

#[test]
fn warnings_are_in_the_document_only_if_there_are_any() {
    let mut home = home();
    home.state = NetworkState::Stale;
    home.warnings = vec![Warning::CoordinatorUnreachable];
    let vpnd = vpnd(vec![home]);
    let json = vpnd.run(&["status", "--json"]).json();
    assert_eq!(json["networks"][0]["warnings"], json!(["coordinator_unreachable"]));
    assert_eq!(json["networks"][0]["state"], "stale");
    assert!(vpnd.run(&["status"]).done().contains("\n  warning: the coordinator cannot be reached"));
}

#[test]
fn alone_in_a_network_and_in_none_a_person_learns_what_is_next() {
    let mut alone = home();
    alone.peers.clear();
    assert!(vpnd(vec![alone]).run(&["status"]).done().contains("vpnctl invite"));
    assert!(vpnd(Vec::new()).run(&["status"]).done().contains("vpnctl join TOKEN"));
    assert_eq!(vpnd(Vec::new()).run(&["status", "--json"]).json(), json!({"networks": []}));
}

#[test]
fn a_machine_cannot_command_the_terminal_by_its_name() {
    let mut home = home();
    home.peers = vec![peer("\x1b]0;owned\x07", Path::Idle, None)];
    home.machine.name = "a\nb".to_owned();
    let run = vpnd(vec![home]).run(&["status"]);
    assert!(!run.done().contains(['\x1b', '\x07']) && !run.out.contains("a\nb"), "{:?}", run.out);
}
