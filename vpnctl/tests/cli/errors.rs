//! What goes wrong, and with which exit code.

use std::{io::Write, os::unix::fs::PermissionsExt, path::Path, process::Command};

use proto::api::{Answer, ErrorCode};

use crate::stage::{Vpnd, run};

#[test]
fn without_vpnd_it_exits_with_3_and_says_how_to_start_it() {
    let run = run(Path::new("/nonexistent/vpnd.sock"), &["status"], "");
    assert_eq!(run.code, 3);
    assert_eq!(run.out, "");
    assert!(
        run.err.contains("vpnd is not running") && run.err.contains("systemctl start vpnd"),
        "{}",
        run.err
    );
}

#[test]
fn a_socket_that_nobody_serves_any_more_is_no_vpnd_either() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vpnd.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let run = run(&socket, &["--json", "status"], "");
    assert_eq!(run.code, 3);
    let error = &run.json()["error"];
    assert_eq!(error["code"], "not_running");
    for field in ["what", "why", "next"] {
        assert!(!error[field].as_str().unwrap().is_empty(), "{field}");
    }
}

#[test]
fn without_vpnd_no_password_is_asked_for() {
    let line = ["account", "login", "ann"];
    assert_eq!(run(Path::new("/nonexistent/vpnd.sock"), &line, "").code, 3);
}

#[test]
fn a_caller_outside_the_group_is_told_so_with_5() {
    let vpnd = Vpnd::answering(Answer::Done {});
    std::fs::set_permissions(vpnd.dir(), PermissionsExt::from_mode(0o700)).unwrap();
    let nobody = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/proc/self/fd/0", "status"])
        .env("TACET_SOCKET", vpnd.socket())
        .stdin(std::fs::File::open(env!("CARGO_BIN_EXE_vpnctl")).unwrap())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&nobody.stderr);
    if err.contains("setpriv: ") {
        // Not root: there is nobody to become. CI runs as root.
        return;
    }
    assert_eq!(nobody.status.code(), Some(5), "{err}");
    assert!(err.contains("group tacet"), "{err}");
}

#[test]
fn each_kind_of_error_has_its_exit_code_in_words_and_in_json() {
    let kinds = [
        (ErrorCode::Failed, 1, "failed"),
        (ErrorCode::NoNetwork, 1, "no_network"),
        (ErrorCode::NameTaken, 1, "name_taken"),
        (ErrorCode::TokenExpired, 1, "token_expired"),
        (ErrorCode::TokenUsedUp, 1, "token_used_up"),
        (ErrorCode::AlreadyJoined, 1, "already_joined"),
        (ErrorCode::Unreachable, 1, "unreachable"),
        (ErrorCode::WrongPin, 1, "wrong_pin"),
        (ErrorCode::Untrusted, 1, "untrusted"),
        (ErrorCode::Conflict, 1, "conflict"),
        (ErrorCode::Newer, 1, "newer"),
        (ErrorCode::Interface, 1, "interface"),
        (ErrorCode::Storage, 1, "storage"),
        (ErrorCode::Timeout, 1, "timeout"),
        (ErrorCode::Usage, 2, "usage"),
        (ErrorCode::InvalidName, 2, "invalid_name"),
        (ErrorCode::NotFound, 2, "not_found"),
        (ErrorCode::InvalidToken, 2, "invalid_token"),
        (ErrorCode::NetworkNeeded, 2, "network_needed"),
        (ErrorCode::NotRunning, 3, "not_running"),
        (ErrorCode::LoginNeeded, 4, "login_needed"),
        (ErrorCode::SecondFactorNeeded, 4, "second_factor_needed"),
        (ErrorCode::WrongPassword, 4, "wrong_password"),
        (ErrorCode::NotPermitted, 5, "not_permitted"),
    ];
    for (code, exit, name) in kinds {
        let vpnd = Vpnd::failing(code);
        let told = vpnd.run(&["up"]);
        assert_eq!(told.code, exit, "{name}");
        assert_eq!(told.err, "error: it failed\n  why:  for a reason\n  next: do this\n");
        assert_eq!(told.out, "");
        let told = vpnd.run(&["up", "--json"]);
        assert_eq!(told.code, exit, "{name}");
        assert_eq!(
            told.json(),
            serde_json::json!({"error": {"code": name, "what": "it failed", "why": "for a reason", "next": "do this"}})
        );
    }
}

#[test]
fn a_vpnd_that_hangs_up_or_talks_nonsense_is_an_error() {
    for said in
        ["", "{\"ok\":", "nonsense\n", "{\"ok\":{\"levitated\":{}}}\n", "{\"ok\":{\"machines\":[]}}\n"]
    {
        let vpnd = Vpnd::acting(move |mut stream| stream.write_all(said.as_bytes()).unwrap());
        let run = vpnd.run(&["status"]);
        assert_eq!(run.code, 1, "{said}");
        assert!(run.err.starts_with("error: "), "{said}: {}", run.err);
    }
}

#[test]
fn a_vpnd_that_never_ends_its_line_is_cut_off() {
    let vpnd = Vpnd::acting(|mut stream| while stream.write_all(&[b' '; 65536]).is_ok() {});
    let run = vpnd.run(&["status"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("not understood"), "{}", run.err);
}

#[test]
fn what_vpnd_says_cannot_command_the_terminal() {
    let vpnd = Vpnd::acting(|mut stream| {
        let line = br#"{"error":{"code":"failed","what":"a\u001b[2Jb","why":"c\nd","next":"e"}}"#;
        stream.write_all(line).unwrap();
        stream.write_all(b"\n").unwrap();
    });
    assert_eq!(vpnd.run(&["up"]).err, "error: a\u{fffd}[2Jb\n  why:  c\u{fffd}d\n  next: e\n");
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let vpnd = Vpnd::answering(Answer::Networks(Vec::new()));
    let line = format!("{} network list | true", env!("CARGO_BIN_EXE_vpnctl"));
    let output = Command::new("sh").args(["-c", &line]).env("TACET_SOCKET", vpnd.socket()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let line = format!("{} network list > /dev/full", env!("CARGO_BIN_EXE_vpnctl"));
    let output = Command::new("sh").args(["-c", &line]).env("TACET_SOCKET", vpnd.socket()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be written"));
}
