//! `network create|list`, `up`, `down`, `join`.

use std::process::Command;

use proto::api::{
    Answer, Damage, ErrorCode, Joined, NetworkCreated, NetworkState, NetworkSummary, Progress, Reply, Secret,
};
use serde_json::json;

use crate::stage::Vpnd;

fn summary(name: &str, state: NetworkState) -> NetworkSummary {
    NetworkSummary {
        name: name.to_owned(),
        roster_name: None,
        state,
        machine: "server".to_owned(),
        machines: 3,
        coordinator: "https://vpn.example".to_owned(),
        damage: None,
    }
}

fn joined(ipv4: Option<&str>, provisional: bool) -> Answer {
    Answer::Joined(Joined {
        network: "home".to_owned(),
        roster_name: None,
        machine: "laptop".to_owned(),
        ipv4: ipv4.map(|ip| ip.parse().unwrap()),
        ipv6: "fd12:3456:789a::2".parse().unwrap(),
        provisional,
        wanted: None,
    })
}

#[test]
fn up_ends_with_1_where_the_machine_was_removed_and_shows_the_other_networks_too() {
    let answer = |states: &[NetworkState]| {
        Answer::Networks(states.iter().map(|state| summary("home", *state)).collect())
    };
    let vpnd = Vpnd::answering(answer(&[NetworkState::Up, NetworkState::Removed]));
    let run = vpnd.run(&["up"]);
    assert_eq!((run.code, run.out.lines().count(), run.err.as_str()), (1, 2, ""));
    assert!(run.out.contains("it was removed; see vpnctl status"), "{}", run.out);
    let run = vpnd.run(&["up", "--json"]);
    assert_eq!((run.code, &run.json()["networks"][1]["state"]), (1, &json!("removed")));
    let others = [NetworkState::Up, NetworkState::Pending, NetworkState::Stale, NetworkState::Forked];
    assert_eq!(Vpnd::answering(answer(&others)).run(&["up"]).code, 0);
}

#[test]
fn create_shows_the_recovery_key_once_and_says_so() {
    let made = || {
        Answer::NetworkCreated(NetworkCreated {
            network: "home".to_owned(),
            roster_name: None,
            machine: "server".to_owned(),
            ipv4: Some("10.88.14.2".parse().unwrap()),
            ipv6: "fd12:3456:789a::1".parse().unwrap(),
            recovery_key: Secret::new("tacet-recovery1abc".to_owned()),
        })
    };
    let vpnd = Vpnd::answering(made());
    let run = vpnd.run(&["network", "create", "home", "--machine", "server"]);
    assert_eq!(run.done().matches("\ntacet-recovery1abc\n").count(), 1);
    assert!(
        run.out.contains("shown this once") && run.out.contains("10.88.14.2, fd12:3456:789a::1"),
        "{}",
        run.out
    );
    assert!(run.out.lines().all(|line| line.chars().count() <= 80), "{}", run.out);
    for to in ["/dev/full", "/dev/full --json"] {
        let line = format!("{} network create home > {to}", env!("CARGO_BIN_EXE_vpnctl"));
        let output =
            Command::new("sh").args(["-c", &line]).env("TACET_SOCKET", vpnd.socket()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("recovery key is lost") && told.contains("leave --force"), "{told}");
        assert_eq!(output.status.code(), Some(1));
    }
    let cmd =
        json!({"network_create": {"name": "home", "machine": "server", "alias": null, "coordinator": null}});
    assert_eq!(vpnd.asked()["cmd"], cmd);
    assert_eq!(
        vpnd.run(&["network", "create", "home", "--json"]).json(),
        json!({"network": "home", "machine": "server", "ipv4": "10.88.14.2", "ipv6": "fd12:3456:789a::1",
               "recovery_key": "tacet-recovery1abc"})
    );
}

#[test]
fn list_is_a_table_and_a_document() {
    let vpnd = Vpnd::answering(Answer::Networks(vec![
        summary("home", NetworkState::Up),
        summary("office", NetworkState::Down),
    ]));
    assert_eq!(
        vpnd.run(&["network", "list"]).done(),
        "NETWORK  STATE  THIS MACHINE  MACHINES  COORDINATOR\n\
         home     up     server               3  https://vpn.example\n\
         office   down   server               3  https://vpn.example\n"
    );
    let json = vpnd.run(&["network", "list", "--json"]).json();
    assert_eq!(
        json["networks"][1],
        json!({"name": "office", "state": "down", "machine": "server", "machines": 3, "coordinator": "https://vpn.example"})
    );
}

#[test]
fn a_damaged_network_is_in_the_list_with_what_to_do() {
    let damage = Damage { why: "the file /x/keys is damaged".to_owned(), next: "restore it".to_owned() };
    let damaged = NetworkSummary {
        machine: String::new(),
        machines: 0,
        coordinator: String::new(),
        damage: Some(damage),
        ..summary("work", NetworkState::Damaged)
    };
    let vpnd = Vpnd::answering(Answer::Networks(vec![summary("home", NetworkState::Up), damaged]));
    let run = vpnd.run(&["network", "list"]);
    assert!(run.done().contains("work     damaged  -                    -  -\n"), "{}", run.out);
    assert!(run.out.contains("why:  the file /x/keys is damaged\n  next: restore it\n"), "{}", run.out);
    assert_eq!(vpnd.run(&["up"]).done(), "home is up.\nwork is damaged; see vpnctl status.\n");
}

