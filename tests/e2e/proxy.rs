//! Machines whose only way out is an HTTP proxy.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::Value;
use tests::{Coordinator, Host, Lab, Node, node::Said, wait};

use crate::world::FIRST_ANSWER;

/// The second proxy wants the user `lab` with the password `sesame`.
const TOPOLOGY: &str = "cloud=none,office=blocked:2,bank=blocked:auth=1";

/// A file with what the proxy is to be shown.
fn credentials(host: &Host, content: &str) -> String {
    host.run("true", &[]).unwrap(); // makes its folders
    let path: PathBuf = host.folder().join("proxy-credentials");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What keeps it from joining.
fn refused(node: &Node, token: &str) -> String {
    let Said { code, json, text } = node.vpnctl(&["join", token]).unwrap();
    assert_eq!((code, &json["error"]["code"]), (1, &Value::from("unreachable")), "{text}");
    json["error"]["why"].as_str().unwrap().to_owned()
}

#[test]
fn machines_behind_proxies_join_and_reach_each_other_over_the_relay() {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let coordinator = Coordinator::start(&lab.host("srv")).unwrap();
    let first = Node::start(&lab.host("cloud-1")).unwrap();
    first.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    first.create_network("home").unwrap();
    let join = |node: &Node| node.join(&first.invite(&[]).unwrap()).unwrap();

    // By an option, and by the variable that other programs go by.
    let mut office = Node::prepare(&lab.host("office-1"));
    office.options(&["--proxy", &office.host().proxy().unwrap()]);
    office.start_again().unwrap();
    join(&office);
    let mut desk = Node::prepare(&lab.host("office-2"));
    desk.before(&format!("export https_proxy={}", desk.host().proxy().unwrap()));
    desk.start_again().unwrap();
    join(&desk);

    // Whoever has no login, or a wrong one, is told so.
    let token = first.invite(&[]).unwrap();
    let mut bank = Node::prepare(&lab.host("bank-1"));
    let host = bank.host().clone();
    let place = host.proxy().unwrap();
    bank.options(&["--proxy", &place]);
    bank.start_again().unwrap();
    assert!(refused(&bank, &token).ends_with("the proxy wants a user name and a password"));
    bank.options(&["--proxy", &place, "--proxy-credentials", &credentials(&host, "lab:secret\n")]);
    bank.start_again().unwrap();
    assert!(refused(&bank, &token).ends_with("the proxy does not accept the user name and password"));
    credentials(&host, "lab:sesame\n");
    bank.start_again().unwrap();
    bank.join(&token).unwrap();

    let nodes = [&first, &office, &desk, &bank];
    for node in nodes {
        wait::until(&format!("{} knows everybody", node.name()), wait::SOON, || {
            node.status().is_ok_and(|status| {
                let peers = status["peers"].as_array().unwrap();
                peers.len() == 3 && peers.iter().all(|peer| peer["ipv4"].is_string())
            })
        })
        .unwrap();
    }
    for node in [&office, &desk] {
        node.reaches(&first.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
        node.reaches(&bank.address("ipv6").unwrap(), FIRST_ANSWER).unwrap();
        assert_eq!(node.peer("bank-1").unwrap()["path"], "relay");
    }
    assert_eq!(bank.status().unwrap()["warnings"], Value::Null);

    // Beyond the proxies it is they who speak with the relay: what they send must fit a narrow path, too.
    for site in ["office", "bank"] {
        lab.natlab(&["hole", site, "1280"]).unwrap();
    }
    let there = bank.address("ipv4").unwrap();
    office.host().run("ping", &["-n", "-c", "3", "-i", "0.2", "-W", "5", "-s", "1380", &there]).unwrap();

    // A proxy that changes its mind later is told by the status.
    credentials(&host, "lab:secret\n");
    bank.start_again().unwrap();
    wait::until("it says that the proxy refuses the login", wait::SOON, || {
        let warnings = bank.status().unwrap()["warnings"].to_string();
        ["coordinator_unreachable", "proxy_login", "relay_unreachable"]
            .iter()
            .all(|word| warnings.contains(word))
    })
    .unwrap();
    let plain = host.run("vpnctl", &["status"]).unwrap();
    assert!(plain.contains("--proxy-credentials"), "{plain}");
}

#[test]
fn a_proxy_that_cannot_be_used_keeps_vpnd_from_starting_and_is_not_repeated() {
    let lab = Lab::up("cloud=none").unwrap();
    let host = lab.host("cloud-1");
    let mut node = Node::prepare(&host);
    let open = credentials(&host, "ann:hidden\n");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for (options, before, says) in [
        (vec!["--proxy", "http://ann:hidden@192.0.2.1:3128"], "", "--proxy holds a user name or a password"),
        (vec![], "export HTTPS_PROXY=http://ann:hidden@192.0.2.1", "HTTPS_PROXY holds a user name"),
        (vec!["--proxy", "socks5://192.0.2.1:1080"], "", "--proxy is not the address of an HTTP proxy"),
        (vec!["--proxy-credentials", &open], "", "--proxy-credentials is given and no proxy"),
        (vec!["--proxy", "192.0.2.1:1", "--proxy-credentials", &open], "", "can be read by other users"),
    ] {
        node.options(&options);
        node.before(before);
        let (code, printed) = node.fails_to_start().unwrap();
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(says) && !printed.contains("hidden"), "{printed}");
    }
}
