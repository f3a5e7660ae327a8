//! `doctor`, against a vpnd that says what a broken one would.

use proto::api::{
    Addresses, Answer, Checked, Clock, ErrorCode, Family, Mapping, MappingState, Nat, NatKind, Netcheck,
    NetworkState, NetworkStatus, Own, PortMapping, Portal, Reply, Server, ServerState, Status, Udp, Warning,
};
use serde_json::json;

use crate::stage::{Vpnd, run};

fn status(state: NetworkState, warnings: Vec<Warning>) -> Reply {
    Reply::Ok(Answer::Status(Status { networks: vec![network("home", state, warnings)] }))
}

/// This machine in two networks.
fn both() -> Reply {
    let networks = ["home", "work"].map(|name| network(name, NetworkState::Up, Vec::new()));
    Reply::Ok(Answer::Status(Status { networks: networks.into() }))
}

fn network(name: &str, state: NetworkState, warnings: Vec<Warning>) -> NetworkStatus {
    let machine = Own { name: "laptop".to_owned(), ipv4: None, ipv6: "::1".parse().unwrap(), signer: false };
    NetworkStatus {
        name: name.to_owned(),
        roster_name: None,
        state,
        generation: 1,
        version: 1,
        epoch: 1,
        machine,
        peers: Vec::new(),
        warnings,
        damage: None,
    }
}

fn around(coordinator: ServerState) -> Reply {
    let server = |url: &str, state: ServerState| Server {
        url: url.to_owned(),
        state,
        connect_ms: None,
        rtt_ms: None,
        udp: Vec::new(),
    };
    Reply::Ok(Answer::Netcheck(Netcheck {
        udp: Some(false),
        nat: Nat { mapping: Mapping::Unknown, kind: None::<NatKind>, port_kept: None },
        ipv4: Addresses { local: vec!["192.168.1.10".parse().unwrap()], ..Addresses::default() },
        ipv6: Addresses::default(),
        port_mapping: PortMapping { state: MappingState::None, protocols: Vec::new() },
        captive_portal: Portal::None,
        proxy: None,
        clock: Some(Clock::Right),
        networks: vec![Checked {
            name: Some("home".to_owned()),
            mapped: None,
            coordinator: server("https://vpn.example", coordinator),
            relays: vec![Server {
                udp: vec![Udp { family: Family::Ipv4, rtt_ms: None }],
                ..server("https://relay.example", ServerState::Answers)
            }],
        }],
    }))
}

#[test]
fn faults_come_before_notes_each_with_what_to_do() {
    let vpnd = Vpnd::in_turn(&[
        status(NetworkState::Up, vec![Warning::CoordinatorUnreachable]),
        around(ServerState::Refused),
    ]);
    let run = vpnd.run(&["doctor"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert_eq!(
        run.out,
        "\
fault: home: the coordinator does not run, or a firewall before it refuses connections: https://vpn.example; relays answer
  next: its operator starts it: systemctl start tacet-coordinator; and looks whether TCP gets through to it; tunnels go on meanwhile, changes wait
note:  UDP is blocked in the network around, or at the relays: paths go over relays
  next: let UDP out in the firewall around; if it is so from everywhere, the relays' operator lets in UDP to port 3478
"
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"status": {}}));
    assert_eq!(vpnd.asked()["cmd"], json!({"netcheck": {}}));
}

#[test]
fn the_document_is_the_one_in_the_manual() {
    let replies =
        [status(NetworkState::Up, vec![Warning::CoordinatorUnreachable]), around(ServerState::Refused)];
    let run = Vpnd::in_turn(&replies).run(&["--json", "doctor"]);
    let manual = include_str!("../../../docs/json.md").split("## doctor").nth(1).unwrap();
    let shown: serde_json::Value =
        serde_json::from_str(manual.split("```json\n").nth(1).unwrap().split("```").next().unwrap()).unwrap();
    assert_eq!((run.code, run.json()), (1, shown));
}

#[test]
fn without_a_fault_it_exits_with_0_and_says_so() {
    let replies = [status(NetworkState::Down, Vec::new()), around(ServerState::Answers)];
    let run = Vpnd::in_turn(&replies).run(&["doctor"]);
    assert_eq!(
        run.done(),
        "note:  home: the network is down, as it was told to be\n  next: connect: vpnctl up\nNo fault was found.\n"
    );
}

#[test]
fn a_vpnd_that_cannot_be_asked_is_the_fault_with_the_exit_code_of_every_command() {
    let none = run(std::path::Path::new("/nonexistent/vpnd.sock"), &["--json", "doctor"], "");
    assert_eq!((none.code, &none.json()["faults"][0]["fault"]), (3, &json!("not_running")));
    let refused = Vpnd::failing(ErrorCode::NotPermitted).run(&["--json", "doctor"]);
    assert_eq!((refused.code, &refused.json()["faults"][0]["fault"]), (5, &json!("not_permitted")));
    let other = Vpnd::failing(ErrorCode::Newer).run(&["doctor"]);
    assert_eq!((other.code, other.out.as_str()), (1, ""));
    assert!(other.err.starts_with("error: it failed"), "{}", other.err);
}

#[test]
fn a_machine_that_there_is_not_is_an_error() {
    // vpnd words it for the commands that it was asked by on the way: it is told as the doctor's own.
    let refusal = |what: &str| {
        let (why, next) =
            ("there is no such machine in the network", "see their names: vpnctl machines list");
        Reply::Error(proto::api::ApiError::new(ErrorCode::NotFound, what, why, next))
    };
    let vpnd = Vpnd::in_turn(&[status(NetworkState::Up, Vec::new()), refusal("the address cannot be shown")]);
    let run = vpnd.run(&["doctor", "nobody"]);
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert_eq!(
        run.err,
        "\
error: nothing was examined
  why:  there is no such machine in the network
  next: see their names: vpnctl machines list
"
    );
    let two = Vpnd::in_turn(&[both()]).run(&["doctor", "nobody"]);
    assert_eq!(two.code, 2);
    assert!(two.err.contains("there is no such machine in any network"), "{}", two.err);
    let own = Vpnd::in_turn(&[both()]).run(&["doctor", "laptop"]);
    assert_eq!((own.code, own.err.contains("it is this machine")), (2, true), "{}", own.err);
    let unknown = Vpnd::in_turn(&[refusal("the status cannot be shown")]).run(&["--json", "doctor"]);
    assert_eq!((unknown.code, &unknown.json()["error"]["what"]), (2, &json!("nothing was examined")));
}

#[test]
fn every_fault_is_in_the_manual() {
    let manual = include_str!("../../../docs/json.md").split("## doctor").nth(1).unwrap();
    let source = include_str!("../../src/doctor/fault.rs");
    let words = source.split("pub(crate) enum Fault {").nth(1).unwrap().split("\n}").next().unwrap();
    let mut count = 0;
    for word in words.lines().filter_map(|line| line.trim().strip_suffix(',')) {
        if word.contains('(') {
            continue;
        }
        let snake: String = word
            .chars()
            .enumerate()
            .flat_map(|(i, c)| {
                let apart = (i > 0 && c.is_uppercase()).then_some('_');
                apart.into_iter().chain(c.to_lowercase())
            })
            .collect();
        assert!(manual.contains(&format!("| `{snake}` |")), "{snake}");
        count += 1;
    }
    assert!(count > 20);
}
