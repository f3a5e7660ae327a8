//! The manual: that it has every command, every code, and documents that read as JSON.

use proto::api::{ErrorCode, Status, Warning};
use serde_json::Value;

use crate::help::COMMANDS;

const CLI: &str = include_str!("../../../docs/cli.md");
const JSON: &str = include_str!("../../../docs/json.md");

#[test]
fn the_manual_has_every_command() {
    let titles: Vec<&str> =
        CLI.lines().filter(|line| line.starts_with("###") || line.contains("completions")).collect();
    for command in
        COMMANDS.iter().filter(|command| !["", "account", "network", "privacy", "man"].contains(command))
    {
        // `invite create` and `machines list` stand as `invite [create]` and `machines [list]`.
        let optional = command.replace(" create", " [create]").replace(" list", " [list]");
        let named = |title: &&str| {
            title.contains(&format!("vpnctl {command}")) || title.contains(&format!("vpnctl {optional}"))
        };
        assert!(titles.iter().any(named), "{command}");
    }
}

#[test]
fn the_manual_has_every_error_code_with_its_exit_code() {
    for code in ERROR_CODES {
        let name = serde_json::to_value(code).unwrap();
        let row = format!("| `{}` | {} |", name.as_str().unwrap(), code.exit_code());
        assert!(JSON.contains(&row), "{row}");
    }
}

#[test]
fn the_manual_has_every_warning() {
    for warning in WARNINGS {
        let name = serde_json::to_value(warning).unwrap();
        assert!(JSON.contains(&format!("| `{}` |", name.as_str().unwrap())), "{name}");
    }
}

#[test]
fn every_document_in_the_manual_reads_as_json() {
    let documents: Vec<&str> =
        JSON.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(documents.len() >= 11);
    for document in &documents {
        let parsed = serde_json::from_str::<Value>(document);
        assert!(parsed.is_ok(), "{document}");
    }
    assert!(documents.iter().any(|document| {
        let status = serde_json::from_str::<Status>(document);
        status.is_ok_and(|status| !status.networks.is_empty())
    }));
}

pub(crate) const ERROR_CODES: &[ErrorCode] = &[
    ErrorCode::Failed,
    ErrorCode::NoNetwork,
    ErrorCode::NotFound,
    ErrorCode::NameTaken,
    ErrorCode::TokenExpired,
    ErrorCode::TokenUsedUp,
    ErrorCode::AlreadyJoined,
    ErrorCode::Unreachable,
    ErrorCode::WrongPin,
    ErrorCode::Untrusted,
    ErrorCode::Conflict,
    ErrorCode::Newer,
    ErrorCode::Interface,
    ErrorCode::Storage,
    ErrorCode::Timeout,
    ErrorCode::Usage,
    ErrorCode::InvalidName,
    ErrorCode::InvalidToken,
    ErrorCode::NetworkNeeded,
    ErrorCode::NotRunning,
    ErrorCode::LoginNeeded,
    ErrorCode::SecondFactorNeeded,
    ErrorCode::WrongPassword,
    ErrorCode::NotPermitted,
];

pub(crate) const WARNINGS: &[Warning] = &[
    Warning::CoordinatorUnreachable,
    Warning::NetworkUnknown,
    Warning::ChangeRefused,
    Warning::RelayUnreachable,
    Warning::ProxyUnreachable,
    Warning::NotAProxy,
    Warning::ProxyLogin,
    Warning::ProxyRefuses,
    Warning::WrongPin,
    Warning::CoordinatorUntrusted,
    Warning::ClockWrong,
    Warning::InviteOverused,
    Warning::DataPathDown,
    Warning::InterfaceFailed,
    Warning::InterfaceDown,
    Warning::PortTaken,
    Warning::InterfaceNameTaken,
    Warning::InterfaceForbidden,
    Warning::NoTun,
    Warning::StateNotWritable,
    Warning::Renamed,
    Warning::Other,
];
