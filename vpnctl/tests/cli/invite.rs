//! `invite`, `invite create`, `invite list`.

use std::{process::Command, time::SystemTime};

use proto::api::{Answer, Invite, InviteCreated, Secret};
use serde_json::{Value, json};

use crate::stage::Vpnd;

fn invite(name: Option<&str>, uses: u32, groups: &[&str]) -> Invite {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    Invite {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        name: name.map(str::to_owned),
        uses,
        expires: now + 86_400,
        groups: groups.iter().map(ToString::to_string).collect(),
    }
}

fn creating(invite: Invite) -> Vpnd {
    Vpnd::answering(Answer::InviteCreated(InviteCreated {
        token: Secret::new("tacet-invite1abc".to_owned()),
        invite,
    }))
}

fn asked(arguments: &[&str]) -> Value {
    let vpnd = creating(invite(None, 1, &[]));
    vpnd.run(arguments).done();
    vpnd.asked()["cmd"]["invite_create"].clone()
}

#[test]
fn invite_alone_makes_one_for_one_machine_and_a_day() {
    let expected = json!({"name": null, "uses": 1, "expires_in": 86_400, "groups": []});
    assert_eq!(asked(&["invite"]), expected);
    assert_eq!(asked(&["invite", "create"]), expected);
}

#[test]
fn name_uses_expiry_and_groups_are_handed_on_with_and_without_create() {
    let expected = json!({"name": "nas", "uses": 5, "expires_in": 604_800, "groups": ["family", "guests"]});
    let options = ["--name", "nas", "--uses", "5", "--expires", "7d", "--groups", "family,guests"];
    assert_eq!(asked(&[&["invite"], options.as_slice()].concat()), expected);
    assert_eq!(asked(&[&["invite", "create"], options.as_slice()].concat()), expected);
}

#[test]
fn create_prints_the_token_first_then_the_line_to_type_and_the_warning() {
    let run = creating(invite(Some("nas"), 1, &["family"])).run(&["invite"]);
    assert_eq!(run.done().lines().next(), Some("tacet-invite1abc"));
    assert!(run.out.contains("\n  vpnctl join tacet-invite1abc\n"), "{}", run.out);
    assert!(run.out.contains("one machine join as nas, into family, until 20"), "{}", run.out);
    assert!(run.out.contains("(in 1 day)"), "{}", run.out);
    assert!(run.out.contains("Whoever sees it can join and read the roster"), "{}", run.out);
    assert!(!run.out.contains('█'), "no QR code where there is no terminal");
}

#[test]
fn a_token_that_could_not_be_printed_is_told_to_be_lost() {
    let vpnd = creating(invite(None, 1, &[]));
    let line = format!("{} invite > /dev/full", env!("CARGO_BIN_EXE_vpnctl"));
    let output = Command::new("sh").args(["-c", &line]).env("TACET_SOCKET", vpnd.socket()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("token is lost") && told.contains("invite revoke 0011"), "{told}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn create_in_json_has_the_token_and_the_line() {
    let invite = invite(None, 3, &["family"]);
    let expires = invite.expires;
    assert_eq!(
        creating(invite).run(&["invite", "--json", "--uses", "3"]).json(),
        json!({"token": "tacet-invite1abc", "command": "vpnctl join tacet-invite1abc", "uses": 3, "expires": expires,
               "id": "00112233445566778899aabbccddeeff", "name": null, "groups": ["family"]})
    );
}

#[test]
fn list_is_a_table_and_a_document_without_tokens() {
    let vpnd = Vpnd::answering(Answer::Invites(vec![
        invite(Some("nas"), 1, &[]),
        invite(None, 12, &["family", "guests"]),
    ]));
    assert_eq!(
        vpnd.run(&["invite", "list"]).done(),
        "INVITE    NAME  USES LEFT  GROUPS          EXPIRES\n\
         00112233  nas           1  -               in 1 day\n\
         00112233  -            12  family, guests  in 1 day\n"
    );
    let json = vpnd.run(&["invite", "list", "--json"]).json();
    assert_eq!(json["invites"][1]["groups"], json!(["family", "guests"]));
    assert_eq!(json["invites"][0]["id"], "00112233445566778899aabbccddeeff");
}

#[test]
fn an_empty_list_says_how_to_make_one() {
    let vpnd = Vpnd::answering(Answer::Invites(Vec::new()));
    assert_eq!(vpnd.run(&["invite", "list"]).done(), "There are no invites. Make one: vpnctl invite\n");
}
