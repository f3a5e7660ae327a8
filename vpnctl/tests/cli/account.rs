//! `account create|login|logout` and where passwords come from.

use proto::api::{Account, Answer, Progress, Reply};
use serde_json::json;

use crate::stage::Vpnd;

/// base64 of `correct horse`.
const PASSWORD: &str = "Y29ycmVjdCBob3JzZQ==";

fn vpnd() -> Vpnd {
    let account = Account { name: "ann".to_owned(), coordinator: "https://vpn.example".to_owned() };
    Vpnd::saying(&[Reply::Progress(Progress::Contacting), Reply::Ok(Answer::Account(account))])
}

#[test]
fn create_sends_token_and_password_and_says_what_is_next() {
    let vpnd = vpnd();
    let run = vpnd.run_with(
        &["account", "create", "ann", "--enrol", "tacet-enrol1abc", "--password-stdin"],
        "correct horse\n",
    );
    assert!(run.done().contains("Created the account ann at https://vpn.example"), "{}", run.out);
    assert!(run.out.contains("vpnctl network create"), "{}", run.out);
    assert_eq!(run.err, "Contacting the coordinator ...\n");
    let asked = vpnd.asked();
    assert_eq!(asked["v"], 1);
    assert_eq!(
        asked["cmd"],
        json!({"account_create": {"name": "ann", "enrol": "tacet-enrol1abc", "password": PASSWORD}})
    );
}

#[test]
fn login_may_name_the_coordinator_and_its_pin() {
    let vpnd = vpnd();
    let file = vpnd.dir().join("password");
    std::fs::write(&file, "correct horse\r\n").unwrap();
    let file = file.to_str().unwrap();
    let run = vpnd.run(&[
        "--json",
        "account",
        "login",
        "ann",
        "--coordinator",
        "https://vpn.example",
        "--pin",
        "abc",
        "--password-file",
        file,
    ]);
    assert_eq!(run.json(), json!({"account": {"name": "ann", "coordinator": "https://vpn.example"}}));
    assert_eq!(
        vpnd.asked()["cmd"],
        json!({"account_login": {"name": "ann", "coordinator": "https://vpn.example", "pin": "abc", "password": PASSWORD}})
    );
}

#[test]
fn logout_has_little_to_say() {
    let vpnd = Vpnd::answering(Answer::Done {});
    assert!(vpnd.run(&["account", "logout"]).done().starts_with("Logged out."));
    assert_eq!(vpnd.asked()["cmd"], json!({"account_logout": {"coordinator": null}}));
    assert_eq!(vpnd.run(&["account", "logout", "--json"]).json(), json!({"done": true}));
}

#[test]
fn a_password_keeps_its_blanks_and_loses_one_line_end() {
    let vpnd = vpnd();
    vpnd.run_with(&["account", "login", "ann", "--password-stdin"], " correct\nhorse \n\n").done();
    // base64 of " correct\nhorse \n".
    assert_eq!(vpnd.asked()["cmd"]["account_login"]["password"], "IGNvcnJlY3QKaG9yc2UgCg==");
}

#[test]
fn a_new_password_has_eight_characters_and_an_old_one_any() {
    let vpnd = vpnd();
    let create = ["account", "create", "ann", "--enrol", "tacet-enrol1abc", "--password-stdin"];
    let run = vpnd.run_with(&create, "sévensé");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("fewer than 8"), "{}", run.err);
    assert!(vpnd.asked_nothing());
    vpnd.run_with(&create, "sévenseé").done();
    vpnd.run_with(&["account", "login", "ann", "--password-stdin"], "x").done();
}

#[test]
fn no_password_is_a_usage_error_and_asks_vpnd_nothing() {
    let vpnd = vpnd();
    let dir = vpnd.dir().to_str().unwrap();
    let long = "x".repeat(5000);
    for (source, stdin, why) in [
        (vec!["--password-stdin"], "\n", "it is empty"),
        (vec!["--password-stdin"], long.as_str(), "longer than"),
        (vec!["--password-file", "/nonexistent"], "", "No such file"),
        (vec!["--password-file", dir], "", "directory"),
        (vec![], "correct horse\n", "no terminal"),
    ] {
        let run = vpnd.run_with(&[&["account", "login", "ann"], source.as_slice()].concat(), stdin);
        assert_eq!(run.code, 2, "{why}");
        assert!(run.err.contains(why), "{why}: {}", run.err);
    }
    assert!(vpnd.asked_nothing());
}

#[test]
fn token_and_password_cannot_both_come_from_standard_input() {
    let vpnd = vpnd();
    let run = vpnd.run_with(&["account", "create", "ann", "--enrol", "-", "--password-stdin"], "a\nb\n");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("--password-file"), "{}", run.err);
}
