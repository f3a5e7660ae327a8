//! `machines`, `machines rename`, `ip`.

use proto::api::{Answer, Machine};
use serde_json::json;

use crate::stage::Vpnd;

fn machine(name: &str, ipv4: Option<&str>) -> Machine {
    Machine {
        name: name.to_owned(),
        ipv4: ipv4.map(|ip| ip.parse().unwrap()),
        ipv6: "fd12:3456:789a::1".parse().unwrap(),
        groups: Vec::new(),
        signer: false,
        provisional: false,
        this: false,
    }
}

#[test]
fn machines_are_a_table_and_a_document() {
    let machines = vec![
        Machine { signer: true, this: true, ..machine("server", Some("10.88.14.2")) },
        Machine { groups: vec!["family".to_owned()], provisional: true, ..machine("phone", None) },
    ];
    let vpnd = Vpnd::answering(Answer::Machines(machines));
    let table = "MACHINE  IPV4        IPV6               GROUPS  NOTES\n\
                 server   10.88.14.2  fd12:3456:789a::1  -       this one, signer\n\
                 phone    -           fd12:3456:789a::1  family  provisional\n";
    assert_eq!(vpnd.run(&["machines"]).done(), table);
    assert_eq!(vpnd.run(&["machines", "list"]).done(), table);
    assert_eq!(
        vpnd.run(&["machines", "--json"]).json()["machines"][1],
        json!({"name": "phone", "ipv4": null, "ipv6": "fd12:3456:789a::1", "groups": ["family"], "signer": false,
               "provisional": true, "this": false})
    );
}

#[test]
fn rename_says_who_is_who() {
    let vpnd = Vpnd::answering(Answer::Done {});
    assert_eq!(
        vpnd.run(&["machines", "rename", "laptop", "old-laptop"]).done(),
        "laptop is now old-laptop.\n"
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"machines_rename": {"old": "laptop", "new": "old-laptop"}}));
    assert_eq!(vpnd.run(&["machines", "rename", "a", "b", "--json"]).json(), json!({"done": true}));
}

#[test]
fn ip_prints_addresses_alone_on_their_lines() {
    let vpnd = Vpnd::answering(Answer::Machine(machine("nas", Some("10.88.14.9"))));
    assert_eq!(vpnd.run(&["ip"]).done(), "10.88.14.9\nfd12:3456:789a::1\n");
    assert_eq!(vpnd.asked()["cmd"], json!({"ip": {"name": null}}));
    assert_eq!(vpnd.run(&["ip", "nas", "-4"]).done(), "10.88.14.9\n");
    assert_eq!(vpnd.asked()["cmd"], json!({"ip": {"name": "nas"}}));
    assert_eq!(vpnd.run(&["ip", "-6"]).done(), "fd12:3456:789a::1\n");
    assert_eq!(
        vpnd.run(&["ip", "nas", "--json"]).json(),
        json!({"name": "nas", "ipv4": "10.88.14.9", "ipv6": "fd12:3456:789a::1"})
    );
}

#[test]
fn an_ipv4_address_that_is_not_there_is_an_error_only_if_it_was_asked_for() {
    let vpnd = Vpnd::answering(Answer::Machine(machine("phone", None)));
    assert_eq!(vpnd.run(&["ip", "phone"]).done(), "fd12:3456:789a::1\n");
    let run = vpnd.run(&["ip", "phone", "-4"]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains("no IPv4 address"), "{}", run.err);
}