#[test]
fn in_no_network_a_person_learns_how_to_get_into_one() {
    let vpnd = Vpnd::answering(Answer::Networks(Vec::new()));
    let run = vpnd.run(&["network", "list"]);
    assert!(
        run.done().contains("vpnctl join TOKEN") && run.out.contains("vpnctl network create"),
        "{}",
        run.out
    );
    assert_eq!(vpnd.run(&["network", "list", "--json"]).json(), json!({"networks": []}));
    assert_eq!(Vpnd::failing(ErrorCode::NoNetwork).run(&["up"]).code, 1);
}

#[test]
fn up_and_down_say_how_it_is_now() {
    let vpnd = Vpnd::answering(Answer::Networks(vec![summary("home", NetworkState::Up)]));
    assert_eq!(vpnd.run(&["up"]).done(), "home is up.\n");
    assert_eq!(vpnd.asked(), json!({"v": 1, "network": null, "cmd": {"up": {}}}));
    let vpnd = Vpnd::answering(Answer::Networks(vec![summary("home", NetworkState::Down)]));
    assert_eq!(vpnd.run(&["down", "--network", "home"]).done(), "home is down.\n");
    assert_eq!(vpnd.asked(), json!({"v": 1, "network": "home", "cmd": {"down": {}}}));
}

#[test]
fn join_tells_its_progress_to_people_only() {
    let replies = || {
        [
            Reply::Progress(Progress::Contacting),
            Reply::Progress(Progress::Checking),
            Reply::Ok(joined(None, true)),
        ]
    };
    let vpnd = Vpnd::saying(&replies());
    let run = vpnd.run(&["join", "tacet-invite1abc"]);
    assert!(run.done().starts_with("Joined home as laptop: fd12:3456:789a::2\n"), "{}", run.out);
    assert!(run.out.contains("provisional") && run.out.contains("IPv4"), "{}", run.out);
    assert_eq!(run.err, "Contacting the coordinator ...\nChecking the network's signatures ...\n");
    assert_eq!(
        vpnd.asked()["cmd"],
        json!({"join": {"token": "tacet-invite1abc", "machine": null, "alias": null}})
    );
    assert_eq!(
        vpnd.run(&["join", "tacet-invite1abc", "--json"]).json(),
        json!({"network": "home", "machine": "laptop", "ipv4": null, "ipv6": "fd12:3456:789a::2", "provisional": true})
    );
}

#[test]
fn a_network_and_a_machine_may_have_other_names_than_asked_for() {
    let joined = Answer::Joined(Joined {
        network: "work".to_owned(),
        roster_name: Some("home".to_owned()),
        machine: "laptop".to_owned(),
        ipv4: None,
        ipv6: "fd12:3456:789a::2".parse().unwrap(),
        provisional: false,
        wanted: Some("nas".to_owned()),
    });
    let vpnd = Vpnd::answering(joined);
    let run = vpnd.run(&["join", "tacet-invite1abc", "--as", "work"]);
    assert!(run.done().starts_with("Joined home (here: work) as laptop: "), "{}", run.out);
    assert!(run.out.contains("\nAnother machine is named nas already.\n"), "{}", run.out);
    assert_eq!(vpnd.asked()["cmd"]["join"]["alias"], "work");
    vpnd.run(&["network", "create", "home", "--as", "work"]);
    assert_eq!(vpnd.asked()["cmd"]["network_create"]["alias"], "work");
}

#[test]
fn a_full_member_hears_nothing_of_provisional() {
    let run = Vpnd::answering(joined(Some("10.88.14.3"), false)).run(&["join", "tacet-invite1abc"]);
    assert_eq!(
        run.done(),
        "Joined home as laptop: 10.88.14.3, fd12:3456:789a::2\nSee the others: vpnctl status\n"
    );
}

#[test]
fn a_token_may_come_from_standard_input_and_be_broken_over_lines() {
    let vpnd = Vpnd::answering(joined(None, false));
    vpnd.run_with(&["join", "-", "--machine", "laptop"], "  tacet-invite1abc\n  def\n").done();
    assert_eq!(
        vpnd.asked()["cmd"],
        json!({"join": {"token": "tacet-invite1abcdef", "machine": "laptop", "alias": null}})
    );
}

#[test]
fn what_is_no_token_is_refused_before_vpnd_is_asked() {
    let vpnd = Vpnd::answering(joined(None, false));
    for token in ["", "  ", "tacet-invite1\"abc", "tacet-invite1\u{e9}"] {
        let run = vpnd.run(&["--json", "join", token]);
        assert_eq!((run.code, &run.json()["error"]["code"]), (2, &json!("invalid_token")), "{token}");
    }
    assert!(vpnd.asked_nothing());
}
