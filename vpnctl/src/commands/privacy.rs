//! `privacy verify`, `privacy inventory`.

use std::{os::unix::net::UnixStream, path::Path, process::ExitCode};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use proto::{
    api::{Answer, Command, ErrorCode},
    inventory::Record,
};
use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    cli,
    client::{not_connected, not_understood},
    failure::Failure,
    show::{Cell, Style, Table, printable},
    verify::{Commands, Finding, Kernel, Standing, verify},
};

pub(super) fn run(context: &Context<'_>, command: &cli::Privacy) -> Outcome {
    match command {
        cli::Privacy::Verify => check(context),
        cli::Privacy::Inventory => inventory(context),
    }
}

fn check(context: &Context<'_>) -> Outcome {
    if !geteuid().is_root() {
        return Err(Failure::new(
            ErrorCode::NotPermitted,
            "nothing was verified",
            "the kernel shows another user's processes to root alone",
            "run it with sudo",
        ));
    }
    let kernel = Kernel::of_this_host();
    let control = listener(&context.socket)?;
    let findings = verify(&kernel, &Commands::ask(), control);
    let worst = findings.iter().any(|finding| finding.standing == Standing::Broken);
    let document = Verified { ok: !worst, findings: &findings };
    context.show(&document, || table(context, &findings))?;
    Ok(if worst { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The process that listens on the socket, as the kernel tells it. `None` if nobody does, where a server may still run.
///
/// # Errors
/// What else keeps from asking.
fn listener(socket: &Path) -> Result<Option<u32>, Failure> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(_) if !Kernel::of_this_host().serves_nothing() => return Ok(None),
        Err(error) => return Err(not_connected(&error, socket)),
    };
    let pid = getsockopt(&stream, PeerCredentials).ok().and_then(|peer| u32::try_from(peer.pid()).ok());
    pid.filter(|pid| *pid > 0).map(Some).ok_or_else(|| {
        Failure::new(
            ErrorCode::Failed,
            "nothing was verified",
            "vpnd runs in a container of its own, whose processes cannot be seen from here",
            "run the command in there",
        )
    })
}

fn table(context: &Context<'_>, findings: &[Finding]) -> String {
    let mut table = Table::new(&["OF", "PROCESS", "POINT", "", "SEEN"]);
    for finding in findings {
        let (word, style) = match finding.standing {
            Standing::Holds => ("holds", Style::Good),
            Standing::Warns => ("warns", Style::Fair),
            Standing::Broken => ("BROKEN", Style::Bad),
        };
        table.row(vec![
            Cell::new(finding.of),
            Cell::or_hyphen(finding.pid),
            Cell::new(finding.point),
            Cell::new(word).style(style),
            Cell::new(&finding.seen),
        ]);
    }
    let mut text = table.render(context.ui, "");
    let advice: Vec<&Finding> = findings.iter().filter(|finding| finding.next.is_some()).collect();
    if !advice.is_empty() {
        text += "\nWhat to do:\n";
    }
    for finding in advice {
        text += &format!("  {}, {}: {}\n", finding.of, finding.point, finding.next.unwrap_or_default());
    }
    let count = |standing| findings.iter().filter(|finding| finding.standing == standing).count();
    let (holds, warns, broken) = (count(Standing::Holds), count(Standing::Warns), count(Standing::Broken));
    text + &format!(
        "\n{holds} hold, {warns} warn, {broken} broken. Seen in the kernel; vpnd was not asked.\n"
    )
}

fn inventory(context: &Context<'_>) -> Outcome {
    let Answer::Record(record) = context.ask(Command::PrivacyInventory {})? else {
        return Err(not_understood());
    };
    context.show(&record, || text(context, &record))?;
    Ok(if record.undeclared.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(context: &Context<'_>, record: &Record) -> String {
    let place = printable(&record.place);
    let mut text = format!("Your complete record: all that this machine stores of you, in {place}.\n\n");
    let mut table = Table::new(&["WHERE", "WHAT", "NOW"]);
    for held in &record.items {
        let mut values = held.values.iter();
        let first = values.next().map_or_else(|| Cell::new("-").style(Style::Dim), Cell::new);
        table.row(vec![Cell::new(&held.item.place), Cell::new(&held.item.field), first]);
        for value in values {
            table.row(vec![Cell::new(""), Cell::new(""), Cell::new(value)]);
        }
    }
    text += &table.render(context.ui, "");
    for place in &record.undeclared {
        text += &format!("\n{}  {}\n", context.ui.paint("NOT DECLARED", Style::Bad), printable(place));
    }
    text + "\nPurpose, legal ground, retention and readers of each: vpnctl --json privacy inventory, or docs/PRIVACY.md.\n"
}

#[derive(Serialize)]
struct Verified<'a> {
    ok: bool,
    findings: &'a [Finding],
}
