//! Help, completions and the command line itself.

use std::path::Path;

use crate::stage::{Run, run};

/// Every command and every group of commands.
pub(crate) const COMMANDS: &[&str] = &[
    "",
    "account",
    "account create",
    "account login",
    "account logout",
    "network",
    "network create",
    "network list",
    "up",
    "down",
    "invite",
    "invite create",
    "invite list",
    "invite revoke",
    "join",
    "leave",
    "machines",
    "machines list",
    "machines rename",
    "machines remove",
    "signer",
    "signer list",
    "signer add",
    "signer remove",
    "relay",
    "relay list",
    "relay add",
    "relay remove",
    "recover",
    "status",
    "ip",
    "ping",
    "netcheck",
    "doctor",
    "privacy",
    "privacy verify",
    "privacy inventory",
    "report",
    "completions",
    "man",
];

fn alone(line: &str) -> Run {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    run(Path::new("/nonexistent/vpnd.sock"), &arguments, "")
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let help = alone(&format!("{command} {flag}"));
            assert!(help.done().contains("Example"), "{command} {flag}:\n{}", help.out);
            assert!(help.out.contains("Usage: vpnctl"), "{command} {flag}:\n{}", help.out);
        }
    }
}

#[test]
fn what_may_be_left_out_does_not_stand_in_a_usage_line() {
    let with_socket = std::process::Command::new(env!("CARGO_BIN_EXE_vpnctl"))
        .args(["ping"])
        .env("TACET_SOCKET", "/nonexistent/vpnd.sock")
        .output()
        .unwrap();
    let run = Run::of(with_socket);
    let usage = run.err.lines().find(|line| line.starts_with("Usage:")).unwrap();
    assert!(run.code == 2 && !usage.contains("--socket"), "{}", run.err);
}

#[test]
fn every_command_in_the_help_is_in_this_list() {
    for group in COMMANDS {
        let help = alone(&format!("{group} --help"));
        let Some((_, listed)) = help.out.split_once("\nCommands:\n") else { continue };
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            let Some(name) =
                line.strip_prefix("  ").filter(|l| !l.starts_with(' ')).and_then(|l| l.split(' ').next())
            else {
                continue;
            };
            let command = format!("{group} {name}").trim().to_owned();
            assert!(name == "help" || COMMANDS.contains(&command.as_str()), "not tested: {command}");
        }
    }
}

#[test]
fn help_fits_80_columns() {
    for command in COMMANDS {
        let help = alone(&format!("{command} --help"));
        for line in help.out.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_touches_nothing() {
    for line in [
        "",
        "levitate",
        "join",
        "up now",
        "ip -4 -6",
        "ping",
        "ping nas -c few",
        "ping nas -i 0",
        "invite --uses 0",
        "invite --expires tomorrow",
        "invite --uses 2 list",
        "invite --uses 2 create --uses 3",
        "account create ann",
        "account login ann --pin x",
        "account login ann --password secret",
        "account login ann --password-stdin --password-file f",
        "machines rename one",
        "machines remove",
        "invite revoke",
        "leave home",
        "signer add",
        "recover tacet-recovery1",
        "recover --from elsewhere",
        "recover --key-stdin --key-file f",
        "completions klingon",
    ] {
        let run = alone(line);
        assert_eq!(run.code, 2, "{line}: {}", run.err);
        assert!(run.out.is_empty() && !run.err.is_empty(), "{line}");
    }
}

#[test]
fn a_wrong_command_line_is_told_in_json_if_json_is_asked_for() {
    let run = alone("--json ping");
    assert_eq!(run.code, 2);
    let error = &run.json()["error"];
    assert_eq!(error["code"], "usage");
    assert!(error["why"].as_str().unwrap().contains("<NAME>"), "{error}");
}

#[test]
fn completions_are_made_for_each_shell_without_a_daemon() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(alone(&format!("completions {shell}")).done().contains("vpnctl"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    alone(&format!("man {}", dir.path().display())).done();
    for command in COMMANDS.iter().filter(|command| **command != "man") {
        let name = format!("vpnctl {command}").trim().replace(' ', "-");
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains("Example") && page.contains(".SH SYNOPSIS"), "{name}");
    }
    assert_eq!(alone("man /nonexistent").code, 1);
}
