//! `signer`, `relay`, `recover`.

use proto::api::{Answer, Machine, Recovered, Recovery, RecoveryRoster, Relay, Reply};
use serde_json::json;

use crate::{stage::Vpnd, terminal::on_terminal};

fn machine(name: &str, signer: bool, this: bool) -> Machine {
    Machine {
        name: name.to_owned(),
        ipv4: None,
        ipv6: "fd12:3456:789a::1".parse().unwrap(),
        groups: Vec::new(),
        signer,
        provisional: false,
        this,
    }
}

fn roster(version: u64, machines: Vec<Machine>) -> RecoveryRoster {
    RecoveryRoster { recovery: 0, generation: 1, version, machines }
}

/// The second answer is of `recover` itself.
fn recovering(newest: Option<RecoveryRoster>, own: Option<RecoveryRoster>) -> Vpnd {
    let network = "home".to_owned();
    let shown = Reply::Ok(Answer::Recovery(Recovery { network, newest, own }));
    let done = Reply::Ok(Answer::Recovered(Recovered {
        network: "home".to_owned(),
        machine: "laptop".to_owned(),
        ipv4: None,
        ipv6: "fd12:3456:789a::1".parse().unwrap(),
        removed: vec!["nas".to_owned()],
    }));
    Vpnd::in_turn(&[shown, done])
}

#[test]
fn signers_are_listed_made_and_unmade_by_name() {
    let vpnd =
        Vpnd::answering(Answer::Machines(vec![machine("nas", true, true), machine("tv", false, false)]));
    assert_eq!(vpnd.run(&["signer"]).done(), "SIGNER  NOTES\nnas     this one\n");
    assert_eq!(
        vpnd.run(&["signer", "list", "--json"]).json(),
        json!({"signers": [{"name": "nas", "this": true}]})
    );

    let vpnd = Vpnd::answering(Answer::Done {});
    assert_eq!(vpnd.run(&["signer", "add", "tv"]).done(), "tv may sign now.\n");
    assert_eq!(vpnd.asked()["cmd"], json!({"signer_add": {"name": "tv"}}));
    assert!(vpnd.run(&["signer", "remove", "tv"]).done().starts_with("tv may not sign any more."));
    assert_eq!(vpnd.asked()["cmd"], json!({"signer_remove": {"name": "tv"}}));
}

#[test]
fn relays_are_listed_with_what_the_coordinator_offers() {
    let relay = |url: &str, used, offered| Relay { url: url.to_owned(), used, offered };
    let relays =
        vec![relay("https://a.example", true, Some(true)), relay("https://b.example", false, Some(true))];
    let vpnd = Vpnd::answering(Answer::Relays(relays));
    let table = "RELAY              NOTES\nhttps://a.example  in use\nhttps://b.example  offered, not used\n";
    assert_eq!(vpnd.run(&["relay"]).done(), table);
    assert_eq!(
        vpnd.run(&["relay", "list", "--json"]).json()["relays"][1],
        json!({"url": "https://b.example", "used": false, "offered": true})
    );
    let vpnd = Vpnd::answering(Answer::Done {});
    vpnd.run(&["relay", "add"]).done();
    assert_eq!(vpnd.asked()["cmd"], json!({"relay_add": {"url": null}}));
    vpnd.run(&["relay", "remove", "https://b.example"]).done();
    assert_eq!(vpnd.asked()["cmd"], json!({"relay_remove": {"url": "https://b.example"}}));
}

#[test]
fn a_recovery_is_told_in_full_by_a_script() {
    let vpnd = recovering(Some(roster(12, Vec::new())), Some(roster(9, Vec::new())));
    let arguments = "recover --key-stdin --from own --keep laptop,phone --as work --yes --json";
    let run = vpnd.run_with(&arguments.split(' ').collect::<Vec<_>>(), "tacet-recovery1abc\n");
    assert_eq!(run.json()["removed"], json!(["nas"]));
    assert_eq!(vpnd.asked()["cmd"], json!({"recovery_show": {"key": "tacet-recovery1abc"}}));
    assert_eq!(
        vpnd.asked()["cmd"],
        json!({"recover": {"key": "tacet-recovery1abc", "from": "own", "keep": ["laptop", "phone"], "machine": null,
               "alias": "work"}})
    );
}

#[test]
fn where_the_rosters_differ_the_person_has_to_say_from_which_one_to_go_on() {
    let vpnd = recovering(Some(roster(12, Vec::new())), Some(roster(9, Vec::new())));
    let run = vpnd.run_with(&["recover", "--key-stdin", "--yes"], "tacet-recovery1abc\n");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("--from own"), "{}", run.err);
    vpnd.asked();
    assert!(vpnd.asked_nothing());
}

#[test]
fn a_person_sees_both_rosters_and_decides_whom_to_keep_and_the_key_is_not_shown() {
    let newest = roster(12, vec![machine("nas", true, false)]);
    let own = roster(9, vec![machine("laptop", false, true), machine("nas", true, false)]);
    let vpnd = recovering(Some(newest), Some(own));
    let keys = "tacet-recovery1abc\nlaptop\ny\n";
    let (code, shown) = on_terminal(&vpnd, "recover --from own", &[("NO_COLOR", "1")], keys);
    assert_eq!(code, 0, "{shown}");
    let shown = shown.replace('\r', "");
    assert!(
        shown.contains("MACHINE  NEWEST  OWN\n  laptop   -       member\n  nas      signer  signer\n"),
        "{shown}"
    );
    assert!(shown.contains("as laptop, its only signer") && shown.contains("Removed: nas"), "{shown}");
    assert!(!shown.contains("recovery1abc"), "{shown}");
    vpnd.asked();
    assert_eq!(vpnd.asked()["cmd"]["recover"]["keep"], json!(["laptop"]));

    let vpnd = recovering(Some(roster(1, Vec::new())), None);
    let (code, shown) = on_terminal(&vpnd, "recover", &[], "tacet-recovery1abc\n\nn\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Nothing was recovered"), "{shown}");
    vpnd.asked();
    assert!(vpnd.asked_nothing());
}
