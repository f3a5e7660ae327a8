//! What only happens on a terminal: colours, the QR code, the password prompt. `script` lends one.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use proto::api::{Account, Answer, Invite, InviteCreated, Secret};

use crate::{
    stage::Vpnd,
    status::{home, vpnd as with_status},
};

/// Runs vpnctl on a terminal of its own that types `keys`; what the terminal shows.
pub(crate) fn on_terminal(vpnd: &Vpnd, line: &str, settings: &[(&str, &str)], keys: &str) -> (i32, String) {
    let command = format!("{} {line}", env!("CARGO_BIN_EXE_vpnctl"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--echo", "never", "--command", &command, "/dev/null"])
        .env("TACET_SOCKET", vpnd.socket())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(settings.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(keys.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn colours_are_for_terminals_whose_owner_wants_them() {
    let vpnd = with_status(vec![home()]);
    assert!(on_terminal(&vpnd, "status", &[], "").1.contains("\x1b[32mup\x1b[0m"));
    assert!(!on_terminal(&vpnd, "status", &[("NO_COLOR", "1")], "").1.contains('\x1b'));
    assert!(!on_terminal(&vpnd, "status", &[("TERM", "dumb")], "").1.contains('\x1b'));
    assert!(!on_terminal(&vpnd, "status --json", &[], "").1.contains('\x1b'));
    assert!(!vpnd.run(&["status"]).done().contains('\x1b'));
}

#[test]
fn an_invite_on_a_terminal_comes_with_its_qr_code() {
    let invite = Invite { id: "00".to_owned(), name: None, uses: 1, expires: 0, groups: Vec::new() };
    let token = Secret::new(format!("tacet-invite1{}", "a2".repeat(140)));
    let vpnd = Vpnd::answering(Answer::InviteCreated(InviteCreated { token, invite }));
    let (code, shown) = on_terminal(&vpnd, "invite", &[("NO_COLOR", "1")], "");
    assert_eq!(code, 0);
    assert!(shown.lines().filter(|line| line.contains('█')).count() > 20, "{shown}");
    assert!(!on_terminal(&vpnd, "invite --json", &[], "").1.contains('█'));
}

#[test]
fn a_password_is_asked_for_twice_at_creation_and_never_shown() {
    let account = Account { name: "ann".to_owned(), coordinator: "https://vpn.example".to_owned() };
    let vpnd = Vpnd::answering(Answer::Account(account));
    let create = "account create ann --enrol tacet-enrol1abc";
    let (code, shown) = on_terminal(&vpnd, create, &[], "correct horse\ncorrect horse\n");
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("New password:") && shown.contains("again:") && !shown.contains("horse"),
        "{shown}"
    );
    assert_eq!(vpnd.asked()["cmd"]["account_create"]["password"], "Y29ycmVjdCBob3JzZQ==");

    let (code, shown) = on_terminal(&vpnd, create, &[], "correct horse\ncorrect house\n");
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("not the same"), "{shown}");
    assert!(vpnd.asked_nothing());

    let (code, shown) = on_terminal(&vpnd, "account login ann", &[], "correct horse\n");
    assert_eq!((code, shown.matches("assword:").count()), (0, 1), "{shown}");
}
