//! `machines remove`, `invite revoke`, `leave`.

use proto::api::{Answer, ErrorCode, Left, MachineRemoved, NetworkState, NetworkSummary, Reply, Revoked};
use serde_json::json;

use crate::{stage::Vpnd, terminal::on_terminal};

fn removing() -> Vpnd {
    Vpnd::answering(Answer::MachineRemoved(MachineRemoved { name: "laptop".to_owned(), invites: 1 }))
}

fn leaving(listed: bool) -> Vpnd {
    let (network, machine) = ("home".to_owned(), "laptop".to_owned());
    Vpnd::answering(Answer::Left(Left { network, machine, listed }))
}

#[test]
fn remove_says_who_is_gone_and_what_ended_with_it() {
    let vpnd = removing();
    let run = vpnd.run(&["machines", "remove", "laptop", "--yes"]);
    assert_eq!(run.done(), "laptop is removed. One invite ended with it.\n");
    assert_eq!(vpnd.asked()["cmd"], json!({"machines_remove": {"name": "laptop"}}));
    let run = vpnd.run(&["machines", "remove", "laptop", "--yes", "--json"]);
    assert_eq!(run.json(), json!({"name": "laptop", "invites": 1}));
}

#[test]
fn nothing_is_removed_or_left_without_a_yes() {
    let vpnd = removing();
    let run = vpnd.run(&["machines", "remove", "laptop"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("--yes"), "{}", run.err);
    let (code, shown) = on_terminal(&vpnd, "machines remove laptop", &[], "n\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Remove laptop?") && shown.contains("Nothing was removed"), "{shown}");
    assert!(vpnd.asked_nothing());
    let (code, shown) = on_terminal(&vpnd, "machines remove laptop", &[], "y\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("laptop is removed"), "{shown}");
    assert_eq!(vpnd.asked()["cmd"], json!({"machines_remove": {"name": "laptop"}}));
}

#[test]
fn leave_asks_by_the_networks_name_and_says_what_remains_to_do() {
    let home = NetworkSummary {
        name: "home".to_owned(),
        roster_name: None,
        state: NetworkState::Up,
        machine: "laptop".to_owned(),
        machines: 2,
        coordinator: "https://vpn.example".to_owned(),
        damage: None,
    };
    let vpnd = Vpnd::saying(&[Reply::Ok(Answer::Networks(vec![home]))]);
    let (code, shown) = on_terminal(&vpnd, "leave", &[], "n\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Leave home?") && shown.contains("Nothing was left"), "{shown}");
    assert_eq!(vpnd.asked()["cmd"], json!({"network_list": {}}));
    assert!(vpnd.asked_nothing());

    let vpnd = leaving(true);
    assert_eq!(
        vpnd.run(&["leave", "--yes"]).done(),
        "Left home. What this machine kept of it is erased.\n\
         home lists it still. On a signer: vpnctl machines remove laptop\n\
         If this was the last one, its recovery key takes the network back: vpnctl recover\n"
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"leave": {"force": false}}));
    assert_eq!(
        vpnd.run(&["leave", "--yes", "--force", "--json"]).json(),
        json!({"network": "home", "machine": "laptop", "listed": true})
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"leave": {"force": true}}));
    assert!(!leaving(false).run(&["leave", "--yes"]).done().contains("signer"));
    assert_eq!(Vpnd::failing(ErrorCode::NotPermitted).run(&["leave", "--yes"]).code, 5);
}

#[test]
fn revoke_says_what_became_of_those_who_had_joined() {
    let revoked = Revoked { id: "00112233445566778899aabbccddeeff".to_owned(), taken_in: 1, dropped: 2 };
    let vpnd = Vpnd::answering(Answer::Revoked(revoked));
    assert_eq!(
        vpnd.run(&["invite", "revoke", "0011", "--fold"]).done(),
        "00112233 is revoked.\n\
         One machine that had joined by it was taken in.\n\
         2 machines that had joined by it were dropped.\n"
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"invite_revoke": {"id": "0011", "fold": true}}));
    assert_eq!(
        vpnd.run(&["invite", "revoke", "0011", "--json"]).json(),
        json!({"id": "00112233445566778899aabbccddeeff", "taken_in": 1, "dropped": 2})
    );
}
